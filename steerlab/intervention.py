"""The one thing that steers: a frozen value of edits at sites, which adds, scales, shows itself, and is saved."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from . import sharing, strip
from .edits import REFERENCES, TENSORS, Anchor, Edit, When
from .site import Site

__all__ = ["Anchor", "Edit", "Intervention", "Stack", "Steer", "When", "read_intervention", "stack_rows"]

Stack = dict[str, Any]

Edits = Mapping[Site, Edit] | tuple[Site, Edit] | Iterable[tuple[Site, Edit]]
"""What an intervention is made of: edits by site, one pair of site and edit, or several pairs."""


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Intervention:
    """Edits at sites, all computed from the same activation: a value that adds and scales like a vector.

    `a + b`, `a - b`, `-a`, `2 * a`, `a / 2` and `sum([a, b])` are interventions; 0 is neutral. Two are equal only where
    they are the same object. One without edits is false.

        >>> site, edit = sl.Site("resid_post", 6), sl.Edit(shift=torch.ones(1, 320), when="all")
        >>> sl.Intervention({site: edit})
        Intervention(own: shift at resid_post.6, all positions, all passes, norm 17.9)

    Args:
        edits: edits by site, one pair of site and edit, or several pairs.
        info: where it comes from: model, revision, tokenizer hash, fingerprint of the weights, method, prompts, seed,
            versions.

    Raises:
        TypeError: something else than edits at sites.
    """

    edits: tuple[tuple[Site, Edit], ...]
    info: Mapping[str, Any]

    def __init__(self, edits: Edits = (), info: Mapping[str, Any] | None = None) -> None:
        """Take edits in one of their forms."""
        object.__setattr__(self, "edits", _pairs(edits))
        if not isinstance(info, Mapping | None):
            raise TypeError(f"info is a mapping, not {_shown(info)}: several edits go into one mapping {{site: edit}}")
        object.__setattr__(self, "info", MappingProxyType(dict(info or {})))

    def __getstate__(self) -> dict[str, Any]:
        """To be copied: a read-only mapping cannot."""
        return {**self.__dict__, "info": dict(self.info)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As a copy."""
        self.__dict__.update(state, info=MappingProxyType(state["info"]))

    def __repr__(self) -> str:
        """Method, prompts, and what is done where: one line, not the numbers."""
        return f"Intervention({sharing.in_words(self.info)}{self._summary})"

    def _repr_html_(self) -> str:
        """The line, and a strip of norms, layer × position."""
        picture = strip.svg(self._norms()) if self.edits else ""
        return f"<div><code>{escape(repr(self))}</code><br>{picture}</div>"

    @property
    def _summary(self) -> str:
        """What is done where, how strongly, and for which model."""
        if not self.edits:
            return "nothing to edit"
        kinds = {f"{'+'.join(edit.tensors)}": None for _, edit in self.edits}
        sites = self.sites
        where = str(sites[0]) if len(sites) == 1 else f"{len(sites)} sites, {sites[0]} to {sites[-1]}"
        hows = {f"{edit.where}, {'all passes' if edit.when == 'all' else edit.when}" for _, edit in self.edits}
        how = hows.pop() if len(hows) == 1 else f"{len(hows)} kinds of positions or passes"
        norm = math.sqrt(sum(value**2 for value in self.norm().values()))
        model = f"; {self.info['model']}" if self.info.get("model") else ""
        return f"{' and '.join(kinds)} at {where}, {how}, norm {norm:.3g}{model}"

    def _norms(self) -> dict[tuple[Site, int | None], float]:
        """Euclidean norm of the tensors at each site and position; see `strip.Cells`."""
        squares: dict[tuple[Site, int | None], float] = {}
        for site, edit in self.edits:
            for position, numbers in edit.by_position:
                squares[site, position] = squares.get((site, position), 0.0) + float(numbers.square().sum())
        return {cell: math.sqrt(square) for cell, square in squares.items()}

    @property
    def _parts(self) -> list[sharing.Part]:
        """The edits as files hold them."""
        fields = [{"site": str(s), "anchor": e.anchor, "start": e.start, "when": e.when} for s, e in self.edits]
        return list(zip(fields, [_saved(edit) for _, edit in self.edits], strict=True))

    @property
    def sites(self) -> tuple[Site, ...]:
        """The edited sites in the order of the forward pass."""
        return tuple(sorted({site for site, _ in self.edits}))

    @property
    def one_by_one(self) -> bool:
        """Whether rows are edited apart: SARA as released compares one prompt's activations."""
        return any(edit.references for _, edit in self.edits)

    def __bool__(self) -> bool:
        """Whether there is anything to edit."""
        return bool(self.edits)

    def __mul__(self, strength: float | Tensor) -> "Intervention":
        """Multiply the strength β of the one equation.

        Raises:
            TypeError: the strength is no number.
            ValueError: the strength is NaN or infinite.
        """
        number = _number(strength)
        size = float(number.detach() if isinstance(number, Tensor) else number)
        if not math.isfinite(size):
            raise ValueError(f"strength {size} is not a finite number")
        edits = tuple((site, edit * number) for site, edit in self.edits)
        return Intervention(edits, sharing.scaled(self.info, size))

    __rmul__ = __mul__

    def __truediv__(self, number: float | Tensor) -> "Intervention":
        """A part of it, as in a mean.

        Raises:
            TypeError: what it is divided by is no number.
            ZeroDivisionError: it is 0.
        """
        return self.__mul__(1 / _number(number))

    def __neg__(self) -> "Intervention":
        """The opposite."""
        return self * -1.0

    def __add__(self, other: "Intervention | Literal[0]") -> "Intervention":
        """Both at once; edits of the same site and kind become one.

        Raises:
            TypeError: the other is neither an intervention nor 0, with which `sum` begins.
        """
        other = _addend(other)
        merged: dict[tuple[Any, ...], tuple[Site, Edit]] = {}
        for site, edit in (*self.edits, *other.edits):
            key = (site, edit.kind)
            merged[key] = (site, merged[key][1] + edit) if key in merged else (site, edit)
        both = self.edits and other.edits
        info = sharing.added(self.info, other.info) if both else (self if self.edits else other).info
        return Intervention(tuple(merged.values()), info)

    __radd__ = __add__

    def __sub__(self, other: "Intervention | Literal[0]") -> "Intervention":
        """This one, and the opposite of the other."""
        return self + -_addend(other)

    def __rsub__(self, other: Literal[0]) -> "Intervention":
        """The opposite, from 0."""
        return -self + _addend(other)

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
        return sharing.write(path, self._parts, self.info)

    def push_to_hub(self, repo: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Upload to the Hugging Face Hub; `sl.load_intervention("user/name", lm)` fetches it.

        The repository gets the file of `save`, and a card that says method, prompts, model and settings.

        Args:
            repo: "user/name"; made where it does not exist.
            private: whether a new repository is; by default what the account says.
            token: of the account; by default what `hf auth login` has kept.

        Returns:
            The address.

        Raises:
            ValueError: the name is no repository's.
        """
        card = sharing.card(repo, repr(self), self.info)
        return sharing.push(self._parts, self.info, repo, card, private, token)

    def to_gguf(self, path: str | Path) -> Path:
        """Write llama.cpp's control vectors, one for each layer: `llama-cli --control-vector FILE`.

        llama.cpp adds the tensor `direction.N` to the output of block N (from 0) at every token of prompt and answer;
        block 0 has none. So what is exported is a shift of all positions and passes, at `resid_post` of block N or,
        which is the same place, at `resid_pre` of block N + 1.

        Args:
            path: of the file.

        Raises:
            FileNotFoundError: the folder does not exist.
            ImportError: the package `gguf` is not installed.
            ValueError: the intervention is no such shift.
        """
        return sharing.write_control_vector(path, self._parts, str(self.info.get("model") or "unknown"))


def _pairs(edits: Any) -> tuple[tuple[Site, Edit], ...]:
    """Edits in any of their forms, as pairs."""
    if isinstance(edits, Mapping):
        edits = edits.items()
    elif isinstance(edits, tuple) and len(edits) == 2 and isinstance(edits[0], Site):
        edits = (edits,)
    pairs = tuple(edits) if isinstance(edits, Iterable) and not isinstance(edits, Tensor | str) else (edits,)
    for pair in pairs:
        if not (isinstance(pair, tuple) and list(map(type, pair)) == [Site, Edit]):
            raise TypeError(
                f"an intervention is edits at sites, not {_shown(pair)}: give {{site: edit}}, a pair (site, edit), or "
                "several pairs; sl.add and sl.scale take bare tensors"
            )
    return pairs


def _shown(value: Any) -> str:
    """A value in a message: its kind, and itself where that is short."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of ({', '.join(type(part).__name__ for part in value[:4])})"
    text = repr(value)
    return f"{text} ({type(value).__name__})" if len(text) < 40 and "\n" not in text else type(value).__name__


def _number(value: Any) -> Any:
    """A strength as a Python number; as a tensor without dimensions where it is being learned."""
    if isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) == 1:
        value = value.reshape(()) if isinstance(value, Tensor) and value.requires_grad else value.item()
    if isinstance(value, Real) or (isinstance(value, Tensor) and value.ndim == 0):
        return value if isinstance(value, Tensor) else float(value)
    several = ", and for several [c * intervention for c in ...]"
    raise TypeError(f"an intervention is scaled by one number, not by {_shown(value)}: write 2 * intervention{several}")


