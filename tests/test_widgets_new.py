"""The viewer of one pass, and several interventions at once."""

import os
import signal
import time
from typing import Any

import pandas as pd
import pytest
import torch
from families import fresh, tokenizer

import steerlab as sl
from steerlab import lens
from steerlab.metrics import kl
from steerlab.widgets import mixer, runner, trace_viewer

pytestmark = pytest.mark.usefixtures("closed_figures")


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load()


@pytest.fixture(scope="module")
def units(lm: sl.SteerableModel) -> dict[str, sl.Intervention]:
    return {word: sl.actadd(lm, f" {word}", layer=4, vector="mean") for word in ("ships", "school")}


# --- one pass ----------------------------------------------------------------------------------------------------


def test_the_viewer_shows_the_lens_and_what_is_read(lm: sl.SteerableModel) -> None:
    panel = trace_viewer(lm)
    s = panel.state
    assert panel.message.value == "" and lm.tokens(s.prompt)[s.position] == " France"
    frame = lens.logit_lens(lm, s.prompt)
    assert len(panel.grid.buttons) == len(frame)
    last = frame.iloc[-1]
    answer = panel.grid.at(0, last["position"])  # the last layer stands on top
    assert answer.description == last["top"].replace(" ", "␣") and f"{last['probability']:.0%}" in answer.tooltip
    site = sl.Site("resid_post", s.layer)
    norm = float(lm.activations(s.prompt, site).row(0, site)[s.position].norm())
    assert f"<b>{norm:.3g}</b>" in panel.numbers.value and f"[1, 6, {lm.d_model}]" in panel.numbers.value


def test_a_press_reads_and_edits_there(lm: sl.SteerableModel) -> None:
    panel = trace_viewer(lm)
    before = panel.picture.value
    panel.grid.at(lm.n_layers - 1 - 3, 2).click()
    assert (panel.state.layer, panel.state.position) == (3, 2) and panel.picture.value != before
    assert panel.grid.at(lm.n_layers - 1 - 3, 2).layout.border_top and panel.message.value == ""
    ((site, edit),) = panel.steer().edits
    assert (site, edit.anchor, edit.start) == (sl.Site("resid_post", 3), "front", 2)
    assert float(edit.shift.norm()) == pytest.approx(float(panel.read()[2].norm()), rel=1e-4)  # type: ignore[union-attr]


def test_a_slow_pass_says_how_to_stop_it_and_can_be_stopped(
    lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The panel has no button, so none to stop it."""
    panel = trace_viewer(lm)
    messages: list[str] = []
    panel.message.observe(lambda change: messages.append(change["new"]), names="value")
    monkeypatch.setattr(runner, "SLOW", 0.05)

    def slow(*args: Any) -> pd.DataFrame:
        while not any("Kernel &gt; Interrupt" in text for text in messages):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)
        return pytest.fail("nothing stopped it")

    monkeypatch.setattr(lens, "moved", slow)
    panel.controls["size"].value = 2.0
    assert "stopped" in panel.message.value and "steerlab-old" in panel.picture._dom_classes


def test_the_still_picture_of_a_pass_needs_no_other(lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn a second after the run, when nothing could stop it."""
    panel = trace_viewer(lm)
    for module, name in ((lm, "run"), (lm, "activations"), (lm, "logits"), (lens, "moved"), (lens, "logit_lens")):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("the model ran"))
    assert panel.still().startswith(b"\x89PNG")


def test_the_viewer_leaves_the_notebooks_seed_alone(lm: sl.SteerableModel) -> None:
    before = torch.get_rng_state()
    trace_viewer(lm)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_removed_is_gone(lm: sl.SteerableModel) -> None:
    panel = trace_viewer(lm, edit="remove", place="mlp_out", layer=2, position=3)
    assert panel.controls["size"].disabled and panel.message.value == ""
    edited = lm.activations(panel.state.prompt, panel.site(), panel.steer()).row(0, panel.site())
    assert not edited[3].any() and edited[2].any()


