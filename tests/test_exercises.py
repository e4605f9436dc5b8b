"""The exercises' checkers: right for the notebooks' own solutions, not yet for stubs, and a reason for near misses."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import steerlab as sl
from steerlab import exercises

SOURCES = Path(__file__).resolve().parents[1] / "notebooks" / "source"
SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.DOTALL)
PROMPT = "Once upon a time there was a king"
PRELUDE = """
import nnsight
import torch
from nnsight import TransformersModel

import steerlab as sl

lm = sl.load(device="cpu")
traced = TransformersModel(lm.hf, tokenizer=lm.tokenizer)
blocks = traced.get(lm.layout.blocks)
"""

Printed = Callable[[], str]


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return sl.load(device="cpu")


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """The one line that a checker has printed."""

    def read() -> str:
        out = capsys.readouterr().out
        assert out.endswith("\n")
        assert out.count("\n") == 1
        return out

    return read


def solutions(notebook: str, folder: Path) -> dict[str, Any]:
    """The names that a notebook's folded solutions define. They run from a file, since traces need their source."""
    text = re.sub(r"^# ?", "", (SOURCES / f"{notebook}.py").read_text(), flags=re.MULTILINE)
    found = SOLUTION.findall(text)
    assert found, f"no folded solutions in {notebook}"
    path = folder / "solutions.py"
    path.write_text(PRELUDE + "\n\n".join(code for code in found if "best." not in code))
    return runpy.run_path(str(path))


def test_the_solutions_of_01_are_right(lm: sl.SteerableModel, tmp_path: Path, printed: Printed) -> None:
    names = solutions("01_tracing", tmp_path)
    exercises.check_read(names["read_mlp"], lm)
    assert printed().startswith("✓ right")
    exercises.check_silence(names["silence"], lm)
    assert printed().startswith("✓ right")
    exercises.check_passes(names["passes"], new_tokens=40)
    assert printed().startswith("✓ right")


def test_the_solution_of_02_is_right(tmp_path: Path, printed: Printed) -> None:
    exercises.check_add_at_front(solutions("02_actadd", tmp_path)["add_at_front"])
    assert printed().startswith("✓ right")


def read(place: sl.Place, batch: bool = False) -> Callable[[sl.SteerableModel], Callable[[str, int], Tensor]]:
    def make(lm: sl.SteerableModel) -> Callable[[str, int], Tensor]:
        def answer(prompt: str, layer: int) -> Tensor:
            site = sl.Site(place, layer)
            found = lm.activations(prompt, site)
            return found[site] if batch else found.row(0, site)

        return answer

    return make


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda lm: lambda prompt, layer: None, "nothing is returned"),
        (lambda lm: lambda prompt, layer: [1.0], "a tensor is wanted, not list"),
        (lambda lm: lambda prompt, layer: missing, "NameError"),  # what a trace that saves nothing does
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


def test_an_own_pair_has_to_be_ones_own_and_to_move_something(lm: sl.SteerableModel, printed: Printed) -> None:
    ours = sl.actadd(lm, " ships", " ", layer=2, position="back")
    exercises.check_own_pair(lm, 10 * ours, PROMPT, given=(" ships", " "))
    assert "still our pair" in printed()
    own = sl.actadd(lm, " ghosts", " ", layer=2, position="back")
    exercises.check_own_pair(lm, 0 * own, PROMPT, given=(" ships", " "))
    assert "hardly moves" in printed()
    exercises.check_own_pair(lm, 10 * own, PROMPT, given=(" ships", " "))
    assert printed().startswith("✓ right")


def test_a_topic_has_to_come_more_often_than_by_luck(lm: sl.SteerableModel, printed: Printed) -> None:
    (token,) = lm.encode(" wedding")
    towards = lm.hf.get_output_embeddings().weight[token].detach()[None]
    last = sl.Site("resid_post", lm.n_layers - 1)
    push = sl.Intervention(((last, sl.Edit(shift=1000 * towards, when="all")),))  # writes the word and nothing else

    exercises.check_topic_shift(lm, 0 * push, ["wedding"], prompt=PROMPT, n=10)
    assert "changes nothing" in printed()
    exercises.check_topic_shift(lm, push, ["xylophone"], prompt=PROMPT, n=10)
    line = printed()
    assert line.startswith("not yet: 0% of 10")
    exercises.check_topic_shift(lm, push, ["wedding"], prompt=PROMPT, n=10)
    assert printed().startswith("✓ right: 100% of 10")
