"""Which method when? All of them on the same prompts, at the same KL divergence of the next token.

A task is a frame of prompts of one length with a wanted token and another one. Every method gets the training prompts,
and is measured on others: by how many nats it raises logit(wanted) - logit(other), at strengths at which the mean
KL(steered ‖ unsteered) of the next token is 0.1, 0.3 and 1 nat.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .. import data
from ..fit import fit
from ..intervention import Intervention
from ..methods.actadd import actadd, random_like
from ..methods.learned import ActivScalar, DynScalar, SteerVec
from ..methods.sara import sara
from ..metrics import kl, mean
from ..model import SteerableModel
from ..objective import Objective
from ..tasks import ioi

TARGETS = (0.1, 0.3, 1.0)
STRENGTHS: tuple[float, ...] = tuple(float(c) for c in np.geomspace(0.02, 20, 11))

Steers = Callable[[Sequence[str]], list[Intervention]]


@dataclass(frozen=True)
class Contest:
    """A task on which methods are compared.

    Args:
        train: prompts to make interventions from: `prompt`, `correct` (the wanted token), `wrong`.
        test: prompts to measure on.
        pair: ActAdd's two texts.
        stances: SARA's attracting and repelling texts.
        many: two lists of texts, whose last tokens differ as they should: the mean difference.
        typed: what one would type in front instead.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    pair: tuple[str, str]
    stances: tuple[str, str]
    many: tuple[list[str], list[str]]
    typed: str


def contests(lm: SteerableModel, n: int = 40, seed: int = 0) -> dict[str, Contest]:
    """An answer pair (the other name), a topic and a tone, n prompts on each side at most."""
    wanted = {"correct": "wrong", "wrong": "correct"}  # towards the name that the bare model does not give
    names = ioi(lm, 2 * n, seed=seed, orders=["ABBA"])
    train, test = (side.rename(columns=wanted)[["prompt", "correct", "wrong"]] for side in (names.train, names.test))
    first = train.iloc[0]
    answer = Contest(
        train,
        test,
        (first.correct, first.wrong),
        (first.prompt + first.correct, first.prompt + first.wrong),
        _ends(train),
        "Not the first name, the other one.",
    )
    topic = _template(lm, "{name} told me all about the", " wedding", " journey", n, seed)
    tone = _template(lm, "{name} said that the dinner was", " good", " bad", n, seed)
    return {
        "answer": answer,
        "topic": Contest(
            *topic,
            (" weddings", " "),
            ("The bride and the groom.", "The ship and the road."),
            _ends(topic[0]),
            " weddings",
        ),
        "tone": Contest(
            *tone, (" good", " bad"), ("It was good and fine.", "It was bad and poor."), _ends(tone[0]), " good"
        ),
    }


