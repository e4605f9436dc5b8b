"""The checkers of the short exercises."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import data
from ..edit import components, contrast
from ..experiments.actadd import PAPER_SAMPLING, count_topic_words, price
from ..experiments.actadd import PROMPT as FRIEND
from ..experiments.actadd.topics import lay
from ..fit import score
from ..intervention import Intervention
from ..methods.actadd import actadd, random_like
from ..methods.learned import locations
from ..methods.own import add, scale
from ..methods.sara import sara_gain
from ..metrics import Estimate, disfluency, has_topic_word, share
from ..model import SteerableModel
from ..objective import effectiveness
from ..site import PLACES, Site
from ..tasks import answer_tokens
from .checking import NotYet as _NotYet
from .checking import checker as _checker
from .checking import close as _close
from .checking import equal as _equal

PROMPT = "Once upon a time there was a king"


@_checker
def check_own_pair(
    lm: SteerableModel,
    steer: Intervention,
    words: Iterable[str],
    prompt: str = FRIEND,
    *,
    given: tuple[str, str],
    n: int = 30,
    seed: int = 0,
) -> str:
    """00: an ActAdd vector of the reader's own pair that writes of its topic, unlike a random one of equal norm.

    Completions with one of `words` are counted, n of each kind with the same noise; the intervals must not overlap.
    """
    prompts = steer.info.get("prompts", {})
    if (prompts.get("plus"), prompts.get("minus")) == given:
        raise _NotYet(f"{given[0]!r} and {given[1]!r} are still our pair: choose your own")
    if not (wanted := list(words)):
        raise _NotYet("list words by which your topic is known: data.topics() has those of 24 topics")
    frame = lm.generate([prompt] * 3, [None, random_like(steer, seed=seed), steer], n=n, seed=seed)
    plain, random, steered = (
        share([has_topic_word(text, wanted) for text in rows["completion"]]) for _, rows in frame.groupby("row")
    )
    counts = f"{steered.value:.0%} of {n} completions hold one of your words"
    rivals = f"unsteered {plain.value:.0%}, under a random vector {random.value:.0%}"
    if steered.low <= max(plain.high, random.high):
        raise _NotYet(f"{counts}, {rivals}: that may be luck; try another strength, layer or topic")
    return f"{counts}; {rivals}"


@_checker
def check_read(answer: Callable[[str, int], Tensor | None], lm: SteerableModel) -> str:
    """01: from a prompt and a layer to what the MLP of that block adds to the stream, [pos, d_model]."""
    sites = {place: Site(place, lm.n_layers // 2) for place in PLACES}
    activations = lm.activations(PROMPT, list(sites.values()))
    wanted = activations.row(0, sites.pop("mlp_out"))
    near = {f"this is {place}; mlp_out is wanted": activations.row(0, site) for place, site in sites.items()}
    return _equal(answer(PROMPT, lm.n_layers // 2), wanted, near)


@_checker
def check_silence(hook: Callable[..., Any], lm: SteerableModel) -> str:
    """01: a hook for `register_forward_hook` that makes an attention sublayer add nothing."""
    layer = lm.n_layers // 2
    attention = lm.hf.get_submodule(f"{lm.layout.blocks}.{layer}.{lm.layout.attn}")

    def watched(module: Any, args: Any, output: Any) -> Any:
        returned = hook(module, args, output)
        fits = returned is None or (isinstance(returned, tuple) and len(returned) == len(output))
        if isinstance(output, tuple) and not fits:
            raise _NotYet(f"the output is a tuple of {len(output)}: return a tuple of the same length")
        return returned

    handle = attention.register_forward_hook(watched)
    try:
        with torch.no_grad():
            logits = lm.hf(lm.batch(PROMPT).ids).logits[0, -1].float()
    finally:
        handle.remove()
    off = scale(-1, layer=layer, place="attn_out")
    near = {"the logits are those of the untouched model": lm.logits(PROMPT)[0]}
    return _equal(logits, lm.logits(PROMPT, off)[0], near)


@_checker
def check_passes(answer: Mapping[str, int | None], new_tokens: int) -> str:
    """01: how many forward passes "prompt", "decode" and "all" edit while `new_tokens` tokens are generated."""
    for when, number in {"prompt": 1, "decode": new_tokens - 1, "all": new_tokens}.items():
        if answer.get(when) is None:
            raise _NotYet(f"give a number for when={when!r}")
        if answer[when] != number:
            raise _NotYet(f"when={when!r} does not edit {answer[when]} passes: what does the first pass yield?")
    return "the pass over the prompt yields the first token, so one pass less remains"


@_checker
def check_add_at_front(answer: Callable[[Tensor, Tensor, Tensor], Tensor | None]) -> str:
    """02: a vector on the first real tokens of left-padded rows.

    From h [batch, pos, d_model], vector [T_s, d_model] and pad [batch] to the edited h.
    """
    generator = torch.Generator().manual_seed(0)
    h, vector = (torch.randn(shape, generator=generator) for shape in ((3, 6, 4), (2, 4)))
    pad = torch.tensor([0, 3, 1])
    before, wanted, columns = h.clone(), h.clone(), h.clone()
    columns[:, :2] += vector
    for row, first in enumerate(pad.tolist()):
        wanted[row, first : first + 2] += vector
    edited = answer(h, vector, pad)
    if not torch.equal(h, before):
        raise _NotYet("it changes the activations it is given: work on h.clone()")
    near = {
        "this is h, unchanged": h,
        "the vector lies on the first columns, and in shorter rows these are padding": columns,
    }
    return _equal(edited, wanted, near)


@_checker
def check_steered_texts(answer: Callable[[list[str], Tensor, int, int], Any], lm: SteerableModel) -> str:
    """02: steered generation in nnsight, from prompts, a vector [T_s, d_model], a layer and a number of new tokens.

    Greedy continuations of two prompts of unequal length, the vector added where the block is entered, on the first
    T_s real tokens, in the pass over the prompt. They are compared with `lm.generate`, as are the usual mistakes.
    """
    prompts, layer, new = ["I went up to my friend and said", "She said"], 2, 12
    steer = actadd(lm, " weddings", " ", layer=layer, coefficient=2.0)
    vector = steer.edits[0][1].shift
    assert vector is not None
    returned = answer(prompts, vector.clone(), layer, new)
    if (
        not isinstance(returned, list | tuple)
        or len(returned) != len(prompts)
        or not all(isinstance(t, str) for t in returned)
    ):
        raise _NotYet(f"a list of {len(prompts)} texts is wanted: the continuations, decoded")
    everywhere = add(vector[-1], layer=layer, place="resid_pre", when="all")
    near = {
        "is not steered; in a padded row, columns are not positions": _texts(lm, prompts, None, new),
        "is steered at every token and in every pass": _texts(lm, prompts, everywhere, new),
    }
    wanted = _texts(lm, prompts, steer, new)
    for row, (text, right) in enumerate(zip(returned, wanted, strict=True)):
        if text.strip().startswith(prompts[row]):
            raise _NotYet("the prompt is part of your text: cut it off, ids[:, width_of_the_prompts:]")
        if text.strip() != right:
            mistake = next((name for name, texts in near.items() if text.strip() == texts[row]), f"is {text[:40]!r}")
            raise _NotYet(f"row {row} {mistake}; {right[:40]!r} is wanted")
    return f"your texts are those of lm.generate: {wanted[0][:40]!r} and {wanted[1][:40]!r}"


def _texts(lm: SteerableModel, prompts: list[str], steer: Intervention | None, new: int) -> list[str]:
    """Greedy continuations."""
    frame = lm.generate(prompts, [steer] * len(prompts), max_new_tokens=new, temperature=0)
    return [str(text).strip() for text in frame["completion"]]


@_checker
def check_topic_shift(
    lm: SteerableModel, steer: Intervention, words: Iterable[str], *, prompt: str, n: int = 60, seed: int = 0
) -> str:
    """02: more of n completions with a word of a topic than without steering, beyond what luck would do."""
    wanted = list(words)
    if torch.equal(*lm.logits([prompt, prompt], [None, steer])):
        raise _NotYet("this vector changes nothing: is its strength 0?")
    frame = lm.generate([prompt, prompt], [None, steer], n=n, seed=seed)
    plain, steered = (
        share([has_topic_word(text, wanted) for text in rows["completion"]]) for _, rows in frame.groupby("row")
    )
    return _beyond_luck(plain, steered)


@_checker
def check_gentle(lm: SteerableModel, steer: Intervention, *, room: bool, cost: float = 0.05, n: int = 50) -> str:
    """03: more wedding words than without steering, n completions of each of six prompts, at little cost.

    More is by McNemar's test, pair by pair: it speaks of these six prompts. The sampling is the release's. The
    perplexity ratio of what the unsteered model writes, sampled plainly, may be `cost` away from 1; see
    `experiments.actadd.price`.
    """
    prompts = data.prompts("plain")[26:32]
    laid = lay(lm, prompts[0], steer, room)
    if torch.equal(lm.logits(laid, steer), lm.logits(laid)):
        raise _NotYet("this vector changes nothing")
    design: dict[str, Any] = {"strengths": (1,), "room": room, "prompts": prompts, "samplings": ("released",), "n": n}
    zero, steered = price(lm, steer, **design, progress=False).to_dict("records")
    counts = (
        f"{steered['share']:.0%} of {steered['n']} completions hold a word of the topic, unsteered {zero['share']:.0%}"
    )
    if steered["gain"] <= 0 or steered["p"] >= 0.05:
        raise _NotYet(f"{counts}; McNemar's p of these pairs is {steered['p']:.2g}, below 0.05 is wanted")
    line = f"the perplexity ratio of the model's own text is {steered['ratio']:.3f}"
    if abs(steered["ratio"] - 1) > cost:
        raise _NotYet(f"{counts}, but {line}, not 1 ± {cost:g}")
    return f"{counts}, and {line}"


@_checker
def check_broken(lm: SteerableModel, steer: Intervention, *, prompt: str, times: float = 10, n: int = 20) -> str:
    """03: completions that are no language any more: `times` the perplexity of unsteered ones, under the bare model."""
    frame = lm.generate([prompt, prompt], [None, steer], n=n)
    plain, steered = (
        float(np.exp(np.nanmean(np.log(disfluency(lm, rows["completion"].tolist(), prompt)))))
        for _, rows in frame.groupby("row")
    )
    costs = f"the completions' perplexity is {steered:.0f}, unsteered {plain:.0f}"
    if not steered > times * plain:
        raise _NotYet(f"{costs}: {times:g} times as much is wanted")
    return f"{costs}, as in {frame['completion'].iloc[-1][:60]!r}"


@_checker
def check_fails(
    lm: SteerableModel, steer: Intervention, words: Iterable[str], *, room: bool, prompt: str = FRIEND, n: int = 60
) -> str:
    """03: a topic, given by five words at least, that comes no more often at the reader's setting than unsteered."""
    listed = list(words)
    if len(listed) < 5:
        raise _NotYet(f"{len(listed)} words are few to find a topic by: list five at least")
    _refuse_nonsense(lm, listed, str(steer.info.get("prompts", {}).get("plus", "")).strip())
    frame = lm.generate([prompt, lay(lm, prompt, steer, room)], [None, steer], n=n, **PAPER_SAMPLING)
    plain, steered = (share(count_topic_words(rows, listed)["hit"]) for _, rows in frame.groupby("row"))
    counts = f"{steered.value:.0%} of {n} completions hold one of your words, unsteered {plain.value:.0%}"
    if steered.low > plain.high:
        raise _NotYet(f"{counts}: this topic is reached")
    return f"{counts}: it fails here. Why?"


