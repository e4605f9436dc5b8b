"""The checkers of the exercises that build something: right for the solutions, and a reason for the usual mistakes."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any

import pandas as pd
import pytest
import torch
from solved import Printed, solutions
from torch import Tensor

import steerlab as sl
from steerlab import exercises, sweep


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load(device="cpu")


def verdict(
    check: Callable[..., None], answer: Callable[..., Any], printed: Printed, *args: Any, **options: Any
) -> str:
    check(answer, *args, **options)
    return printed()


def test_the_control_of_03(lm: sl.SteerableModel, tmp_path: Path, printed: Printed) -> None:
    solved = solutions("03_actadd_evidence", tmp_path)["control"]
    assert verdict(exercises.check_control, solved, printed, lm).startswith("✓ right: as long at each position")
    assert verdict(exercises.check_control, sl.random_like, printed, lm).startswith("✓ right")


def shifted(change: Callable[[Tensor], Tensor], **fields: Any) -> Callable[[sl.Intervention, int], sl.Intervention]:
    """A control whose shift is a function of the vector's."""

    def make(steer: sl.Intervention, seed: int) -> sl.Intervention:
        return sl.Intervention({site: replace(edit, shift=change(edit.shift), **fields) for site, edit in steer.edits})

    return make


def noise(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda steer, seed: steer, "this is the vector itself"),
        (lambda steer, seed: -steer, "the vector turned round"),
        (lambda steer, seed: None, "an Intervention is wanted"),
        (shifted(lambda v: noise(v) / noise(v).norm() * v.norm()), "row 0, of BOS, has to stay zero"),
        (shifted(noise), "has norm"),
        (shifted(lambda v: noise(v) * (v / v.norm(dim=-1, keepdim=True)).norm(dim=-1, keepdim=True)), "there are NaNs"),
        (shifted(lambda v: v[:1]), "a row for each position"),
        (shifted(lambda v: v, start=1), "the positions or passes differ"),
        (lambda steer, seed: sl.random_like(steer, 3), "another seed gives the same control"),
    ],
)
def test_a_wrong_control_is_told_why(
    lm: sl.SteerableModel, printed: Printed, make: Callable[..., Any], reason: str
) -> None:
    line = verdict(exercises.check_control, make, printed, lm)
    assert line.startswith("not yet") and reason in line


DOSE = {"prompt": "He has done wrong. Should I tell?", "pair": ("Do your duty.", "Look at what follows.")}


def test_the_dose_of_04(lm: sl.SteerableModel, tmp_path: Path, printed: Printed) -> None:
    solved = solutions("04_sara", tmp_path)["equal_dose"]
    line = verdict(exercises.check_dose, solved, printed, lm, **DOSE)
    assert line.startswith("✓ right: SARA c = ") and "ActAdd c = " in line


def by_measure(measure: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., float]:
    """The strength at which a measure of the steered and the plain log-probabilities is the target, by halving."""

    def answer(lm: sl.SteerableModel, steer: sl.Intervention, prompt: str, target: float) -> float:
        plain = lm.logits(prompt)[0].log_softmax(-1)
        low, high = 0.0, 8.0
        for _ in range(20):
            c = (low + high) / 2
            below = float(measure(lm.logits(prompt, c * steer)[0].log_softmax(-1), plain)) < target
            low, high = (c, high) if below else (low, c)
        return high

    return answer


def scaled_straight(lm: sl.SteerableModel, steer: sl.Intervention, prompt: str, target: float) -> float:
    p, q = lm.logits([prompt] * 2, [steer, None]).log_softmax(-1)
    return target / float((p.exp() * (p - q)).sum())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda *given: None, "a number is wanted"),
        (lambda *given: -1.0, "is not above 0"),
        (lambda *given: 1.0, "is wanted"),
        (by_measure(lambda p, q: (q.exp() * (q - p)).sum()), "the KL from the other side"),
        (by_measure(lambda p, q: (p.exp() * (p - q)).sum() / torch.tensor(2.0).log()), "this is in bits"),
        (scaled_straight, "in a straight line"),
    ],
)
def test_a_wrong_dose_is_told_why(
    lm: sl.SteerableModel, printed: Printed, answer: Callable[..., Any], reason: str
) -> None:
    line = verdict(exercises.check_dose, answer, printed, lm, **DOSE)
    assert line.startswith("not yet") and reason in line