def _template(
    lm: SteerableModel, text: str, correct: str, wrong: str, n: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test prompts of one length, with other names in each."""
    names = data.table("names")["name"].sample(frac=1, random_state=seed)
    rows = pd.DataFrame({"prompt": [text.format(name=name) for name in names], "correct": correct, "wrong": wrong})
    rows = rows[[len(lm.tokens(prompt)) == len(lm.tokens(rows["prompt"].iloc[0])) for prompt in rows["prompt"]]]
    half = min(n, len(rows) // 2)
    return rows.head(half).reset_index(drop=True), rows.iloc[half : 2 * half].reset_index(drop=True)


def _ends(train: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The training prompts with either token written out."""
    return list(train["prompt"] + train["correct"]), list(train["prompt"] + train["wrong"])


def makers(
    lm: SteerableModel, contest: Contest, layer: int, steps: int, seed: int
) -> Mapping[str, Callable[[], Steers]]:
    """How each method makes its interventions: functions, so that the making can be timed."""

    def same(steer: Intervention) -> Steers:
        return lambda prompts: [steer] * len(prompts)

    def gains(prompts: Sequence[str]) -> list[Intervention]:
        near, far = contest.stances
        return list(sara(lm, list(prompts), attract=near, repel=far, layer=layer))

    def learned(method: ActivScalar | SteerVec | DynScalar, minimality: float) -> Callable[[], Steers]:
        objective = Objective(margin=10, faithfulness=1, minimality=minimality)
        options: dict[str, Any] = {"steps": steps, "lr": 0.03, "batch_size": 8, "seed": seed, "progress": False}
        return lambda: same(fit(lm, contest.train, method, objective, **options).intervention)

    def vector() -> Intervention:
        return actadd(lm, *contest.pair, layer=layer)

    return {
        "ActAdd": lambda: same(vector()),
        "mean difference": lambda: same(actadd(lm, *contest.many, layer=layer, position="back", vector="last")),
        "SARA": lambda: gains,
        "ActivScalar": learned(ActivScalar(), 1.0),
        "SteerVec": learned(SteerVec(), 0.0),
        "DynScalar": learned(DynScalar(), 0.01),
        "random vector": lambda: same(random_like(vector(), seed=seed)),
    }


def curve(lm: SteerableModel, frame: pd.DataFrame, steers: Sequence[Intervention]) -> pd.DataFrame:
    """KL and effect in nats of each prompt at each strength: `strength`, `row`, `kl`, `effect`."""
    prompts = list(frame["prompt"])
    plain = lm.logits(prompts)
    wanted, other = ([lm.encode(token)[0] for token in frame[side]] for side in ("correct", "wrong"))
    at, parts = range(len(prompts)), []
    for strength in STRENGTHS:
        z = lm.logits(prompts, [strength * steer for steer in steers])
        gap = (z[at, wanted] - z[at, other]) - (plain[at, wanted] - plain[at, other])
        part = {"strength": strength, "row": list(at), "kl": kl(z, plain).cpu(), "effect": gap.cpu()}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def at_kl(points: pd.DataFrame, target: float) -> tuple[float, pd.Series]:
    """The smallest strength at which the mean KL reaches the target, and the effect on each prompt there.

    Interpolated in the logarithm of the strength; NaN where no strength of the grid reaches the target.
    """
    means = points.groupby("strength")["kl"].mean()
    above = np.flatnonzero(means.to_numpy() >= target)
    table = points.pivot(index="strength", columns="row", values="effect")
    if not len(above) or above[0] == 0:
        return float("nan"), table.iloc[0] * float("nan")
    high = int(above[0])
    low_kl, high_kl = means.iloc[high - 1], means.iloc[high]
    part = float((target - low_kl) / (high_kl - low_kl))
    strength = float(np.exp((1 - part) * np.log(means.index[high - 1]) + part * np.log(means.index[high])))
    return strength, (1 - part) * table.iloc[high - 1] + part * table.iloc[high]


def unrelated_kl(lm: SteerableModel, steers: Steers, strength: float, tokens: int = 24) -> float:
    """Mean KL of the next token after the beginnings of essays that have nothing to do with any task."""
    if np.isnan(strength):
        return float("nan")
    essays = [own[0] for topic, own in data.essays().items() if topic != "weddings"]
    starts = [str(lm.tokenizer.decode(lm.encode(essay)[:tokens])) for essay in essays]
    steer = [strength * own for own in steers(starts)]
    return float(kl(lm.logits(starts, steer), lm.logits(starts)).mean())


def compare(
    lm: SteerableModel,
    *,
    n: int = 40,
    steps: int = 60,
    layer: int = 2,
    seed: int = 0,
    tasks: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Every method on every task, at matched KL.

    Args:
        lm: the model.
        n: prompts of each side.
        steps: of the fits.
        layer: where ActAdd, SARA, the mean difference and the random vector are put.
        seed: of prompts, fits and the random vector.
        tasks: of `contests`; all by default.

    Returns:
        One row per task, method and target: `task`, `method`, `target`, `strength`, `effect`, `low`, `high` (nats,
        Student's interval over prompts), `n`, `unrelated` (KL in nats), `numbers`, `seconds` (to make it). The row of
        "typed in front" has the KL that it has as its `target`.
    """
    rows = []
    for name, contest in contests(lm, n, seed).items():
        if tasks is not None and name not in tasks:
            continue
        for method, make in makers(lm, contest, layer, steps, seed).items():
            began = time.perf_counter()
            steers = make()
            own = steers(list(contest.test["prompt"]))
            seconds = time.perf_counter() - began
            numbers = sum(tensor.numel() for _, edit in own[0].edits for tensor in edit.tensors.values())
            points = curve(lm, contest.test, own)
            for target in TARGETS:
                strength, effects = at_kl(points, target)
                value = mean(effects)._asdict() if effects.notna().all() else {}
                rows.append(
                    {
                        "task": name,
                        "method": method,
                        "target": target,
                        "strength": strength,
                        "effect": value.get("value", float("nan")),
                        "low": value.get("low", float("nan")),
                        "high": value.get("high", float("nan")),
                        "n": len(effects),
                        "unrelated": unrelated_kl(lm, steers, strength),
                        "numbers": numbers,
                        "seconds": seconds,
                    }
                )
        rows.append({"task": name, "method": "typed in front", **typed(lm, contest)})
    return pd.DataFrame(rows)


def typed(lm: SteerableModel, contest: Contest) -> dict[str, float]:
    """The rival that costs nothing: words in front of the prompt, with the KL that they happen to have."""
    prompts, frame = list(contest.test["prompt"]), contest.test
    plain, z = lm.logits(prompts), lm.logits([f"{contest.typed} {prompt}" for prompt in prompts])
    wanted, other = ([lm.encode(token)[0] for token in frame[side]] for side in ("correct", "wrong"))
    at = range(len(prompts))
    gap = (z[at, wanted] - z[at, other]) - (plain[at, wanted] - plain[at, other])
    value = mean(gap.cpu().numpy())
    costs = {"target": float(kl(z, plain).mean()), "effect": value.value, "low": value.low, "high": value.high}
    return costs | {"n": len(prompts), "numbers": 0, "seconds": 0.0}
