"""What all panels share, and the playground: state, errors, one pending run, the code that is shown, remote models."""

import asyncio
import html
import os
import re
import signal
import threading
import time
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from families import fresh, tokenizer
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook, new_output

import steerlab as sl
from steerlab import jobs
from steerlab.metrics import kl
from steerlab.remote import Remote
from steerlab.widgets import names, playground, runner, starter
from steerlab.widgets.panel import VIEW
from steerlab.widgets.runner import Guard, Stopped

pytestmark = pytest.mark.usefixtures("closed_figures")


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load()


# --- the runner --------------------------------------------------------------------------------------------------


def test_dragging_runs_only_the_last_request() -> None:
    ran: list[int] = []

    async def drag() -> None:
        runner = Guard([])
        for position in range(50):
            runner.request(lambda position=position: ran.append(position))  # type: ignore[misc]
        await asyncio.sleep(0.1)

    asyncio.run(drag())
    assert ran == [49]


def test_moves_during_a_run_make_one_more_run() -> None:
    ran: list[int] = []

    async def drag() -> None:
        runner = Guard([])

        def slow(position: int) -> None:
            ran.append(position)
            if position == 0:  # these come in while the first run is under way
                for later in range(1, 9):
                    runner.request(lambda: slow(later))  # noqa: B023  # the last is what counts

        runner.request(lambda: slow(0))
        await asyncio.sleep(0.2)

    asyncio.run(drag())
    assert ran == [0, 8]


def test_a_second_press_that_waited_is_dropped() -> None:
    """The kernel works on the first press; the second reaches it only afterwards."""
    ran: list[str] = []

    async def press_twice() -> None:
        runner = Guard([])
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: runner.now(lambda: (time.sleep(0.02), ran.append("first"))))  # type: ignore[arg-type]
        loop.call_soon(lambda: runner.now(lambda: ran.append("second")))
        await asyncio.sleep(0.02)
        while not runner.stop.disabled:
            await asyncio.sleep(0.02)
        runner.now(lambda: ran.append("later"))
        while len(ran) < 2:
            await asyncio.sleep(0.02)

    asyncio.run(press_twice())
    assert ran == ["first", "later"]


def test_controls_are_off_while_the_button_runs_and_a_spinner_turns(lm: sl.SteerableModel) -> None:
    panel = playground(lm, n=1, max_new_tokens=5)
    seen: list[object] = []
    plain = panel.samples

    def watch(**options: Any) -> pd.DataFrame:
        seen.append(([control.disabled for control in panel.runner.controls], panel.message.value))
        assert not panel.runner.stop.disabled
        return plain(**options)

    panel.samples = watch  # type: ignore[method-assign]
    usual = [control.disabled for control in panel.runner.controls]
    panel.button.click()
    ((disabled, message),) = seen
    assert all(disabled) and not panel.button.disabled and panel.runner.stop.disabled and "fa-spinner" in message
    assert [control.disabled for control in panel.runner.controls] == usual
    assert panel.message.value == "" and "<table" in panel.completions.value


@pytest.mark.parametrize("error", [ValueError("first line\nsecond"), KeyboardInterrupt()])
def test_an_error_is_one_escaped_line_and_the_controls_come_back(error: BaseException) -> None:
    runner = Guard([])

    def fail() -> None:
        raise error

    runner.now(fail)
    alert = r'<span role="alert" style="[^"]*">⚠ first line</span>'
    shown = alert if isinstance(error, ValueError) else "stopped"
    assert re.fullmatch(rf'<span role="status">{shown}</span>', runner.message.value)
    runner.now(lambda: None)
    assert runner.message.value == ""


