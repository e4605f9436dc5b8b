"""What is measured: the effect at each strength and at matched KL, and what it does where it should do nothing."""

import random
import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ... import data
from ...intervention import Steer
from ...metrics import answer_rank, gain, kl, token_shifts
from ...model import SteerableModel
from ...tasks import answer_tokens
from ..actadd.perplexity import ratio, read
from .methods import Dose, Steers

TARGETS = (0.1, 0.3, 1.0)
"""KL(steered ‖ unsteered) of the next token at which methods are compared, in nats."""

BEST = "best"
"""The target of the row at the strength that has the largest effect on the training prompts."""

STRENGTHS: tuple[float, ...] = tuple(float(c) for c in np.geomspace(0.01, 20, 9))

K = 10
"""Of P@K: whether a fact's answer is among so many most probable tokens."""


def curve(lm: SteerableModel, frame: pd.DataFrame, doses: Sequence[Dose]) -> pd.DataFrame:
    """KL and effect in nats of each prompt at each dose: `strength`, `row`, `kl`, `effect`.

    The effect is the rise of logit(wanted) - logit(other).
    """
    prompts, (wanted, other) = list(frame["prompt"]), answer_tokens(lm, frame)
    plain, row, parts = lm.logits(prompts), torch.arange(len(prompts)), []
    for dose in doses:
        z = lm.logits(*dose(prompts))
        gap = (z[row, wanted] - z[row, other]) - (plain[row, wanted] - plain[row, other])
        part = {"strength": dose.strength, "row": row, "kl": kl(z, plain).cpu(), "effect": gap.cpu()}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def strengths(steers: Steers) -> list[Dose]:
    """A method at every strength of the grid."""
    return [Dose(steers, strength) for strength in STRENGTHS]


def reaches(points: pd.DataFrame, target: float) -> float:
    """The smallest strength at which the mean KL of a curve reaches the target.

    A straight line between the logarithms of strength and KL; NaN where no strength of the curve reaches the target, or
    the first does already.
    """
    means = points.groupby("strength")["kl"].mean().clip(lower=1e-12)
    above = np.flatnonzero(means.to_numpy() >= target)
    if not len(above) or above[0] == 0:
        return float("nan")
    pair = means.iloc[above[0] - 1 : above[0] + 1]
    return float(np.exp(np.interp(np.log(target), np.log(pair), np.log(pair.index))))


def at_kl(
    lm: SteerableModel, frame: pd.DataFrame, steers: Steers, points: pd.DataFrame, target: float, rounds: int = 2
) -> tuple[float, pd.Series, float]:
    """The strength that reaches a mean KL, and what is measured there: the effect on each prompt, and the mean KL.

    Each round measures at the strength that `reaches` reads off the curve, which then has one more point. All are NaN
    where it reads off none.
    """
    for _ in range(rounds):
        strength = reaches(points, target)
        if np.isnan(strength):
            break
        points = pd.concat([points, curve(lm, frame, [Dose(steers, strength)])], ignore_index=True)
    return strength, *at(points, strength)


def at_best(train: pd.DataFrame, test: pd.DataFrame) -> tuple[float, pd.Series, float]:
    """The strength with the largest mean effect on the training prompts, and what is measured on the test prompts."""
    means = train.groupby("strength")["effect"].mean()
    strength = float(means.index[int(means.to_numpy().argmax())])
    return strength, *at(test, strength)


def at(points: pd.DataFrame, strength: float) -> tuple[pd.Series, float]:
    """The effect on each prompt and the mean KL at a strength of a curve; NaN where it has no such strength."""
    there = points[points["strength"] == strength].drop_duplicates("row").set_index("row")
    return there["effect"], float(there["kl"].mean())


