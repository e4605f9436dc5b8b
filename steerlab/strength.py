"""Strength in comparable units: relative to the residual stream, or by the KL divergence that it causes."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .edit import edit
from .intervention import Intervention, stack_rows
from .model import SteerableModel
from .prompts import Prompts
from .sampling import finite
from .site import Site
from .sweep import compared_call


def relative_size(lm: SteerableModel, intervention: Intervention, prompts: Prompts) -> dict[Site, float]:
    """Size of an intervention's change at each site, relative to the activations there.

    The mean norm of the change over the positions that it changes, divided by the mean norm of the unsteered activation
    over all positions. BOS counts in neither: its norm is many times that of the other tokens in most models. For a
    shift this is ActAdd's ‖vector‖ / ‖stream‖ (about 1 at layer 20 of GPT-2-XL with the Anger-Calm pair and c = 1). It
    doubles when the strength does.

    Args:
        lm: the model.
        intervention: at strength 1, say.
        prompts: whose activations to compare with, one or more.

    Returns:
        Site to a number without unit; 0 where nothing changes.

    Raises:
        ValueError: what `lm.activations` and `lm.check` refuse.
    """
    batch = lm.batch(prompts)
    lm.check(intervention, batch)
    real = batch.content(lm.prefix)
    sizes = {}
    unsteered = lm.activations(prompts, intervention.sites)
    for site, stacks in stack_rows(intervention, len(batch.ids)).items():
        h = unsteered[site].float()
        later = all(stack["when"] == "decode" for stack in stacks)
        change = (edit(h, stacks, batch.pad, int(later)) - h).norm(dim=-1)[real]
        changed = change[change > 0]
        sizes[site] = float(changed.mean() / h.norm(dim=-1)[real].mean()) if len(changed) else 0.0
    return sizes


def strength_for_size(lm: SteerableModel, intervention: Intervention, size: float, prompts: Prompts) -> float:
    """The strength β at which the mean over sites of `relative_size` is `size`: `β * intervention` has that size.

    Args:
        lm: the model.
        intervention: at strength 1.
        size: wanted, 0.5 for a change half as large as the activations.
        prompts: whose activations to compare with.

    Raises:
        ValueError: the size is not a positive number, or the intervention changes nothing on these prompts.
    """
    if not 0 < size < float("inf"):
        raise ValueError(f"size {size} is out of range: it is a positive number, 1 for a change as large as the stream")
    current = float(np.mean(list(relative_size(lm, intervention, prompts).values())))
    if current == 0:
        raise ValueError("the intervention changes nothing on these prompts: no strength gives it a size")
    return size / current


def mean_kl(
    lm: SteerableModel, intervention: Intervention, strengths: Sequence[float], prompts: Prompts
) -> NDArray[np.float64]:
    """KL(steered ‖ unsteered) of the next token in nats at each strength, the mean over prompts.

    All strengths are rows of one batch for each prompt, run from the lowest edited layer on.

    Args:
        lm: the model.
        intervention: at strength 1.
        strengths: to multiply it by.
        prompts: one or more.
    """
    return _mean_kl(lm, intervention, strengths, _prompts(lm, intervention, prompts))


def strength_for_kl(
    lm: SteerableModel,
    intervention: Intervention,
    target: float,
    prompts: Prompts,
    *,
    bracket: tuple[float, float] = (1e-2, 1e3),
    points: int = 16,
    tolerance: float = 0.01,
) -> float:
    """The smallest strength β at which the mean next-token KL(steered ‖ unsteered) reaches a target.

    A bisection in log β with `points` strengths instead of one: each round lays a grid over the bracket, and the first
    step of the grid over which the target is reached is the next bracket.

    Args:
        lm: the model.
        intervention: at strength 1.
        target: in nats.
        prompts: one or more; the KL is the mean over them.
        bracket: lowest and highest strength to consider; the sign is that of the intervention.
        points: strengths in one batch.
        tolerance: how far from the target the KL may be, as a share of it.

    Raises:
        ValueError: the target is not positive, the bracket is not one, or the KL lies above or below the target in all
            of it.
    """
    low, high = bracket
    if not 0 < target < float("inf"):
        raise ValueError(f"target {target} is out of range: a KL divergence in nats is above 0")
    if not 0 < low < high or points < 3:
        raise ValueError(f"bracket {bracket} with {points} points: give 0 < lowest < highest, and 3 points at least")
    ids = _prompts(lm, intervention, prompts)
    while True:
        strengths = np.geomspace(low, high, points)
        values = _mean_kl(lm, intervention, strengths.tolist(), ids)
        first = int((values >= target).argmax())
        if values[first] < target:
            raise ValueError(f"no strength up to {high:g} reaches a KL of {target:g} nats: at most {values.max():.3g}")
        if first == 0 and (low, high) == bracket:
            raise ValueError(f"strength {low:g} has a KL of {values[0]:.3g} nats already: lower the bracket")
        if values[first] - target <= tolerance * target or high / low < 1 + 1e-6:
            return float(strengths[first])
        low, high = float(strengths[max(0, first - 1)]), float(strengths[first])


def _prompts(lm: SteerableModel, intervention: Intervention, prompts: Prompts) -> list[tuple[int, ...]]:
    """Each prompt as token ids, after a check."""
    batch = lm.batch(prompts)
    lm.check(intervention, batch)
    return [tuple(row) for row in batch.rows]


def _mean_kl(
    lm: SteerableModel, intervention: Intervention, strengths: Sequence[float], prompts: Sequence[tuple[int, ...]]
) -> NDArray[np.float64]:
    steer = [strength * intervention for strength in strengths]
    measures = lm.run(compared_call(lm, [prompt] * len(steer), steer, []) for prompt in prompts)
    return torch.stack([finite(measure["kl"]) for measure in measures]).double().mean(0).cpu().numpy()