def test_stop_ends_a_run_and_keeps_what_was_written(lm: sl.SteerableModel) -> None:
    """Tokens are counted and shown while the model runs; the button is heard meanwhile."""
    panel = playground(lm, n=2, max_new_tokens=200, prompt="We went to see the")
    messages: list[str] = []
    panel.message.observe(lambda change: messages.append(change["new"]), names="value")

    async def press_and_stop() -> None:
        panel.button.click()
        while not panel.completions.value:
            await asyncio.sleep(0.02)
        panel.runner.stop.click()
        while not panel.runner.stop.disabled:
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(press_and_stop(), 60))
    assert panel.message.value == '<span role="status">stopped</span>'
    assert any(re.search(r"\d+ of 800 tokens, \d+ (s|min) left", text) for text in messages)
    assert "<table" in panel.completions.value and "Perplexity" not in panel.completions.value
    assert panel.runner.stop.disabled
    panel.controls["strength"].value = 1.0
    assert panel.message.value == ""


def test_an_interrupt_stops_work_of_a_slider_though_the_kernel_ignores_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as ipykernel does between messages
    runner = Guard([])
    try:
        runner.request(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(20))[1])
        assert "stopped" in runner.message.value and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_work_of_a_slider_that_takes_long_says_how_to_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop is busy meanwhile, and hears no button."""
    monkeypatch.setattr(runner, "SLOW", 0.05)
    guard = Guard([])
    messages: list[str] = []
    guard.message.observe(lambda change: messages.append(change["new"]), names="value")
    guard.request(lambda: None)
    time.sleep(0.1)
    assert not any("Interrupt" in text for text in messages)
    guard.request(lambda: time.sleep(0.3))
    assert sum("Interrupt" in text for text in messages) == 1 and "fa-spinner" in messages[-2]
    assert guard.message.value == ""


def test_an_interrupt_stops_a_run_beside_the_loop() -> None:
    runner = Guard([])

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert runner.halt.wait(20)
        raise Stopped

    async def run() -> None:
        runner.now(work)
        while "stopped" not in runner.message.value:
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_panel_waits_while_another_has_the_model() -> None:
    order: list[str] = []

    async def run() -> None:
        first, second = Guard([]), Guard([])
        first.now(lambda: (time.sleep(0.3), order.append("first")))
        await asyncio.sleep(0.1)
        second.request(lambda: order.append("second"))
        await asyncio.sleep(1)

    asyncio.run(run())
    assert order == ["first", "second"]


def test_a_panel_waits_for_a_run_that_has_not_begun() -> None:
    """A thread may be long in coming on a busy computer; meanwhile nothing else may take the model."""
    order: list[str] = []
    free = threading.Event()

    async def run() -> None:
        first, second = Guard([]), Guard([])
        busy = runner._worker.submit(free.wait, 20)
        first.now(lambda: order.append("first"))
        await asyncio.sleep(0.1)
        second.request(lambda: order.append("second"))
        await asyncio.sleep(0.1)
        assert not busy.done() and order == []
        free.set()
        await asyncio.sleep(1)

    asyncio.run(run())
    assert order == ["first", "second"]


def test_a_panel_works_in_the_thread_that_made_it(lm: sl.SteerableModel) -> None:
    """JupyterLab sends a widget's messages to several threads of the kernel."""
    threads: list[threading.Thread] = []

    async def run() -> None:
        panel = playground(lm, n=1, max_new_tokens=5)
        panel.draw = lambda figure: threads.append(threading.current_thread())  # type: ignore[method-assign]
        panel._write = lambda watch: threads.append(threading.current_thread()) or ""  # type: ignore[method-assign,func-returns-value]
        await asyncio.to_thread(setattr, panel.controls["strength"], "value", 1.0)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(panel.button.click)
        while panel.runner.busy or len(threads) < 2:
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(run(), 30))
    slider, button = threads
    assert slider is threading.main_thread()
    assert button in runner._worker._threads


