"""Perplexity with and without steering: by topic density, by token, and of essays against prompting."""

import random
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ... import data
from ...intervention import Intervention, Steer, per_row
from ...methods.actadd import actadd, make_room
from ...metrics import bootstrap_interval, token_shifts, topic_density
from ...model import SteerableModel
from ...sweep import grid
from .topics import WEDDING, front_positions

BATCH = 64
"""Sentences in one forward pass."""


def sentence_shifts(
    lm: SteerableModel,
    steer: Intervention,
    documents: Sequence[str],
    *,
    room: bool = False,
    whole: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Shift of each token's log-probability in the sentences of documents, each sentence read on its own.

    As in the release: sentences on their own, the first T_s log-probabilities dropped in both models. Sentences that
    are no longer than that drop out; those beyond the model's context are cut. The same sentence is read once. With
    `room` every token is compared with itself in the bare sentence, and the same are dropped: a text that follows a
    space or a word begins with a space, so the bare sentence's first token is improbable there whatever the vector
    says. `whole` reads each document as one text.

    Returns:
        One row per token of each document: `row` (of the sentence), `document`, `position` (in the bare sentence, BOS
        is 0), `token`, `plain`, `steered`, `shift`.

    Raises:
        ValueError: no sentence is long enough.
    """
    skip = front_positions(steer)
    split = (lambda text: [text]) if whole else data.sentences
    pairs = [
        (i, sentence)
        for i, text in enumerate(documents)
        for sentence in split(text)
        if _long_enough(lm, sentence, skip)
    ]
    if not pairs:
        raise ValueError(f"no sentence is longer than the {skip} positions that are steered")
    once = list(dict.fromkeys(sentence for _, sentence in pairs))
    shifts = _shifts(lm, _prefix(lm, steer, room), steer, once, skip, progress)
    number = {sentence: row for row, sentence in enumerate(once)}
    where = pd.DataFrame([(number[sentence], i) for i, sentence in pairs], columns=["row", "document"])
    return where.merge(shifts, on="row")


def perplexity_by_density(
    shifts: pd.DataFrame,
    documents: Sequence[str],
    words: Iterable[str] = WEDDING,
    *,
    width: float = 0.005,
    least: int = 20,
) -> pd.DataFrame:
    """Perplexity ratio exp(−X) against the share of topic words in a document (the paper's OpenWebText figure).

    X is the mean over a bin's tokens of log P_steered − log P_plain, of `sentence_shifts`, so below 1 steering helps.
    Every token weighs the same, as in the release; the paper's text takes the mean of each document first
    (`by_document`). Bins are `width` wide, the first centred on 0; those of fewer than `least` documents (the paper has
    1,000) are left out.

    Returns:
        One row per bin: `density` (its centre), `documents`, `tokens`, `ratio`, `low`, `high` (bootstrap over distinct
        sentences, since documents may share them), `sentences` (distinct ones), `by_document`.
    """
    wanted = tuple(words)
    densities = np.array([topic_density(text, wanted) for text in documents])
    bins = pd.Series((np.floor(densities / width + 0.5) * width).round(9))
    rows = []
    for density, group in shifts.groupby(shifts["document"].map(bins)):
        means = group.groupby("document")["shift"].mean()
        if len(means) >= least:
            about = {"density": density, "documents": len(means), "tokens": len(group)}
            rows.append({**about, **ratio(group), "by_document": float(np.exp(-means.mean()))})
    columns = ["density", "documents", "tokens", "ratio", "low", "high", "sentences", "by_document"]
    return pd.DataFrame(rows, columns=columns)


def paragraphs(
    texts: Iterable[str], n: int, words: Iterable[str] = WEDDING, *, least: int = 30, seed: int = 0
) -> list[str]:
    """Every paragraph of texts that holds a topic word, and n of those that hold none, drawn at random.

    Texts that nobody wrote for this experiment have few of the topic. Paragraphs are lines of `least` words or more.
    """
    wanted = tuple(words)
    lines = dict.fromkeys(line.strip() for text in texts for line in text.splitlines() if len(line.split()) >= least)
    topical = [line for line in lines if topic_density(line, wanted)]
    others = [line for line in lines if line not in topical]
    return topical + random.Random(seed).sample(others, min(n, len(others)))


def perplexity_by_topic(shifts: pd.DataFrame, documents: Sequence[str], words: Iterable[str] = WEDDING) -> pd.DataFrame:
    """`perplexity_by_density` for texts that are too few for bins: those with a topic word, and those without.

    Returns:
        One row for each kind: `topic` (whether a topic word occurs), `documents`, `tokens`, `ratio`, `low`, `high`
        (bootstrap over distinct sentences), `sentences`.
    """
    wanted = tuple(words)
    topical = pd.Series([topic_density(text, wanted) > 0 for text in documents])
    groups = shifts.groupby(shifts["document"].map(topical))
    rows = [
        {"topic": kind, "documents": own["document"].nunique(), "tokens": len(own), **ratio(own)}
        for kind, own in groups
    ]
    return pd.DataFrame(rows)


def shifts_by_token(shifts: pd.DataFrame, least: int = 20) -> pd.DataFrame:
    """Mean shift in log-probability of each token type (the paper's quantile figure: a normal bulk, a topical tail).

    Types that occur no more than `least` times are left out, as in the release.

    Returns:
        One row per type, the most promoted first: `token`, `count`, `shift`.
    """
    types = shifts.groupby("token")["shift"].agg(count="size", shift="mean").reset_index()
    return types[types["count"] > least].sort_values("shift", ascending=False, ignore_index=True)


def essay_sweep(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    layers: Iterable[int] | None = None,
    coefficients: Sequence[float] = (-1, 1, 2, 4),
    texts: Mapping[str, Sequence[str]] | None = None,
    limit: int | None = None,
    room: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Perplexity ratio of texts on and off the topic against layer and strength (the authors' post).

    With reviews by verdict and the vector ` worst` this is the post's experiment on Yelp. All layers by default;
    `texts` by name, by default our essays on weddings and on ships, of each name the first `limit` sentences that are
    longer than the vector, or all; `room` as in `sentence_shifts`.

    Returns:
        One row per setting and name: `layer`, `coefficient`, `text`, `ratio`, `low`, `high` (bootstrap over
        sentences), `sentences`.
    """
    groups = texts or {topic: data.essays()[topic] for topic in ("weddings", "ships")}
    points = grid(layer=range(lm.n_layers) if layers is None else list(layers), coefficient=coefficients)
    vectors = [actadd(lm, plus, minus, **point) for point in points]
    skip = max(map(front_positions, vectors))
    named = {sentence: name for name, some in groups.items() for sentence in _sentences(lm, some, skip, limit)}
    prefix = _prefix(lm, vectors[0], room)
    plain = read(lm, lm.prefix, None, list(named), len(prefix))
    names, rows = dict(enumerate(named.values())), []
    for point, steer in zip(points, tqdm(vectors, disable=not progress, unit="setting"), strict=True):
        shifts = token_shifts(plain, read(lm, prefix, steer, list(named), len(prefix)), skip=skip)
        of = shifts["row"].map(names)
        rows += [{**point, "text": name, **ratio(shifts[of == name])} for name in groups]
    return pd.DataFrame(rows)


def essays(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    layer: int,
    coefficient: float = 1.0,
    topics: Sequence[str] = ("weddings", "ships"),
    limit: int | None = None,
) -> pd.DataFrame:
    """Steering against prompting on essays on and off the topic (the authors' post).

    Steered, the vector lies over spaces put in after BOS ("pad"); prompted, the same room holds `plus`. Both are
    compared with the bare sentence, its first T_s tokens dropped as in `sentence_shifts`, and so is the room alone
    ("spaces"). `topics` are of `data.essays`, of each the first `limit` sentences or all; the post has c = 1.

    Returns:
        One row per topic and condition (steered, prompted, spaces): `topic`, `condition`, `ratio`, `low`, `high`
        (bootstrap over sentences), `sentences`.
    """
    steer = actadd(lm, plus, minus, layer=layer, coefficient=coefficient)
    room, written = _prefix(lm, steer, True), [*lm.prefix, *lm.encode(plus)]
    skip, rows = front_positions(steer), []
    for topic in topics:
        sentences, spare = _sentences(lm, data.essays()[topic], skip, limit), max(len(room), len(written))
        plain = read(lm, lm.prefix, None, sentences, spare)
        for condition, prefix, steered in (
            ("steered", room, steer),
            ("prompted", written, None),
            ("spaces", room, None),
        ):
            shifts = token_shifts(plain, read(lm, prefix, steered, sentences, spare), skip=skip)
            rows.append({"topic": topic, "condition": condition, **ratio(shifts)})
    return pd.DataFrame(rows)


def ratio(shifts: pd.DataFrame, units: pd.Series | None = None) -> dict[str, float]:
    """Perplexity ratio exp(−X) of all tokens, with a bootstrap interval over sentences, or over `units`."""
    sums = shifts.groupby(shifts["row"] if units is None else units)["shift"].agg(["sum", "size"])
    samples = [sums["sum"].to_numpy(), sums["size"].to_numpy()]
    estimate = bootstrap_interval(samples, lambda s, n: float(np.exp(-s.sum() / n.sum())), paired=True)
    return {"ratio": estimate.value, "low": estimate.low, "high": estimate.high, "sentences": estimate.n}


def _shifts(
    lm: SteerableModel,
    prefix: list[int],
    steer: Intervention | None,
    sentences: Sequence[str],
    skip: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """`token_shifts` of sentences after a prefix under `steer`, against the bare sentences."""
    plain = read(lm, lm.prefix, None, sentences, len(prefix), progress)
    return token_shifts(plain, read(lm, prefix, steer, sentences, len(prefix), progress), skip=skip)


def read(
    lm: SteerableModel,
    prefix: list[int],
    steer: Steer,
    sentences: Sequence[str],
    spare: int,
    progress: bool = False,
) -> pd.DataFrame:
    """`lm.logprobs` of sentences after a prefix, with the positions of the bare sentence; the shortest run first.

    `steer` is one intervention or one per sentence.

    Without BOS the first token is left out: the bare sentence has nothing to predict it from. Sentences are cut where
    `spare` tokens and they fill the context.
    """
    limit = int(getattr(lm.hf.config, "max_position_embeddings", None) or 1024) - spare
    ids = [torch.tensor(lm.encode(sentence)[:limit]) for sentence in sentences]
    steers = per_row(steer, len(ids))
    rows, frames = sorted(range(len(ids)), key=lambda row: len(ids[row])), []
    for start in tqdm(range(0, len(rows), BATCH), disable=not progress, unit="batch"):
        part = rows[start : start + BATCH]
        given = [torch.tensor(prefix)] * len(part) if prefix else None
        frame = lm.logprobs([ids[row] for row in part], [steers[row] for row in part], given=given, batch_size=BATCH)
        moved = frame["position"] - len(prefix) + len(lm.prefix)
        frames.append(frame.assign(row=[part[row] for row in frame["row"]], position=moved)[moved > 0])
    return pd.concat(frames, ignore_index=True)


def _sentences(lm: SteerableModel, texts: Sequence[str], skip: int, limit: int | None) -> list[str]:
    """The first sentences of texts that have tokens left, each once."""
    every = dict.fromkeys(
        sentence for text in texts for sentence in data.sentences(text) if _long_enough(lm, sentence, skip)
    )
    return list(every)[:limit]


def _long_enough(lm: SteerableModel, sentence: str, skip: int) -> bool:
    """Whether a sentence has tokens left when the first `skip` log-probabilities are dropped."""
    return len(lm.prefix) + len(lm.encode(sentence)) > skip + 1


def _prefix(lm: SteerableModel, steer: Intervention, room: bool) -> list[int]:
    """BOS where the tokenizer has one, and where `room` is said the spaces that an intervention needs."""
    if not room:
        return lm.prefix
    some = lm.encode("a")  # room is made before a text
    return [int(token) for token in make_room(lm, torch.tensor([*lm.prefix, *some]), steer)[0]][: -len(some)]
