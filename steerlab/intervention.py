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
_REFERENCES = ("attract", "repel")


@dataclass(frozen=True, eq=False)
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

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by name."""
        return {name: tensor for name in _TENSORS if (tensor := getattr(self, name)) is not None}

    @property
    def references(self) -> dict[str, Tensor]:
        """The reference components that are there, by name."""
        return {name: tensor for name in _REFERENCES if (tensor := getattr(self, name)) is not None}

    @property
    def length(self) -> int:
        """P, the number of positions that the tensors tell apart."""
        return max(tensor.shape[0] for tensor in self.tensors.values())

    @property
    def width(self) -> int:
        """D, or 1 where no tensor tells it."""
        return max(tensor.shape[1] for tensor in (self.tensors | self.references).values())

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

    @property
    def one_by_one(self) -> bool:
        """Whether rows are edited apart: SARA as released compares one prompt's activations."""
        return any(edit.references for _, edit in self.edits)

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
            squares[site] = squares.get(site, 0.0) + float(_flat(edit).pow(2).sum())
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

        Raises:
            FileNotFoundError: the folder does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"cannot save {path.name}: no folder {path.parent}")
        header = {
            "edits": [
                {"site": str(site), "anchor": edit.anchor, "start": edit.start, "when": edit.when}
                for site, edit in self.edits
            ],
            "info": dict(self.info),
        }
        tensors = {
            f"{i}.{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)  # edits may share one
            for i, (_, edit) in enumerate(self.edits)
            for name, tensor in (edit.tensors | edit.references).items()
        }
        part = path.with_name(path.name + ".part")
        save_file(tensors, part, metadata={"format": FORMAT, "header": json.dumps(header)})
        part.replace(path)
        return path


def _flat(edit: Edit) -> Tensor:
    """All tensors of an edit as one vector."""
    return torch.cat([tensor.detach().cpu().double().flatten() for tensor in edit.tensors.values()])


def read_intervention(path: str | Path) -> Intervention:
    """Read what `Intervention.save` wrote, whichever model it was made for.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is truncated, no safetensors, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but not a steerlab intervention ({FORMAT})")
    try:
        header = json.loads(metadata["header"])
        edits = []
        for i, fields in enumerate(header["edits"]):
            mine = {name: tensors[f"{i}.{name}"] for name in (*_TENSORS, *_REFERENCES) if f"{i}.{name}" in tensors}
            edits.append((Site.parse(fields.pop("site")), Edit(**mine, **fields)))
        return Intervention(tuple(edits), MappingProxyType(header["info"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has a damaged header ({error!r}): save the intervention again") from None


Steer = Intervention | Sequence[Intervention | None] | None
"""What the functions of a model take: nothing, one intervention for all rows, or one per row."""


def per_row(steer: Steer, rows: int) -> list[Intervention | None]:
    """The intervention of each row.

    Raises:
        TypeError: something else than an intervention, a list of them, or nothing.
        ValueError: a list of another length than the batch.
    """
    for own in steer if isinstance(steer, Sequence) else (steer,):
        if not isinstance(own, Intervention | None):
            raise TypeError(f"cannot steer by {type(own).__name__}: give an Intervention, or a list of one per prompt")
    if not isinstance(steer, Sequence):
        return [steer] * rows
    if len(steer) != rows:
        raise ValueError(f"{len(steer)} interventions for {rows} prompts: give one, or one per prompt")
    return list(steer)


def stack_rows(steer: Steer, rows: int) -> dict[Site, list[Stack]]:
    """Gather the interventions of a batch into the stacks that `edit.edit` takes, in the order of the forward pass.

    An intervention that serves all rows is stacked once and broadcast.

    Raises:
        TypeError: something else than an intervention, a list of them, or nothing.
        ValueError: a list of another length than the batch, or references for more than one row.
    """
    each = per_row(steer, rows)
    if rows > 1 and any(own is not None and own.one_by_one for own in each):
        raise ValueError(
            f"SARA as released edits one prompt at a time, and this batch has {rows} rows: "
            "pass batch_size=1, or use the anchored variant"
        )
    if each and all(own is each[0] for own in each):
        return _by_site((site, _stack([edit], None)) for site, edit in (each[0].edits if each[0] is not None else ()))
    groups: dict[tuple[Any, ...], list[tuple[int, Site, Edit]]] = {}
    for row, own in enumerate(each):
        for site, edit in own.edits if own is not None else ():
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
        name: torch.stack([edit.tensors[name].to(tensor.device) for edit in edits])
        if (tensor := first.tensors.get(name)) is not None
        else None
        for name in _TENSORS
    }
    tensors |= {name: None if (tensor := getattr(first, name)) is None else tensor[None] for name in _REFERENCES}
    place = {"anchor": first.anchor, "start": first.start, "length": first.length, "when": first.when}
    return {**tensors, **place, "rows": rows}
