"""Where scalars flip fewer prompts than vectors do: does the optimiser stop too early, or can scalars not do it?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ...fit import fit_grid, sizes
from ...methods.learned import Learned
from ...model import SteerableModel
from ...tasks import Task
from .pareto import mean_scores
from .settings import SOFT, SUBLAYERS, Folder

PATIENT = {"patience": 100, "steps": 800}

VARIANTS: Mapping[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = MappingProxyType(
    {
        "as by default": ({}, {}, {}),
        "patient": (PATIENT, {}, {}),
        "patient, larger steps": (PATIENT | {"lr": 0.05}, {}, {}),
        "patient, random start": (PATIENT, {"init": 0.3}, {}),
        "patient, plain difference": (PATIENT, {}, {"margin": math.inf}),
        "patient, nothing to pay": (PATIENT, {}, {"faithfulness": 0.0, "minimality": 0.0}),
    }
)
"""By name, what is changed: options of the fit, of the method, and of the objective."""


def restarts(
    lm: SteerableModel,
    task: Task,
    methods: Sequence[Learned] = SUBLAYERS,
    *,
    variants: Mapping[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = VARIANTS,
    seeds: Sequence[int] = (0, 1, 2),
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Fits of one task with several seeds, from several starts and in several ways, on both sides of the task.

    Where fits that differ in nothing but the seed end at different losses, the optimiser is to blame; where all end
    alike and short of the vectors, it is what scalars can do. `options` are those of `FitOptions`, below the variants'.

    Returns:
        One row per method, variant, seed and split: `method`, `variant`, `seed`, `split`, `steps`, `loss` (the mean of
        the fit's last 20 steps), means over prompts of what `score` gives, and what `sizes` gives.
    """
    cells = [(method, name, seed) for method in methods for name in variants for seed in seeds]
    rows = []
    for method, name, seed in tqdm(cells, disable=not progress, leave=False):
        how, start, price = variants[name]
        fitted = {"seeds": (seed,), "folder": folder, "progress": False, **options, **how}
        [fit] = fit_grid(lm, task.train, replace(method, **start), [replace(SOFT, **price)], **fitted)
        ended = {"steps": len(fit.history), "loss": float(fit.history["loss"].tail(20).mean())}
        for split, frame in (("train", task.train), ("test", task.test)):
            where = {"method": method.name, "variant": name, "seed": seed, "split": split}
            rows.append(where | ended | mean_scores(lm, frame, fit.intervention) | sizes(fit.intervention))
    return pd.DataFrame(rows)