def _addend(value: Any) -> Intervention:
    """What is added: an intervention, or 0, which is none."""
    if isinstance(value, Intervention):
        return value
    if isinstance(value, Real) and value == 0:
        return Intervention()
    raise TypeError(f"cannot add {_shown(value)} to an intervention: add another, or 0, with which sum() begins")


def _saved(edit: Edit) -> dict[str, Tensor]:
    """The tensors of an edit for a file, each of its own, since edits may share one."""
    tensors = (edit.tensors | edit.references).items()
    return {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors}


def _flat(edit: Edit) -> Tensor:
    """All tensors of an edit as one vector."""
    return torch.cat([tensor.detach().cpu().double().flatten() for tensor in edit.tensors.values()])


def read_intervention(path: str | Path, *, revision: str | None = None, token: str | None = None) -> Intervention:
    """Read what `Intervention.save` wrote, whichever model it was made for.

    Args:
        path: a file, or a repository of the Hub, "user/name".
        revision: of the repository.
        token: of an account that may read it; by default what `hf auth login` has kept.

    Raises:
        FileNotFoundError: no such file, nor such a repository.
        ValueError: the file is truncated, no safetensors, or not one of ours.
    """
    file = sharing.local(path, revision, token)
    parts, info = sharing.read(file)
    try:
        edits = [(Site.parse(fields.pop("site")), Edit(**fields | tensors)) for fields, tensors in parts]
    except (KeyError, TypeError, ValueError) as error:
        raise sharing.damaged(file, error) from None
    return Intervention(edits, info)


