"""Text or tensors in, numbers out: what the experiments count, with their intervals."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from pandas.api.types import is_bool_dtype
from torch import Tensor
from transformers import pipeline

from .model import SteerableModel
from .prompts import Prompts

KS: tuple[int, ...] = tuple(int(k) for k in np.unique(np.ceil(np.logspace(0, 2, 20))))
"""The K of the ActAdd release's P@K: 1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 19, 24, 30, 38, 49, 62, 79, 100."""

WORD = re.compile(r"[^\W_]+")
"""What counts as a word: a run of letters and digits."""


class Estimate(NamedTuple):
    """A number with its 95 % interval and the count of what it was estimated from."""

    value: float
    low: float
    high: float
    n: int


# --- words -------------------------------------------------------------------------------------------------------


def topic_word_count(text: str, words: Iterable[str]) -> int:
    """How many of a text's words are among `words`.

    As in the ActAdd release's word counts: lower case, and everything but letters and digits parts words.
    """
    wanted = {word.lower() for word in words}
    return sum(word in wanted for word in WORD.findall(text.lower()))


def has_topic_word(text: str, words: Iterable[str]) -> bool:
    """Whether at least one of a text's words is among `words` (the hit of ActAdd's generation experiment)."""
    return topic_word_count(text, words) > 0


def topic_density(text: str, words: Iterable[str]) -> float:
    """Share of a text's words that are among `words`, as the ActAdd release bins OpenWebText.

    Words are what white space parts, in lower case; punctuation stays on them, so "wedding." does not count. 0 for an
    empty text.
    """
    wanted = {word.lower() for word in words}
    found = text.lower().split()
    return sum(word in wanted for word in found) / max(1, len(found))


# --- intervals ---------------------------------------------------------------------------------------------------


def share(hits: ArrayLike) -> Estimate:
    """Share of hits, true or false (1 or 0) per trial, with its Wilson interval.

    Raises:
        ValueError: there are no trials.
    """
    array = np.asarray(hits, dtype=bool)
    if not array.size:
        raise ValueError("a share of nothing: give at least one hit or miss")
    low, high = scipy.stats.binomtest(int(array.sum()), array.size).proportion_ci(0.95, method="wilson")
    return Estimate(float(array.mean()), float(low), float(high), int(array.size))


def bootstrap_interval(
    values: ArrayLike | Sequence[ArrayLike],
    statistic: Callable[..., float] = np.mean,
    *,
    paired: bool = False,
    seed: int = 0,
) -> Estimate:
    """A statistic with its percentile bootstrap interval, from 2,000 resamples.

    Args:
        values: one sample; with `paired`, several of equal length that are resampled together, row by row.
        statistic: of the sample (or of the paired samples).
        paired: whether `values` is a list of samples.
        seed: of the resampling.

    Raises:
        ValueError: there are no values.
    """
    samples = [np.asarray(sample, dtype=float) for sample in (values if paired else [values])]  # type: ignore[union-attr]
    count = len(samples[0])
    if not count:
        raise ValueError("a bootstrap of nothing: give at least one value")
    value = float(statistic(*samples))
    if count == 1:
        return Estimate(value, float("nan"), float("nan"), 1)
    found = scipy.stats.bootstrap(
        samples,
        lambda *drawn: statistic(*drawn),
        n_resamples=2000,
        method="percentile",
        paired=paired,
        vectorized=False,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, float(found.low), float(found.high), count)


def means(frame: pd.DataFrame, column: str, by: Sequence[str]) -> pd.DataFrame:
    """The mean of a column of truth values or numbers in each cell of a sweep, with its interval.

    Truth values have Wilson's interval, numbers Student's: mean ± t(n − 1) · s / √n. Missing values are left out. Where
    every cell is one row whose `low` and `high` enclose the column, these stay.

    Returns:
        One row per cell: the columns of `by`, `value`, `low`, `high`, `n`.

    Raises:
        ValueError: a column is missing.
    """
    for name in (column, *by):
        if name not in frame:
            raise ValueError(f"the frame has no column {name!r}: it has {', '.join(map(str, frame.columns))}")
    kept = frame.dropna(subset=[column])
    cells = kept.groupby(list(by), observed=True)
    found = cells[column].agg(value="mean", n="size", sd="std").reset_index()
    ready = {"low", "high"} <= set(frame) and bool((found["n"] == 1).all())
    if ready and kept[column].between(kept["low"], kept["high"]).all():
        found = found.merge(kept[[*by, "low", "high"]], on=list(by))
    elif is_bool_dtype(kept[column]):
        wilson = [share(values) for _, values in cells[column]]
        found["low"], found["high"] = [one.low for one in wilson], [one.high for one in wilson]
    else:
        half = scipy.stats.t.ppf(0.975, found["n"] - 1) * found["sd"] / np.sqrt(found["n"])
        found["low"], found["high"] = found["value"] - half, found["value"] + half
    return found[[*by, "value", "low", "high", "n"]]


# --- next-token distributions ------------------------------------------------------------------------------------