def test_positions_follow_the_prompt(lm: sl.SteerableModel) -> None:
    panel = trace_viewer(lm, position=5)
    panel.controls["prompt"].value = "He said"
    assert panel.state.position == len(lm.tokens("He said")) - 1 and panel.message.value == ""
    assert trace_viewer(lm, prompt="He").state.position == 1
    with pytest.raises(ValueError, match="position=9 is out of range: 0 to 5"):
        trace_viewer(lm, position=9)


def test_code_of_the_viewer_makes_the_edit(lm: sl.SteerableModel) -> None:
    for edit in ("add", "remove"):
        panel = trace_viewer(lm, edit=edit, size=0.5, place="attn_out")
        names = {"sl": sl, "lm": lm}
        exec(panel.code(), names)
        prompt = panel.state.prompt
        torch.testing.assert_close(lm.logits(prompt, names["steer"]), lm.logits(prompt, panel.steer()))  # type: ignore[arg-type]


def test_a_remote_model_has_no_lens() -> None:
    lm = sl.load(fresh("gpt2"), tokenizer=tokenizer(), remote="local")
    with pytest.raises(ValueError, match="needs the model's weights"):
        trace_viewer(lm)
    with pytest.raises(ValueError, match="needs the model's weights"):
        lens.logit_lens(lm, "He")


# --- the mixer ---------------------------------------------------------------------------------------------------


def test_the_mixer_opens_with_one_nat_of_each(lm: sl.SteerableModel, units: dict[str, sl.Intervention]) -> None:
    panel = mixer(lm, units)
    assert panel.message.value == "" and len(panel.state.strengths) == 2
    for name, part in panel.parts().items():
        plain, steered = lm.logits([panel.state.prompt] * 2, [None, part])
        assert float(kl(steered, plain)) == pytest.approx(1.0, rel=0.2), name
        assert f"{float(kl(steered, plain)):.3f}" in panel.numbers.value


def test_a_slider_changes_its_part_of_the_mixture(lm: sl.SteerableModel, units: dict[str, sl.Intervention]) -> None:
    panel = mixer(lm, units, strengths=(1.0, 0.0))
    picture = panel.picture.value
    panel.controls["strengths"].sliders[1].value = 2.0
    assert panel.state.strengths == (1.0, 2.0) and panel.picture.value != picture
    prompt = panel.state.prompt
    both = 1.0 * units["ships"] + 2.0 * units["school"]
    torch.testing.assert_close(lm.logits(prompt, panel.mix()), lm.logits(prompt, both))
    panel.controls["strengths"].value = (0.0, 300.0)
    assert panel.controls["strengths"].sliders[1].value == 300 and list(panel.parts()) == ["school"]


def test_without_strengths_the_mixture_is_the_bare_model(
    lm: sl.SteerableModel, units: dict[str, sl.Intervention]
) -> None:
    panel = mixer(lm, units, strengths=(0, 0))
    assert panel.message.value == "" and panel.moved["mixed"] == pytest.approx(0, abs=1e-6)
    assert "sl.Intervention()" in panel.code()


def test_code_of_a_mixture_gives_its_completions(lm: sl.SteerableModel, units: dict[str, sl.Intervention]) -> None:
    panel = mixer(lm, units, strengths=(0.5, 1.5), n=1, max_new_tokens=6)
    names = {"sl": sl, "lm": lm, "interventions": units}
    first, last = panel.code().splitlines()
    exec(first, names)
    assert eval(last, names)["completion"].tolist() == panel.samples()["completion"].tolist()
    panel.button.click()
    assert panel.message.value == "" and panel.completions.value.count("<th scope") == 2
    assert not any(slider.disabled for slider in panel.controls["strengths"].sliders)


def test_the_mixer_refuses_none_and_another_number(lm: sl.SteerableModel, units: dict[str, sl.Intervention]) -> None:
    with pytest.raises(ValueError, match="0 interventions: give 1 to 8"):
        mixer(lm, {})
    with pytest.raises(ValueError, match="1 strengths for 2 interventions"):
        mixer(lm, units, strengths=(1.0,))
