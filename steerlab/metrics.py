"""Text or tensors in, numbers out: what the experiments count, with their intervals and paired tests."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from pandas.api.types import is_bool_dtype
from torch import Tensor

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
    spoken = text.lower().split()
    return sum(word in wanted for word in spoken) / max(1, len(spoken))


# --- intervals ---------------------------------------------------------------------------------------------------


def share(hits: ArrayLike, units: ArrayLike | None = None) -> Estimate:
    """Share of hits, true or false (1 or 0) per trial, with its Wilson interval.

    Trials of one unit, such as completions of one prompt, are more alike than those of two, so that an interval which
    is to speak of other units as well counts fewer trials than there are: Wilson's interval with n / deff trials, where
    deff = max(1, n · error² / p(1 − p)) with the error of `mean`, and Student's quantile (units − 1 degrees of freedom)
    instead of the normal one (Korn and Graubard 1998; Dean and Pagano 2015). In 4,000 draws of beta-binomial trials in
    each of 24 cells (4 to 20 units of 8 to 25 trials, p from 0.02 to 0.85, correlation within units 0.05 and 0.2) it
    held the truth in 93 to 100 %, but in 80 and 84 % of two cells with p = 0.02; a bootstrap that resamples units in
    35 to 93 %, Wilson's of independent trials in 57 to 92 %. Few units say little about rare hits: at p = 0.02 and a
    correlation of 0.5 it is 56 % of 12 units.

    Args:
        hits: one per trial.
        units: what each trial belongs to, such as its prompt; trials are independent by default. With a single unit the
            interval speaks of further trials of that one.

    Raises:
        ValueError: there are no trials.
    """
    array = np.asarray(hits, dtype=bool)
    if not array.size:
        raise ValueError("a share of nothing: give at least one hit or miss")
    p, n = float(array.mean()), array.size
    codes = _codes(units, n)
    if codes is None:
        low, high = scipy.stats.binomtest(int(array.sum()), n).proportion_ci(0.95, method="wilson")
        return Estimate(p, float(low), float(high), n)
    error, count = _error(array.astype(float), codes)
    trials = n / max(1.0, n * error**2 / (p * (1 - p))) if 0 < p < 1 else n
    z = float(scipy.stats.t.ppf(0.975, count - 1))
    centre, half = p + z**2 / (2 * trials), z * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    first, last = ((centre + side * half) / (1 + z**2 / trials) for side in (-1, 1))
    return Estimate(p, min(p, max(0.0, first)), max(p, min(1.0, last)), n)


def mean(values: ArrayLike, units: ArrayLike | None = None) -> Estimate:
    """A mean with its interval: Wilson's of truth values (see `share`), Student's of numbers.

    Student's is mean ± t(units − 1) · error, where error² = K / (K − 1) · Σ_k (Σ_{i in k} (x_i − mean))² / n² for K
    units; with every value a unit of its own that is s² / n. It is exact for normal unit means, however few; a 95 %
    percentile bootstrap over 4 or 6 units holds the truth in 80 and 86 % (10,000 draws, seed 0).

    Args:
        values: truth values or numbers.
        units: as in `share`.

    Raises:
        ValueError: there are no values.
    """
    array = np.asarray(values)
    if array.dtype == bool:
        return share(array, units)
    if not array.size:
        raise ValueError("a mean of nothing: give at least one value")
    value, n, codes = float(array.mean()), array.size, _codes(units, array.size)
    if n == 1:
        return Estimate(value, float("nan"), float("nan"), 1)
    error, count = _error(array.astype(float), np.arange(n) if codes is None else codes)
    half = float(scipy.stats.t.ppf(0.975, count - 1)) * error
    return Estimate(value, value - half, value + half, n)


def _codes(units: ArrayLike | None, n: int) -> Int[np.ndarray, " value"] | None:
    """The unit of each value as a number; nothing where values are independent, or all of one unit."""
    if units is None:
        return None
    codes = pd.factorize(np.asarray(units))[0]
    return codes if 0 < codes.max() < n - 1 else None


def _error(values: Float[np.ndarray, " value"], codes: Int[np.ndarray, " value"]) -> tuple[float, int]:
    """Standard error of a mean whose units are independent, and how many units there are."""
    totals = np.bincount(codes, values - values.mean())
    count = len(totals)
    return float(np.sqrt(count / (count - 1) * np.square(totals).sum()) / len(values)), count


def means(
    frame: pd.DataFrame,
    column: str,
    by: Sequence[str],
    over: str | Sequence[str] = "prompt",
    *,
    dropna: bool = True,
) -> pd.DataFrame:
    """The mean of a column of truth values or numbers in each cell of a sweep, with its interval.

    The interval is that of `mean`. Missing values are left out. Where every cell is one row whose `low` and `high`
    enclose the column, these stay.

    Args:
        frame: one row per measurement.
        column: what is averaged.
        by: columns that make a cell.
        over: columns that tell the independent units apart, such as prompts of several completions; those that the
            frame lacks don't count.
        dropna: whether rows are left out that lack a value of `by`, as in `pandas.DataFrame.groupby`.

    Returns:
        One row per cell, in order of appearance: the columns of `by`, `value`, `low`, `high`, `n` (rows), `units`, and
        `interval`: "wilson" or "student", with " over " and the columns where rows of a unit were taken together.

    Raises:
        ValueError: a column is missing.
    """
    for name in (column, *by):
        if name not in frame:
            raise ValueError(f"the frame has no column {name!r}: it has {', '.join(map(str, frame.columns))}")
    keys = list(by)
    kept = frame.dropna(subset=[column, *keys] if dropna else [column]).reset_index(drop=True)  # labels may repeat
    named = [name for name in ([over] if isinstance(over, str) else over) if name in frame and name not in by]
    units = kept.groupby(named, sort=False, dropna=False).ngroup() if named else pd.Series(0, kept.index)
    cells = kept.groupby(keys, sort=False, dropna=dropna, observed=True)
    ready = {"low", "high"} <= set(frame) and len(kept) == cells.ngroups
    if ready and kept[column].between(kept["low"], kept["high"]).all():
        kind = kept.get("interval", "given")
        given_intervals = kept[[*keys, "low", "high"]].assign(value=kept[column], n=1, units=1, interval=kind)
        return given_intervals[[*keys, *MEANS]].reset_index(drop=True)
    rows = []
    for values, cell in cells:
        cell_units = units[cell.index].to_numpy()
        rows.append((*values, *mean(cell[column].to_numpy(), cell_units), *_units(cell_units, cell[column], named)))
    return pd.DataFrame(rows, columns=[*keys, *MEANS])


MEANS = ("value", "low", "high", "n", "units", "interval")
"""What `means` finds for each cell."""


def _units(units: Int[np.ndarray, " value"], values: pd.Series, names: Sequence[str]) -> tuple[int, str]:
    """How many units an interval is over, and what it is called."""
    kind = "wilson" if is_bool_dtype(values) else "student"
    if _codes(units, len(values)) is None:
        return len(values), kind
    return len(np.unique(units)), f"{kind} over {', '.join(names)}"


def bootstrap_interval(
    values: ArrayLike | Sequence[ArrayLike],
    statistic: Callable[..., float] = np.mean,
    *,
    paired: bool = False,
    units: ArrayLike | None = None,
    seed: int = 0,
) -> Estimate:
    """A statistic with its percentile bootstrap interval, from 2,000 resamples; for means `mean` covers better.

    Args:
        values: one sample; with `paired`, several of equal length that are resampled together, row by row.
        statistic: of the sample (or of the paired samples).
        paired: whether `values` is a list of samples.
        units: what each row belongs to, such as its prompt: whole units are resampled. Rows are units by default.
        seed: of the resampling.

    Returns:
        `n` is the number of units.

    Raises:
        ValueError: there are no values.
    """
    samples = [np.asarray(sample, dtype=float) for sample in (values if paired else [values])]  # type: ignore[union-attr]
    if not len(samples[0]):
        raise ValueError("a bootstrap of nothing: give at least one value")
    codes = np.arange(len(samples[0])) if units is None else pd.factorize(np.asarray(units))[0]
    rows = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    value = float(statistic(*samples))
    if len(rows) == 1:
        return Estimate(value, float("nan"), float("nan"), 1)

    def resampled(drawn: Int[np.ndarray, " unit"]) -> float:
        chosen = drawn if units is None else np.concatenate([rows[unit] for unit in drawn])
        return statistic(*(sample[chosen] for sample in samples))

    interval = scipy.stats.bootstrap(
        [np.arange(len(rows))],
        resampled,
        n_resamples=2000,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), len(rows))


# --- the same items before and after -----------------------------------------------------------------------------


def gain(after: ArrayLike, before: ArrayLike, units: ArrayLike | None = None) -> Estimate:
    """The mean of after − before over the same items, with the interval of `mean` for such differences.

    Of truth values it is the difference of two paired shares, and the interval is nowhere narrower than Bonett and
    Price's (2012) for independent pairs, which adds one pair to those that were won and one to those that were lost:
    a difference of no pair at all is not known to be zero. Of simulated shares (1,500 draws in each of 16 cells: 1, 5
    or 20 units of 10 to 80 pairs) it held the true difference in 94 to 100 %, but in 73 and 85 % of two cells where
    nothing was hit before and 5 % after, in few units.

    Args:
        after: one value per item.
        before: of the same items, in the same order.
        units: as in `share`.

    Raises:
        ValueError: there are no items, or not as many before as after.
    """
    later, earlier = _paired(after, before)
    estimate = mean(later.astype(float) - earlier.astype(float), units)
    if later.dtype != bool:
        return estimate
    total = len(later) + 2
    won, lost = ((np.sum(later & ~earlier) + 1) / total, (np.sum(earlier & ~later) + 1) / total)
    middle, half = won - lost, 1.959964 * math.sqrt((won + lost - (won - lost) ** 2) / total)
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return estimate._replace(low=float(np.fmin(estimate.low, low)), high=float(np.fmax(estimate.high, high)))


def mcnemar(after: ArrayLike, before: ArrayLike) -> float:
    """Exact two-sided p of McNemar's test: are as many items won as lost, of those that changed?

    It asks about these items, and so holds also where several belong to one prompt; it does not speak of other prompts.

    Raises:
        ValueError: what `gain` refuses.
    """
    later, earlier = (values.astype(bool) for values in _paired(after, before))
    won, lost = int(np.sum(later & ~earlier)), int(np.sum(earlier & ~later))
    return float(scipy.stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def signed_rank(after: ArrayLike, before: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test of the same items; 1 where nothing has changed.

    With six items the least p is 1/32, and with five 1/16: fewer than six can't be significant at 5 %.

    Raises:
        ValueError: what `gain` refuses.
    """
    later, earlier = (values.astype(float) for values in _paired(after, before))
    return float(scipy.stats.wilcoxon(later, earlier).pvalue) if np.any(later != earlier) else 1.0


