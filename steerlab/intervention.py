"""The one thing that steers: a frozen value of edits at sites, which adds, scales, and is saved as safetensors."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .site import Site

When = Literal["prompt", "decode", "all"]
Anchor = Literal["all", "front", "back"]
Stack = dict[str, Any]

FORMAT = "steerlab-intervention-1"
_TENSORS = ("shift", "gain", "probe")


@dataclass(frozen=True, eq=False)
class Edit:
    """The tensors of `h <- h + (gain + <probe, h>) * h + shift` at one site.

    Args:
        shift: added, [P, D] (P = 1 where the anchor is "all").
        gain: relative change, [P or 1, D or 1]: one number per neuron, per position, or both.
        probe: direction whose dot product with h is a gain, [1, D].
        anchor: "all" positions, the P positions from `start` at the "front" of the prompt, or its last P ("back").
        start: first position of a front edit; 0 is the first token, BOS included.
        length: P, the number of positions of a front or back edit (taken from the tensors where they tell).
        when: "prompt" edits the pass over the prompt, "decode" the passes over generated tokens, "all" both.

    Raises:
        ValueError: no tensor, wrong dimensions, or a position-tied edit outside the prompt.
    """

    shift: Float[Tensor, "pos d_model"] | None = None
    gain: Float[Tensor, "pos neuron"] | None = None
    probe: Float[Tensor, "1 d_model"] | None = None
    anchor: Anchor = "all"
    start: int = 0
    when: When = "prompt"

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        if not self.tensors:
            raise ValueError("an edit needs a shift, a gain or a probe")
        if any(tensor.ndim != 2 for tensor in self.tensors.values()):
            raise ValueError("shift, gain and probe are matrices: [positions or 1, width or 1]")
        if self.when not in ("prompt", "decode", "all"):
            raise ValueError(f"when={self.when!r} is unknown: choose prompt, decode or all")
        if self.anchor not in ("all", "front", "back"):
            raise ValueError(f"anchor={self.anchor!r} is unknown: choose all, front or back")
        if self.anchor == "all" and self.length != 1:
            raise ValueError(f"tensors for {self.length} positions need the anchor front or back, not all")
        if self.anchor != "all" and self.when != "prompt":
            raise ValueError(f"an edit tied to positions applies to the prompt: when={self.when!r} needs the anchor all")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by name."""
        return {name: tensor for name in _TENSORS if (tensor := getattr(self, name)) is not None}

    @property
    def length(self) -> int:
        """P, the number of positions that the tensors tell apart."""
        return max(tensor.shape[0] for tensor in self.tensors.values())

    @property
    def width(self) -> int:
        """D, or 1 where no tensor tells it."""
        return max(tensor.shape[1] for tensor in self.tensors.values())

    @property
    def kind(self) -> tuple[Any, ...]:
        """What two edits must share to be added, or stacked into one batch."""
        shapes = tuple((name, *tensor.shape) for name, tensor in self.tensors.items())
        return (self.anchor, self.start, self.when, self.length, shapes)

    def __mul__(self, strength: float) -> "Edit":
        """Scale all tensors."""
        return replace(self, **{name: strength * tensor for name, tensor in self.tensors.items()})

    def __add__(self, other: "Edit") -> "Edit":
        """Add the tensors of an edit of the same kind."""
        theirs = other.tensors
        return replace(self, **{name: tensor + theirs[name] for name, tensor in self.tensors.items()})


