"""Passes through a model, with edits on the way: what runs beside the weights, in this process or on a server.

A function here is given nnsight's model, plain tensors and plain numbers. `SteerableModel.run` calls it inside of one
nnsight session, so that values need no saving; with a remote model that session is one request, and the function
travels by its source, with what its body names. So a body names torch, and functions that live by the same rule.

    batch   (ids [B, T], mask [B, T], pad [B] or None), as in `steerlab.Batch`
    taps    (envoy, is_input, stacks, read) for each site to visit, in the order of the forward pass
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .edit import edit
from .prompts import Plain

Tap = tuple[Any, bool, list[dict[str, Any]], bool]


@dataclass(frozen=True)
class Call:
    """A function to run beside the model, and what it gives back.

    Args:
        work: called with nnsight's model and `args`.
        args: plain values, and envoys.
        gives: tensors on the meta device, in lists, tuples and dicts, of the largest shapes that can come back. A dry
            run counts them, and a remote result is held against them.
    """

    work: Callable[..., Any]
    args: tuple[Any, ...]
    gives: Any


def like(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor for `Call.gives`: a shape and a dtype, without numbers."""
    return torch.empty(shape, dtype=dtype, device="meta")


def every(model: Any, calls: Any) -> list[Any]:
    """The results of (work, args) pairs, one after the other."""
    return [work(model, *args) for work, args in calls]


def inputs(batch: Plain) -> dict[str, Tensor]:
    """Keyword inputs of a forward pass; padded rows count their positions from their first real token."""
    _, mask, pad = batch
    if pad is None:
        return {"attention_mask": mask}
    return {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def visit(taps: Sequence[Tap], rows: int, pad: Tensor | None, step: int, kept: list[Tensor]) -> None:
    """Inside a trace: edit and read the sites in order. Values are replaced, never changed in place."""
    for envoy, is_input, stacks, read in taps:
        value = envoy.input if is_input else envoy.output
        h = value[0] if isinstance(value, tuple) else value
        new = edit(h.view(rows, -1, h.shape[-1]), stacks, pad, step)  # OPT's MLP works on [batch * pos, d_model]
        if read:
            kept.append(new)
        if not stacks:
            continue
        replaced = (new.view(h.shape), *value[1:]) if isinstance(value, tuple) else new.view(h.shape)
        if is_input:
            envoy.input = replaced
        else:
            envoy.output = replaced


def activations(model: Any, batch: Plain, taps: Sequence[Tap], grad: bool, stop: bool = False) -> list[Tensor]:
    """Activations at the taps that read, [B, T, D] each.

    With `stop` nothing is computed above the last tap; a server's sandbox ends the whole session there, so that only
    calls in this process do.
    """
    kept: list[Tensor] = []
    settings = {"use_cache": False, "logits_to_keep": 1}
    with torch.set_grad_enabled(grad), model.trace(batch[0], **settings, **inputs(batch)) as tracer:
        visit(taps, len(batch[0]), batch[2], 0, kept)
        if stop:
            tracer.stop()
    return kept


def logits(
    model: Any,
    batch: Plain,
    taps: Sequence[Tap],
    last: bool,
    grad: bool,
    below: Sequence[tuple[Any, Tensor]] = (),
) -> Tensor:
    """Logits of the next token, [B, 1 or T, V]; each block of `below` is not run, and gives the tensor beside it."""
    keep = {"logits_to_keep": 1} if last else {}
    with torch.set_grad_enabled(grad), model.trace(batch[0], use_cache=False, **keep, **inputs(batch)):
        for block, output in below:
            block.skip(output)
        visit(taps, len(batch[0]), batch[2], 0, [])
        found = model.output.logits
    return found  # type: ignore[no-any-return]  # nnsight has no types


def logprobs(model: Any, batch: Plain, taps: Sequence[Tap]) -> Tensor:
    """Log-probability of each token after those before it, [B, T]; the first column is 0."""
    found = logits(model, batch, taps, False, False).float()
    targets = batch[0][:, 1:].flatten().to(found.device)
    losses = torch.nn.functional.cross_entropy(found[:, :-1].flatten(0, 1), targets, reduction="none")
    return torch.nn.functional.pad(-losses.view(len(batch[0]), -1), (1, 0)).cpu()


def generate(model: Any, batch: Plain, taps: Sequence[Tap], every_step: bool, options: dict[str, Any]) -> Tensor:
    """New token ids [B, N] by `transformers.generate`; loops over decode steps only where an edit needs it."""
    ids, mask, pad = batch
    with torch.no_grad():
        if not every_step:
            with model.generate(ids, attention_mask=mask, **options) as tracer:
                visit(taps, len(ids), pad, 0, [])
                found = tracer.result
        else:
            with model.generate(**options) as tracer:
                with tracer.invoke(ids, attention_mask=mask):
                    for step in tracer.iter[:]:
                        visit(taps, len(ids), pad, step, [])
                with tracer.invoke():  # of its own, so that it is reached also when sequences end early
                    found = tracer.result
    return found[:, ids.shape[1] :]  # type: ignore[no-any-return]
