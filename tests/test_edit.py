"""The one equation, on tensors, against loops over rows and positions."""

from typing import Any

import pytest
import torch
from reference import Change, steered_by_hand
from torch import Tensor
from trials import KINDS, edit, random, tensors, trial

import steerlab as sl
from steerlab.edit import applies
from steerlab.edit import edit as apply
from steerlab.intervention import stack_rows

B, T, D = 4, 7, 32
PADS = [0, 2, 1, 0]
SITE = sl.Site("resid_pre", 0)

# (anchor, start, positions)
WHERE = [("all", 0, 1), ("front", 0, 1), ("front", 0, 3), ("front", 2, 3), ("back", 0, 1), ("back", 0, 3)]


def stacks(steer: Any, rows: int = B) -> list[dict[str, Any]]:
    return stack_rows(steer, rows).get(SITE, [])


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("when", "passes"), [("prompt", [0]), ("decode", [1, 2, 5]), ("all", [0, 1, 2, 5])])
def test_an_edit_applies_on_the_passes_that_it_names(when: Any, passes: list[int]) -> None:
    assert [step for step in (0, 1, 2, 5) if applies(when, step)] == passes
    h, steer = random(B, 1, D), edit("resid_pre", 0, shift=random(1, D, seed=1), when=when)
    assert [step for step in (0, 1, 2, 5) if not torch.equal(apply(h, stacks(steer), None, step), h)] == passes


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("where", "start", "positions"), WHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_one_intervention_for_all_rows(kind: str, where: str, start: int, positions: int, padded: bool) -> None:
    h = random(B, T, D, seed=9)
    steer, change = trial("resid_pre", 0, kind, where=where, start=start, positions=positions, beta=0.7)
    out = apply(h, stacks(steer), torch.tensor(PADS) if padded else None)
    close(out, h + steered_by_hand(h, change, PADS if padded else [0] * B))
    assert not torch.equal(out, h)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("where", "start", "positions"), WHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_another_intervention_in_each_row(kind: str, where: str, start: int, positions: int, padded: bool) -> None:
    h, pads = random(B, T, D, seed=9), PADS if padded else [0] * B
    options: dict[str, Any] = {"where": where, "start": start, "positions": positions}
    pairs = [trial("resid_pre", 0, kind, beta=row - 1.5, rows=[row], seed=10 * row, **options) for row in (0, 2, 3)]
    steer = [pairs[0][0], None, pairs[1][0], pairs[2][0]]
    out = apply(h, stacks(steer), torch.tensor(PADS) if padded else None)
    close(out, h + sum((steered_by_hand(h, change, pads) for _, change in pairs), torch.zeros(())))
    assert torch.equal(out[1], h[1])


@pytest.mark.parametrize("shape", [(1, 1), (1, D), (3, 1), (3, D)])
def test_a_gain_per_neuron_per_position_both_or_neither(shape: tuple[int, int]) -> None:
    h, gain = random(B, T, D), random(*shape, seed=1)
    out = apply(h, stacks(edit("resid_pre", 0, gain=gain, anchor="front" if shape[0] > 1 else "all")))
    whole = torch.zeros(T, D)
    whole[: 3 if shape[0] > 1 else T] = gain
    close(out, h * (1 + whole))


def test_different_kinds_of_edit_side_by_side_in_one_site() -> None:
    h = random(B, T, D, seed=9)
    pairs = [
        trial("resid_pre", 0, "shift", where="front", positions=3, rows=[0, 1]),
        trial("resid_pre", 0, "gain", rows=[1, 2], seed=5),
        trial("resid_pre", 0, "probe", where="back", rows=[1], seed=7),
    ]
    (front, _), (gain, _), (back, _) = pairs
    out = apply(h, stacks([front, front + gain + back, gain, None]), torch.tensor(PADS))
    close(out, h + sum((steered_by_hand(h, change, PADS) for _, change in pairs), torch.zeros(())))


def test_edits_of_one_site_are_all_computed_from_the_same_activation() -> None:
    h = random(B, T, D)
    parts = [edit("resid_pre", 0, gain=torch.ones(1, 1)), edit("resid_pre", 0, shift=torch.ones(1, D))]
    for first, second in (parts, reversed(parts)):
        for steer in (first + second, [first + second] * B, [first + second] * 2 + [first] * 2):
            close(apply(h, stacks(steer))[:2], 2 * h[:2] + 1)  # and not 2 * (h + 1)


def test_the_same_edit_twice_in_a_row_counts_twice() -> None:
    once = sl.Edit(shift=random(3, D), anchor="front")
    twice = sl.Intervention(((SITE, once), (SITE, once)))
    h = random(B, T, D)
    for steer in (twice, [twice] * B, [twice, None, twice, twice]):
        out = apply(h, stacks(steer))
        close(out[0, :3], h[0, :3] + 2 * once.tensors["shift"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_activations_keep_their_dtype(kind: str, dtype: torch.dtype) -> None:
    h = random(B, T, D).to(dtype)
    for where, start, positions in WHERE:
        steer, _ = trial("resid_pre", 0, kind, where=where, start=start, positions=positions)
        for given in (steer, [steer, None, steer, steer]):
            assert apply(h, stacks(given), torch.tensor(PADS)).dtype == dtype


def test_nothing_is_changed_in_place() -> None:
    h = random(B, T, D)
    before = h.clone()
    for where, start, positions in WHERE:
        steer, _ = trial("resid_pre", 0, "all three", where=where, start=start, positions=positions)
        tensors_before = [tensor.clone() for _, e in steer.edits for tensor in e.tensors.values()]
        for given in (steer, [steer, None, steer, steer]):
            apply(h, stacks(given), torch.tensor(PADS))
        assert torch.equal(h, before)
        assert all(map(torch.equal, tensors_before, [t for _, e in steer.edits for t in e.tensors.values()]))


@pytest.mark.parametrize(("where", "start", "positions"), WHERE)
def test_gradients_of_all_tensors_are_those_of_finite_differences(where: str, start: int, positions: int) -> None:
    h = random(B, T, 5).double()
    names = ("shift", "gain", "probe")
    given = [tensors("all three", positions, width=5)[name].double().requires_grad_() for name in names]

    def run(*values: Tensor) -> Tensor:
        fields = dict(zip(names, values, strict=True))
        steer = edit("resid_pre", 0, anchor=where, start=start, **fields)
        return apply(h, stacks([steer, None, steer, 2 * steer]), torch.tensor(PADS))

    assert torch.autograd.gradcheck(run, given)


def test_the_reference_itself_by_numbers() -> None:
    h = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    change = Change("resid_pre", 0, beta=2.0, a=torch.tensor([[1.0, 0.0]]), gamma=torch.tensor([[0.5, 1.0]]))
    assert steered_by_hand(h, change, [0]).tolist() == [[[3.0, 4.0], [5.0, 8.0], [7.0, 12.0]]]
    probe = Change("resid_pre", 0, w=torch.tensor([[0.0, 1.0]]), where="front")
    assert steered_by_hand(h, probe, [1]).tolist() == [[[0.0, 0.0], [12.0, 16.0], [0.0, 0.0]]]
