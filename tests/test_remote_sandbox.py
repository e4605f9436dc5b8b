"""An ordinary key: NDIF's own sandbox runs what travels, in a process that gets copies of activations.

The whole table, every call for every family, is `tools/ndif/table.py`'s.
"""

from typing import Any

import pandas as pd
import pytest
import torch
from double import ORDINARY, PROMPTS, Double, distant
from families import fresh, tokenizer
from test_remote import CALLS, QUICK, assert_same, ioi, shift
from tiers import few

import steerlab as sl
from steerlab import ActivScalar, Site, sweep
from steerlab.remote import RemoteError

pytest.importorskip("ndif.common", reason="NDIF's sandbox is not installed: see tools/ndif/requirements.txt")
pytest_plugins = ("remote_fixtures",)
pytestmark = pytest.mark.usefixtures("well_behaved", "ordinary")

EXACT = ("fit", "fit grid")
ASKED = [name for name in CALLS if name not in ("fit vectors", "fit probes")]  # both refused as `fit` is


@pytest.fixture
def ordinary(well_behaved: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDIF_API_KEY", ORDINARY)


@pytest.mark.parametrize("name", few(ASKED, "samples", "sara", "fit"))
def test_a_call_gives_there_what_it_gives_here(name: str, here: Any, there: Any) -> None:
    call = CALLS[name][1]
    if name not in EXACT:
        return assert_same(call(there), call(here))
    line = r"no gradient comes back from the model here: fit with gradient=\"spsa\", which needs forward passes alone"
    with pytest.raises(RemoteError, match=line) as caught:
        call(there)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("family", few(("gemma2", "gpt2", "gpt_neox", "qwen3"), "gemma2"))
def test_samples_under_an_edit_of_every_step_are_the_same_in_every_family(family: str, server: Double) -> None:
    def call(lm: sl.SteerableModel) -> pd.DataFrame:
        steer = [
            shift(lm, when="all"),
            sl.Intervention(((Site("resid_pre", 0), sl.Edit(shift=torch.ones(1, lm.d_model))),)),
        ]
        return lm.generate(PROMPTS, steer, n=2, max_new_tokens=4, top_p=0.9, frequency_penalty=0.5)

    assert_same(call(distant(family, server.url)), call(sl.load(fresh(family), tokenizer=tokenizer())))


def test_an_edit_of_strength_zero_is_none_in_every_kind_of_call(there: Any) -> None:
    first = sl.Intervention({Site("resid_pre", 0): sl.Edit(gain=torch.ones(1, 1))})
    zero = 0 * (shift(there, when="all") + first)

    def pairs(lm: sl.SteerableModel) -> list[Any]:
        calls = [
            lambda lm, steer: lm.logits(PROMPTS, steer),
            lambda lm, steer: lm.activations(PROMPTS, Site("resid_post", 2), steer)[Site("resid_post", 2)],
            lambda lm, steer: lm.logprobs(PROMPTS, steer)["logprob"].tolist(),
            lambda lm, steer: lm.generate(PROMPTS, steer, temperature=0, max_new_tokens=4)["completion"].tolist(),
            lambda lm, steer: lm.generate(PROMPTS, steer, max_new_tokens=4)["completion"].tolist(),
        ]
        works = [lambda lm, call=call, steer=steer: call(lm, steer) for call in calls for steer in (None, zero)]
        return lm.together(works)

    answers = pairs(there)  # all in one session, whose traces must not end each other
    for plain, edited in zip(answers[::2], answers[1::2], strict=True):
        assert torch.equal(plain, edited) if isinstance(plain, torch.Tensor) else plain == edited
    frame = sweep.next_tokens(there, [sweep.Setting({}, PROMPTS[0], zero)], progress=False)
    assert frame["kl"].abs().max() < 1e-6


def test_a_fit_is_by_spsa_where_no_gradient_comes_back_and_says_so(here: Any, there: Any) -> None:
    with pytest.warns(UserWarning, match=r"runs in a sandbox, .*: fitting by gradient='spsa'"):
        fit = sl.fit(there, ioi(there).train, ActivScalar(), **QUICK | {"gradient": "auto"})
    assert_same(fit, sl.fit(here, ioi(here).train, ActivScalar(), **QUICK | {"gradient": "spsa"}))


def test_what_the_sandbox_does_not_take_is_one_line(there: Any) -> None:
    with pytest.raises(RemoteError, match="takes no options of transformers that shift logits"):
        there.generate(PROMPTS, max_new_tokens=2, repetition_penalty=1.2)
