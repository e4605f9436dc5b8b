"""The one equation, on tensors: h <- h + (gain + <probe, h>) * h + shift.

This file is what travels to a remote server. It imports torch alone, and what it is given is plain: tensors, ints and
strings in dicts. A `stack` holds the edits of one site that share their kind, one entry per row of the batch or one
for all rows:

    shift   [R, P, D] or None       gain   [R, P or 1, D or 1] or None       probe   [R, 1, D] or None
    rows    [R] row numbers, or None where the stack applies to all rows (then R is 1 or the batch size)
    anchor  "all" (every position), "front" (P positions from `start`), "back" (the last P positions)
    when    "prompt" (first pass), "decode" (every later pass), "all"

The strength has been multiplied into shift, gain and probe.
"""

import torch


def applies(when, step):
    """Whether a stack with this `when` edits pass number `step` (0 is the prompt)."""
    return when == "all" or (when == "prompt") == (step == 0)


def change(x, stack):
    """The change of activations x [R, P, D]: (gain + <probe, x>) * x + shift, in x's dtype."""
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    if stack["gain"] is not None:
        total = total + stack["gain"].to(x) * x
    if stack["probe"] is not None:
        total = total + (x * stack["probe"].to(x)).sum(-1, keepdim=True) * x
    if stack["shift"] is not None:
        total = total + stack["shift"].to(x)
    return total


def columns(stack, width, pad, device):
    """Indices [R or 1, P] of the edited columns in rows of `width` columns, of which `pad` [B] are left padding."""
    count = stack["length"]
    if stack["anchor"] == "back":
        return torch.arange(width - count, width, device=device)[None]
    first = torch.arange(stack["start"], stack["start"] + count, device=device)[None]
    if pad is None:
        return first
    pad = pad.to(device)
    return first + (pad if stack["rows"] is None else pad[stack["rows"].to(device)])[:, None]


def edit(h, stacks, pad=None, step=0):
    """Activations h [B, T, D] after all stacks that apply at this step, each computed from the same h."""
    out = h
    for stack in stacks:
        if not applies(stack["when"], step):
            continue
        rows = stack["rows"]
        if stack["anchor"] == "all":
            if rows is None:
                out = out + change(h, stack)
            else:
                rows = rows.to(h.device)
                out = out.index_add(0, rows, change(h[rows], stack).expand(len(rows), *h.shape[1:]))
            continue
        where = columns(stack, h.shape[1], pad, h.device)
        rows = torch.arange(h.shape[0], device=h.device) if rows is None else rows.to(h.device)
        index = (rows[:, None], where)
        changed = change(h[index], stack).expand(len(rows), where.shape[1], h.shape[2])
        out = out.index_put(index, changed, accumulate=True)
    return out
