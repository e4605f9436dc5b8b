"""The one equation, on tensors: h <- h + (gain + <probe, h>) * h + shift.

This file is what travels to a remote server. It imports torch alone, and what it is given is plain: tensors, ints and
strings in dicts. A `stack` holds the edits of one site that share their kind, one entry per row of the batch or one
for all rows:

    shift   [R, P, D] or None       gain   [R, P or 1, D or 1] or None       probe   [R, 1, D] or None
    length  P, the number of positions; start, the first position of a front edit
    rows    [R] row numbers, or None where the stack applies to all rows (then R is 1 or the batch size)
    attract, repel   [1, K, D] or None: leading components of two reference prompts (see `contrast`); the gain then is
            one number, which multiplies their contrast with x, found anew at every pass
    anchor  "all" (every position), "front" (P positions from `start`), "back" (the last P positions)
    when    "prompt" (first pass), "decode" (every later pass), "all"

The strength has been multiplied into shift, gain and probe.
"""

from typing import Any  # for the annotations, which are strings so that nothing but torch need travel

import torch


def applies(when: "str", step: "int") -> "bool":
    """Whether a stack with this `when` edits pass number `step` (0 is the prompt)."""
    return when == "all" or (when == "prompt") == (step == 0)


def components(x: "torch.Tensor") -> "torch.Tensor":
    """The components [K, D] of activations x [T, D]: row i is σ_i u_i of the thin SVD x^T = U Σ V^T, K = min(T, D).

    The sign of each row is the linear algebra library's choice. Half precision is computed in float32.
    """
    x = x if x.dtype == torch.float64 else x.float()
    u, s, _ = torch.linalg.svd(x.mT, full_matrices=False)
    scaled: torch.Tensor = u * s
    return scaled.mT


def contrast(x: "torch.Tensor", attract: "torch.Tensor", repel: "torch.Tensor") -> "torch.Tensor":
    """SARA's γ [D] of activations x [T, D] as released: a neuron's cosine with `attract` less that with `repel`.

    A neuron is compared by its entries in the first k components, k being the smallest number of components of the
    three. A pass over a single token has k = 1, where a cosine is the product of two signs.
    """
    prompt = components(x)
    k = min(len(prompt), len(attract), len(repel))
    near, far = (torch.cosine_similarity(prompt[:k], other[:k].to(prompt), dim=0) for other in (attract, repel))
    return near - far


def relative(x: "torch.Tensor", stack: "dict[str, Any]") -> "torch.Tensor":
    """The relative change of activations x [R, P, D]: the gain as given, or times the contrast with the references."""
    gain = stack["gain"]
    if stack.get("attract") is not None:
        contrasted = contrast(x[0], stack["attract"][0], stack["repel"][0])  # one row: a larger batch has been refused
        gain = gain.to(contrasted) * contrasted
    return gain.to(x)


def change(x: "torch.Tensor", stack: "dict[str, Any]") -> "torch.Tensor":
    """The change of activations x [R, P, D]: (gain + <probe, x>) * x + shift, in x's dtype."""
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    if stack["gain"] is not None:
        total = total + relative(x, stack) * x
    if stack["probe"] is not None:
        total = total + (x * stack["probe"].to(x)).sum(-1, keepdim=True) * x
    if stack["shift"] is not None:
        total = total + stack["shift"].to(x)
    return total


def columns(
    stack: "dict[str, Any]", width: "int", pad: "torch.Tensor | None", device: "torch.device"
) -> "torch.Tensor":
    """Indices [R or 1, P] of the edited columns in rows of `width` columns, of which `pad` [B] are left padding."""
    count = stack["length"]
    if stack["anchor"] == "back":
        return torch.arange(width - count, width, device=device)[None]
    first = torch.arange(stack["start"], stack["start"] + count, device=device)[None]
    if pad is None:
        return first
    pad = pad.to(device)
    return first + (pad if stack["rows"] is None else pad[stack["rows"].to(device)])[:, None]


def edit(
    h: "torch.Tensor", stacks: "list[dict[str, Any]]", pad: "torch.Tensor | None" = None, step: "int" = 0
) -> "torch.Tensor":
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
        # The same columns in all rows, as is usual: a slice is several times faster than an index.
        if rows is None and (pad is None or stack["anchor"] == "back"):
            first = h.shape[1] - stack["length"] if stack["anchor"] == "back" else stack["start"]
            last = first + stack["length"]
            out = torch.cat([out[:, :first], out[:, first:last] + change(h[:, first:last], stack), out[:, last:]], 1)
            continue
        where = columns(stack, h.shape[1], pad, h.device)
        rows = torch.arange(h.shape[0], device=h.device) if rows is None else rows.to(h.device)
        index = (rows[:, None], where)
        changed = change(h[index], stack).expand(len(rows), where.shape[1], h.shape[2])
        out = out.index_put(index, changed, accumulate=True)
    return out
