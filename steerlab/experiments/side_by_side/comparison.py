"""Every method on every task: at matched KL, at its best, along its strengths; and two methods added."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...metrics import gain, mean
from ...model import SteerableModel
from ..scaling.pareto import undominated
from .contests import Contest, contests
from .measure import BEST, TARGETS, Bystanders, at, at_best, at_kl, curve, reaches, strengths, time_to_apply
from .methods import SUM, TYPED, Dose, Made, combined, makers

TIMED = 4
"""Prompts of the passes that are timed."""


@dataclass(frozen=True)
class Measured:
    """A method on a task: a dose by its strength, rows, line, each test prompt's effect by target, training curve."""

    dose: Callable[[float], Dose]
    rows: pd.DataFrame
    line: pd.DataFrame
    effects: Mapping[str, pd.Series]
    train: pd.DataFrame


def default_layer(lm: SteerableModel) -> int:
    """A third of the depth: 2 of the bundled model's 8 layers."""
    return lm.n_layers // 3


def compare(
    lm: SteerableModel,
    *,
    n: int = 40,
    steps: int = 60,
    layer: int | None = None,
    seed: int = 0,
    sentences: int = 8,
    facts: int = 24,
    tasks: Sequence[str] | None = None,
    costs: bool = True,
) -> dict[str, pd.DataFrame]:
    """Every method on every task, by effect and by cost.

    Effects are on prompts that no method has seen. KL is KL(steered ‖ unsteered) of the next token. At a `target` of
    0.1, 0.3 and 1 the mean KL of the task's test prompts is so many nats; "best" is the strength that has the largest
    mean effect on the training prompts. Costs are those of `Bystanders`. The sum of two methods takes each at the
    strength at which it alone has 0.3 nats on the training prompts, and then scales both.

    Args:
        lm: the model.
        n: prompts of each side.
        steps: of the fits.
        layer: where ActAdd, SARA, the mean difference and the random vector are put; by default a third of the depth.
        seed: of prompts, fits and the random vector.
        sentences: on which perplexity is measured.
        facts: on which P@10 is measured.
        tasks: of `contests`; all by default.
        costs: whether to measure them too, which takes about as long as all else. Without them the columns `unrelated`,
            `perplexity`, `known`, `apply` and `front` are missing.

    Returns:
        `methods`: one row per task, method and target: `task`, `method`, `target` (text), `strength`, `kl`, `effect`,
        `low`, `high` (nats, Student's interval over prompts), `n`; `unrelated` (KL in nats on unrelated text),
        `perplexity` (steered over plain, bootstrap over `sentences`), `known` (change of P@10 over `facts`), both with
        `_low` and `_high`; `numbers` (that the intervention holds), `forwards`, `backwards` (prompts read, and gone
        back through, to make it), `seconds` (to make it), `apply` (time of a pass over that of a plain one). NaN where
        no strength reaches the target. Words typed in front have no strength, and the target "as typed".

        `curves`: one row per task, method and strength: the same columns up to `n`, `unrelated`, and `front`: whether
        no other row of the task has at least the effect for at most the unrelated KL.

        `sums`: one row per task, target and method `against` which the sum stands: `difference` of the effects on the
        same prompts, `low`, `high`, `n`.
    """
    layer = default_layer(lm) if layer is None else layer
    parts: dict[str, list[pd.DataFrame]] = {"methods": [], "curves": [], "sums": []}
    for name, contest in contests(lm, n, seed).items():
        if tasks is not None and name not in tasks:
            continue
        measured = _all_methods(lm, contest, layer, steps, seed)
        if costs:
            aside = Bystanders(lm, len(lm.ids(contest.test["prompt"].iloc[0])), sentences, facts, seed)
            measured = {method: _with_costs(lm, contest, aside, own) for method, own in measured.items()}
        curves = pd.concat([own.line for own in measured.values()], ignore_index=True)
        parts["methods"] += [own.rows.assign(task=name) for own in measured.values()]
        parts["curves"].append((_with_front(curves) if costs else curves).assign(task=name))
        parts["sums"].append(_sums(measured).assign(task=name))
    frames = {table: pd.concat(own, ignore_index=True) for table, own in parts.items()}
    return {table: frame[["task", *frame.columns.drop("task")]] for table, frame in frames.items()}