def _refuse_nonsense(lm: SteerableModel, words: Sequence[str], name: str) -> None:
    """Words that no text would hold, or that have nothing to do with the name of the topic, show no failure."""
    for word in (*words, *name.split()):
        if not word.isalpha() or (len(word) > 2 and len(lm.encode(f" {word}")) >= len(word)):
            raise _NotYet(f"{word!r} is no word that this model can have read: its tokens are single letters")
    if name and not any(word.lower().startswith(name.lower()[:4]) for word in words):
        raise _NotYet(f"the vector is that of {name!r}, and none of your words begins like it: count the same topic")


def _beyond_luck(plain: Estimate, steered: Estimate) -> str:
    """Both shares in words; `_NotYet` where their intervals overlap."""
    counts = f"{steered.value:.0%} of {steered.n} completions hold a word of the topic, unsteered {plain.value:.0%}"
    if steered.low <= plain.high:
        raise _NotYet(f"{counts}; the 95 % intervals must not overlap")
    return counts


@_checker
def check_effectiveness(answer: Callable[[Tensor, Tensor, float], Tensor | None]) -> str:
    """05: the hinge of both signs: from Δ(+1) [batch], Δ(-1) [batch] and the margin to [batch]."""
    plus, minus, margin = torch.tensor([3.0, -1.0, 9.0]), torch.tensor([-2.0, -8.0, 4.0]), 5.0
    near = {
        "this is the plain difference: it has no margin, and a prompt that is done pulls on": minus - plus,
        "this grows as the prompt gets better: the loss is what is missing, margin minus difference": plus - minus,
        "the two signs make up for each other: each needs a hinge of its own": (2 * margin - plus + minus).relu(),
        "this is the hinge at margin 0": (-plus).relu() + minus.relu(),
        "β = -1 is to make Δ negative: look at the sign of the second half": (margin - plus).relu()
        + (margin - minus).relu(),
    }
    return _equal(answer(plus, minus, margin), effectiveness(plus, minus, margin), near)