def test_very_many_tokens_ask_for_a_second_press(lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = playground(lm, n=12, max_new_tokens=200)
    monkeypatch.setattr(lm, "generate", lambda *a, **k: pytest.fail("the model ran"))
    panel.button.click()
    assert "4,800 tokens</b>, which may take minutes: press again" in panel.message.value
    panel.pace = 0.1
    panel.controls["n"].value = 11
    panel.button.click()
    assert "4,400 tokens</b>, about 7 min: press again" in panel.message.value
    monkeypatch.setattr(lm, "generate", lambda *a, **k: (_ for _ in ()).throw(ValueError("it runs")))
    panel.button.click()
    assert "it runs" in panel.message.value


# --- the playground ----------------------------------------------------------------------------------------------


def test_the_playground_opens_where_something_is_seen(lm: sl.SteerableModel) -> None:
    panel = playground(lm)
    assert panel.state.layer == lm.n_layers // 3 and panel.presets.value == "weddings"
    moved = float(kl(panel.after, panel.before))
    assert 0.5 < moved < 4 and f"{moved:.3f}" in panel.numbers.value
    assert panel.one_nat is None and panel.controls["strength"].max == 16  # here at most 0.97 nats, at strength 1
    assert "␣weddings" in panel.numbers.value
    panel.presets.value = "ships"
    assert (panel.state.plus, panel.presets.value) == (" ships", "ships")
    assert 0.5 < float(kl(panel.after, panel.before)) < 4
    panel.controls["plus"].value = " "
    assert "their difference is zero" in panel.message.value and panel.presets.value == "(own)"


def test_a_strength_may_be_far_beyond_the_slider(lm: sl.SteerableModel) -> None:
    panel = playground(lm, strength=300.0)
    assert panel.state.strength == 300 and panel.controls["strength"].max == 300
    panel.state = replace(panel.state, strength=500.0)
    assert panel.state.strength == 500
    with pytest.raises(ValueError, match=r"strength=1000000000\.0 is out of range: -1000 to 1000"):
        panel.state = replace(panel.state, strength=1e9)
    assert panel.state.strength == 500


def test_the_starter_shows_a_word_and_a_strength(lm: sl.SteerableModel) -> None:
    panel = starter(lm, plus=" ships")
    shown = {control.description for row in panel.widget.children[0].children[0].children for control in row.children}
    assert {"preset", "towards", "strength", "prompt"} <= shown and not shown & {"layer", "vector", "seed"}
    assert panel.message.value == ""


def test_a_text_is_shown_where_steering_acts_and_completions_do_not_depend_on_it(lm: sl.SteerableModel) -> None:
    panel = playground(lm, n=1, max_new_tokens=5)
    assert panel.message.value == "" and panel.state.text and len(panel.figure().axes) == 5  # bars, strips and scales
    panel.button.click()
    panel.controls["text"].value = " ships."
    assert panel.message.value == "" and "have changed" not in panel.completions.value
    assert "' ships.'" in panel.code() and "ships." not in panel.completions.value
    panel.controls["text"].value = ""
    assert len(panel.figure().axes) == 1 and "token_effects" not in panel.code()


def test_next_token_view_follows_the_strength(lm: sl.SteerableModel) -> None:
    panel = playground(lm, strength=0.0)
    unsteered, numbers = panel.picture.value, panel.numbers.value
    panel.controls["strength"].value = 4.0
    assert panel.picture.value != unsteered
    assert "0.000" in numbers and "0.000" not in panel.numbers.value


def test_error_is_one_line_and_the_panel_lives_on(lm: sl.SteerableModel) -> None:
    panel = playground(lm)
    panel.controls["prompt"].value = ""
    assert "prompt 0 is empty" in panel.message.value and "\n" not in panel.message.value
    panel.controls["prompt"].value = "She went to see the"
    assert panel.message.value == ""


def test_state_can_be_read_and_set(lm: sl.SteerableModel) -> None:
    panel = playground(lm, plus=" ships", strength=2.0, vector="mean", when="all")
    other = playground(lm)
    assert other.state != panel.state
    other.state = panel.state
    assert other.state == panel.state and other.picture.value == panel.picture.value
    assert other.copy.rows > 2 and other.copy.rows > len(panel.code().splitlines())  # a long line takes two


def test_a_state_that_cannot_be_is_refused_and_nothing_changes(lm: sl.SteerableModel) -> None:
    panel = playground(lm)
    before = panel.state
    with pytest.raises(ValueError, match=f"layer=99 is out of range: 0 to {lm.n_layers - 1}"):
        panel.state = type(before)(plus=" ships", layer=99)
    assert panel.state == before
    with pytest.raises(ValueError, match="method='ActAd' is unknown: choose one of ActAdd; did you mean 'ActAdd'"):
        playground(lm, method="ActAd")


def test_code_reproduces_the_completions(lm: sl.SteerableModel) -> None:
    panel = playground(lm, n=1, max_new_tokens=6, vector="last", when="all", strength=1.5)
    known = {"sl": sl, "lm": lm}
    *lines, last = panel.code().splitlines()
    exec("\n".join(lines), known)
    assert eval(last, known)["completion"].tolist() == panel.samples()["completion"].tolist()


def test_completions_carry_their_setting_and_fade_when_it_changes(lm: sl.SteerableModel) -> None:
    panel = playground(lm, n=1, max_new_tokens=5, strength=2.0)
    panel.button.click()
    assert "strength 2, " in panel.completions.value and "steerlab-old" not in panel.completions._dom_classes
    panel.controls["strength"].value = 3.0
    assert "steerlab-old" in panel.completions._dom_classes and "have changed" in panel.completions.value
    assert "strength 2, " in panel.completions.value and "2 * vector" in panel.completions.value
    panel.controls["strength"].value = 2.0
    assert "steerlab-old" not in panel.completions._dom_classes and "have changed" not in panel.completions.value


def test_a_picture_that_could_not_be_renewed_fades(lm: sl.SteerableModel) -> None:
    panel = playground(lm)
    panel.controls["prompt"].value = ""
    assert "steerlab-old" in panel.picture._dom_classes
    panel.controls["prompt"].value = "She went to see the"
    assert "steerlab-old" not in panel.picture._dom_classes


def test_code_has_the_notebooks_names(lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ships = sl.actadd(lm, " ships", layer=2)
    held = type("Task", (), {})()
    held.test = pd.DataFrame({"a": [1]})
    own = {"model": lm, "both": {"ships": ships}, "task": held}
    monkeypatch.setattr(names, "get_ipython", lambda: type("Shell", (), {"user_ns": own})())
    panel = playground(lm, interventions=own["both"], method="ships")
    assert panel.copy.value.startswith("import steerlab as sl\nlm = model\nvector = both['ships']\n")
    assert names.called(held.test, "frame") == "task.test" and names.called(object(), "frame") == "frame"


class Shown:
    """What `display` was given, and what its handle was given later."""

    def __init__(self) -> None:
        self.data: list[dict[str, str]] = []

    def __call__(self, data: dict[str, str], raw: bool, display_id: bool = False) -> "Shown":
        self.data.append(data)
        return self

    def update(self, data: dict[str, str], raw: bool) -> None:
        self.data[-1] = data


def test_a_picture_is_saved_beside_the_panel_and_follows_it(
    lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown()
    monkeypatch.setattr("steerlab.widgets.panel.display", shown)
    panel = playground(lm)
    panel._ipython_display_()
    view, still = shown.data
    assert "application/vnd.jupyter.widget-view+json" in view and "VBox" not in view["text/plain"]
    assert b64decode(still["image/png"]) == panel.picture.value
    panel.controls["strength"].value = -2.0
    assert b64decode(shown.data[1]["image/png"]) == panel.picture.value != b64decode(still["image/png"])


def test_a_notebook_that_was_saved_shows_the_picture_as_html(
    lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown()
    monkeypatch.setattr("steerlab.widgets.panel.display", shown)
    playground(lm)._ipython_display_()
    outputs = [new_output("display_data", data) for data in shown.data]
    page, _ = HTMLExporter().from_notebook_node(new_notebook(cells=[new_code_cell("panel", outputs=outputs)]))
    body = page[page.index("<body") :]
    assert shown.data[1]["image/png"] in body and VIEW in body and "VBox" not in body


def test_saved_interventions_are_methods(lm: sl.SteerableModel, tmp_path: Path) -> None:
    ships = sl.actadd(lm, " ships", layer=2)
    path = ships.save(tmp_path / "ships.safetensors")
    panel = playground(lm, interventions={"ships": path, "same": ships}, method="ships", n=1, max_new_tokens=6)
    assert panel.controls["plus"].disabled and panel.controls["when"].disabled
    with_file = panel.picture.value
    known = {"sl": sl, "lm": lm}
    exec(panel.code().splitlines()[0], known)
    torch.testing.assert_close(known["vector"].norm(), ships.norm())  # type: ignore[attr-defined]
    panel.controls["method"].value = "same"
    assert panel.picture.value != with_file  # another title, and
    assert "interventions['same']" in panel.code()
    panel.controls["method"].value = "ActAdd"
    assert not panel.controls["plus"].disabled


def test_positions_are_those_of_the_prompt_only(lm: sl.SteerableModel) -> None:
    panel = playground(lm, vector="mean", when="decode")
    assert "0.000" in panel.numbers.value  # nothing is steered before the next token
    panel.controls["vector"].value = "positions"
    assert panel.state.when == "prompt" and panel.controls["when"].disabled and panel.message.value == ""


def test_button_marks_words_and_tells_the_perplexity(lm: sl.SteerableModel) -> None:
    panel = playground(lm, words=["wedding"], n=2, max_new_tokens=20)
    panel.button.click()
    assert "with a topic word" in panel.completions.value and "Perplexity" in panel.completions.value
    assert "underline" in panel.completions.value


def test_prompt_is_escaped(lm: sl.SteerableModel) -> None:
    panel = playground(lm, prompt="<b>She went to the", n=1, max_new_tokens=5)
    panel.button.click()
    assert "<b>She" not in panel.completions.value and "&lt;b&gt;She" in panel.completions.value


def test_unknown_control_is_one_line(lm: sl.SteerableModel) -> None:
    with pytest.raises(ValueError, match=r"no control 'streangth' \(nearest: strength\): choose among"):
        playground(lm, streangth=3)


def test_controls_are_labelled_and_the_panel_can_be_found(lm: sl.SteerableModel) -> None:
    panel = playground(lm)
    assert all(control.description for control in panel.runner.controls)
    assert "steerlab-playground" in panel.widget._dom_classes
    assert panel.picture._dom_classes == ("steerlab-picture",)


def test_the_static_twin_shows_the_same_bars(lm: sl.SteerableModel) -> None:
    panel = playground(lm, strength=3.0)
    widths = [bar.get_width() for ax in panel.figure().axes for bars in ax.containers for bar in bars]
    before, after = lm.logits([panel.state.prompt] * 2, [None, panel.steer()]).softmax(-1)
    assert max(widths) == pytest.approx(max(before.max().item(), after.max().item()), rel=1e-4)


class Counting(jobs.Runner):
    """Goes the way of a request, and counts them."""

    def __init__(self) -> None:
        self.requests = 0

    def run(self, model: Any, calls: Iterable[Any]) -> list[Any]:
        self.requests += 1
        return Remote("local").run(model, calls)


def test_a_remote_model_runs_on_the_button_only() -> None:
    lm = sl.load(fresh("gpt2"), tokenizer=tokenizer())
    own, counting = lm.runner, Counting()
    lm.runner = counting
    panel = playground(lm, n=1, max_new_tokens=5)
    panel.controls["strength"].value = 1.0
    assert counting.requests == 0 and panel.picture.value == b"" and "1 * vector" in panel.copy.value
    assert "press" in panel.message.value and panel.log in panel.widget.children[0].children[0].children
    panel.button.click()
    assert panel.message.value == "" and counting.requests == 2  # the vector, then picture and completions
    assert panel.picture.value != b"" and "<table" in panel.completions.value
    panel.controls["strength"].value = 2.0
    assert counting.requests == 2 and "2 * vector" in panel.copy.value
    panel.button.click()
    assert panel.lm is lm and counting.requests == 3  # the vector is at hand
    lm.runner = own
    expected = lm.generate([panel.state.prompt] * 2, [None, panel.steer()], **panel.state.options())
    shown = html.unescape(re.sub("<[^>]+>", "", panel.completions.value))
    assert all(text.strip() in shown for text in expected["completion"]) and "Perplexity" not in shown