def _all_methods(lm: SteerableModel, contest: Contest, layer: int, steps: int, seed: int) -> dict[str, Measured]:
    """All methods on a task, the sum of two of them, and words typed in front."""
    made: dict[str, Made] = {}
    measured: dict[str, Measured] = {}
    for name, make in makers(lm, contest, layer, steps, seed).items():
        began = time.perf_counter()
        own = make()
        own.steers(list(contest.test["prompt"]))  # SARA reads each prompt
        made[name] = replace(own, seconds=time.perf_counter() - began)
        measured[name] = _measure(lm, contest, name, made[name])
    first, second = SUM.split(" + ")
    units = [reaches(measured[name].train, TARGETS[1]) for name in (first, second)]
    if not np.isnan(units).any():
        both = combined(made[first], made[second], (units[0], units[1]))
        measured[SUM] = _measure(lm, contest, SUM, both)
    measured[TYPED] = _typed(lm, contest)
    return measured


def _measure(lm: SteerableModel, contest: Contest, name: str, made: Made) -> Measured:
    """A method at its targets, at its best, and along its strengths."""
    doses = strengths(made.steers)
    train, test = (curve(lm, frame, doses) for frame in (contest.train, contest.test))
    chosen = {str(target): at_kl(lm, contest.test, made.steers, test, target) for target in TARGETS}
    chosen[BEST] = at_best(train, test)
    steer = made.steers(list(contest.test["prompt"].head(1)))[0]
    about = {
        "numbers": sum(tensor.numel() for _, edit in steer.edits for tensor in edit.tensors.values()),
        "forwards": made.forwards,
        "backwards": made.backwards,
        "seconds": made.seconds,
    }
    rows = [
        {"method": name, "target": target} | _row(strength, effects, kl) | about
        for target, (strength, effects, kl) in chosen.items()
    ]
    line = [{"method": name} | _row(dose.strength, *at(test, dose.strength)) for dose in doses]
    effects = {target: own for target, (_, own, _) in chosen.items()}
    return Measured(partial(Dose, made.steers), pd.DataFrame(rows), pd.DataFrame(line), effects, train)


def _typed(lm: SteerableModel, contest: Contest) -> Measured:
    """The rival that costs nothing to make: words in front of the prompt, with the KL that they happen to have."""
    dose = Dose(typed=contest.typed)
    test = curve(lm, contest.test, [dose])
    row = {"method": TYPED, **_row(float("nan"), *at(test, dose.strength))}
    free = {"target": "as typed", "numbers": 0, "forwards": 0, "backwards": 0, "seconds": 0.0}
    return Measured(lambda _: dose, pd.DataFrame([row | free]), pd.DataFrame([row]), {}, test)


def _row(strength: float, effects: pd.Series, kl: float) -> dict[str, Any]:
    """The effect with its interval at a strength; NaN where no strength reaches a target."""
    value, low, high, n = mean(effects) if len(effects) else (float("nan"),) * 3 + (0,)
    return {"strength": strength, "kl": kl, "effect": value, "low": low, "high": high, "n": n}


def _with_costs(lm: SteerableModel, contest: Contest, aside: Bystanders, measured: Measured) -> Measured:
    """The same, with what each row's dose costs, the time of a pass at the last, and the line's unrelated KL."""
    dose, rows, line, some = measured.dose, measured.rows, measured.line, list(contest.test["prompt"].head(TIMED))
    pairs = zip(rows["strength"], rows["kl"], strict=True)
    costs = [{} if np.isnan(kl) else aside.costs(dose(strength)) for strength, kl in pairs]
    counts = {"sentences": len(aside.sentences), "facts": len(aside.facts)}
    apply = time_to_apply(lm, some, dose(rows["strength"].iloc[-1]))
    rows = rows.join(pd.DataFrame(costs)).assign(**counts, apply=apply)
    return replace(measured, rows=rows, line=line.assign(unrelated=[aside.kl(dose(c)) for c in line["strength"]]))


def _with_front(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves of a task, with the column `front`."""
    return curves.assign(front=undominated(pd.DataFrame({"less": -curves["effect"], "cost": curves["unrelated"]})))


def _sums(measured: Mapping[str, Measured]) -> pd.DataFrame:
    """The sum of two methods less either alone, on the same prompts at the same KL."""
    rows = []
    for name in SUM.split(" + "):
        for target, both in measured[SUM].effects.items() if SUM in measured else ():
            alone = measured[name].effects[target]
            if target != BEST and len(both) and len(alone):
                rows.append({"target": target, "against": name, **gain(both, alone)._asdict()})
    frame = pd.DataFrame(rows, columns=["target", "against", "value", "low", "high", "n"])
    return frame.rename(columns={"value": "difference"})
