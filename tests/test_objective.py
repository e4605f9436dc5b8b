"""The three terms, against numbers worked out by hand or in plain numpy."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from steerlab import Objective
from steerlab.objective import difference, effectiveness, faithfulness, flips, minimality

CORRECT, WRONG = torch.tensor([2, 0, 5]), torch.tensor([4, 1, 3])


def logits(seed: int, requires_grad: bool = False) -> torch.Tensor:
    return (3 * torch.randn(3, 7, generator=torch.Generator().manual_seed(seed))).requires_grad_(requires_grad)


def test_the_difference_is_correct_less_wrong() -> None:
    z = logits(0)
    by_hand = [float(z[i, c] - z[i, w]) for i, (c, w) in enumerate(zip(CORRECT, WRONG, strict=True))]
    assert difference(z, CORRECT, WRONG).tolist() == by_hand
    both = difference(torch.stack([z, 2 * z]), CORRECT.expand(2, 3), WRONG.expand(2, 3))
    torch.testing.assert_close(both[1], 2 * difference(z, CORRECT, WRONG))


@pytest.mark.parametrize(
    ("plus", "minus", "margin", "expected"),
    [
        (0.0, 0.0, 10.0, 20.0),  # nothing learned: a margin for each sign
        (12.0, -12.0, 10.0, 0.0),  # both flipped by more than the margin
        (4.0, -12.0, 10.0, 6.0),  # one of them by 4
        (-3.0, 5.0, 1.0, 10.0),  # the wrong way round
        (3.0, -5.0, 0.0, 0.0),  # a margin of 0: just flipped is enough
        (3.0, -5.0, math.inf, -8.0),  # the plain difference
    ],
)
def test_effectiveness_is_a_hinge_for_each_sign(plus: float, minus: float, margin: float, expected: float) -> None:
    loss = effectiveness(torch.tensor([plus]), torch.tensor([minus]), margin)
    assert loss.tolist() == pytest.approx([expected])


def test_every_margin_of_a_batch_has_a_finite_gradient() -> None:
    plus, minus = torch.zeros(4, 3, requires_grad=True), torch.zeros(4, 3, requires_grad=True)
    margin = torch.tensor([0.0, 1.0, 1e30, math.inf])[:, None]
    effectiveness(plus, minus, margin).sum().backward()
    assert plus.grad is not None and minus.grad is not None
    # relu has the gradient 0 at 0: a margin of 0 has nothing to gain from a difference of 0
    assert plus.grad[:, 0].tolist() == [0, -1, -1, -1]
    assert minus.grad[:, 0].tolist() == [0, 1, 1, 1]


def test_faithfulness_is_the_divergence_of_what_is_left_without_the_answers() -> None:
    base, steered = logits(1), logits(2)
    expected = []
    for i in range(3):
        rest = [token for token in range(7) if token not in (int(CORRECT[i]), int(WRONG[i]))]
        log_p, log_q = (log_softmax(side[i, rest].double().numpy()) for side in (base, steered))
        expected.append((np.sum(np.exp(log_p) * (log_p - log_q)), np.sum(np.exp(log_q) * (log_q - log_p))))
    forward, reverse = np.array(expected).T
    np.testing.assert_allclose(faithfulness(steered, base, CORRECT, WRONG), forward, rtol=1e-4)
    np.testing.assert_allclose(faithfulness(steered, base, CORRECT, WRONG, reverse=True), reverse, rtol=1e-4)


def test_faithfulness_asks_nothing_of_the_answers() -> None:
    base = logits(1)
    steered = base.clone()
    steered[torch.arange(3), CORRECT] += 20
    steered[torch.arange(3), WRONG] -= 20
    torch.testing.assert_close(faithfulness(steered + 5, base, CORRECT, WRONG), torch.zeros(3), atol=1e-5, rtol=0)
    steered[:, 6] += 1
    assert (faithfulness(steered, base, CORRECT, WRONG) > 1e-4).all()


def test_faithfulness_has_a_gradient_for_the_others_alone() -> None:
    base, steered = logits(1), logits(2, requires_grad=True)
    faithfulness(steered, base, CORRECT, WRONG).sum().backward()
    assert steered.grad is not None
    answers = torch.stack([CORRECT, WRONG], 1)
    assert steered.grad.gather(1, answers).abs().max() == 0
    # that of KL(p ‖ softmax z) in z: softmax z - p, over the tokens that are left
    hidden = torch.zeros(3, 7).scatter(1, answers, float("-inf"))
    expected = (steered.detach() + hidden).softmax(1) - (base + hidden).softmax(1)
    torch.testing.assert_close(steered.grad, expected, atol=1e-6, rtol=1e-5)


def test_minimality_and_flips() -> None:
    assert minimality([torch.tensor([[1.0, -2.0]]), torch.tensor([[-0.5]])]) == 3.5
    assert flips(torch.tensor([1.0, 1.0, -1.0]), torch.tensor([-1.0, 1.0, -1.0])).tolist() == [True, False, False]


def test_the_papers_grid() -> None:
    grid = Objective.grid()
    assert len(set(grid)) == 64
    assert {o.margin for o in grid} == {o.faithfulness for o in grid} == {o.minimality for o in grid} == {0, 1, 10, 100}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"margin": -1}, "margin=-1 is out of range"),
        ({"faithfulness": math.nan}, "faithfulness=nan is out of range"),
        ({"minimality": math.inf}, "minimality=inf is out of range"),
    ],
)
def test_what_cannot_be_minimised(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(**setting)
