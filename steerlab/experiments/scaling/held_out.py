"""Prompts that no fit has seen: do the answers flip, does the model then say them, and what do the other tokens pay?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from ...fit import fit_grid
from ...identity import identity
from ...intervention import Intervention
from ...kept import digest
from ...methods.learned import Learned
from ...metrics import gain, means, share
from ...model import SteerableModel
from ...objective import Objective, difference, effectiveness, faithfulness, flips
from ...tasks import COLUMNS, Task, answer_tokens
from .settings import SOFT, SUBLAYERS, Folder

BETAS = (0.25, 0.5, 0.75, 1.0)
"""Strengths β, each run with both signs."""

METHOD = ["method", "places"]


def held_out(
    lm: SteerableModel,
    task: Task,
    methods: Sequence[Learned] = SUBLAYERS,
    objective: Objective = SOFT,
    *,
    betas: Sequence[float] = BETAS,
    seed: int = 0,
    margin: float = 10.0,
    folder: Folder = None,
    **options: Any,
) -> pd.DataFrame:
    """Methods fitted on a task's train side, and what they do to each prompt of the test side, by strength.

    In the folder, beside the finished fits, the rows of each method are kept too, so that a stopped run goes on.

    Returns:
        One row per method, strength and prompt: `method`, `places`, `beta`, `row`, and of the prompt `bare` (Δ without
        steering), `effectiveness` (with `margin`) and `faithfulness` in nats, `flips`, and `first`: whether the new
        answer, the one that the bare model does not prefer, is the model's most probable token.
    """
    sides = [side[list(COLUMNS)].to_numpy().tolist() for side in (task.train, task.test)]
    common, parts = [identity(lm), sides, repr(objective), seed, options, list(betas), margin], []
    for method in methods:
        file = None if folder is None else Path(folder) / f"{digest([repr(method), *common])[:20]}.csv"
        if file is None or not file.exists():
            kept: dict[str, Any] = {"seeds": (seed,), "folder": folder, "progress": False, **options}
            [fit] = fit_grid(lm, task.train, method, [objective], **kept)
            rows = by_strength(lm, task.test, fit.intervention, betas, margin)
            if file is not None:
                rows.to_csv(file, index=False)
        else:
            rows = pd.read_csv(file)
        parts.append(rows.assign(method=method.name, places="+".join(method.places)))
    return pd.concat(parts, ignore_index=True)


def by_strength(
    lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention, betas: Sequence[float], margin: float = 10.0
) -> pd.DataFrame:
    """What an intervention does to each prompt at each strength; the rows of `held_out` without the method."""
    answers, prompts, parts = answer_tokens(lm, frame), list(frame["prompt"]), []
    base = lm.logits(prompts).float()
    bare = difference(base, *answers)
    for beta in betas:
        up, down = (lm.logits(prompts, sign * beta * intervention).float() for sign in (1, -1))
        plus, minus = difference(up, *answers), difference(down, *answers)
        new = (down.argmax(-1) == answers[1]).where(bare > 0, up.argmax(-1) == answers[0])
        columns = {
            "bare": bare,
            "effectiveness": effectiveness(plus, minus, margin),
            "faithfulness": (faithfulness(up, base, *answers) + faithfulness(down, base, *answers)) / 2,
            "flips": flips(plus, minus),
            "first": new,
        }
        numbers = {name: values.cpu().numpy() for name, values in columns.items()}
        parts.append(pd.DataFrame({"beta": float(beta), "row": range(len(prompts)), **numbers}))
    return pd.concat(parts, ignore_index=True)


def summarise_held_out(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over prompts of `held_out`, with 95 % intervals: Wilson's for shares, Student's in nats.

    Returns:
        One row per method, strength and metric (bare: the share that the bare model answers correctly): `metric`,
        `value`, `low`, `high`, `n`.
    """
    rows, parts = rows.assign(bare=rows["bare"] > 0), []
    for metric in ("bare", "flips", "first", "effectiveness", "faithfulness"):
        parts.append(means(rows, metric, [*METHOD, "beta"]).assign(metric=metric))
    return pd.concat(parts, ignore_index=True).drop(columns=["units", "interval"])


def faithfulness_at_equal_effectiveness(rows: pd.DataFrame) -> pd.DataFrame:
    """What the other tokens pay where two methods are equally effective, prompt by prompt.

    Each method is taken at the strength, between those of `held_out` in a straight line, at which its mean
    effectiveness is the best that the weaker of the two reaches.

    Returns:
        One row: `level` (of effectiveness, nats), the faithfulness of the `first` and the `second` method there, with
        their strengths `first_beta` and `second_beta`; `difference` (second − first) with Student's interval `low` and
        `high`, `better` (the share of prompts in which the first moves the others less) with Wilson's `better_low` and
        `better_high`, and `n`.
    """
    curves = {name: _curve(part) for name, part in rows.groupby("method", sort=False)}
    level = max(effects.min() for _, effects, _ in curves.values())
    paid = [_at(level, *curve) for curve in curves.values()]
    (first, first_beta), (second, second_beta) = paid
    change, better = gain(second, first), share(second > first)
    return pd.DataFrame(
        [
            {
                "level": level, "first": first.mean(), "second": second.mean(),
                "first_beta": first_beta, "second_beta": second_beta, "difference": change.value,
                "low": change.low, "high": change.high, "better": better.value,
                "better_low": better.low, "better_high": better.high, "n": change.n,
            }
        ]
    )  # fmt: skip


def _curve(
    rows: pd.DataFrame,
) -> tuple[Float[np.ndarray, " beta"], Float[np.ndarray, " beta"], Float[np.ndarray, "prompt beta"]]:
    """A method's strengths, its mean effectiveness at each, and the faithfulness of each prompt."""
    effects = rows.groupby("beta")["effectiveness"].mean()
    paid = rows.pivot(index="row", columns="beta", values="faithfulness")
    return effects.index.to_numpy(float), effects.to_numpy(float), paid.to_numpy(float)


def _at(
    level: float,
    betas: Float[np.ndarray, " beta"],
    effects: Float[np.ndarray, " beta"],
    paid: Float[np.ndarray, "prompt beta"],
) -> tuple[Float[np.ndarray, " prompt"], float]:
    """The faithfulness of each prompt at a level of mean effectiveness, and the strength that reaches it."""
    order = effects.argsort()
    beta = float(np.interp(level, effects[order], betas[order]))
    return np.array([np.interp(beta, betas, row) for row in paid]), beta
