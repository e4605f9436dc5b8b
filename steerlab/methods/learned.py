"""Activation scaling: which numbers are learned, at which sites and positions; `steerlab.fit` finds them.

Stoehr et al., Activation Scaling for Steering and Interpreting Language Models, arXiv 2410.04962: ActivScalar (Eq. 5),
SteerVec (its additive baseline), DynScalar (section 5, Eq. 10).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from ..intervention import Anchor, Edit, Intervention, Stack
from ..model import SteerableModel
from ..site import PLACES, Place, Site, sites_at


@dataclass(frozen=True)
class Learned:
    """What the three methods share: one matrix [positions or 1, d_model or 1] per site, and where the sites are.

    Args:
        places: what is edited in each layer, a subset of `PLACES`.
        layers: which layers, from 0, or -1 for the last; all by default.
        init: standard deviation of the normal initial values; 0 starts from the bare model.

    Raises:
        ValueError: no place, an unknown one or one twice, no layer, or a negative `init`.
    """

    places: tuple[Place, ...] = ("attn_out", "mlp_out")
    layers: tuple[int, ...] | None = None
    init: float = 0.0

    tensor: ClassVar[Literal["gain", "shift", "probe"]]
    tied: ClassVar[bool] = True  # to positions, and so to prompts of one length

    def __post_init__(self) -> None:
        """Refuse what no model has."""
        if isinstance(self.places, str) or not self.places:
            raise ValueError(f"places={self.places!r}: give a tuple of some of {', '.join(PLACES)}")
        for place in self.places:
            Site(place, 0)
        if self.layers is not None and not self.layers:
            raise ValueError("layers=() leaves nothing to learn: give some, or None for all")
        for name, values in (("places", self.places), ("layers", self.layers or ())):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}={values!r} names one twice")
        if not self.init >= 0:
            raise ValueError(f"init={self.init} is out of range: it is a standard deviation, 0 or larger")

    @property
    def name(self) -> str:
        """As it is written in frames and files."""
        return type(self).__name__

    def sites(self, lm: SteerableModel) -> tuple[Site, ...]:
        """The sites in a model, in the order of the forward pass.

        Raises:
            ValueError: a layer is out of range.
        """
        layers = range(lm.n_layers) if self.layers is None else self.layers
        sites = lm.check_layers(site for place in self.places for site in sites_at(place, layers))
        if len(set(sites)) < len(sites):
            raise ValueError(f"layers={self.layers!r} names one twice: {lm.name} has {lm.n_layers} layers")
        return tuple(sorted(sites))

    def shape(self, length: int, d_model: int) -> tuple[int, int]:
        """Of the matrix of one site, for prompts of `length` tokens."""
        raise NotImplementedError

    def unit(self, h: Float[Tensor, "token d_model"]) -> float:
        """A number θ such that adding it changes activations like these by about their own size.

        The optimiser's steps are measured in it, so that one learning rate serves every method, site and model.
        """
        raise NotImplementedError

    def stack(self, tensor: Float[Tensor, "row pos width"]) -> Stack:
        """The edit of one site for all rows of a batch, in the form of `steerlab.edit`."""
        tensors = {name: tensor if name == self.tensor else None for name in ("shift", "gain", "probe")}
        place = {"anchor": self._anchor, "start": self._start, "length": tensor.shape[1], "when": "prompt"}
        return {**tensors, **place, "rows": None}

    def intervention(
        self, sites: tuple[Site, ...], tensors: Float[Tensor, "site pos width"], info: Mapping[str, Any]
    ) -> Intervention:
        """The learned tensors as a value to apply, scale and save; its strength is the paper's β."""
        edits = (Edit(**{self.tensor: t.detach().clone()}, anchor=self._anchor, start=self._start) for t in tensors)
        return Intervention(tuple(zip(sites, edits, strict=True)), info)

    @property
    def _anchor(self) -> Anchor:
        return "front" if self.tied else "all"

    @property
    def _start(self) -> int:
        return 0


@dataclass(frozen=True)
class _Tied(Learned):
    """A method whose numbers belong to positions.

    Args:
        places: what is edited in each layer, a subset of `PLACES`.
        layers: which layers, all by default.
        init: standard deviation of the normal initial values.
        first: first edited position; 1 leaves BOS alone, whose activations often act as an attention sink.
    """

    first: int = 0

    @property
    def _start(self) -> int:
        return self.first

    def _positions(self, length: int) -> int:
        if not 0 <= self.first < length:
            raise ValueError(f"first={self.first} is out of range: the prompts have positions 0 to {length - 1}")
        return length - self.first


