"""One random edit, told twice: as the package's intervention and as a change for the plain hooks."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from families import D_MODEL
from reference import Change
from torch import Tensor

import steerlab as sl
from steerlab import completions
from steerlab.completions import Sampling

KINDS = ("shift", "gain", "probe", "all three")


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal, always the same for a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tensors(kind: str, positions: int = 1, seed: int = 0, width: int = D_MODEL) -> dict[str, Tensor]:
    """The tensors of an edit of one kind, of such a size that they change what a tiny model says."""
    every = {
        "shift": random(positions, width, seed=seed),
        "gain": 0.5 * random(positions, width, seed=seed + 1),
        "probe": 0.1 * random(1, width, seed=seed + 2),
    }
    return every if kind == "all three" else {kind: every[kind]}


def edit(place: Any, layer: int, **fields: Any) -> sl.Intervention:
    """An intervention of one edit."""
    return sl.Intervention({sl.Site(place, layer): sl.Edit(**fields)})


def trial(
    place: Any,
    layer: int,
    kind: str,
    *,
    where: Any = "all",
    start: int = 0,
    positions: int = 1,
    when: Any = "prompt",
    beta: float = 1.0,
    rows: Sequence[int] | None = None,
    seed: int = 0,
) -> tuple[sl.Intervention, Change]:
    """The two tellings."""
    given = tensors(kind, positions, seed)
    change = Change(
        place,
        layer,
        beta,
        a=given.get("shift"),
        gamma=given.get("gain"),
        w=given.get("probe"),
        where=where,
        start=start,
        when=when,
        rows=rows,
    )
    return beta * edit(place, layer, anchor=where, start=start, when=when, **given), change


def complete(
    lm: sl.SteerableModel, prompts: Any, steer: Any = None, *, samples: Sequence[int], **options: Any
) -> list[list[int]]:
    """Token ids of one completion for each prompt, all in one batch."""
    own = {field.name for field in fields(Sampling)}
    named = {name: value for name, value in options.items() if name in own}
    rest = {name: value for name, value in options.items() if name not in own}
    return completions.complete(lm, prompts, steer, samples, Sampling(**named, options=rest))