def test_the_mean_difference_of_07(lm: sl.SteerableModel, tmp_path: Path, printed: Printed) -> None:
    solved = solutions("07_side_by_side", tmp_path)["mean_difference"]
    assert verdict(exercises.check_mean_difference, solved, printed, lm).startswith("✓ right")


def last_tokens(place: sl.Place, average: Callable[[Tensor], Tensor], sign: int = 1) -> Callable[..., Tensor]:
    def answer(lm: sl.SteerableModel, plus: list[str], minus: list[str], layer: int) -> Tensor:
        site = sl.Site(place, layer)
        sides = [
            torch.stack([lm.activations(text, site).row(0, site)[-1] for text in texts]) for texts in (plus, minus)
        ]
        return sign * (average(sides[0]) - average(sides[1]))

    return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (last_tokens("resid_pre", lambda rows: rows.mean(0), -1), "the sign is wrong"),
        (last_tokens("resid_pre", lambda rows: rows.sum(0)), "these are sums"),
        (last_tokens("resid_post", lambda rows: rows.mean(0)), "this leaves the block"),
        (last_tokens("resid_pre", lambda rows: rows), "the shape is"),
    ],
)
def test_a_wrong_mean_difference_is_told_why(
    lm: sl.SteerableModel, printed: Printed, answer: Callable[..., Any], reason: str
) -> None:
    line = verdict(exercises.check_mean_difference, answer, printed, lm)
    assert line.startswith("not yet") and reason in line


def own_task(lm: sl.SteerableModel) -> sl.tasks.Task:
    return sl.tasks.ioi(
        lm, 60, templates=["Today {P} met {Q} at the {place}, and {S} gave the {object} to"], orders=["ABBA"]
    )


def scalars(lm: sl.SteerableModel, frame: pd.DataFrame, count: int) -> sl.Intervention:
    """Some scalars, none of them learned."""
    method, length = sl.ActivScalar(("resid_post",), layers=(0,)), len(lm.tokens(frame["prompt"].iloc[0]))
    alphas = torch.zeros(1, length, 1)
    alphas[0, 1 : 1 + count] = 0.1
    return method.intervention(method.sites(lm), alphas, {})


def test_own_answers_have_to_be_own_known_few_and_turned(lm: sl.SteerableModel, printed: Printed) -> None:
    ours, own = sl.tasks.ioi(lm, 60, orders=["ABBA"]), own_task(lm)
    check = exercises.check_own_answers
    for given, reason in (
        ((ours.train, ours.test, scalars(lm, ours.test, 1)), "these are our sentences"),
        ((own.test, own.test, scalars(lm, own.test, 1)), "30 prompts stand on both sides"),
        ((own.train, own.test.head(5), scalars(lm, own.test, 1)), "5 prompts are few"),
        ((own.train, own.test.assign(correct=" Rome"), scalars(lm, own.test, 1)), "after 0% only"),
        ((own.train, own.test, scalars(lm, own.test, 4)), "4 locations are left"),
        ((own.train, own.test, scalars(lm, own.test, 0)), "0 locations are left"),
        ((own.train, own.test, scalars(lm, own.test, 2)), "may other scalars carry it"),
    ):
        check(lm, *given)
        line = printed()
        assert line.startswith("not yet") and reason in line, line


def test_a_probe_has_to_be_one_and_of_another_length(lm: sl.SteerableModel, printed: Printed) -> None:
    short, long = own_task(lm).train, own_task(lm).test
    long = long.assign(prompt="It was late. " + long["prompt"])
    method = sl.DynScalar(layers=(0,))
    probe = method.intervention(method.sites(lm), torch.zeros(2, 1, lm.d_model), {})
    for given, reason in (
        ((scalars(lm, short, 1), short, long), "probes alone are wanted"),
        ((probe, short, short), "too: test on another length"),
        ((probe, short, long.head(3)), "3 prompts are few"),
        ((probe, short, long), "it has not even learned its own prompts"),
    ):
        exercises.check_probe(lm, *given)
        line = printed()
        assert line.startswith("not yet") and reason in line, line


