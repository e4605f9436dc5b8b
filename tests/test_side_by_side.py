"""Methods at matched KL: the interpolation, the tasks, and one small comparison."""

import numpy as np
import pandas as pd
import pytest

import steerlab as sl
from steerlab.experiments import side_by_side


def test_the_effect_is_read_where_the_mean_kl_reaches_the_target() -> None:
    points = pd.DataFrame(
        [
            {"strength": strength, "row": row, "kl": kl, "effect": (row + 1) * effect}
            for strength, kl, effect in ((1.0, 0.0, 0.0), (4.0, 0.4, 8.0), (16.0, 0.2, 1.0))
            for row in (0, 1)
        ]
    )
    strength, effects = side_by_side.at_kl(points, 0.2)
    assert strength == pytest.approx(2)  # half way from 1 to 4 in the logarithm
    assert effects.tolist() == pytest.approx([4, 8])
    assert np.isnan(side_by_side.at_kl(points, 0.5)[0]) and side_by_side.at_kl(points, 0.5)[1].isna().all()


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load(device="cpu")


def test_tasks_have_prompts_of_one_length_and_other_names_on_each_side(lm: sl.SteerableModel) -> None:
    for contest in side_by_side.contests(lm, 6).values():
        prompts = [*contest.train["prompt"], *contest.test["prompt"]]
        assert len({len(lm.tokens(prompt)) for prompt in prompts}) == 1
        assert not set(contest.train["prompt"]) & set(contest.test["prompt"])
        assert all(len(lm.encode(token)) == 1 for side in ("correct", "wrong") for token in contest.test[side])
        assert len(contest.many[0]) == len(contest.many[1]) == len(contest.train)


def test_strength_zero_has_no_effect_and_typed_words_have_one(lm: sl.SteerableModel) -> None:
    contest = side_by_side.contests(lm, 3)["topic"]
    steer = side_by_side.makers(lm, contest, 2, 1, 0)["ActAdd"]()(["a"])[0]
    points = side_by_side.curve(lm, contest.test, [0 * steer] * len(contest.test))
    assert np.allclose(points[["kl", "effect"]], 0, atol=1e-3)
    found = side_by_side.typed(lm, contest)
    assert found["target"] > 0 and found["low"] <= found["effect"] <= found["high"]
