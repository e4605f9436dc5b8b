"""The same calls on a real server: NDIF_HOST serves NDIF_MODEL, and NDIF_API_KEY opens it. Skipped elsewhere."""

import os

import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab import Site, sweep
from steerlab.remote import RemoteError

NEEDED = ("NDIF_HOST", "NDIF_MODEL")
pytestmark = [
    pytest.mark.ndif,
    pytest.mark.skipif(not all(map(os.environ.get, NEEDED)), reason=f"set {' and '.join(NEEDED)} to ask a real server"),
]
PROMPTS = ["The Eiffel Tower stands in the city of", "I think that"]


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load(os.environ["NDIF_MODEL"], remote=sl.Remote(os.environ["NDIF_HOST"], timeout=600))


@pytest.fixture(scope="module")
def steer(lm: sl.SteerableModel) -> sl.Intervention:
    return sl.actadd(lm, " Love", " Hate", layer=lm.n_layers // 2, vector="mean")


def test_an_edit_of_strength_zero_is_none(lm: sl.SteerableModel, steer: sl.Intervention) -> None:
    plain, zero, steered = lm.logits([PROMPTS[0]] * 3, [None, 0 * steer, 8 * steer])
    torch.testing.assert_close(plain, zero, rtol=0.02, atol=0.1)
    assert (plain - steered).abs().max() > 0.5


def test_an_edit_of_strength_zero_changes_no_text(lm: sl.SteerableModel, steer: sl.Intervention) -> None:
    plain, zero = (lm.generate(PROMPTS, own, temperature=0, max_new_tokens=8) for own in (None, 0 * steer))
    assert plain["completion"].tolist() == zero["completion"].tolist()


def test_activations_move_by_the_edit(lm: sl.SteerableModel, steer: sl.Intervention) -> None:
    (site,) = steer.sites
    plain, moved = (lm.activations(PROMPTS, site, each) for each in (None, steer))
    vector = steer.edits[0][1].shift
    assert vector is not None
    difference = (moved.row(0, site) - plain.row(0, site)).float()
    assert torch.cosine_similarity(difference[1:].mean(0), vector[0], dim=0) > 0.9


def test_generation_is_the_same_twice_and_in_another_batch(lm: sl.SteerableModel, steer: sl.Intervention) -> None:
    both = lm.generate(PROMPTS, steer, n=2, max_new_tokens=8)
    pd.testing.assert_frame_equal(both, lm.generate(PROMPTS, steer, n=2, max_new_tokens=8))


def test_a_sweep_is_a_frame(lm: sl.SteerableModel, steer: sl.Intervention) -> None:
    settings = [sweep.Setting({"strength": beta}, PROMPTS[0], beta * steer) for beta in (0, 1, 4)]
    frame = sweep.next_tokens(lm, settings, progress=False)
    assert frame["kl"].iloc[0] < 1e-3 < frame["kl"].iloc[2]


@pytest.mark.parametrize("gradient", ["exact", "spsa"])
def test_a_fit_lowers_its_loss_or_says_why_not(lm: sl.SteerableModel, gradient: str) -> None:
    answers = [word for word in (" Paris", " London", " the", " a") if len(lm.encode(word)) == 1]
    asked = [f"{PROMPTS[0]}{end}" for end in (" the", " a", " my", " one", " our", " it") if len(lm.encode(end)) == 1]
    frame = pd.DataFrame({"prompt": asked, "correct": answers[0], "wrong": answers[1]})
    method = sl.ActivScalar(("resid_pre",), (lm.n_layers // 2,))
    try:
        fit = sl.fit(lm, frame, method, sl.Objective(5, 0, 0), steps=20, gradient=gradient)
    except RemoteError as error:
        assert gradient == "exact" and "spsa" in str(error)
        return
    assert fit.history["loss"].iloc[-5:].mean() < fit.history["loss"].iloc[0]


def test_an_edit_of_every_step(lm: sl.SteerableModel) -> None:
    push = sl.Edit(shift=torch.full((1, lm.d_model), 10.0), when="decode")
    steer = sl.Intervention(((Site("resid_post", lm.n_layers // 2), push),))
    plain, pushed = (lm.generate(PROMPTS[0], each, temperature=0, max_new_tokens=8) for each in (None, steer))
    assert plain["completion"][0] != pushed["completion"][0]
