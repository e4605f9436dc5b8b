"""Methods at matched KL: the strength, the costs, the tables, the decision, and one small comparison that is kept."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab.experiments import results, side_by_side
from steerlab.experiments.actadd.perplexity import read
from steerlab.experiments.side_by_side import __main__ as command
from steerlab.experiments.side_by_side import comparison, measure
from steerlab.experiments.side_by_side.methods import Dose, Made, combined


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load(device="cpu")


def vector(lm: sl.SteerableModel, size: float = 0.2) -> sl.Intervention:
    """A shift of the stream at all positions."""
    generator = torch.Generator().manual_seed(0)
    shift = size * torch.randn(1, lm.d_model, generator=generator)
    return sl.Intervention({sl.Site("resid_pre", 2): sl.Edit(shift=shift, anchor="all")})


def test_a_strength_is_read_between_logarithms() -> None:
    points = pd.DataFrame({"strength": [1.0, 4.0, 16.0], "kl": [0.01, 0.16, 0.02]})
    assert side_by_side.reaches(points, 0.04) == pytest.approx(2)
    assert np.isnan(side_by_side.reaches(points, 0.5)) and np.isnan(side_by_side.reaches(points, 0.01))


def test_at_a_target_the_kl_is_measured_and_near_it(lm: sl.SteerableModel) -> None:
    frame, steer = side_by_side.contests(lm, 3)["topic"].test, vector(lm)

    def steers(prompts: Sequence[str]) -> list[sl.Intervention]:
        return [steer] * len(prompts)

    points = side_by_side.curve(lm, frame, [Dose(steers, strength) for strength in (0.1, 1.0, 10.0)])
    strength, effects, kl = side_by_side.at_kl(lm, frame, steers, points, 0.1)
    there = side_by_side.curve(lm, frame, [Dose(steers, strength)])
    assert 0.1 < strength < 10 and kl == pytest.approx(0.1, rel=0.1)
    assert there["kl"].mean() == pytest.approx(kl) and there["effect"].tolist() == pytest.approx(effects.tolist())
    assert np.isnan(side_by_side.at_kl(lm, frame, steers, points, 1e6)[2])


def test_the_best_strength_is_chosen_on_training_prompts() -> None:
    train = pd.DataFrame({"strength": [1.0, 2.0], "row": 0, "effect": [5.0, 1.0], "kl": 0.0})
    test = pd.DataFrame({"strength": [1.0, 2.0], "row": 0, "effect": [3.0, 9.0], "kl": [0.2, 0.4]})
    strength, effects, kl = measure.at_best(train, test)
    assert (strength, effects.tolist(), kl) == (1.0, [3.0], 0.2)


def test_tasks_have_prompts_of_one_length_and_other_names_on_each_side(lm: sl.SteerableModel) -> None:
    for contest in side_by_side.contests(lm, 6).values():
        prompts = [*contest.train["prompt"], *contest.test["prompt"]]
        assert len({len(lm.tokens(prompt)) for prompt in prompts}) == 1
        assert not set(contest.train["prompt"]) & set(contest.test["prompt"])
        assert all(len(lm.encode(token)) == 1 for side in ("correct", "wrong") for token in contest.test[side])
        assert len(contest.many[0]) == len(contest.many[1]) == len(contest.train)


def test_a_wanted_token_of_two_tokens_is_refused(lm: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lm.encode
    monkeypatch.setattr(lm, "encode", lambda text: whole(text) * (2 if text == " wedding" else 1))
    with pytest.raises(ValueError, match="' wedding' is 2 tokens"):
        side_by_side.contests(lm, 3)


def test_strength_zero_changes_nothing_and_typed_words_do(lm: sl.SteerableModel) -> None:
    contest, steer = side_by_side.contests(lm, 3)["topic"], vector(lm)
    aside = side_by_side.Bystanders(lm, 8, sentences=2, facts=3)
    zero, typed = Dose(lambda prompts: [steer] * len(prompts), 0.0), Dose(typed=contest.typed)
    points = side_by_side.curve(lm, contest.test, [zero])
    assert np.allclose(points[["kl", "effect"]], 0, atol=1e-3)
    costs = aside.costs(zero)
    assert costs["unrelated"] == pytest.approx(0, abs=1e-4) and costs["known"] == 0
    assert costs["perplexity"] == pytest.approx(1, abs=1e-3)
    assert len(aside.sentences) == 2 and len(aside.facts) == 3
    moved = aside.costs(typed)
    assert moved["unrelated"] > 0.01 and abs(moved["perplexity"] - 1) > 0.01


def test_every_text_gets_the_intervention_made_for_it(lm: sl.SteerableModel) -> None:
    """Sentences are read in another order than given; SARA's gains belong to one each."""
    sentences, steer = side_by_side.Bystanders(lm, 8, sentences=3, facts=2).sentences, vector(lm)
    plain = read(lm, lm.prefix, None, sentences, len(lm.prefix))
    for place in range(3):
        steers = [30 * steer if row == place else 0 * steer for row in range(3)]
        moved = read(lm, lm.prefix, steers, sentences, len(lm.prefix))
        change = (moved["logprob"] - plain["logprob"]).abs().groupby(moved["row"]).max()
        assert change[place] > 0.1 and change.drop(place).max() < 1e-3


