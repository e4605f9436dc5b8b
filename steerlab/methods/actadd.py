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
from ..prompts import Prompts, as_list, leading
from ..sampling import finite
from ..site import Place, Site, sites_at

ROWS = 32
"""Steering prompts of one pass."""


def actadd(
    lm: SteerableModel,
    plus: Prompts,
    minus: Prompts = " ",
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

    Lists of prompts are pairs, whose mean difference it is, as in contrastive activation addition (Rimsky et al.,
    arXiv 2312.06681, with vector="last" and when="all").

    Args:
        lm: the model to steer.
        plus: the prompt to move towards; a leading space makes a word the token it is within a text. Or several.
        minus: the prompt to move away from; or one for each of `plus`.
        layer: block whose input is steered, from 0, or -1 for the last; or several, each by its own difference.
        coefficient: the paper's c.
        place: the input of the block as in the paper, or another place.
        position: "front" of the prompt as in the paper, or its "back".
        vector: one per "positions" as in the paper, for which all pairs have one length; or a single one, from the
            "mean" of each prompt's own tokens after BOS or from its "last" token, added at every position.
        when: passes to edit; "prompt" by default. Only a single vector can also steer "decode" or "all".

    Returns:
        A shift of [T_s, d_model] (or [1, d_model]) in units of the activations.

    Raises:
        TypeError: a steering prompt is no prompt.
        ValueError: both prompts are the same, their numbers differ, a layer is out of range, the coefficient is not
            finite, or an option is unknown.
    """
    pairs = _pairs(lm, plus, minus)
    if vector not in ("positions", "mean", "last"):
        raise ValueError(f"vector={vector!r} is unknown: choose positions, mean or last")
    if position not in ("front", "back"):
        raise ValueError(f"position={position!r} is unknown: choose front or back (or make_room for pad)")
    if not math.isfinite(coefficient):
        raise ValueError(f"coefficient {coefficient} is not a finite number")
    sites = sorted(set(lm.check_layers(sites_at(place, layer))))
    anchor: Anchor = position if vector == "positions" else "all"
    template = Edit(shift=torch.zeros(1, lm.d_model), anchor=anchor, when=when or "prompt")  # refuses a wrong `when`
    differences = _by_position(lm, pairs, sites) if vector == "positions" else _single(lm, pairs, sites, vector)
    edits = {site: replace(template, shift=coefficient * mean) for site, mean in differences.items()}
    texts = [[lm.text(prompt) for prompt in as_list(side)] for side in (plus, minus)]
    named = {name: side[0] if len(side) == 1 else side for name, side in zip(("plus", "minus"), texts, strict=True)}
    prompts = named | {"coefficient": coefficient}
    return Intervention(edits, lm.info(method="actadd", prompts=prompts, site=", ".join(map(str, sites))))


def _pairs(lm: SteerableModel, plus: Prompts, minus: Prompts) -> list[tuple[list[int], list[int]]]:
    """Token ids of each pair; a single `minus` serves for all."""
    sides = [as_list(plus), as_list(minus)]
    if len(sides[1]) == 1:
        sides[1] *= len(sides[0])
    if not sides[0] or len(sides[0]) != len(sides[1]):
        raise ValueError(f"{len(sides[0])} prompts to move towards and {len(sides[1])} to move away from: give pairs")
    pairs = [(lm.ids(near), lm.ids(far)) for near, far in zip(*sides, strict=True)]
    for near, far in pairs:
        if near == far:
            text = lm.tokenizer.decode(near, skip_special_tokens=True)
            raise ValueError(f"both steering prompts are {text!r}: their difference is zero")
    return pairs


def _by_position(
    lm: SteerableModel, pairs: list[tuple[list[int], list[int]]], sites: list[Site]
) -> dict[Site, Float[Tensor, "pos d_model"]]:
    """Mean h(plus) - h(minus) in float32 at each position, the shorter prompt padded on the right with spaces."""
    widths = {max(len(near), len(far)) for near, far in pairs}
    if len(widths) > 1:
        raise ValueError(
            f"the pairs have {min(widths)} to {max(widths)} tokens: vector='positions' takes pairs of one length, "
            "vector='mean' or 'last' any"
        )
    rows = [side for pair in pairs for side in pair]
    padded = [row + [_space(lm)] * (max(widths) - len(row)) if len(row) < max(widths) else row for row in rows]
    read = _activations(lm, padded, sites)
    return {site: torch.stack(h[::2]).mean(0) - torch.stack(h[1::2]).mean(0) for site, h in read.items()}


def _single(
    lm: SteerableModel,
    pairs: list[tuple[list[int], list[int]]],
    sites: list[Site],
    vector: Literal["mean", "last"],
) -> dict[Site, Float[Tensor, "1 d_model"]]:
    """Mean difference in float32 of the prompts' means, or of their last tokens."""
    rows = [side for pair in pairs for side in pair]
    firsts = [leading(row, lm.prefix) for row in rows]
    if short := next((row for row, first in zip(rows, firsts, strict=True) if len(row) <= first), None):
        raise ValueError(f"{lm.tokenizer.decode(short)!r} has no token of its own: vector={vector!r} needs one")
    read = _activations(lm, rows, sites)
    vectors = {
        site: torch.stack(
            [h[-1] if vector == "last" else h[first:].mean(0) for h, first in zip(states, firsts, strict=True)]
        )
        for site, states in read.items()
    }
    return {site: (v[::2].mean(0) - v[1::2].mean(0))[None] for site, v in vectors.items()}


def _activations(
    lm: SteerableModel, rows: list[list[int]], sites: list[Site]
) -> dict[Site, list[Float[Tensor, "pos d_model"]]]:
    """Activations of each row of token ids in float32, without padding."""
    read: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        activations = lm.activations([torch.tensor(row) for row in part], sites)
        for site in sites:
            read[site] += [finite(activations.row(i, site).float()) for i in range(len(part))]
    return read


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
    if isinstance(spaces, Intervention):
        spaces = max(edit.start + edit.length for _, edit in spaces.edits) - len(lm.prefix)
    if spaces < 0:
        raise ValueError(f"{spaces} spaces cannot be put in: 0 or more can")
    rows = [(row, leading(row, lm.prefix)) for row in lm.batch(prompts).rows]
    return [torch.tensor(row[:first] + [_space(lm)] * spaces + row[first:]) for row, first in rows]


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