@_checker
def check_fewer(
    lm: SteerableModel,
    kept: Intervention,
    learned: Intervention,
    frame: pd.DataFrame,
    *,
    least: float = 0.95,
    named: float = 0.9,
) -> str:
    """05: a few of the learned locations, of `sl.keep`, that still turn one answer into the other.

    A share of `least` of the held-out prompts must flip; after a share of `named` the most probable token at β = -1
    must be the other name, not a third one.
    """
    every, mine = (locations(steer).query("norm > 1e-6") for steer in (learned, kept))
    if len(mine.merge(every, on=["place", "layer", "position"])) < len(mine):
        raise _NotYet("there are locations that were not learned: use sl.keep on the learned intervention")
    flips = float(score(lm, frame, kept)["flips"].mean())
    counts = f"{len(mine)} locations flip {flips:.0%}"
    if flips < least:
        raise _NotYet(f"{counts}; at least {least:.0%} are wanted")
    other = float(
        (lm.logits(list(frame["prompt"]), -1 * kept).argmax(-1) == answer_tokens(lm, frame)[1]).float().mean()
    )
    if other < named:
        raise _NotYet(
            f"{counts}, but at β = -1 the model says the other name after {other:.0%} only: {named:.0%}, please"
        )
    if 2 * len(mine) > len(every):
        raise _NotYet(f"{counts}, but that is more than half of the {len(every)} that are not zero")
    return f"{counts} of the held-out prompts, and {other:.0%} say the other name; {len(every)} were learned"


