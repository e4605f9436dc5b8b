"""What the papers report appears on a model that nobody here has trained: Gemma 3 270M, at a small size.

The kept tables in notebooks/results/gemma-3-270m have the same at n = 100. The layers and strengths are theirs.
"""

import pandas as pd
import pytest

import steerlab as sl
from steerlab.experiments import actadd as ex
from steerlab.experiments import scaling

pytestmark = [pytest.mark.real, pytest.mark.slow]

QUICK = {"steps": 24, "patience": 12, "batch_size": 4, "lr": 0.05, "progress": False}


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    try:
        return sl.load("gemma-3-270m", device="cpu")
    except (ImportError, OSError) as error:
        pytest.skip(f"Gemma 3 270M is not there, `make real` installs it: {str(error).splitlines()[0]}")


@pytest.fixture(scope="module")
def essays(lm: sl.SteerableModel) -> pd.Series:
    """Perplexity ratios at the paper's strength, the vector over spaces of its own."""
    frame = ex.essays(lm, layer=6, coefficient=1.0, limit=12)
    return frame.set_index(["topic", "condition"])["ratio"]


@pytest.fixture(scope="module")
def held_out(lm: sl.SteerableModel) -> pd.DataFrame:
    """Scalars fitted on ten capitals in conflict, on ten others."""
    task = scaling.TASKS["conflict"](lm, 20)
    return scaling.held_out(lm, task, [sl.ActivScalar()], betas=[1.0], **QUICK)


def test_essays_on_weddings_become_likelier_and_those_on_ships_stay(essays: "pd.Series[float]") -> None:
    assert essays["weddings", "steered"] < 0.95
    assert essays["ships", "steered"] == pytest.approx(1, abs=0.1)


def test_the_prompt_makes_essays_on_ships_less_likely(essays: "pd.Series[float]") -> None:
    assert essays["ships", "prompted"] > essays["ships", "steered"]


def test_completions_speak_of_weddings_when_steered(lm: sl.SteerableModel) -> None:
    """The kept table's setting and noise: of 100 there are 65, without steering none."""
    steer = sl.actadd(lm, " weddings", " ", layer=4, coefficient=4)
    frame = lm.generate([ex.PROMPT] * 2, [steer, None], n=16, seed=1, **ex.PAPER_SAMPLING)
    hits = ex.count_topic_words(frame).groupby("row")["hit"].mean()
    assert hits[0] >= 0.25 and hits[1] == 0


def test_scalars_flip_answers_that_they_were_not_fitted_on(held_out: pd.DataFrame) -> None:
    assert held_out["flips"].mean() >= 0.9


@pytest.mark.xfail(reason="a fit of 24 steps flips the pair, but the new answer is first in 3 of 10 alone")
def test_the_new_answer_is_the_first(held_out: pd.DataFrame) -> None:
    assert held_out["first"].mean() >= 0.8
