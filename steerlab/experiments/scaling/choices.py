"""Which of the reconstructed choices matter, and what an estimated gradient costs."""

import math
from dataclasses import replace
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ...fit import evaluate, fit_grid
from ...methods.learned import ActivScalar, Learned
from ...model import SteerableModel
from ...objective import Objective
from ...tasks import Task
from .settings import SUBLAYERS, USUAL, Folder


def choices(
    lm: SteerableModel,
    task: Task,
    objective: Objective = USUAL,
    *,
    layers: tuple[int, ...] | None = None,
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """What the reconstructed details change: hinge, direction of the divergence, BOS, start; on the test side.

    Returns:
        The rows of `evaluate`, with `choice`.
    """
    variants = {
        "as decided": (ActivScalar(layers=layers), objective),
        "plain difference": (ActivScalar(layers=layers), replace(objective, margin=math.inf)),
        "divergence reversed": (ActivScalar(layers=layers), replace(objective, reverse=True)),
        "BOS left alone": (ActivScalar(layers=layers, first=1), objective),
        "normal start, 0.1": (ActivScalar(layers=layers, init=0.1), objective),
    }
    parts = []
    for choice, (method, wanted) in tqdm(variants.items(), disable=not progress, leave=False):
        [fit] = fit_grid(lm, task.train, method, [wanted], folder=folder, progress=False, **options)
        parts.append(evaluate(lm, task.test, fit.intervention).assign(choice=choice))
    return pd.concat(parts, ignore_index=True)


def gradients(
    lm: SteerableModel,
    task: Task,
    method: Learned = SUBLAYERS[0],
    objective: Objective = USUAL,
    *,
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """The exact gradient beside the one estimated from forward passes: histories with `gradient`, by rows run."""
    parts = []
    for name in tqdm(("exact", "spsa"), disable=not progress, leave=False):
        kept: dict[str, Any] = {"gradient": name, "folder": folder, "progress": False}
        [fit] = fit_grid(lm, task.train, method, [objective], **kept, **options)
        parts.append(fit.history.assign(gradient=name))
    return pd.concat(parts, ignore_index=True)