@dataclass(frozen=True)
class ActivScalar(_Tied):
    """One scalar per site and position: h <- h · (1 + βα). Eq. 5 of the paper.

    α is a relative change: -1 removes the activation at β = 1, less than -1 reverses it. It starts at 0.
    """

    tensor = "gain"

    def shape(self, length: int, d_model: int) -> tuple[int, int]:
        """[positions, 1]."""
        return self._positions(length), 1

    def unit(self, h: Float[Tensor, "token d_model"]) -> float:
        """1, since α is relative already."""
        return 1.0


@dataclass(frozen=True)
class SteerVec(_Tied):
    """One vector per site and position: h <- h + βv. The paper's additive baseline.

    v starts at normal values of standard deviation 0.01; the paper's start is not known to us.
    """

    init: float = 1e-2

    tensor = "shift"

    def shape(self, length: int, d_model: int) -> tuple[int, int]:
        """[positions, d_model]."""
        return self._positions(length), d_model

    def unit(self, h: Float[Tensor, "token d_model"]) -> float:
        """The mean size of a component: mean |h|."""
        return float(h.abs().mean())


@dataclass(frozen=True)
class DynScalar(Learned):
    """One direction per site, for prompts of any length: h <- h · (1 + β⟨w, h⟩). Section 5, Eq. 10 of the paper.

    The scalar of a position is read from its own activation. That w is shared by all positions, without bias, norm or
    squashing, is our reconstruction.
    """

    tensor = "probe"
    tied = False

    def shape(self, length: int, d_model: int) -> tuple[int, int]:
        """[1, d_model]."""
        return 1, d_model

    def unit(self, h: Float[Tensor, "token d_model"]) -> float:
        """1 / mean ‖h‖₁: the smallest step in every component that can change the scalar by 1."""
        return 1 / max(float(h.abs().sum(-1).mean()), 1e-12)


def locations(intervention: Intervention) -> pd.DataFrame:
    """How much is done where: one row per location, that is, per site and position.

    Returns:
        `place`, `layer`, `position` (0 is the first token, -1 the last; missing for an edit of all positions), `value`
        (the scalar α where one number is learned, else NaN), `norm` (|α|, ‖v‖ or ‖w‖).
    """
    rows = []
    for site, edit in intervention.edits:
        for position, numbers in edit.by_position:
            value = float(numbers[0]) if len(numbers) == 1 else float("nan")
            rows.append((site.place, site.layer, position, value, float(numbers.norm())))
    frame = pd.DataFrame(rows, columns=["place", "layer", "position", "value", "norm"])
    return frame.astype({"position": "Int64"})


def keep(intervention: Intervention, where: pd.DataFrame) -> Intervention:
    """An intervention at some of its locations only: what minimality means, tried by hand.

    A gain or shift tied to positions is set to zero elsewhere. An edit of all positions (DynScalar) becomes one for
    each position that is kept, and so one of the prompts with these positions.

    Args:
        intervention: learned or any other that edits the prompt.
        where: the locations that stay, a row each: `place`, `layer`, `position`, as in `locations`.

    Raises:
        ValueError: an edit also acts while decoding, or a probe or references are tied to positions.
    """
    chosen: dict[Site, set[int]] = {}
    for place, layer, position in zip(where["place"], where["layer"], where["position"], strict=True):
        chosen.setdefault(Site(place, int(layer)), set()).add(int(position))
    edits: list[tuple[Site, Edit]] = []
    for site, edit in intervention.edits:
        some = sorted(chosen.get(site, ()))
        if edit.anchor == "all":
            edits += [(site, replace(edit, anchor="front", start=position)) for position in some]
            continue
        if edit.probe is not None:
            raise ValueError(f"the probe at {site} is tied to positions already: keep works on gains and shifts there")
        mask = torch.tensor([[float(position in some)] for position, _ in edit.by_position])
        tensors = {name: tensor * mask.to(tensor) for name, tensor in edit.tensors.items()}
        edits.append((site, edit.with_tensors(tensors)))
    return Intervention(tuple(edits), {**intervention.info, "kept": len(where)})