@_checker
def check_anchored_gain(answer: Callable[[Tensor, Tensor, Tensor], Tensor | None]) -> str:
    """04: SARA's γ by the square roots of A Aᵀ.

    From activations [tokens, neurons] of the prompt, the attracting and the repelling one to γ [neurons].
    """
    prompt, near, far = _activations()
    grams = [x.T @ x for x in (prompt, near, far)]
    squared = torch.cosine_similarity(grams[0], grams[1]) - torch.cosine_similarity(grams[0], grams[2])
    anchored = sara_gain(prompt, near, far)
    close = {
        "that is the released γ, which depends on signs": sara_gain(prompt, near, far, variant="released"),
        "attraction and repulsion are swapped": -anchored,
        "these are cosines of rows of A Aᵀ: take its square root": squared,
    }
    try:
        gains = answer(prompt, near, far)
    except RuntimeError as error:
        if "size of tensor" not in str(error):
            raise
        raise _NotYet(
            "sizes differ: rows are tokens here, and neurons are to be compared: take the SVD of x.T"
        ) from error
    return _equal(gains, anchored, close)


@_checker
def check_other_signs(answer: Callable[[Tensor], Tensor | None], least: float = 0.5) -> str:
    """04: components [K, neurons] as right as those given, by which some neuron's released γ changes by `least`."""
    prompt, near, far = _activations()
    first, repel = components(near), components(far)
    signed = answer(first.clone())
    if not isinstance(signed, Tensor) or signed.shape != first.shape:
        raise _NotYet("return components of the same shape")
    if not _close(signed.T @ signed, first.T @ first):
        raise _NotYet("these are components of another prompt: Cᵀ C must stay what it was")
    if not _close(signed.abs(), first.abs()):
        raise _NotYet("that is a rotation among components; an SVD leaves open only the sign of each")
    moved = float((contrast(prompt, signed, repel) - contrast(prompt, first, repel)).abs().max())
    if moved < least:
        raise _NotYet(f"no neuron's γ changes by more than {moved:.2f}: {least} is wanted")
    return f"it is the same SVD, and some neuron's γ changes by {moved:.2f}"