@dataclass(frozen=True, eq=False)
class Intervention:
    """Edits at sites, all computed from the same activation: a value that adds and scales like a vector.

    Args:
        edits: pairs of site and edit.
        info: where it comes from: model, revision, tokenizer hash, method, prompts, seed, versions.
    """

    edits: tuple[tuple[Site, Edit], ...] = ()
    info: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def sites(self) -> tuple[Site, ...]:
        """The edited sites in the order of the forward pass."""
        return tuple(sorted({site for site, _ in self.edits}))

    def __mul__(self, strength: float) -> "Intervention":
        """Multiply the strength β of the one equation.

        Raises:
            ValueError: the strength is NaN or infinite.
        """
        if not math.isfinite(strength):
            raise ValueError(f"strength {strength} is not a finite number")
        return replace(self, edits=tuple((site, edit * strength) for site, edit in self.edits))

    __rmul__ = __mul__

    def __neg__(self) -> "Intervention":
        """The opposite."""
        return self * -1.0

    def __add__(self, other: "Intervention") -> "Intervention":
        """Both at once; edits of the same site and kind become one."""
        merged: dict[tuple[Any, ...], tuple[Site, Edit]] = {}
        for site, edit in (*self.edits, *other.edits):
            key = (site, edit.kind)
            merged[key] = (site, merged[key][1] + edit) if key in merged else (site, edit)
        parts = [dict(info) for info in (self.info, other.info) if info]
        shared = {k: v for k, v in self.info.items() if other.info.get(k) == v}
        info = shared | {"method": "sum", "parts": parts} if len(parts) == 2 else (parts or [{}])[0]
        return Intervention(tuple(merged.values()), MappingProxyType(info))

    def __sub__(self, other: "Intervention") -> "Intervention":
        """This one, and the opposite of the other."""
        return self + -other

    def norm(self) -> dict[Site, float]:
        """Euclidean norm of all tensors at each site, in units of the activations (shift) or relative (gain)."""
        squares: dict[Site, float] = {}
        for site, edit in self.edits:
            total = sum(float(tensor.detach().double().pow(2).sum()) for tensor in edit.tensors.values())
            squares[site] = squares.get(site, 0.0) + total
        return {site: math.sqrt(square) for site, square in sorted(squares.items())}

    def cosine(self, other: "Intervention") -> dict[Site, float]:
        """Cosine of the tensors of both, at each site where both have edits of the same kind.

        Raises:
            ValueError: they share no site and kind.
        """
        theirs = {(site, edit.kind): edit for site, edit in other.edits}
        pairs: dict[Site, list[tuple[Tensor, Tensor]]] = {}
        for site, edit in self.edits:
            if (twin := theirs.get((site, edit.kind))) is not None:
                pairs.setdefault(site, []).append((_flat(edit), _flat(twin)))
        if not pairs:
            raise ValueError("the two interventions share no site with the same kind of edit")
        joined = {site: [torch.cat(side) for side in zip(*both, strict=True)] for site, both in pairs.items()}
        return {site: float(torch.cosine_similarity(a, b, dim=0)) for site, (a, b) in sorted(joined.items())}

    def save(self, path: str | Path) -> Path:
        """Write safetensors with a JSON header: sites, positions, and where the intervention comes from.

        The file is written beside its name and then moved there, so that an interrupted save leaves no half file.
        """
        path = Path(path)
        header = {
            "edits": [
                {"site": str(site), "anchor": edit.anchor, "start": edit.start, "when": edit.when}
                for site, edit in self.edits
            ],
            "info": dict(self.info),
        }
        tensors = {
            f"{i}.{name}": tensor.detach().cpu().contiguous()
            for i, (_, edit) in enumerate(self.edits)
            for name, tensor in edit.tensors.items()
        }
        part = path.with_name(path.name + ".part")
        save_file(tensors, part, metadata={"format": FORMAT, "header": json.dumps(header)})
        part.replace(path)
        return path


def _flat(edit: Edit) -> Tensor:
    """All tensors of an edit as one vector."""
    return torch.cat([tensor.detach().double().flatten() for tensor in edit.tensors.values()])


def read_intervention(path: str | Path) -> Intervention:
    """Read what `Intervention.save` wrote, whichever model it was made for.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is truncated, no safetensors, or not one of ours.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but not a steerlab intervention ({FORMAT})")
    header = json.loads(metadata["header"])
    edits = []
    for i, fields in enumerate(header["edits"]):
        mine = {name: tensors[f"{i}.{name}"] for name in _TENSORS if f"{i}.{name}" in tensors}
        edits.append((Site.parse(fields.pop("site")), Edit(**mine, **fields)))
    return Intervention(tuple(edits), MappingProxyType(header["info"]))


Steer = Intervention | Sequence[Intervention | None] | None
"""What the functions of a model take: nothing, one intervention for all rows, or one per row."""


def stack_rows(steer: Steer, rows: int) -> dict[Site, list[Stack]]:
    """Gather the interventions of a batch into the stacks that `edit.edit` takes, in the order of the forward pass.

    An intervention that serves all rows is stacked once and broadcast.

    Raises:
        ValueError: a list of another length than the batch.
    """
    if steer is None:
        return {}
    if isinstance(steer, Intervention):
        shared = [(site, _stack([edit], None)) for site, edit in steer.edits]
        return _by_site(shared)
    if len(steer) != rows:
        raise ValueError(f"{len(steer)} interventions for {rows} prompts: give one, or one per prompt")
    groups: dict[tuple[Any, ...], list[tuple[int, Site, Edit]]] = {}
    for row, intervention in enumerate(steer):
        for site, edit in intervention.edits if intervention is not None else ():
            groups.setdefault((site, edit.kind), []).append((row, site, edit))
    stacks = []
    for members in groups.values():
        numbers = [row for row, _, _ in members]
        index = None if numbers == list(range(rows)) else torch.tensor(numbers)
        stacks.append((members[0][1], _stack([edit for _, _, edit in members], index)))
    return _by_site(stacks)


def _by_site(stacks: Iterable[tuple[Site, Stack]]) -> dict[Site, list[Stack]]:
    """Stacks by site, in the order of the forward pass."""
    found: dict[Site, list[Stack]] = {}
    for site, stack in sorted(stacks, key=lambda pair: pair[0]):
        found.setdefault(site, []).append(stack)
    return found


def _stack(edits: list[Edit], rows: Tensor | None) -> Stack:
    """Edits of one kind as one stack."""
    first = edits[0]
    tensors = {
        name: torch.stack([edit.tensors[name] for edit in edits]) if name in first.tensors else None
        for name in _TENSORS
    }
    return {**tensors, "rows": rows, "anchor": first.anchor, "start": first.start, "length": first.length, "when": first.when}
