"""The tensors of one edit, checked: what the equation of `edit.py` is given, as a frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

When = Literal["prompt", "decode", "all"]
Anchor = Literal["all", "front", "back"]

TENSORS = ("shift", "gain", "probe")
REFERENCES = ("attract", "repel")


@dataclass(frozen=True, eq=False, repr=False)
class Edit:
    """The tensors of `h <- h + (gain + <probe, h>) * h + shift` at one site.

    Args:
        shift: added, [P, D] (P = 1 where the anchor is "all").
        gain: relative change, [P or 1, D or 1]: one number per neuron, per position, or both.
        probe: direction whose dot product with h is a gain, [1, D].
        anchor: "all" positions, the P positions from `start` at the "front" of the prompt, or its last P ("back").
        start: first position of a front edit; 0 is the first token, BOS included.
        when: "prompt" edits the pass over the prompt, "decode" the passes over generated tokens, "all" both.
        attract: [K, D], components of a reference prompt (`edit.components`), together with `repel`. The gain is then
            one number, and multiplies a contrast per neuron that is found anew from h at every pass (`edit.contrast`:
            SARA as released). Strength and sums act on the gain alone.
        repel: the same of the prompt to move away from.

    Raises:
        ValueError: no tensor, tensors whose dimensions do not fit each other, references without each other or without
            their gain, or a position-tied edit outside the prompt.
    """

    shift: Float[Tensor, "#pos #d_model"] | None = None
    gain: Float[Tensor, "#pos #d_model"] | None = None
    probe: Float[Tensor, "1 d_model"] | None = None
    anchor: Anchor = "all"
    start: int = 0
    when: When = "prompt"
    attract: Float[Tensor, "attracting d_model"] | None = None
    repel: Float[Tensor, "repelling d_model"] | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        if not self.tensors:
            raise ValueError("an edit needs a shift, a gain or a probe")
        for name, tensor in (self.tensors | self.references).items():
            if tensor.ndim != 2:
                raise ValueError(f"{name} has shape {list(tensor.shape)}: it is a matrix, [positions or 1, width or 1]")
        for name, tensor in self.tensors.items():
            if tensor.shape[0] not in (1, self.length) or tensor.shape[1] not in (1, self.width):
                wanted = f"[{self.length} or 1, {self.width} or 1]"
                raise ValueError(f"{name} has shape {list(tensor.shape)}, which does not fit the others: {wanted}")
        if self.when not in ("prompt", "decode", "all"):
            raise ValueError(f"when={self.when!r} is unknown: choose prompt, decode or all")
        if self.anchor not in ("all", "front", "back"):
            raise ValueError(f"anchor={self.anchor!r} is unknown: choose all, front or back")
        if self.start < 0:
            raise ValueError(f"start={self.start} is negative: positions count from 0, the first token")
        if self.references and (len(self.references) == 1 or self.gain is None or self.gain.shape != (1, 1)):
            raise ValueError("an edit with references needs both, attract and repel, and a gain of one number, [1, 1]")
        if self.references and self.anchor != "all":
            raise ValueError(f"references are compared with a whole pass: anchor={self.anchor!r} must be all")
        if self.anchor == "all" and self.length != 1:
            raise ValueError(f"tensors for {self.length} positions need the anchor front or back, not all")
        if self.anchor != "all" and self.when != "prompt":
            raise ValueError(f"when={self.when!r} needs the anchor all: an edit tied to positions is one of the prompt")

    def __repr__(self) -> str:
        """Which tensors act where and when, not their numbers."""
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in (self.tensors | self.references).items())
        return f"Edit({shapes}, {self.where}, when={self.when!r})"

    @property
    def where(self) -> str:
        """The edited positions, in words."""
        if self.anchor == "all":
            return "all positions"
        if self.anchor == "back":
            return f"last {self.length} positions"
        return f"first {self.length} positions" if self.start == 0 else f"{self.length} positions from {self.start}"

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by name."""
        return {name: tensor for name in TENSORS if (tensor := getattr(self, name)) is not None}

    @property
    def references(self) -> dict[str, Tensor]:
        """The reference components that are there, by name."""
        return {name: tensor for name in REFERENCES if (tensor := getattr(self, name)) is not None}

    @property
    def length(self) -> int:
        """P, the number of positions that the tensors tell apart."""
        return max(tensor.shape[0] for tensor in self.tensors.values())

    @property
    def width(self) -> int:
        """D, or 1 where no tensor tells it."""
        return max(tensor.shape[1] for tensor in (self.tensors | self.references).values())

    @property
    def by_position(self) -> list[tuple[int | None, Tensor]]:
        """All numbers at each edited position, which is counted from the end where it is negative; None is all."""
        numbers = torch.cat(
            [tensor.detach().cpu().double().expand(self.length, -1) for tensor in self.tensors.values()], 1
        )
        first = -self.length if self.anchor == "back" else self.start
        return [(None if self.anchor == "all" else first + i, row) for i, row in enumerate(numbers)]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What two edits must share to be added, or stacked into one batch.

        References are told apart by identity: the gains of the very same ones add up, and edits with others stand side
        by side, which comes to the same sum.
        """
        shapes = tuple((name, *tensor.shape) for name, tensor in self.tensors.items())
        references = tuple(id(tensor) for tensor in self.references.values())
        return (self.anchor, self.start, self.when, self.length, shapes, references)

    def __mul__(self, strength: float) -> "Edit":
        """Scale all tensors."""
        return self.with_tensors({name: strength * tensor for name, tensor in self.tensors.items()})

    def __add__(self, other: "Edit") -> "Edit":
        """Add the tensors of an edit of the same kind."""
        theirs = other.tensors
        both = {name: tensor + theirs[name].to(tensor.device) for name, tensor in self.tensors.items()}
        return self.with_tensors(both)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Edit":
        """The same edit with another shift, gain and probe."""
        return replace(self, shift=tensors.get("shift"), gain=tensors.get("gain"), probe=tensors.get("probe"))