def _paired(after: ArrayLike, before: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of equal length."""
    later, earlier = np.asarray(after), np.asarray(before)
    if not later.size or later.shape != earlier.shape:
        raise ValueError(
            f"{later.size} values after and {earlier.size} before: give the same items in both, one at least"
        )
    return later, earlier


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


def disfluency(lm: SteerableModel, completions: Sequence[str], given: Prompts) -> Float[np.ndarray, " text"]:
    """Perplexity of each completion after its prompt (`given`: one for all, or one for each); NaN for an empty one.

    The measure that ActAdd's toxicity and sentiment tables put beside the effect, under a model `lm` that judges,
    unsteered, which may be another than the one that wrote. Say which: values under different models do not compare.
    """
    prompts = [given] * len(completions) if isinstance(given, str) else list(given)
    values = np.full(len(completions), np.nan)
    written = [i for i, text in enumerate(completions) if text]
    if written:
        scores = lm.logprobs([completions[i] for i in written], given=[prompts[i] for i in written])
        means = scores.groupby("row")["logprob"].mean()
        values[[written[row] for row in means.index]] = np.exp(-means)
    return values


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


def classifier_scorer(model: str, label: str) -> Scorer:
    """A scorer by a Hugging Face text classifier (a folder or a Hub name): its probability of a label.

    Raises:
        ValueError: the classifier has no such label.
    """
    from transformers import pipeline  # imported here: it is slow, and most never ask a classifier

    classify: Any = pipeline("text-classification", model=model, top_k=None, truncation=True)
    labels = list(classify.model.config.label2id)
    if label not in labels:
        raise ValueError(f"{model} has no label {label!r}: choose one of {', '.join(map(str, labels))}")

    def score(texts: Sequence[str]) -> list[float]:
        results = classify(list(texts), batch_size=32)
        return [next(float(score["score"]) for score in labels if score["label"] == label) for labels in results]

    return score