def test_a_sum_has_the_strengths_and_the_passes_of_both(lm: sl.SteerableModel) -> None:
    vectors = (vector(lm), vector(lm, 0.1))
    first, second = (Made(lambda texts, own=own: [own] * len(texts), 2, 1, 0.5) for own in vectors)
    both = combined(first, second, (2.0, 3.0))
    (_, edit), *_ = both.steers(["a"])[0].edits
    expected = 2 * vector(lm).edits[0][1].shift + 3 * vector(lm, 0.1).edits[0][1].shift
    torch.testing.assert_close(edit.shift, expected)
    assert (both.forwards, both.backwards, both.seconds) == (4, 2, 1.0)


def test_passes_are_counted(lm: sl.SteerableModel) -> None:
    contest = side_by_side.contests(lm, 3)["topic"]
    makers = side_by_side.makers(lm, contest, 2, 1, 0)
    counted = {name: (made.forwards, made.backwards) for name in makers for made in [makers[name]()]}
    assert counted["ActAdd"] == (2, 0) and counted["mean difference"] == (6, 0) and counted["SARA"] == (5, 0)
    assert counted["ActivScalar"] == counted["SteerVec"] == counted["DynScalar"] == (6, 6)  # both signs of 3 prompts


def table(**effects: tuple[float, float, float]) -> pd.DataFrame:
    """What `compare` gives of some methods at 0.3 nats, each with another price."""
    rows = []
    for place, (name, (low, effect, high)) in enumerate(effects.items()):
        about = {"task": "tone", "method": name.replace("_", " "), "target": "0.3", "kl": 0.3, "n": 5}
        cost = {"perplexity": 2.0 - place / 10, "forwards": 10 - place, "backwards": 0, "numbers": 1}
        rows.append(about | cost | {"effect": effect, "low": low, "high": high})
    return pd.DataFrame(rows)


def decided(frame: pd.DataFrame) -> dict[str, str]:
    """The row at 0.3 nats."""
    decision = side_by_side.decide(frame)
    return dict(decision[decision["target"] == "0.3 nat"].iloc[0])


def test_a_decision_follows_from_intervals_and_prices() -> None:
    row = decided(table(A=(4, 5, 6), B=(3, 4, 4.5), C=(1, 2, 3), D=(-1, 9, 19)))
    assert (row["most"], row["close"], row["fewest"], row["gentlest"]) == ("A", "B", "B", "B")
    assert row["effect"] == "5.0 [4.0, 6.0]"
    assert decided(table(A=(4, 5, 6), random_vector=(3, 4, 4.5)))["most"] == ""  # the interval is not above noise's
    assert decided(table(A=(5, 6, 7), random_vector=(3, 4, 4.5)))["most"] == "A"


def test_two_models_disagree_where_neither_takes_the_others_first() -> None:
    first = side_by_side.decide(table(A=(4, 5, 6), B=(1, 2, 3)))
    second = side_by_side.decide(table(A=(1, 2, 3), B=(4, 5, 6)))
    said, apart = side_by_side.differences({"x": first, "y": second})
    assert said.startswith("The two models agree in 3 of 4 rows and disagree on tone (1 of 4).")
    assert apart[["x", "y"]].to_numpy().tolist() == [["A", "B"]]
    assert side_by_side.differences({"x": first, "y": first})[1].empty


def test_the_command_keeps_what_the_notebook_shows(
    lm: sl.SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "STRENGTHS", (0.1, 1.0, 4.0))
    tasks, every = side_by_side.contests, side_by_side.makers
    monkeypatch.setattr(comparison, "contests", lambda *given: {"topic": tasks(*given)["topic"]})
    few = ("ActAdd", "ActivScalar", "random vector")
    monkeypatch.setattr(comparison, "makers", lambda *given: {name: every(*given)[name] for name in few})
    sizes = ["--n", "2", "--steps", "1", "--sentences", "2", "--facts", "2"]
    assert command.main([*sizes, "--out", str(tmp_path)]) == 0
    methods, curves, sums = (
        results.find(f"side_by_side_{name}", lm, tmp_path) for name in ("methods", "curves", "sums")
    )
    assert methods is not None and curves is not None and sums is not None
    assert set(methods["method"]) == {*few, "ActAdd + ActivScalar", "typed in front"} and len(sums)
    assert set(methods["target"]) == {"0.1", "0.3", "1.0", "best", "as typed"}
    bare = side_by_side.compare(lm, n=2, steps=1, costs=False)
    assert np.allclose(bare["methods"]["effect"], methods["effect"], atol=1e-4, equal_nan=True)
    assert not {"unrelated", "perplexity", "known", "apply", "front"} & {*bare["methods"], *bare["curves"]}
    assert (methods["apply"] > 0).all() and curves["front"].any() and not curves["front"].all()
    assert (
        results.runs("side_by_side", lm, tmp_path)["command"]
        .iloc[0]
        .startswith("python -m steerlab.experiments.side_by_side --n 2")
    )
    assert len(side_by_side.effects(methods)) == methods["method"].nunique()
    assert "P@10 (2 facts)" in side_by_side.costs(methods)
    assert len(side_by_side.plot_fronts(curves).axes) == 1
    assert len(side_by_side.sums(sums)) == sums["target"].nunique()