def time_to_apply(lm: SteerableModel, prompts: Sequence[str], dose: Dose, repeats: int = 5) -> float:
    """Time of a steered pass over that of a plain one: the median of pairs in turned-round order, after a first."""
    given: dict[str, tuple[list[str], Steer]] = {"plain": (list(prompts), None), "steered": dose(prompts)}
    pairs = []
    for repeat in range(repeats + 1):
        seconds = {}
        for name in sorted(given, reverse=repeat % 2 == 1):
            began = time.perf_counter()
            lm.logits(*given[name])
            seconds[name] = time.perf_counter() - began
        pairs.append(seconds["steered"] / seconds["plain"])
    return float(np.median(pairs[1:]))


class Bystanders:
    """Texts that have nothing to do with a task, and what the unsteered model makes of them.

    Beginnings of essays, sentences of essays, and facts, of which each follows another fact, so that all are long
    enough for the methods that are tied to the positions of a task's prompts.

    Args:
        lm: the model.
        least: tokens that each text has at least.
        sentences: how many.
        facts: how many, whose answer is one token.
        seed: of their choice.
    """

    def __init__(self, lm: SteerableModel, least: int, sentences: int = 8, facts: int = 24, seed: int = 0) -> None:
        """Choose the texts."""
        essays = {topic: texts for topic, texts in data.essays().items() if topic != "weddings"}
        self.lm = lm
        tokens = max(24, least)
        self.starts = [str(lm.tokenizer.decode(lm.encode(texts[0])[:tokens])) for texts in essays.values()]
        every = [sentence for texts in essays.values() for text in texts for sentence in data.sentences(text)]
        long = [sentence for sentence in every if len(lm.ids(sentence)) >= least]
        self.sentences = random.Random(seed).sample(long, min(sentences, len(long)))
        (_, first), *rows = data.facts("test").sample(frac=1, random_state=seed).iterrows()
        said = [(f"{first.prompt} {first.answer}. {row.prompt}", lm.encode(f" {row.answer}")) for _, row in rows]
        single = [(prompt, ids[0]) for prompt, ids in said if len(ids) == 1 and len(lm.ids(prompt)) >= least]
        self.facts = single[:facts]

    def costs(self, dose: Dose) -> dict[str, float]:
        """All three at a dose: `unrelated`, `perplexity`, `known`, the latter two with `_low` and `_high`."""
        written, known = self.perplexity(dose), gain(self._known(dose), self._plain_known)
        return {
            "unrelated": self.kl(dose),
            **{f"perplexity{end}": written[name] for end, name in (("", "ratio"), ("_low", "low"), ("_high", "high"))},
            "known": known.value,
            "known_low": known.low,
            "known_high": known.high,
        }

    def kl(self, dose: Dose) -> float:
        """Mean KL(steered ‖ unsteered) of the next token after the beginnings of essays, in nats."""
        return float(kl(self.lm.logits(*dose(self.starts)), self._plain_logits).mean())

    def perplexity(self, dose: Dose) -> dict[str, float]:
        """The steered model's perplexity on the sentences over the unsteered one's: what `perplexity.ratio` returns."""
        prefix = self.lm.ids(dose.typed) if dose.typed else self.lm.prefix
        steered = read(self.lm, prefix, dose.steer(self.sentences), self.sentences, len(prefix))
        return ratio(token_shifts(self._plain_read, steered))

    def _known(self, dose: Dose) -> Bool[np.ndarray, " fact"]:
        """Of which facts the answer is among the K most probable tokens."""
        prompts, answers = zip(*self.facts, strict=True)
        return (answer_rank(self.lm.logits(*dose(prompts)), answers) < K).cpu().numpy()

    @cached_property
    def _plain_logits(self) -> Float[Tensor, "start vocab"]:
        return self.lm.logits(self.starts)

    @cached_property
    def _plain_read(self) -> pd.DataFrame:
        return read(self.lm, self.lm.prefix, None, self.sentences, len(self.lm.prefix))

    @cached_property
    def _plain_known(self) -> Bool[np.ndarray, " fact"]:
        return self._known(Dose())