NEXT, STRENGTHS = "She told me all about the", (0, 1, 2)
Vectors = dict[int, sl.Intervention]


@pytest.fixture(scope="module")
def there() -> sl.SteerableModel:
    """A model whose calls go the whole way of a request, in this process."""
    return sl.load(remote="local")


def by_setting(
    control: Callable[[sl.Intervention, int], sl.Intervention] = sl.random_like,
    change: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame,
    prompt: str = NEXT,
) -> Callable[[sl.SteerableModel, Vectors], pd.DataFrame]:
    """A study with a control and a table of its own."""

    def study(lm: sl.SteerableModel, by_layer: Vectors) -> pd.DataFrame:
        rows = [
            sweep.Setting({"condition": name, "layer": layer, "strength": c}, prompt, c * steer)
            for layer, vector in by_layer.items()
            for name, steer in (("steered", vector), ("random", control(vector, layer)))
            for c in STRENGTHS
        ]
        return change(sweep.next_tokens(lm, rows, tokens=[" wedding"], progress=False))

    return study


def by_loop(lm: sl.SteerableModel, by_layer: Vectors) -> pd.DataFrame:
    parts = [by_setting()(lm, {layer: vector}) for layer, vector in by_layer.items()]
    return pd.concat(parts)


def by_logits(lm: sl.SteerableModel, by_layer: Vectors) -> pd.DataFrame:
    return pd.DataFrame({"logprob": lm.logits([NEXT] * 12)[:, 0]})


def long(steer: sl.Intervention, seed: int) -> sl.Intervention:
    (site, edit), *_ = steer.edits
    return sl.Intervention({site: replace(edit, shift=100 * noise(edit.shift))})


def test_the_study_of_08(there: sl.SteerableModel, tmp_path: Path, printed: Printed) -> None:
    names = solutions("08_remote", tmp_path) | {"sl": sl, "sweep": sweep, "NEXT": NEXT, "STRENGTHS": STRENGTHS}
    solved = FunctionType(names["study"].__code__, names)
    for answer in (solved, by_setting()):
        line = verdict(exercises.check_study, answer, printed, there, prompt=NEXT, strengths=STRENGTHS)
        assert line.startswith("✓ right: 12 settings in one request")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda lm, by_layer: pd.DataFrame(), "it asks the model for nothing"),
        (by_loop, "it takes 2 requests"),
        (by_logits, "bytes come back, of 12 settings"),
        (by_setting(change=lambda frame: frame.drop(columns="logprob")), "and logprob is wanted"),
        (by_setting(change=lambda frame: frame[frame["strength"] > 0]), "there is no row for steered, 0, 0"),
        (by_setting(change=lambda frame: pd.concat([frame] * 2)), "12 rows are wanted"),
        (by_setting(prompt="He told me all about the"), "steered, layer 0, strength 0: logprob is"),
        (by_setting(change=lambda frame: frame.assign(logprob=frame["logprob"].map(math.exp))), "the probability"),
        (by_setting(lambda vector, seed: vector), "the random rows are the steered ones"),
        (by_setting(lambda vector, seed: 0 * vector), "the random rows are unsteered"),
        (by_setting(long), "the control does not have the norm"),
    ],
)
def test_a_wrong_study_is_told_why(
    there: sl.SteerableModel, printed: Printed, answer: Callable[..., Any], reason: str
) -> None:
    line = verdict(exercises.check_study, answer, printed, there, prompt=NEXT, strengths=STRENGTHS)
    assert line.startswith("not yet") and reason in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("notebook", "check", "names"),
    [
        ("05_activation_scaling", exercises.check_own_answers, ("own.train", "own.test", "own_kept")),
        ("06_dynscalar", exercises.check_probe, ("my_probe", "own.train", "own.test")),
    ],
)
def test_the_solutions_that_fit_are_right(
    lm: sl.SteerableModel, notebook: str, check: Any, names: tuple[str, ...], tmp_path: Path, printed: Printed
) -> None:
    answers = solutions(notebook, tmp_path, fits=True)
    check(lm, *(eval(name, answers) for name in names))
    assert printed().startswith("✓ right")
