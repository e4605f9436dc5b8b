"""The exercises' checkers: right for the notebooks' own solutions, not yet for stubs, and a reason for near misses."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import pandas as pd
import pytest
import torch
from solved import Printed, solutions
from torch import Tensor

import steerlab as sl
from steerlab import exercises
from steerlab.exercises import short

PROMPT = "Once upon a time there was a king"


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load(device="cpu")


def test_the_solutions_of_01_are_right(lm: sl.SteerableModel, tmp_path: Path, printed: Printed) -> None:
    names = solutions("01_tracing", tmp_path)
    exercises.check_read(names["read_mlp"], lm)
    assert printed().startswith("✓ right")
    exercises.check_silence(names["silence"], lm)
    assert printed().startswith("✓ right")
    exercises.check_passes(names["passes"], new_tokens=40)
    assert printed().startswith("✓ right")


def test_the_solutions_of_02_are_right(lm: sl.SteerableModel, tmp_path: Path, printed: Printed) -> None:
    names = solutions("02_actadd", tmp_path)
    exercises.check_add_at_front(names["add_at_front"])
    assert printed().startswith("✓ right")
    exercises.check_steered_texts(names["steered_texts"], lm)
    assert printed().startswith("✓ right: your texts are those of lm.generate")


def test_wrong_steered_texts_are_told_why(lm: sl.SteerableModel, printed: Printed) -> None:
    def unsteered(prompts: list[str], vector: Tensor, layer: int, new: int) -> list[str]:
        return lm.generate(prompts, max_new_tokens=new, temperature=0)["completion"].tolist()

    def everywhere(prompts: list[str], vector: Tensor, layer: int, new: int) -> list[str]:
        steer = sl.add(vector[-1], layer=layer, place="resid_pre", when="all")
        return lm.generate(prompts, steer, max_new_tokens=new, temperature=0)["completion"].tolist()

    for answer, reason in {
        unsteered: "row 0 is not steered",
        everywhere: "row 0 is steered at every token",
        lambda prompts, *args: None: "a list of 2 texts is wanted",
        lambda prompts, *args: [prompt + " and so on" for prompt in prompts]: "the prompt is part of your text",
        lambda prompts, *args: ["nothing", "else"]: "row 0 is 'nothing'; ',",
    }.items():
        exercises.check_steered_texts(answer, lm)
        line = printed()
        assert line.startswith("not yet") and reason in line


def test_the_solution_of_08_is_right_and_its_stub_is_not(
    lm: sl.SteerableModel, tmp_path: Path, printed: Printed
) -> None:
    names = solutions("08_remote", tmp_path) | {"sl": sl, "PROMPT": "He said", "SEED": 0}
    solved = FunctionType(names["every_layer"].__code__, names)
    check = partial(exercises.check_requests, lm=lm, most=2, prompt="He said")
    check(solved)
    assert printed() == "✓ right: 2 requests for the whole study, instead of two for every layer\n"

    def stub(lm: sl.SteerableModel) -> None:
        for layer in range(lm.n_layers):
            lm.generate("He said", sl.actadd(lm, " a", " b", layer=layer), max_new_tokens=1)

    for answer, reason in {
        stub: f"it takes {2 * lm.n_layers} requests, and 2 are enough",
        lambda lm: ["He said"]: "it asks the model for nothing",
        lambda lm: lm.generate("He said", max_new_tokens=1): f"a list of {lm.n_layers} texts is wanted",
        lambda lm: lm.generate(["He said"] * lm.n_layers, max_new_tokens=1)["completion"].tolist(): "layer 0: ",
    }.items():
        check(answer)
        line = printed()
        assert line.startswith("not yet") and reason in line


def read(place: sl.Place, batch: bool = False) -> Callable[[sl.SteerableModel], Callable[[str, int], Tensor]]:
    def make(lm: sl.SteerableModel) -> Callable[[str, int], Tensor]:
        def answer(prompt: str, layer: int) -> Tensor:
            site = sl.Site(place, layer)
            activations = lm.activations(prompt, site)
            return activations[site] if batch else activations.row(0, site)

        return answer

    return make


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda lm: lambda prompt, layer: None, "nothing is returned"),
        (lambda lm: lambda prompt, layer: [1.0], "a tensor is wanted, not list"),
        (lambda lm: lambda prompt, layer: missing, "NameError"),  # type: ignore[name-defined]  # what a trace that saves nothing does
        (read("attn_out"), "this is attn_out; mlp_out is wanted"),
        (read("resid_post"), "this is resid_post"),
        (read("mlp_out", batch=True), "the shape is"),
        (lambda lm: lambda prompt, layer: read("mlp_out")(lm)(prompt, layer) + 1, "the numbers are not"),
    ],
)
def test_a_wrong_reading_is_told_why(
    lm: sl.SteerableModel, printed: Printed, make: Callable[..., Any], reason: str
) -> None:
    exercises.check_read(make(lm), lm)
    line = printed()
    assert line.startswith("not yet")
    assert reason in line


def test_a_hook_that_does_nothing_is_not_yet(lm: sl.SteerableModel, printed: Printed) -> None:
    exercises.check_silence(lambda module, args, output: output, lm)
    assert "untouched model" in printed()


def test_a_tuple_has_to_stay_one(lm: sl.SteerableModel, printed: Printed) -> None:
    for hook in (lambda module, args, output: 0 * output, lambda module, args, output: 0 * output[0]):
        exercises.check_silence(hook, lm)
        assert printed() == "not yet: the output is a tuple of 2: return a tuple of the same length\n"


def test_a_hook_that_fails_is_removed(lm: sl.SteerableModel, printed: Printed) -> None:
    before = lm.logits(PROMPT)
    exercises.check_silence(lambda module, args, output: output.nothing, lm)
    assert "AttributeError" in printed()
    assert torch.equal(lm.logits(PROMPT), before)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({}, "give a number for when='prompt'"),
        ({"prompt": 1, "decode": 40, "all": 41}, "when='decode' does not edit 40"),
        ({"prompt": 1, "decode": 39, "all": None}, "give a number for when='all'"),
    ],
)
def test_a_wrong_count_is_not_yet(printed: Printed, answer: dict[str, int | None], reason: str) -> None:
    exercises.check_passes(answer, new_tokens=40)
    line = printed()
    assert line.startswith("not yet")
    assert reason in line


def columns(h: Tensor, vector: Tensor, pad: Tensor) -> Tensor:
    out = h.clone()
    out[:, : len(vector)] += vector
    return out


def in_place(h: Tensor, vector: Tensor, pad: Tensor) -> Tensor:
    for row, first in enumerate(pad.tolist()):
        h[row, first : first + len(vector)] += vector
    return h


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(lambda h, vector, pad: h, "unchanged"), (columns, "padding"), (in_place, "h.clone()")],
)
def test_a_vector_on_the_wrong_tokens_is_told_why(printed: Printed, answer: Callable[..., Tensor], reason: str) -> None:
    exercises.check_add_at_front(answer)
    line = printed()
    assert line.startswith("not yet")
    assert reason in line


def test_an_own_pair_has_to_be_ones_own_and_to_write_of_its_topic(lm: sl.SteerableModel, printed: Printed) -> None:
    given = (" ships", " ")
    ours = sl.actadd(lm, *given, layer=2)
    exercises.check_own_pair(lm, ours, ["ship"], given=given)
    assert "still our pair" in printed()
    nonsense = sl.actadd(lm, " zxq", " ", layer=2)
    exercises.check_own_pair(lm, nonsense, [], given=given)
    assert "list words" in printed()
    exercises.check_own_pair(lm, 2 * nonsense, ["zxq", "ship"], given=given, n=6)
    assert printed().startswith("not yet: 0% of 6 completions hold one of your words, unsteered 0%")
    push = pushed(lm, " wedding")
    exercises.check_own_pair(lm, push, ["wedding"], given=given, n=6)
    assert printed().startswith("✓ right: 100% of 6 completions hold one of your words; unsteered 0%, under a random")


def pushed(lm: sl.SteerableModel, word: str) -> sl.Intervention:
    """Writes a word and nothing else."""
    (token,) = lm.encode(word)
    towards = lm.hf.get_output_embeddings().weight[token].detach()[None]
    last = sl.Site("resid_post", lm.n_layers - 1)
    return sl.Intervention({last: sl.Edit(shift=1000 * towards, when="all")})


def test_a_topic_has_to_come_more_often_than_by_luck(lm: sl.SteerableModel, printed: Printed) -> None:
    push = pushed(lm, " wedding")
    exercises.check_topic_shift(lm, 0 * push, ["wedding"], prompt=PROMPT, n=10)
    assert "changes nothing" in printed()
    exercises.check_topic_shift(lm, push, ["xylophone"], prompt=PROMPT, n=10)
    line = printed()
    assert line.startswith("not yet: 0% of 10")
    exercises.check_topic_shift(lm, push, ["wedding"], prompt=PROMPT, n=10)
    assert printed().startswith("✓ right: 100% of 10")


def test_the_solutions_of_05_and_06_are_right(tmp_path: Path, printed: Printed) -> None:
    exercises.check_effectiveness(solutions("05_activation_scaling", tmp_path)["my_effectiveness"])
    assert printed().startswith("✓ right")
    exercises.check_dynamic(solutions("06_dynscalar", tmp_path)["scale_dynamically"])
    assert printed().startswith("✓ right")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda plus, minus, margin: minus - plus, "plain difference"),
        (lambda plus, minus, margin: plus - minus, "grows as the prompt gets better"),
        (lambda plus, minus, margin: (2 * margin - plus + minus).relu(), "each needs a hinge"),
        (lambda plus, minus, margin: (margin - plus).relu() + (margin - minus).relu(), "the sign of the second half"),
        (lambda plus, minus, margin: (margin - plus).relu(), "the numbers are not"),
    ],
)
def test_a_wrong_hinge_is_told_why(printed: Printed, answer: Callable[..., Tensor], reason: str) -> None:
    exercises.check_effectiveness(answer)
    line = printed()
    assert line.startswith("not yet") and reason in line


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda h, w, beta: h, "unchanged"),
        (lambda h, w, beta: h * beta * (h @ w)[..., None], "the 1 is missing"),
        (lambda h, w, beta: h * (1 + beta * h * w), "sum over them"),
    ],
)
def test_a_wrong_dynamic_scale_is_told_why(printed: Printed, answer: Callable[..., Tensor], reason: str) -> None:
    exercises.check_dynamic(answer)
    line = printed()
    assert line.startswith("not yet") and reason in line


def test_fewer_locations_are_counted(lm: sl.SteerableModel, printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    method = sl.ActivScalar(("resid_post",), layers=(0,))
    learned = method.intervention(method.sites(lm), torch.ones(1, 4, 1), {})
    spots, other = sl.locations(learned), sl.ActivScalar(("mlp_out",), layers=(0,))
    frame = pd.DataFrame({"prompt": [" Rome is in"], "correct": [" Italy"], "wrong": [" France"]})
    monkeypatch.setattr(short, "score", lambda *given: pd.DataFrame({"flips": [True, True, True, True, False]}))
    fewest = sl.keep(learned, spots.head(1))
    exercises.check_fewer(lm, fewest, learned, frame, least=0.8, named=0)
    assert printed().startswith("✓ right: 1 locations flip 80%")
    exercises.check_fewer(lm, sl.keep(learned, spots.head(3)), learned, frame, least=0.8, named=0)
    assert "more than half of the 4" in printed()
    exercises.check_fewer(lm, fewest, learned, frame)
    assert "1 locations flip 80%; at least 95%" in printed()
    monkeypatch.setattr(short, "answer_tokens", lambda lm, frame: (None, torch.tensor([-1])))
    exercises.check_fewer(lm, fewest, learned, frame, least=0.8)
    assert "at β = -1 the model says the other name after 0% only" in printed()
    exercises.check_fewer(lm, other.intervention(other.sites(lm), torch.ones(1, 4, 1), {}), learned, frame)
    assert "were not learned" in printed()


# --- 04 ------------------------------------------------------------------------------------------------------------


def test_the_solutions_of_04_are_right(tmp_path: Path, printed: Printed) -> None:
    names = solutions("04_sara", tmp_path)
    exercises.check_anchored_gain(names["anchored_gain"])
    assert printed().startswith("✓ right")
    exercises.check_other_signs(names["other_signs"])
    assert printed().startswith("✓ right: it is the same SVD, and some neuron's γ changes by")


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda own, near, far: sl.sara_gain(own, far, near), "attraction and repulsion are swapped"),
        (lambda own, near, far: sl.sara_gain(own, near, far, variant="released"), "the released γ"),
        (lambda own, near, far: torch.zeros(own.shape[1]), "the numbers are not"),
        (lambda own, near, far: gram_gain(own, near, far), "take its square root"),
        (lambda own, near, far: torch.cosine_similarity(own @ own.T, near @ near.T), "take the SVD of x.T"),
    ],
)
def test_near_misses_of_the_gain_are_told(answer: Callable[..., Tensor], line: str, printed: Printed) -> None:
    exercises.check_anchored_gain(answer)
    out = printed()
    assert out.startswith("not yet")
    assert line in out


def gram_gain(own: Tensor, near: Tensor, far: Tensor) -> Tensor:
    grams = [x.T @ x for x in (own, near, far)]
    return torch.cosine_similarity(grams[0], grams[1]) - torch.cosine_similarity(grams[0], grams[2])


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda parts: parts, "no neuron's γ changes by more than 0.00"),
        (lambda parts: 2 * parts, "components of another prompt"),
        (lambda parts: torch.linalg.qr(torch.arange(25.0).view(5, 5).sin())[0] @ parts, "leaves open only the sign"),
        (lambda parts: parts[:2], "components of the same shape"),
    ],
)
def test_near_misses_of_the_signs_are_told(answer: Callable[[Tensor], Tensor], line: str, printed: Printed) -> None:
    exercises.check_other_signs(answer)
    out = printed()
    assert out.startswith("not yet")
    assert line in out


# --- 03 ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_gentle_has_to_steer_and_to_cost_little(lm: sl.SteerableModel, printed: Printed) -> None:
    push = pushed(lm, " wedding")
    exercises.check_gentle(lm, 0 * push, room=False)
    assert "this vector changes nothing" in printed()
    exercises.check_gentle(lm, 0.01 * push, room=False, n=2)
    assert "McNemar's p of these pairs is 1, below 0.05 is wanted" in printed()
    exercises.check_gentle(lm, push, room=False, n=2)
    assert "100% of 12 completions" in (line := printed()) and "not 1 ± 0.05" in line
    exercises.check_gentle(lm, push, room=False, n=2, cost=float("inf"))
    assert printed().startswith("✓ right: 100% of 12")


@pytest.mark.slow
def test_the_solution_of_03_is_gentle(lm: sl.SteerableModel, tmp_path: Path, printed: Printed) -> None:
    mine = solutions("03_actadd_evidence", tmp_path)["mine"]
    exercises.check_gentle(lm, mine.vector(lm), room=mine.room, n=20)
    assert printed().startswith("✓ right")


def test_the_solution_of_03_breaks_the_model(lm: sl.SteerableModel, tmp_path: Path, printed: Printed) -> None:
    names = solutions("03_actadd_evidence", tmp_path)
    exercises.check_broken(lm, names["broken"], prompt=PROMPT, n=4)
    assert printed().startswith("✓ right")
    exercises.check_broken(lm, 0 * names["broken"], prompt=PROMPT, n=4)
    assert "10 times as much is wanted" in printed()


def test_a_topic_that_is_reached_does_not_fail(lm: sl.SteerableModel, printed: Printed) -> None:
    push, words = pushed(lm, " wedding"), ["wedding", "one", "two", "three", "four"]
    exercises.check_fails(lm, push, words[:2], room=False)
    assert "five at least" in printed()
    for nonsense in ("xq1", "zxq"):
        exercises.check_fails(lm, push, [nonsense, *words], room=False)
        assert f"{nonsense!r} is no word that this model can have read" in printed()
    exercises.check_fails(lm, sl.actadd(lm, " ships", " ", layer=2), words, room=False)
    assert "none of your words begins like it" in printed()
    exercises.check_fails(lm, push, words, room=False, n=10)
    assert "this topic is reached" in printed()
    exercises.check_fails(lm, push, ["xylophone", *words[1:]], room=False, n=10)
    assert printed().startswith("✓ right: 0% of 10")
