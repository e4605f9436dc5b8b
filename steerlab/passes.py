"""Passes through a model, with edits on the way: what runs beside the weights, in this process or on a server.

A function here is given nnsight's model, plain tensors and plain numbers. `SteerableModel.run` calls it inside of one
nnsight session, so that values need no saving; with a remote model that session is one request, and the function
travels by its source, with what its body names. So a body names torch, and functions that live by the same rule.

    batch   (ids [B, T], mask [B, T], pad [B] or None), as in `steerlab.Batch`
    taps    (envoy, is_input, stacks, read) for each site to visit, in the order of the forward pass
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList

from .edit import edit
from .prompts import Plain
from .sampling import Draw, next_token

Tap = tuple[Any, bool, list[dict[str, Any]], bool]


@dataclass(frozen=True)
class Call:
    """A function to run beside the model, and what it gives back.

    Args:
        work: called with nnsight's model and `args`.
        args: plain values, and envoys.
        gives: a `Form` for each tensor, in lists, tuples and dicts. A dry run counts their bytes, and a remote result
            is held against them.
    """

    work: Callable[..., Any]
    args: tuple[Any, ...]
    gives: Any


@dataclass(frozen=True)
class Form:
    """A tensor that comes back: its shape and dtype, and the axis along which it may be shorter, if there is one."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    shorter: int | None = None

    @property
    def size(self) -> int:
        """Bytes, at most."""
        return math.prod(self.shape) * self.dtype.itemsize


def like(*shape: int, dtype: torch.dtype = torch.float32, shorter: int | None = None) -> Form:
    """A form for `Call.gives`."""
    return Form(shape, dtype, shorter)


def every(model: Any, calls: Any) -> list[Any]:
    """The results of (work, args) pairs, one after the other."""
    return [work(model, *args) for work, args in calls]


def alone(results: Any) -> Any:
    """Results whose tensors have storage of their own: of a part of a tensor the whole would travel."""
    if isinstance(results, torch.Tensor):
        return results.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(results, dict):
        return {name: alone(value) for name, value in results.items()}
    return [alone(value) for value in results] if isinstance(results, list | tuple) else results


