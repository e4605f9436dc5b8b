"""What is in the vector: random and nonsense vectors, its size, its dimensions, its place, and its tokens."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from ... import data
from ...intervention import Edit, Intervention
from ...methods.actadd import actadd, make_room, random_like
from ...metrics import entropy, kl, kl_terms
from ...model import SteerableModel
from ...strength import relative_size
from ...sweep import Setting
from .topics import PROMPT, counted, front_positions, lay

TENTHS: tuple[float, ...] = tuple(i / 10 for i in range(11))


def random_vectors(
    lm: SteerableModel,
    steer: Intervention,
    prompts: Sequence[str] | None = None,
    *,
    room: bool = False,
    draws: int = 10,
    nonsense: str | None = " zqx",
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """How far a vector, random vectors of its norms, and one from nonsense text move the next-token distributions.

    KL(plain ‖ steered) / H(plain), the mean over positions behind the vector (the release's stress test, 58 prompts;
    those no longer than the vectors are left out). `nonsense` is a text whose vector against spaces, scaled to the norm
    of `steer`, is tried too. With `room` the unsteered model reads the spaces as well.

    Returns:
        One row per prompt and vector: `condition` (vector, random, nonsense), `draw`, `prompt`, `kl` (nats),
        `relative` (KL divided by entropy).
    """
    [(site, _)] = steer.edits
    named = [("vector", 0, steer), *(("random", i, random_like(steer, seed=seed + i)) for i in range(draws))]
    if nonsense is not None:
        other = actadd(lm, nonsense, " ", layer=site.layer, place=site.place)
        named.append(("nonsense", 0, (steer.norm()[site] / other.norm()[site]) * other))
    first = max(front_positions(vector) for _, _, vector in named)
    widest = max((vector for _, _, vector in named), key=front_positions)
    rows = []
    for prompt in tqdm(data.prompts() if prompts is None else prompts, disable=not progress, unit="prompt"):
        place = lay(lm, prompt, widest, room)
        if len(lm.tokens(place)) <= first:
            continue
        logits = lm.logits([place] * (len(named) + 1), [None, *(vector for _, _, vector in named)], position="all")
        plain, moved = logits[:1, first:], logits[1:, first:]
        far, spread = kl(plain.expand_as(moved), moved).mean(-1), entropy(plain).mean()
        for (condition, draw, _), own in zip(named, far.tolist(), strict=True):
            about = {"condition": condition, "draw": draw, "prompt": prompt}
            rows.append({**about, "kl": own, "relative": own / float(spread)})
    return pd.DataFrame(rows)


def dimension_sweep(
    lm: SteerableModel,
    steer: Intervention,
    *,
    shares: Sequence[float] = TENTHS,
    prompts: Sequence[str] = (PROMPT,),
    room: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Topic words when only the first part of a shift's dimensions is added, the others zero (released notebooks).

    Returns:
        One row per completion: `dimensions` (the share), and as in `layer_sweep`.
    """
    cut = {part: _first_dimensions(steer, part) for part in shares}
    laid = {bare: lay(lm, bare, steer, room) for bare in prompts}
    settings = [Setting({"dimensions": d, "bare_prompt": bare}, laid[bare], cut[d]) for bare in prompts for d in shares]
    return counted(lm, settings, **options)


def _first_dimensions(steer: Intervention, part: float) -> Intervention:
    """An intervention whose tensors are zero but for the first part of their columns."""
    edits = []
    for site, edit in steer.edits:
        kept = round(part * edit.width)
        mask = (torch.arange(edit.width) < kept).float()
        edits.append((site, edit.with_tensors({k: v * mask.to(v) for k, v in edit.tensors.items()})))
    return Intervention(tuple(edits), steer.info)


def place_sweep(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    layer: int,
    coefficient: float,
    prompt: str = PROMPT,
    **options: Any,
) -> pd.DataFrame:
    """Topic words when the vector lies over the prompt's front, its middle, its back, or spaces of its own.

    After the release's notebooks ("front", "mid", "back" and "pad").

    Returns:
        One row per completion: `condition` (front, middle, back, pad), and as in `layer_sweep`.
    """
    front = actadd(lm, plus, minus, layer=layer, coefficient=coefficient)
    [(site, edit)] = front.edits
    start = (len(lm.tokens(prompt)) - edit.length) // 2
    middle = Intervention({site: Edit(shift=edit.shift, anchor="front", start=max(0, start))}, front.info)
    back = actadd(lm, plus, minus, layer=layer, coefficient=coefficient, position="back")
    settings = [
        Setting({"condition": "front"}, prompt, front),
        Setting({"condition": "middle"}, prompt, middle),
        Setting({"condition": "back"}, prompt, back),
        Setting({"condition": "pad"}, make_room(lm, prompt, front)[0], front),
    ]
    return counted(lm, settings, **options)


