"""Figure 2: effectiveness against faithfulness and minimality over a grid of settings."""

import multiprocessing
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ...fit import fit_grid, score, sizes
from ...intervention import Intervention
from ...loading import load
from ...methods.learned import Learned
from ...model import SteerableModel
from ...objective import Objective
from ...tasks import Task
from .settings import SUBLAYERS, TASKS, Folder


def pareto(
    lm: SteerableModel,
    task: Task,
    methods: Sequence[Learned] = SUBLAYERS,
    objectives: Sequence[Objective] | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    margin: float = 10.0,
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Effectiveness against faithfulness and minimality over the grid of margin, λ_F and λ_M (Figure 2).

    The task's train side is fitted in every setting, by default the paper's 64, and both sides are measured with one
    `margin` m, whichever it was fitted with. Finished fits are kept in the folder, so that a stopped run goes on.
    `options` are those of `FitOptions`, here and in all experiments that fit.

    Returns:
        One row per method, setting, seed and split: `method`, `margin`, `lambda_f`, `lambda_m`, `seed`, `split`,
        `steps`; means over prompts of what `score` gives; what `sizes` gives; `front_faithfulness` and
        `front_minimality`: whether no other setting of the method does better in both on this split, for this seed.
    """
    grid = Objective.grid() if objectives is None else objectives
    rows = []
    for method in methods:
        fits = fit_grid(lm, task.train, method, grid, seeds=seeds, folder=folder, progress=progress, **options)
        for fit in tqdm(fits, desc="measure", disable=not progress, leave=False):
            setting = {"method": method.name, "margin": fit.objective.margin}
            setting |= {"lambda_f": fit.objective.faithfulness, "lambda_m": fit.objective.minimality}
            for split, frame in (("train", task.train), ("test", task.test)):
                run = {"seed": fit.seed, "split": split, "steps": len(fit.history)}
                measured = mean_scores(lm, frame, fit.intervention, margin) | sizes(fit.intervention)
                rows.append(setting | run | measured)
    return _with_fronts(pd.DataFrame(rows))


def pareto_of_tasks(
    model: str | None, tasks: Sequence[str], n: int, objectives: Sequence[Objective], processes: int = 1, **options: Any
) -> pd.DataFrame:
    """`pareto` of several of `TASKS` with n prompts each, told apart by `task`; processes share the objectives."""
    mixed = random.Random(0).sample(list(objectives), len(objectives))  # every share has long fits and short ones
    shares = [mixed[i::processes] for i in range(processes)]
    run = partial(_share, model, tasks, n, processes, options)
    if processes == 1:
        parts = list(map(run, shares))
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            parts = pool.map(run, shares)
    return _with_fronts(pd.concat(parts, ignore_index=True))


def _share(
    model: str | None,
    tasks: Sequence[str],
    n: int,
    processes: int,
    options: dict[str, Any],
    objectives: Sequence[Objective],
) -> pd.DataFrame:
    """One share of the grid, in a process of its own where there are several."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    lm = load(model)
    made = [TASKS[name](lm, n) for name in tasks]
    return pd.concat([pareto(lm, task, objectives=objectives, **options).assign(task=task.name) for task in made])


def mean_scores(
    lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention, margin: float = 10.0
) -> dict[str, float]:
    """Means of `score` over prompts; `difference` is (Δ(+1) - Δ(-1)) / 2, `correct` the bare model's share."""
    rows = score(lm, frame, intervention, margin=margin)
    rows = rows.assign(difference=(rows["plus"] - rows["minus"]) / 2, flip_rate=rows["flips"], correct=rows["bare"] > 0)
    names = ("effectiveness", "difference", "faithfulness", "kl", "flip_rate", "correct")
    return {name: float(rows[name].mean()) for name in names}


def _with_fronts(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, with its columns `front_faithfulness` and `front_minimality` made anew."""
    by = [name for name in ("task", "method", "seed", "split") if name in frame]
    for other in ("faithfulness", "minimality"):
        groups = frame.groupby(by, group_keys=False)[["effectiveness", other]]
        frame[f"front_{other}"] = groups.apply(undominated)
    return frame


def undominated(points: pd.DataFrame) -> pd.Series:
    """Rows that no other row beats in one column without losing in the other; small is good."""
    values = points.to_numpy()
    no_worse = np.all(values[None] <= values[:, None], axis=-1)
    better = np.any(values[None] < values[:, None], axis=-1)
    return pd.Series(~np.any(no_worse & better, axis=1), points.index)


def at_equal_effectiveness(frame: pd.DataFrame, levels: Sequence[float] = (1, 2, 5, 10)) -> pd.DataFrame:
    """What each method pays for the same effectiveness.

    The settings are those of the front on the training side; they are measured on the test side, and read off there
    between neighbours, in a straight line.

    Args:
        frame: of `pareto`.
        levels: of effectiveness on the test side, in nats; small is strong.

    Returns:
        One row per method, seed and level between the strongest and the weakest of these settings: `level`, with
        `faithfulness`, `kl`, `flip_rate` and `numbers` there, and `parameters`.
    """
    index, names = ["margin", "lambda_f", "lambda_m"], ["faithfulness", "kl", "flip_rate", "numbers", "parameters"]
    rows_at_levels = []
    for (method, seed), rows in frame.groupby(["method", "seed"], sort=False):
        train, test = (rows[rows["split"] == split].set_index(index) for split in ("train", "test"))
        front = test.loc[train.index[train["front_faithfulness"]]].sort_values("effectiveness")
        known = front["effectiveness"]
        rows_at_levels += [
            {"method": method, "seed": seed, "level": level}
            | {name: float(np.interp(level, known, front[name])) for name in names}
            for level in levels
            if known.min() <= level <= known.max()
        ]
    return pd.DataFrame(rows_at_levels, columns=["method", "seed", "level", *names])
