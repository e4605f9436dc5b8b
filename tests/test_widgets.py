"""The playground: its state, its errors, and the code that it shows."""

import asyncio

import pytest

import steerlab as sl
from steerlab.widgets import playground
from steerlab.widgets.panel import Runner


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load()


def test_next_token_view_follows_the_strength(lm: sl.SteerableModel) -> None:
    panel = playground(lm, strength=0.0)
    unsteered, kl = panel.picture.value, panel.numbers.value
    panel.controls["strength"].value = 4.0
    assert panel.picture.value != unsteered
    assert "0.000" in kl and "0.000" not in panel.numbers.value


def test_error_is_one_line_and_the_panel_lives_on(lm: sl.SteerableModel) -> None:
    panel = playground(lm)
    panel.controls["prompt"].value = ""
    assert "prompt 0 is empty" in panel.runner.message.value and "\n" not in panel.runner.message.value
    panel.controls["prompt"].value = "She went to see the"
    assert panel.runner.message.value == ""


def test_state_can_be_read_and_set(lm: sl.SteerableModel) -> None:
    panel = playground(lm, plus=" ships", strength=2.0)
    other = playground(lm)
    assert other.state != panel.state
    other.state = panel.state
    assert other.state == panel.state and other.picture.value == panel.picture.value


def test_code_reproduces_the_completions(lm: sl.SteerableModel) -> None:
    panel = playground(lm, n=1, max_new_tokens=6)
    names = {"sl": sl, "lm": lm}
    *lines, last = panel.code().splitlines()
    exec("\n".join(lines), names)
    assert eval(last, names)["completion"].tolist() == panel.samples()["completion"].tolist()


def test_button_marks_words_and_gives_the_controls_back(lm: sl.SteerableModel) -> None:
    panel = playground(lm, words=["wedding"], n=2, max_new_tokens=20)
    panel.button.click()
    assert "<table" in panel.completions.value and "with a topic word" in panel.completions.value
    assert not any(control.disabled for control in [*panel.controls.values(), panel.button])


def test_prompt_is_escaped(lm: sl.SteerableModel) -> None:
    panel = playground(lm, prompt="<b>She went to the", n=1, max_new_tokens=2)
    panel.button.click()
    assert "<b>She" not in panel.completions.value and "&lt;b&gt;She" in panel.completions.value


def test_unknown_control_is_one_line(lm: sl.SteerableModel) -> None:
    with pytest.raises(ValueError, match="no control 'streangth': choose among"):
        playground(lm, streangth=3)


def test_dragging_runs_only_the_last_request() -> None:
    ran: list[int] = []

    async def drag() -> None:
        runner = Runner([])
        for position in range(50):
            runner.request(lambda position=position: ran.append(position))  # type: ignore[misc]
        await asyncio.sleep(0.1)

    asyncio.run(drag())
    assert ran == [49]
