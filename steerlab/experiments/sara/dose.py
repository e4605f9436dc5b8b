"""How strong, and at what price: preference, answers and KL against the coefficient."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...judges import Judge, preference, word_judge
from ...metrics import kl, means
from ...model import SteerableModel
from ...sweep import completions
from .dilemmas import CONSEQUENCES, DUTY
from .study import ANSWERS, Condition, Method, judge_answers, need_known, unit_steers

COEFFICIENTS: tuple[float, ...] = tuple(range(-4, 5))
STEERED: tuple[Method, ...] = ("sara", "actadd", "shuffled")


def dose_response(
    lm: SteerableModel,
    dilemmas: pd.DataFrame,
    *,
    layer: int,
    coefficients: Sequence[float] = COEFFICIENTS,
    methods: Sequence[Method] = STEERED,
    duty: str = DUTY,
    consequence: str = CONSEQUENCES,
    seed: int = 0,
) -> pd.DataFrame:
    """Preference for duty, and the price in KL, against the coefficient; above 0 is towards duty, below 0 away from it.

    Args:
        lm: the model.
        dilemmas: with arguments, from `load_dilemmas`.
        layer: where to steer.
        coefficients: of all methods.
        methods: of `STEERED`.
        duty: attracting prompt.
        consequence: repelling prompt.
        seed: of the control.

    Returns:
        One row per method, coefficient and dilemma: `duty`, `consequence`, `preference` (nats per token, see
        `judges.preference`) and `kl` (KL(steered ‖ unsteered) of the token after the dilemma, in nats).

    Raises:
        ValueError: a method has no coefficient.
    """
    need_known("method", methods, STEERED)
    prompts = list(dilemmas["prompt"])
    made = unit_steers(lm, prompts, duty, consequence, [layer], methods, "anchored", "all", seed)
    plain = lm.logits(prompts)

    def scores(method: str, coefficient: float, lm: SteerableModel) -> pd.DataFrame:
        steer = [coefficient * own[layer] for own in made[method]]
        scored = preference(lm, dilemmas, steer)
        far = kl(lm.logits(prompts, steer), plain).tolist()
        return scored.assign(method=method, coefficient=float(coefficient), layer=layer, kl=far)

    frames = lm.together([partial(scores, method, coefficient) for method in made for coefficient in coefficients])
    return pd.concat(frames, ignore_index=True)


def dose_answers(
    lm: SteerableModel,
    dilemmas: pd.DataFrame,
    judge: Judge | None = None,
    *,
    layer: int,
    coefficients: Sequence[float] = COEFFICIENTS,
    methods: Sequence[Method] = STEERED,
    repeats: int = 5,
    duty: str = DUTY,
    consequence: str = CONSEQUENCES,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Answers against the coefficient, as in `dose_response`; all conditions share their noise.

    Args:
        lm: the model.
        dilemmas: `id` and `prompt`.
        judge: as in `dilemma_study`.
        layer: where to steer.
        coefficients: of all methods.
        methods: of `STEERED`.
        repeats: answers to each dilemma.
        duty: attracting prompt.
        consequence: repelling prompt.
        seed: of the sampling and of the control.
        options: others of `sweep.completions`, such as `file`; the sampling is `ANSWERS` by default.

    Returns:
        One row per answer: `id`, `method`, `coefficient`, `layer`, `completion`, `label`, `group`, and the other
        columns of `sweep.completions`.

    Raises:
        ValueError: a method has no coefficient, or no judge is given for another than the bundled model.
    """
    need_known("method", methods, STEERED)
    judge = judge or word_judge(lm)
    made = unit_steers(lm, list(dilemmas["prompt"]), duty, consequence, [layer], methods, "anchored", "all", seed)
    settings = [
        setting
        for method, steer in made.items()
        for coefficient in coefficients
        for setting in Condition(method, "duty", float(coefficient), steer).settings(dilemmas, layer)
    ]
    return judge_answers(completions(lm, settings, n=repeats, seed=seed, **(dict(ANSWERS) | options)), judge)


def dose_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over dilemmas of a frame of `dose_response`, which has coefficient 0 in it.

    Returns:
        One row per method, layer and coefficient: `method`, `layer`, `coefficient`, `kl`, `preference`, `shift` (of the
        preference from coefficient 0) with Student's 95 % interval over dilemmas `low`, `high`, and `n`.
    """
    plain = frame[frame["coefficient"] == 0].set_index(["method", "layer", "id"])["preference"]
    index = pd.MultiIndex.from_frame(frame[["method", "layer", "id"]])
    moved = frame.assign(shift=frame["preference"].to_numpy() - plain.loc[index].to_numpy())
    keys = ["method", "layer", "coefficient"]
    shifts = means(moved, "shift", keys, "id").rename(columns={"value": "shift"})
    return moved.groupby(keys, sort=False)[["kl", "preference"]].mean().reset_index().merge(shifts, on=keys)


def best_layer(frame: pd.DataFrame, method: Method = "sara", coefficient: float = 1.0) -> int:
    """The layer at which a method's two directions part the preferences most, at coefficients `±coefficient`.

    To be chosen on other dilemmas than it is shown on: the best of several layers is a little lucky.

    Args:
        frame: of `dose_response` or `dose_table`, several layers.
        method: that decides.
        coefficient: of both directions.
    """
    own = frame[frame["method"] == method]
    mean = own.groupby(["coefficient", "layer"])["preference"].mean()
    return int((mean[coefficient] - mean[-coefficient]).idxmax())


def parted(table: pd.DataFrame, by: str = "method", coefficient: float = 4.0) -> pd.DataFrame:
    """How far the answers at c and at −c lie apart, the right way round.

    parted = ½ · [(duty at c − duty at −c) + (consequence at −c − consequence at c)] in shares of answers: 1 if all are
    of duty at c and of consequences at −c, 0 if the two are alike, below 0 if they lie the wrong way round. A control
    that knows nothing of the two prompts may lie on either side of 0.

    Args:
        table: of `shares`, with `coefficient` among its columns.
        by: what makes a cell, such as "method", or "draw" for draws of the control.
        coefficient: c.

    Returns:
        One row per cell: `by`, `parted`.
    """
    share = table.set_index([by, "group", "coefficient"])["share"].unstack(["group", "coefficient"])
    rise = share["duty", coefficient] - share["duty", -coefficient]
    fall = share["consequence", -coefficient] - share["consequence", coefficient]
    return ((rise + fall) / 2).rename("parted").reset_index()


def at_matched_kl(frame: pd.DataFrame, targets: Sequence[float]) -> pd.DataFrame:
    """Mean preference of each method where its mean KL reaches a target, interpolated between coefficients.

    Args:
        frame: from `dose_response`, with coefficient 0 in it.
        targets: in nats.

    Returns:
        One row per method, direction and target: `kl`, `coefficient`, `preference`; NaN where none reaches it.
    """
    curves = frame.groupby(["method", "coefficient"], sort=False)[["kl", "preference"]].mean().reset_index()
    rows = []
    for method, curve in curves.groupby("method", sort=False):
        for direction, sign in (("duty", 1), ("consequence", -1)):
            half = curve[sign * curve["coefficient"] >= 0].sort_values("kl")
            for target in targets:
                reached = half["kl"].max() >= target
                at_target = {
                    name: float(np.interp(target, half["kl"], half[name])) if reached else float("nan")
                    for name in ("coefficient", "preference")
                }
                rows.append({"method": method, "direction": direction, "kl": target, **at_target})
    return pd.DataFrame(rows)