Steer = Intervention | Sequence[Intervention | None] | None
"""What the functions of a model take: nothing, one intervention for all rows, or one per row."""


def per_row(steer: Steer, rows: int) -> list[Intervention | None]:
    """The intervention of each row.

    Raises:
        TypeError: something else than an intervention, a list of them, or nothing.
        ValueError: a list of another length than the batch.
    """
    for intervention in steer if isinstance(steer, Sequence) else (steer,):
        if not isinstance(intervention, Intervention | None):
            raise TypeError(
                f"cannot steer by {type(intervention).__name__}: give an Intervention, or a list of one per prompt"
            )
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
    interventions = per_row(steer, rows)
    if rows > 1 and any(intervention is not None and intervention.one_by_one for intervention in interventions):
        raise ValueError(
            f"SARA as released edits one prompt at a time, and this batch has {rows} rows: "
            "pass batch_size=1, or use the anchored variant"
        )
    shared = interventions[0] if interventions else None
    if all(intervention is shared for intervention in interventions):
        return _by_site((site, _stack([edit], None)) for site, edit in (shared or Intervention()).edits)
    groups: dict[tuple[Any, ...], list[tuple[int, Site, Edit]]] = {}
    for row, intervention in enumerate(interventions):
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
    by_site: dict[Site, list[Stack]] = {}
    for site, stack in sorted(stacks, key=lambda pair: pair[0]):
        by_site.setdefault(site, []).append(stack)
    return by_site


def _stack(edits: list[Edit], rows: Tensor | None) -> Stack:
    """Edits of one kind as one stack."""
    first = edits[0]
    tensors = {
        name: torch.stack([edit.tensors[name].to(tensor.device) for edit in edits])
        if (tensor := first.tensors.get(name)) is not None
        else None
        for name in TENSORS
    }
    tensors |= {name: None if (tensor := getattr(first, name)) is None else tensor[None] for name in REFERENCES}
    place = {"anchor": first.anchor, "start": first.start, "length": first.length, "when": first.when}
    return {**tensors, **place, "rows": rows}
