"""Checkers for the exercises of notebooks 00 to 02: each prints one line, and none raises."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .intervention import Edit, Intervention
from .metrics import has_topic_word, kl, share
from .model import SteerableModel
from .site import Site

PROMPT = "Once upon a time there was a king"
LEAST_SHIFT = 0.05
"""Nats of KL from which on a next-token distribution counts as moved."""


class _NotYet(Exception):
    """What is still missing, as the end of a line."""


def check_own_pair(lm: SteerableModel, steer: Intervention, prompt: str, given: tuple[str, str]) -> None:
    """00: an ActAdd vector from a pair of the reader's own that moves the next token of a prompt.

    Args:
        lm: the model.
        steer: an intervention of `sl.actadd`.
        prompt: what is steered.
        given: the pair that the notebook came with, which does not count.
    """

    def judge() -> str:
        prompts = steer.info.get("prompts", {})
        if (prompts.get("plus"), prompts.get("minus")) == given:
            raise _NotYet(f"{given[0]!r} and {given[1]!r} are still our pair: choose your own")
        plain, steered = lm.logits([prompt, prompt], [None, steer])
        moved = float(kl(plain, steered))
        if moved < LEAST_SHIFT:
            raise _NotYet(f"the next token hardly moves ({moved:.3f} nats): try another layer, or more strength")
        raised = lm.tokenizer.decode([int((steered.softmax(-1) - plain.softmax(-1)).argmax())])
        return f"your vector moves the next token by {moved:.2f} nats, most of all towards {raised!r}"

    _verdict(judge)


def check_read(answer: Callable[[str, int], Tensor | None], lm: SteerableModel) -> None:
    """01: what the MLP of a block adds to the stream, [pos, d_model].

    Args:
        answer: from a prompt and a layer to the activation.
        lm: the model.
    """
    layer = lm.n_layers // 2
    sites = {place: Site(place, layer) for place in ("resid_pre", "attn_out", "mlp_out", "resid_post")}
    found = lm.activations(PROMPT, list(sites.values()))
    near = {
        f"this is {place}; mlp_out is wanted": found.row(0, site) for place, site in sites.items() if place != "mlp_out"
    }
    _verdict(lambda: _equal(answer(PROMPT, layer), found.row(0, sites["mlp_out"]), near))


def check_silence(hook: Callable[..., Any], lm: SteerableModel) -> None:
    """01: a forward hook that makes an attention sublayer add nothing.

    Args:
        hook: for `register_forward_hook`: from module, arguments and output to a new output.
        lm: the model.
    """
    layer = lm.n_layers // 2
    attention = lm.hf.get_submodule(f"{lm.layout.blocks}.{layer}.{lm.layout.attn}")
    batch = lm.batch(PROMPT)

    def judge() -> str:
        handle = attention.register_forward_hook(hook)
        try:
            with torch.no_grad():
                found = lm.hf(batch.ids).logits[0, -1].float()
        finally:
            handle.remove()
        off = Intervention(((Site("attn_out", layer), Edit(gain=torch.tensor([[-1.0]]))),))
        near = {"the logits are those of the untouched model": lm.logits(PROMPT)[0]}
        return _equal(found, lm.logits(PROMPT, off)[0], near)

    _verdict(judge)


def check_passes(answer: Mapping[str, int | None], new_tokens: int) -> None:
    """01: how many forward passes each `when` edits while `new_tokens` tokens are generated.

    Args:
        answer: a number for each of "prompt", "decode" and "all".
        new_tokens: generated tokens, of which the pass over the prompt already yields the first.
    """
    expected = {"prompt": 1, "decode": new_tokens - 1, "all": new_tokens}

    def judge() -> str:
        for when, number in expected.items():
            if answer.get(when) is None:
                raise _NotYet(f"give a number for when={when!r}")
            if answer[when] != number:
                raise _NotYet(f"when={when!r} does not edit {answer[when]} passes: what does the first pass yield?")
        return "the pass over the prompt yields the first token, so one pass less remains"

    _verdict(judge)


def check_add_at_front(answer: Callable[[Tensor, Tensor, Tensor], Tensor | None]) -> None:
    """02: a vector on the first real tokens of left-padded rows.

    Args:
        answer: from h [batch, pos, d_model], vector [T_s, d_model] and pad [batch] to the edited h.
    """
    generator = torch.Generator().manual_seed(0)
    h, vector = (torch.randn(shape, generator=generator) for shape in ((3, 6, 4), (2, 4)))
    pad = torch.tensor([0, 3, 1])
    wanted, columns = h.clone(), h.clone()
    columns[:, :2] += vector
    for row, first in enumerate(pad.tolist()):
        wanted[row, first : first + 2] += vector
    before = h.clone()

    def judge() -> str:
        found = answer(h, vector, pad)
        if not torch.equal(h, before):
            raise _NotYet("it changes the activations it is given: work on h.clone()")
        near = {
            "this is h, unchanged": h,
            "the vector lies on the first columns, and in shorter rows these are padding": columns,
        }
        return _equal(found, wanted, near)

    _verdict(judge)


def check_topic_shift(
    lm: SteerableModel, steer: Intervention, words: Iterable[str], *, prompt: str, n: int = 60, seed: int = 0
) -> None:
    """02: more completions with a word of a topic than without steering, beyond what luck would do.

    Args:
        lm: the model.
        steer: the reader's intervention.
        words: of the topic.
        prompt: to complete.
        n: completions of each kind.
        seed: of the sampling.
    """

    def judge() -> str:
        if torch.equal(*lm.logits([prompt, prompt], [None, steer])):
            raise _NotYet("this vector changes nothing: is its strength 0?")
        frame = lm.generate([prompt, prompt], [None, steer], n=n, seed=seed)
        plain, steered = (
            share([has_topic_word(text, words) for text in rows["completion"]]) for _, rows in frame.groupby("row")
        )
        counts = f"{steered.value:.0%} of {n} completions hold a word of the topic, unsteered {plain.value:.0%}"
        if steered.low <= plain.high:
            raise _NotYet(f"{counts}; the 95 % intervals must not overlap")
        return counts

    words = list(words)
    _verdict(judge)


def _verdict(judge: Callable[[], str]) -> None:
    """Print the line of one exercise."""
    try:
        line = f"✓ right: {judge()}"
    except _NotYet as missing:
        line = f"not yet: {missing}"
    except NotImplementedError:
        line = "not yet: nothing is written here so far"
    except Exception as error:  # of the reader's code: a lesson goes on
        line = f"not yet: {type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    print(line)


def _equal(found: object, wanted: Tensor, near: Mapping[str, Tensor]) -> str:
    """A line when both agree; else `_NotYet` says what was found instead, if it is one of `near`."""
    if found is None or found is ...:
        raise _NotYet("nothing is returned so far")
    if not isinstance(found, Tensor):
        raise _NotYet(f"a tensor is wanted, not {type(found).__name__}")
    for mistake, tensor in near.items():
        if _close(found, tensor) and not _close(tensor, wanted):
            raise _NotYet(mistake)
    if found.shape != wanted.shape:
        raise _NotYet(f"the shape is {list(found.shape)}, and {list(wanted.shape)} is wanted")
    if not _close(found, wanted):
        distance = float((found.detach().to(wanted) - wanted).abs().max())
        raise _NotYet(f"the shape is right, the numbers are not: they differ by up to {distance:.2g}")
    return "your tensor and the package's are the same"


def _close(a: Tensor, b: Tensor) -> bool:
    """Whether shape and numbers agree, but for rounding."""
    return a.shape == b.shape and torch.allclose(a.detach().to(b), b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))