def kl_terms(p: Float[Tensor, "*batch vocab"], q: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Terms of KL(P ‖ Q) in nats from logits: P(t) · (log P(t) − log Q(t)) for each token t.

    A token with P(t) = 0 has the term 0.
    """
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    return torch.where(log_p.isneginf(), torch.zeros_like(log_p), log_p.exp() * (log_p - log_q))


def kl(p: Float[Tensor, "*batch vocab"], q: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch"]:
    """KL(P ‖ Q) in nats of next-token distributions that are given as logits, summed over the vocabulary."""
    return kl_terms(p, q).sum(-1)


def entropy(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch"]:
    """Entropy in nats of a next-token distribution: −Σ P log P."""
    terms: Tensor = torch.special.entr(logits.softmax(-1))
    return terms.sum(-1)


def answer_rank(
    logits: Float[Tensor, "batch vocab"], answers: Int[Tensor, " batch"] | Sequence[int]
) -> Int[Tensor, " batch"]:
    """Rank of each row's answer, 0 at best: how many tokens have a strictly greater logit (ActAdd's released rule)."""
    index = torch.as_tensor(answers, device=logits.device)
    return (logits > logits.gather(-1, index[:, None])).sum(-1)


def p_at_k(ranks: ArrayLike, ks: Sequence[int] = KS) -> pd.DataFrame:
    """P@K: the share of answers whose rank (of `answer_rank`) is less than K, with Wilson intervals.

    Returns:
        One row per K: `k`, `share`, `low`, `high`, `n`.
    """
    array = np.asarray(ranks)
    rows = [(k, *share(array < k)) for k in ks]
    return pd.DataFrame(rows, columns=["k", "share", "low", "high", "n"])


# --- perplexity --------------------------------------------------------------------------------------------------


def token_shifts(plain: pd.DataFrame, steered: pd.DataFrame, skip: int = 0) -> pd.DataFrame:
    """Log-probabilities of the same tokens without and with steering, side by side.

    Args:
        plain: `lm.logprobs(texts)`.
        steered: `lm.logprobs(texts, steer)`.
        skip: T_s, how many log-probabilities at the start of each text are dropped from both, as in the ActAdd release:
            with BOS at position 0, tokens from position T_s + 1 on are left.

    Returns:
        One row per token: `row`, `position`, `token`, `plain`, `steered`, `shift` (steered − plain, in nats).

    Raises:
        ValueError: the two frames are not of the same tokens.
    """
    keys = ["row", "position", "token"]
    plain, steered = plain.reset_index(drop=True), steered.reset_index(drop=True)
    if not plain[keys].equals(steered[keys]):
        raise ValueError("the two frames hold different tokens: score the same texts without and with steering")
    both = plain[keys].assign(plain=plain["logprob"], steered=steered["logprob"])
    both["shift"] = both["steered"] - both["plain"]
    first = both.groupby("row")["position"].transform("min")
    return both[both["position"] >= first + skip].reset_index(drop=True)


def perplexity_ratio(shifts: pd.DataFrame) -> float:
    """ActAdd's perplexity ratio exp(−X), X the mean of `token_shifts`: log P_steered − log P_plain; below 1 is better.

    Every token weighs the same, as in the release (the paper's text averages documents first).

    Raises:
        ValueError: no tokens are left.
    """
    if shifts.empty:
        raise ValueError("no tokens are left to compare: the texts are no longer than what is skipped")
    return float(np.exp(-shifts["shift"].mean()))


def disfluency(lm: SteerableModel, completions: Sequence[str], given: Prompts) -> Float[np.ndarray, " text"]:
    """Perplexity of each completion after its prompt (`given`: one for all, or one for each); NaN for an empty one.

    The measure that ActAdd's toxicity and sentiment tables put beside the effect, under a model `lm` that judges,
    unsteered, which may be another than the one that wrote. Say which: values under different models do not compare.
    """
    prompts = [given] * len(completions) if isinstance(given, str) else list(given)
    found = np.full(len(completions), np.nan)
    written = [i for i, text in enumerate(completions) if text]
    if written:
        scores = lm.logprobs([completions[i] for i in written], given=[prompts[i] for i in written])
        means = scores.groupby("row")["logprob"].mean()
        found[[written[row] for row in means.index]] = np.exp(-means)
    return found


# --- scorers of text ---------------------------------------------------------------------------------------------

Scorer = Callable[[Sequence[str]], Sequence[float]]
"""What judges texts: any function from texts to a number each, higher for more of what it looks for."""


def word_scorer(plus: Iterable[str], minus: Iterable[str] = ()) -> Scorer:
    """A scorer by word lists: s / √(s² + 15) with s the count of `plus` words less that of `minus` words.

    In (−1, 1), 0 where neither occurs. The squashing is VADER's; its grammar (negation, emphasis) is not here.
    """
    return lexicon_scorer(dict.fromkeys(plus, 1.0) | dict.fromkeys(minus, -1.0))


def lexicon_scorer(weights: Mapping[str, float]) -> Scorer:
    """A scorer by weighted words, such as VADER's: s / √(s² + 15) with s the sum of the words' weights, in (−1, 1)."""
    lower = {word.lower(): weight for word, weight in weights.items()}

    def score(texts: Sequence[str]) -> list[float]:
        sums = [sum(lower.get(word, 0.0) for word in WORD.findall(text.lower())) for text in texts]
        return [total / math.sqrt(total**2 + 15) for total in sums]

    return score


def read_lexicon(path: str | Path) -> dict[str, float]:
    """Words and weights of a file with one word and its weight per line, parted by tabs (VADER's format)."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return {parts[0]: float(parts[1]) for line in lines if len(parts := line.split("\t")) > 1}


def classifier_scorer(model: str, label: str) -> Scorer:
    """A scorer by a Hugging Face text classifier (a folder or a Hub name): its probability of a label.

    Raises:
        ValueError: the classifier has no such label.
    """
    classify: Any = pipeline("text-classification", model=model, top_k=None, truncation=True)
    labels = list(classify.model.config.label2id)
    if label not in labels:
        raise ValueError(f"{model} has no label {label!r}: choose one of {', '.join(map(str, labels))}")

    def score(texts: Sequence[str]) -> list[float]:
        found = classify(list(texts), batch_size=32)
        return [next(float(each["score"]) for each in one if each["label"] == label) for one in found]

    return score