def inputs(batch: Plain) -> dict[str, Tensor]:
    """Keyword inputs of a forward pass; padded rows count their positions from their first real token."""
    _, mask, pad = batch
    if pad is None:
        return {"attention_mask": mask}
    return {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def pick(batch: Plain, index: Tensor) -> Plain:
    """Rows of a batch, each as often as it is named."""
    ids, mask, pad = batch
    return ids[index], mask[index], None if pad is None else pad[index]


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


def block_output(model: Any, batch: Plain, block: Any, stop: bool) -> Any:
    """What a block gives: the stream, [B, T, D], or, of some models, a tuple that begins with it."""
    with torch.no_grad(), model.trace(batch[0], use_cache=False, logits_to_keep=1, **inputs(batch)) as tracer:
        output = block.output
        if stop:
            tracer.stop()
    return output


def rows_of(output: Any, index: Tensor) -> Any:
    """Rows of what a block gives, each as often as it is named."""
    if isinstance(output, tuple):
        return tuple(rows_of(each, index) for each in output)
    return output[index] if isinstance(output, torch.Tensor) else output


def logits(
    model: Any,
    batch: Plain,
    taps: Sequence[Tap],
    last: bool,
    grad: bool,
    below: Sequence[tuple[Any, Any]] = (),
) -> Tensor:
    """Logits of the next token, [B, 1 or T, V]; each block of `below` is not run, and gives what stands beside it."""
    keep = {"logits_to_keep": 1} if last else {}
    with torch.set_grad_enabled(grad), model.trace(batch[0], use_cache=False, **keep, **inputs(batch)):
        for block, output in below:
            block.skip(output)
        visit(taps, len(batch[0]), batch[2], 0, [])
        logits = model.output.logits
    return logits


def logprobs(
    model: Any, batch: Plain, taps: Sequence[Tap], wanted: Tensor, top: tuple[Any, Any, float | None] | None, chunk: int
) -> Tensor:
    """Log-probability of the last tokens of a row, each after those before it, where `wanted` [B, P] is True; else 0.

    Logits of a large vocabulary are large: they are formed for `chunk` tokens at a time, by applying the head to the
    decoder's output. `top` is both, and the cap of the logits (Gemma 2). Where that is not what the model itself does,
    as the last position tells, or where there is no `top`, all logits are formed at once.
    """
    ids, before = batch[0], slice(-wanted.shape[1] - 1, -1)
    targets = ids[:, -wanted.shape[1] :][wanted.to(ids.device)]
    scores: list[Tensor] = []
    if top is not None:
        decoder, head, cap = top
        with torch.no_grad(), model.trace(ids, use_cache=False, logits_to_keep=1, **inputs(batch)):
            visit(taps, len(ids), batch[2], 0, [])
            hidden = decoder.output[0]
            states = hidden[:, before][wanted.to(hidden.device)]  # a matrix: on a stack of them the head is slow
            for first in range(0, len(states), chunk):
                part = slice(first, first + chunk)
                scores.append(scored(capped(head(states[part]), cap), targets[part]))
            mine, theirs = capped(head(hidden[:, -1]), cap), model.output.logits[:, -1]
        if not torch.allclose(mine.float(), theirs.float(), rtol=1e-2, atol=1e-2, equal_nan=True):
            scores = []
    if not scores:
        every = logits(model, batch, taps, False, False)[:, before]
        scores = [scored(every[wanted.to(every.device)], targets)]
    table = torch.zeros(wanted.shape)
    table[wanted.cpu()] = torch.cat(scores).cpu()
    return table


def capped(scores: Tensor, cap: float | None) -> Tensor:
    """Logits in (-cap, cap)."""
    return scores if cap is None else cap * torch.tanh(scores / cap)


def scored(scores: Tensor, targets: Tensor) -> Tensor:
    """Log-probability [N] of targets under logits [N, V]."""
    return -torch.nn.functional.cross_entropy(scores.float(), targets.to(scores.device), reduction="none")


def generate(
    model: Any,
    batch: Plain,
    taps: Sequence[Tap],
    every_step: bool,
    options: dict[str, Any],
    draw: dict[str, Any],
    done: int = 0,
) -> Tensor:
    """New token ids [B, N] by `transformers.generate`; loops over decode steps only where an edit needs it.

    Of the tokens given, the last `done` belong to the completion already.
    """
    ids, mask, pad = batch
    chosen = Draw(draw["keys"], pad, ids.shape[1] - done, draw["settings"])
    options = {**options, "logits_processor": LogitsProcessorList([chosen])}
    with torch.no_grad():
        if not every_step:
            with model.generate(ids, attention_mask=mask, **options) as tracer:
                visit(taps, len(ids), pad, done, [])
                whole = tracer.result
        else:
            with model.generate(**options) as tracer:
                with tracer.invoke(ids, attention_mask=mask):
                    for step in tracer.iter[:]:
                        visit(taps, len(ids), pad, done + step, [])
                with tracer.invoke():  # of its own, so that it is reached also when sequences end early
                    whole = tracer.result
    return whole[:, ids.shape[1] :]


def generate_beside(
    model: Any,
    batch: Plain,
    taps: Sequence[Tap],
    every_step: bool,
    options: dict[str, Any],
    draw: dict[str, Any],
    top: tuple[Any, Any, float | None],
) -> Tensor:
    """`generate` on a server, whose sandbox takes no classes: the next token is drawn here, at the head's output.

    All scores but the drawn token's become -inf there, so that transformers' greedy choice is the drawn token, whatever
    cap or scale comes after the head.
    """
    (ids, mask, pad), (_, head, cap) = batch, top
    seen = ids
    with torch.no_grad(), model.generate(**options) as tracer:
        with tracer.invoke(ids, attention_mask=mask):
            for step in tracer.iter[:]:
                if every_step or step == 0:
                    visit(taps, len(ids), pad, step, [])
                scores = head.output
                seen = seen.to(scores.device)
                logits = capped(scores[:, -1], cap).float()
                token = next_token(logits, seen, pad, draw["keys"], step, draw["settings"])[:, None]
                forced = torch.full_like(scores, -math.inf)
                forced[:, -1] = forced[:, -1].scatter(1, token, 0.0)
                head.output = forced
                seen = torch.cat([seen, token], 1)
        with tracer.invoke():  # of its own, so that it is reached also when sequences end early
            whole = tracer.result
    return whole[:, ids.shape[1] :]


def generate_shared(
    model: Any,
    prompts: Plain,
    index: Tensor,
    taps: Sequence[Tap],
    later: Sequence[Tap],
    options: dict[str, Any],
    draw: dict[str, Any],
) -> Tensor:
    """`generate` for rows that share prompts: each prompt is read once, and its cache copied for its samples.

    Row i goes on from prompt `index[i]`; `taps` edit the pass over the prompts, and `later` the rows' decode steps.
    """
    cache = DynamicCache(config=model.config)
    given = {
        "cache" if "cache" in signature(model.prepare_inputs_for_generation).parameters else "past_key_values": cache
    }
    with torch.no_grad(), model.trace(prompts[0], logits_to_keep=1, **given, **inputs(prompts)):
        visit(taps, len(prompts[0]), prompts[2], 0, [])
        scores = model.output.logits
    ids, mask = (part[index] for part in prompts[:2])
    pad = None if prompts[2] is None else prompts[2][index]
    first = next_token(scores[index, -1].float(), ids, pad, draw["keys"], 0, draw["settings"])[:, None]
    cache.batch_select_indices(index)
    batch = (torch.cat([ids, first.to(ids)], 1), torch.cat([mask, torch.ones_like(first).to(mask)], 1), pad)
    more = {**options, "max_new_tokens": options["max_new_tokens"] - 1, **given}
    return torch.cat([first, generate(model, batch, later, bool(later), more, draw, 1)], 1)