def just_tokens(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    layer: int,
    coefficient: float,
    sources: Iterable[int] | None = None,
    prompt: str = PROMPT,
    room: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Is it just the token? Vectors of every layer, or of `sources`, added at one (released notebooks, authors' post).

    A vector of layer 0 is a difference of embeddings. Where it steers as well as the layer's own, the blocks between
    have added nothing that matters. The post tried sources 0 and 2 at layer 20 of GPT-2-XL, and also stretched the
    vector to the norm of the layer's own.

    Returns:
        One row per completion: `source` (the layer of the vector), `condition` ("as it is", "stretched" to the norm of
        the layer's own), and as in `layer_sweep`.
    """
    own = actadd(lm, plus, minus, layer=layer, coefficient=coefficient)
    [(site, _)] = own.edits
    settings = []
    for source in range(lm.n_layers) if sources is None else sources:
        [(_, edit)] = actadd(lm, plus, minus, layer=source, coefficient=coefficient).edits
        moved = Intervention({site: edit}, own.info)
        stretched = (own.norm()[site] / moved.norm()[site]) * moved
        for condition, steer in (("as it is", moved), ("stretched", stretched)):
            settings.append(Setting({"source": source, "condition": condition}, lay(lm, prompt, own, room), steer))
    return counted(lm, settings, **options)


def shared_part(
    lm: SteerableModel,
    plus: str,
    minus: Sequence[str],
    *,
    layer: int,
    coefficient: float,
    headings: Sequence[str] | None = None,
    prompts: Sequence[str] = (PROMPT,),
    room: bool = False,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Is what a pair of headings lacks that which all headings share? Our test of why opposites may do nothing.

    In the difference of two headings, what makes them headings cancels. It is estimated without either of them, by the
    mean of third headings against a space, and given back; so is noise of the same norm. `headings` are the names of
    all topics by default.

    Returns:
        One row per completion: `minus`; `condition` (zero; difference, of plus and minus; headings, the mean of third
        ones; "headings + difference"; "noise + difference"; alone, plus against a space), and as in `layer_sweep`.

    Raises:
        ValueError: there is no third heading.
    """
    third = [f" {topic}" for topic in data.topics()] if headings is None else headings
    vectors = {
        against: actadd(lm, against, " ", layer=layer, coefficient=coefficient) for against in {plus, *minus, *third}
    }
    settings = []
    for against in minus:
        others = [vectors[heading] for heading in third if heading not in (plus, against)]
        if not others:
            raise ValueError(f"headings={list(third)} has none besides {plus!r} and {against!r}: give others")
        difference, shared = vectors[plus] - vectors[against], (1 / len(others)) * sum(others[1:], others[0])
        steers = {
            "difference": difference,
            "headings": shared,
            "headings + difference": shared + difference,
            "noise + difference": random_like(shared, seed=seed) + difference,
            "alone": vectors[plus],
        }
        for prompt in prompts:
            laid = lay(lm, prompt, shared + difference, room)
            about = {"minus": against, "bare_prompt": prompt}
            settings.append(Setting({**about, "condition": "zero"}, prompt))
            settings += [Setting({**about, "condition": name}, laid, steer) for name, steer in steers.items()]
    return counted(lm, settings, seed=seed, **options)


def relative_sizes(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    layers: Iterable[int] | None = None,
    prompt: str = PROMPT,
) -> pd.DataFrame:
    """‖vector‖ / ‖stream‖ against the layer, all of them by default, at c = 1 (the authors' post).

    Returns:
        One row per layer: `layer`, `size` (see `strength.relative_size`).
    """
    chosen = list(range(lm.n_layers) if layers is None else layers)
    sizes = [relative_size(lm, actadd(lm, plus, minus, layer=layer), prompt) for layer in chosen]
    return pd.DataFrame({"layer": chosen, "size": [next(iter(size.values())) for size in sizes]})


def kl_shares(
    lm: SteerableModel, steer: Intervention, prompt: str = PROMPT, *, room: bool = False, k: int = 10
) -> pd.DataFrame:
    """Which k tokens make up most of KL(steered ‖ plain) of the next token.

    In the authors' post ` wedding` made 78 % of it. The unsteered model reads the bare prompt, also with `room`.

    Returns:
        One row per token, the largest term first: `token`, `term` (nats), `share` (of the KL), `before`, `after`
        (probabilities).
    """
    plain, steered = lm.logits([prompt, lay(lm, prompt, steer, room)], [None, steer]).cpu()
    terms: Float[Tensor, " vocab"] = kl_terms(steered, plain)
    best = terms.topk(min(k, len(terms))).indices
    tokens = [lm.tokenizer.decode([token]) for token in best.tolist()]
    before, after = plain.softmax(-1)[best], steered.softmax(-1)[best]
    columns = {"term": terms[best], "share": terms[best] / terms.sum(), "before": before, "after": after}
    return pd.DataFrame({"token": tokens, **{name: values.numpy() for name, values in columns.items()}})
