"""Activation addition: the difference of two prompts' activations, added to the stream that enters a block.

Turner et al., Steering Language Models With Activation Engineering, arXiv 2308.10248, Algorithm 1.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..intervention import Anchor, Edit, Intervention, When
from ..model import SteerableModel
from ..prompts import Prompts
from ..site import Place, Site, sites_at


def actadd(
    lm: SteerableModel,
    plus: str,
    minus: str = " ",
    *,
    layer: int | Sequence[int],
    coefficient: float = 1.0,
    place: Place = "resid_pre",
    position: Literal["front", "back"] = "front",
    vector: Literal["positions", "mean", "last"] = "positions",
    when: When | None = None,
) -> Intervention:
    """The steering vector of a contrast pair: h <- h + coefficient * (h(plus) - h(minus)).

    As released (montemac/activation_additions): BOS in front of both prompts, the shorter padded on the right with
    spaces, one vector for each of the T_s positions, laid over the first T_s positions of the prompt, in the pass over
    the prompt only. The vector at BOS is zero, since both prompts share it. To lay it over spaces of its own instead of
    the prompt's first tokens (the release's "pad"), pass the prompts through `make_room`.

    Args:
        lm: the model to steer.
        plus: the prompt to move towards; a leading space makes a word the token it is within a text.
        minus: the prompt to move away from.
        layer: block whose input is steered, from 0, or -1 for the last; or several, each by its own difference.
        coefficient: the paper's c.
        place: the input of the block as in the paper, or another place.
        position: "front" of the prompt as in the paper, or its "back".
        vector: one per "positions" as in the paper; or a single one, the "mean" over the positions after BOS or that of
            the "last" token, added at every position.
        when: passes to edit; "prompt" by default. Only a single vector can also steer "decode" or "all".

    Returns:
        A shift of [T_s, d_model] (or [1, d_model]) in units of the activations.

    Raises:
        ValueError: both prompts are the same, a layer is out of range, the coefficient is not finite, or an option is
            unknown.
    """
    if plus == minus:
        raise ValueError(f"both steering prompts are {plus!r}: their difference is zero")
    if vector not in ("positions", "mean", "last"):
        raise ValueError(f"vector={vector!r} is unknown: choose positions, mean or last")
    if position not in ("front", "back"):
        raise ValueError(f"position={position!r} is unknown: choose front or back (or make_room for pad)")
    if not math.isfinite(coefficient):
        raise ValueError(f"coefficient {coefficient} is not a finite number")
    sites = sorted(set(lm.check_layers(sites_at(place, layer))))
    anchor: Anchor = position if vector == "positions" else "all"
    template = Edit(shift=torch.zeros(1, lm.d_model), anchor=anchor, when=when or "prompt")  # refuses a wrong `when`
    edits = {}
    for site, difference in _differences(lm, plus, minus, sites).items():
        if vector != "positions":
            difference = difference[len(lm.prefix) :].mean(0, keepdim=True) if vector == "mean" else difference[-1:]
        edits[site] = replace(template, shift=coefficient * difference)
    prompts = {"plus": plus, "minus": minus, "coefficient": coefficient}
    return Intervention(edits, lm.info(method="actadd", prompts=prompts, site=", ".join(map(str, sites))))


def _differences(
    lm: SteerableModel, plus: str, minus: str, sites: list[Site]
) -> dict[Site, Float[Tensor, "pos d_model"]]:
    """h(plus) - h(minus) in float32 at each site, the shorter prompt padded on the right with spaces."""
    rows = [lm.batch(prompt).ids[0].tolist() if prompt else lm.prefix for prompt in (plus, minus)]
    width = max(map(len, rows))
    space = [] if len(rows[0]) == len(rows[1]) else [_space(lm)]
    ids = torch.tensor([row + space * (width - len(row)) for row in rows])
    read = lm.activations(ids, sites)
    return {site: both[0].float() - both[1].float() for site, both in read.items()}


def make_room(lm: SteerableModel, prompts: Prompts, spaces: int | Intervention) -> list[Int[Tensor, " pos"]]:
    """Prompts with spaces put in after BOS, so that a steering vector overlays nothing ("pad" in the release).

    Args:
        lm: the model whose tokens they are.
        prompts: one or more.
        spaces: how many, or the intervention that needs the room (its positions less BOS).

    Returns:
        Token ids, which every function of the model takes as prompts.

    Raises:
        ValueError: the tokenizer has no single token for a space, the number is negative, or a prompt is empty.
    """
    first = len(lm.prefix)
    if isinstance(spaces, Intervention):
        spaces = max(edit.start + edit.length for _, edit in spaces.edits) - first
    if spaces < 0:
        raise ValueError(f"{spaces} spaces cannot be put in: 0 or more can")
    batch = lm.batch(prompts)
    rows = [ids[mask.bool()].tolist() for ids, mask in zip(batch.ids, batch.mask, strict=True)]
    return [torch.tensor(row[:first] + [_space(lm)] * spaces + row[first:]) for row in rows]


def random_like(intervention: Intervention, seed: int = 0) -> Intervention:
    """A control: random directions with the same norm at each site and position.

    Each row of each tensor is drawn from a standard normal distribution and scaled to the norm of the row it stands
    for, so that a zero row (BOS) stays zero (stress test of the ActAdd release).
    """
    generator = torch.Generator().manual_seed(seed)
    edits = []
    for site, edit in intervention.edits:
        drawn = {name: _same_norm(tensor, generator) for name, tensor in edit.tensors.items()}
        edits.append((site, edit.with_tensors(drawn)))
    return Intervention(tuple(edits), MappingProxyType({**intervention.info, "method": "random", "seed": seed}))


def _same_norm(tensor: Float[Tensor, "pos d_model"], generator: torch.Generator) -> Float[Tensor, "pos d_model"]:
    """Random rows with the norms of a tensor's rows."""
    noise = torch.randn(tensor.shape, generator=generator).to(tensor)
    wanted, drawn = (torch.linalg.vector_norm(rows, dim=-1, keepdim=True) for rows in (tensor, noise))
    scaled: Tensor = noise * (wanted / drawn)
    return scaled


def _space(lm: SteerableModel) -> int:
    """The token of a single space."""
    ids: Sequence[int] = lm.encode(" ")
    if len(ids) != 1:
        raise ValueError(f"{lm.name} has no single token for a space: give steering prompts of equal length in tokens")
    return ids[0]
