"""Steering by plain PyTorch hooks, written from the papers' formulas: what the package is compared with.

Nothing here knows the package: rows, positions and passes are counted in loops, one at a time.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from families import EVERY, tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Change:
    """h <- h + β((γ + <w, h>) h + a) at one place of one block, on some rows, positions and passes.

    `where` is "all" positions, the ones from `start` on ("front"), or the last ones ("back"), as many as a and γ tell.
    """

    place: str
    layer: int
    beta: float = 1.0
    a: Tensor | None = None
    gamma: Tensor | None = None
    w: Tensor | None = None
    where: str = "all"
    start: int = 0
    when: str = "prompt"
    rows: Sequence[int] | None = None


def left_padded(prompts: Sequence[str | Tensor]) -> tuple[Tensor, Tensor, list[int]]:
    """Ids with BOS, their mask, and the padding of each row."""
    rows = [[0, *tokenizer().encode(p, add_special_tokens=False)] if isinstance(p, str) else list(p) for p in prompts]
    width = max(len(row) for row in rows)
    pads = [width - len(row) for row in rows]
    ids = torch.tensor([[0] * pad + row for pad, row in zip(pads, rows, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads])
    return ids, mask, pads


def inputs(prompts: Sequence[str | Tensor]) -> dict[str, Tensor]:
    """What a bare model is called with: for rows of one length the ids alone."""
    ids, mask, pads = left_padded(prompts)
    if not any(pads):
        return {"input_ids": ids}
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def steered_by_hand(h: Tensor, change: Change, pads: Sequence[int]) -> Tensor:
    """The change of h [batch, pos, d_model] at one row and position after the other."""
    delta = torch.zeros_like(h)
    batch, width = h.shape[:2]
    count = max([1, *(len(tensor) for tensor in (change.a, change.gamma) if tensor is not None)])
    for row in range(batch) if change.rows is None else change.rows:
        first = {"all": 0, "front": pads[row] + change.start, "back": width - count}[change.where]
        for k, column in enumerate(range(first, width if change.where == "all" else first + count)):
            x = h[row, column]
            new = torch.zeros_like(x)
            if change.gamma is not None:
                new = new + change.gamma[min(k, len(change.gamma) - 1)] * x
            if change.w is not None:
                new = new + (change.w[0] @ x) * x
            if change.a is not None:
                new = new + change.a[min(k, len(change.a) - 1)]
            delta[row, column] += change.beta * new
    return delta


@dataclass
class Hooked:
    """Hooks on a model, which make the changes; counts the model's passes."""

    model: PreTrainedModel
    family: str
    changes: Sequence[Change]
    pads: Sequence[int]
    passes: int = field(default=0)

    @contextmanager
    def on(self) -> Iterator["Hooked"]:
        """With the hooks on, for one call of the model or of its `generate`."""
        self.passes = 0
        with ExitStack() as handles:
            handles.callback(self.model.register_forward_pre_hook(self._count).remove)
            for place, layer in {(change.place, change.layer) for change in self.changes}:
                mine = [change for change in self.changes if (change.place, change.layer) == (place, layer)]
                handles.callback(self._hook(place, layer, mine).remove)
            yield self

    def _count(self, module: nn.Module, arguments: Any) -> None:
        self.passes += 1

    def _hook(self, place: str, layer: int, changes: Sequence[Change]) -> Any:
        module = part(self.model, self.family, place, layer)
        if place == "resid_pre":

            def before(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
                return (self._changed(arguments[0], changes), *arguments[1:])

            return module.register_forward_pre_hook(before)

        def after(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
            if isinstance(output, tuple):
                return (self._changed(output[0], changes), *output[1:])
            return self._changed(output, changes)

        return module.register_forward_hook(after)

    def _changed(self, h: Tensor, changes: Sequence[Change]) -> Tensor:
        """All changes of one place, each computed from the same h; OPT's MLP has no batch dimension."""
        rows = h.view(len(self.pads), -1, h.shape[-1])
        first = self.passes == 1
        due = [change for change in changes if change.when == "all" or (change.when == "prompt") == first]
        return h + sum((steered_by_hand(rows, change, self.pads) for change in due), torch.zeros_like(rows)).view(
            h.shape
        )


def part(model: PreTrainedModel, family: str, place: str, layer: int) -> nn.Module:
    """The module before or after which a place is."""
    paths = EVERY[family]
    inner = {"attn_out": f".{paths.attn}", "mlp_out": f".{paths.mlp}"}.get(place, "")
    return model.get_submodule(f"{paths.blocks}.{layer}{inner}")


def read_by_hand(model: PreTrainedModel, family: str, prompts: Sequence[str], place: str, layer: int) -> Tensor:
    """Activations [batch, pos, d_model] at a place."""
    kept: list[Tensor] = []

    def before(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        kept.append(arguments[0])

    def after(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    module = part(model, family, place, layer)
    is_input = place == "resid_pre"
    handle = module.register_forward_pre_hook(before) if is_input else module.register_forward_hook(after)
    with torch.no_grad():
        model(**inputs(prompts))
    handle.remove()
    return kept[0].view(len(prompts), -1, kept[0].shape[-1])


@contextmanager
def activation_addition(
    model: PreTrainedModel, family: str, plus: str, minus: str, layer: int, c: float
) -> Iterator[None]:
    """Turner et al., Algorithm 1, as released: two additions to the first positions, nothing on cached steps.

    Both prompts get BOS, the shorter is padded on the right with spaces, and the activations that enter the block are
    added to those of the user's prompt, front to front.
    """
    space = tokenizer().encode(" ", add_special_tokens=False)
    rows = [[0, *tokenizer().encode(prompt, add_special_tokens=False)] for prompt in (plus, minus)]
    longest = max(len(row) for row in rows)
    with torch.no_grad():
        cached = [
            model(torch.tensor([row + space * (longest - len(row))]), output_hidden_states=True).hidden_states[layer]
            for row in rows
        ]

    def add(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        resid = arguments[0]
        if resid.shape[1] == 1:
            return None
        assert resid.shape[1] >= longest, "the prompt is shorter than the vector"
        resid = resid.clone()
        resid[:, :longest] += c * cached[0]
        resid[:, :longest] -= c * cached[1]
        return (resid, *arguments[1:])

    handle = part(model, family, "resid_pre", layer).register_forward_pre_hook(add)
    try:
        yield
    finally:
        handle.remove()