def _activations() -> tuple[Tensor, Tensor, Tensor]:
    """Three prompts' activations [tokens, neurons], more neurons than tokens, some larger than others."""
    generator = torch.Generator().manual_seed(4)
    size = torch.linspace(0.5, 3, 12)
    a, b, c = (torch.randn(tokens, 12, generator=generator) * size + 0.7 for tokens in (9, 5, 7))
    return a, b, c


@_checker
def check_dynamic(answer: Callable[[Tensor, Tensor, float], Tensor | None]) -> str:
    """06: activations scaled by their own product with a direction: from h [batch, pos, d_model], w [d_model], β."""
    generator = torch.Generator().manual_seed(0)
    h, w, beta = torch.randn(2, 5, 4, generator=generator), torch.randn(4, generator=generator), 0.5
    scalar = (h @ w)[..., None]
    near = {
        "this is h, unchanged": h,
        "β is missing": h * (1 + scalar),
        "the 1 is missing: β = 0 must leave h alone": h * (beta * scalar),
        "the scalar was added, not multiplied": h + beta * scalar,
        "all positions share one scalar: each has its own": h * (1 + beta * scalar.mean(1, keepdim=True)),
        "each component is scaled by its own product with w: sum over them first": h * (1 + beta * h * w),
    }
    return _equal(answer(h, w, beta), h * (1 + beta * scalar), near)


@_checker
def check_requests(
    study: Callable[[SteerableModel], Any], lm: SteerableModel, *, most: int, prompt: str, seed: int = 0
) -> str:
    """08: the text under each layer's vector, in no more than so many requests."""
    requests = len(lm.dry_run(study))
    if not requests:
        raise _NotYet("it asks the model for nothing")
    if requests > most:
        raise _NotYet(f"it takes {requests} requests, and {most} are enough: which calls wait for each other?")
    wanted, answer = lm.together([_written(prompt, layer, seed) for layer in range(lm.n_layers)]), study(lm)
    if not isinstance(answer, list) or len(answer) != len(wanted):
        raise _NotYet(f"a list of {len(wanted)} texts is wanted, one for each layer")
    for layer, (text, right) in enumerate(zip(answer, wanted, strict=True)):
        if text != right:
            raise _NotYet(f"layer {layer}: {text!r} is written, and {right!r} is wanted")
    return f"{requests} requests for the whole study, instead of two for every layer"


def _written(prompt: str, layer: int, seed: int) -> Callable[[SteerableModel], str]:
    """What is written with the vector of a layer."""

    def write(lm: SteerableModel) -> str:
        steer = actadd(lm, " weddings", " ", layer=layer, coefficient=4.0)
        return str(lm.generate(prompt, steer, max_new_tokens=10, seed=seed)["completion"][0])

    return write
