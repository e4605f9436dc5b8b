"""What a learned intervention should do: flip the answer, leave the other tokens alone, and be small.

Stoehr et al., Activation Scaling for Steering and Interpreting Language Models, arXiv 2410.04962, section 3. The three
terms are the paper's, their exact form is our reconstruction. Each is a function of tensors: a loss term while fitting,
a metric afterwards.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .metrics import kl


def difference(
    logits: Float[Tensor, "*batch vocab"], correct: Int[Tensor, "*batch"], wrong: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Δ = logit(correct) - logit(wrong) of the next token, in nats."""
    answers = logits.gather(-1, torch.stack([correct, wrong], -1))
    return answers[..., 0] - answers[..., 1]


def effectiveness(
    plus: Float[Tensor, "*batch"], minus: Float[Tensor, "*batch"], margin: float | Float[Tensor, "*#batch"] = 0.0
) -> Float[Tensor, "*batch"]:
    """How far both signs are from flipping the answer by a margin, in nats; 0 is done.

    max(0, m - Δ(+1)) + max(0, m + Δ(-1)): β = +1 is to favour the correct token, β = -1 the wrong one. An infinite
    margin is never reached and gives the plain difference Δ(-1) - Δ(+1). Our reconstruction of the paper's section 3.

    Args:
        plus: Δ(+1).
        minus: Δ(-1).
        margin: m, one for all or one for each.
    """
    wanted = torch.as_tensor(margin, dtype=plus.dtype, device=plus.device)
    plain = minus - plus
    # clamped, since an infinite margin would make the gradient of the unused branch NaN
    near = wanted.clamp(max=torch.finfo(plus.dtype).max)
    return torch.where(wanted.isinf(), plain, (near - plus).relu() + (near + minus).relu())


def faithfulness(
    logits: Float[Tensor, "*batch vocab"],
    base: Float[Tensor, "*batch vocab"],
    correct: Int[Tensor, "*batch"],
    wrong: Int[Tensor, "*batch"],
    *,
    reverse: bool = False,
) -> Float[Tensor, "*batch"]:
    """How much the other tokens have moved, in nats; 0 is not at all.

    KL(original ‖ steered) of the next-token distributions without the two answers, each renormalised. Which way the
    divergence points, and that it leaves the answers out, is our reconstruction.

    Args:
        logits: steered.
        base: of the bare model.
        correct: the correct token, by row.
        wrong: the wrong one.
        reverse: KL(steered ‖ original) instead.
    """
    answers = torch.stack([correct, wrong], -1)
    # Far below any logit, and finite: -inf would make the gradient NaN.
    original, steered = (side.scatter(-1, answers, -1e9) for side in (base, logits))
    return kl(steered, original) if reverse else kl(original, steered)


def minimality(tensors: Iterable[Float[Tensor, "..."]]) -> Float[Tensor, ""]:
    """The l1 norm of what was learned: the sum over all tensors of |θ|."""
    return torch.stack([tensor.abs().sum() for tensor in tensors]).sum()


def flips(plus: Float[Tensor, "*batch"], minus: Float[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
    """Whether the answer follows the sign: Δ(+1) > 0 and Δ(-1) < 0."""
    return (plus > 0) & (minus < 0)


@dataclass(frozen=True)
class Objective:
    """L = effectiveness(margin) + λ_F · faithfulness + λ_M · minimality, the first two averaged over prompts.

    Faithfulness is also averaged over β = ±1; minimality is a sum over all numbers, so that at equal λ_M a vector is
    punished more than a scalar. The sum is our reconstruction; values of the λ mean something relative to it only.

    Args:
        margin: m, in nats; `math.inf` for the plain difference.
        faithfulness: λ_F.
        minimality: λ_M.
        reverse: take the divergence the other way round (see `faithfulness`).

    Raises:
        ValueError: a number is negative or not a number, or a λ is infinite.
    """

    margin: float = 10.0
    faithfulness: float = 1.0
    minimality: float = 1.0
    reverse: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be minimised."""
        for name in ("margin", "faithfulness", "minimality"):
            value = getattr(self, name)
            if not value >= 0 or (name != "margin" and math.isinf(value)):
                raise ValueError(f"{name}={value} is out of range: it is 0 or larger, and finite but for the margin")

    @classmethod
    def grid(
        cls,
        margin: Iterable[float] = (0, 1, 10, 100),
        faithfulness: Iterable[float] = (0, 1, 10, 100),
        minimality: Iterable[float] = (0, 1, 10, 100),
    ) -> list["Objective"]:
        """Every combination; by default the paper's 64 (Figure 2)."""
        return [cls(*values) for values in itertools.product(margin, faithfulness, minimality)]

    def __str__(self) -> str:
        """Its settings in one line."""
        return ", ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))
