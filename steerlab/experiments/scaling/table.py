"""The table: methods × tasks × places, each beside a control."""

import itertools
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm

from ...fit import fit_grid, sizes
from ...intervention import Intervention
from ...methods.learned import DynScalar, Learned
from ...model import SteerableModel
from ...objective import Objective
from ...tasks import Task
from .pareto import mean_scores
from .settings import STREAM, SUBLAYERS, USUAL, Folder


def table(
    lm: SteerableModel,
    tasks: Sequence[Task],
    methods: Sequence[Learned] = (*SUBLAYERS, *STREAM, DynScalar()),
    objective: Objective = USUAL,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Methods × tasks × places on the test side, each beside a control: its own numbers at shuffled locations.

    Returns:
        One row per task, method, places, seed and condition (learned, shuffled): means over test prompts, sizes, and
        `seconds` and `steps` of the fit.
    """
    rows = []
    for task, method, seed in tqdm(list(itertools.product(tasks, methods, seeds)), disable=not progress, leave=False):
        kept: dict[str, Any] = {"seeds": (seed,), "folder": folder, "progress": False}
        [fit] = fit_grid(lm, task.train, method, [objective], **kept, **options)
        cost = {"seconds": fit.intervention.info["seconds"], "steps": len(fit.history)}
        run = {"task": task.name, "method": method.name, "places": _where(method), "seed": seed}
        conditions = {"learned": fit.intervention, "shuffled": shuffled_locations(fit.intervention, seed)}
        for condition, steer in conditions.items():
            rows.append(run | {"condition": condition} | mean_scores(lm, task.test, steer) | sizes(steer) | cost)
    return pd.DataFrame(rows)


def _where(method: Learned) -> str:
    """Its places, and its layers where they are not all."""
    layers = "" if method.layers is None else f", layers {min(method.layers)} to {max(method.layers)}"
    return "+".join(method.places) + layers


def shuffled_locations(intervention: Intervention, seed: int = 0) -> Intervention:
    """A control: the same numbers, dealt anew to the locations (for DynScalar, to the sites)."""
    generator = torch.Generator().manual_seed(seed)
    name = next(iter(intervention.edits[0][1].tensors))
    each = [edit.tensors[name] for _, edit in intervention.edits]
    every = torch.cat(each)
    dealt = torch.split(every[torch.randperm(len(every), generator=generator)], [len(part) for part in each])
    edits = [
        (site, edit.with_tensors({name: part})) for (site, edit), part in zip(intervention.edits, dealt, strict=True)
    ]
    return Intervention(tuple(edits), {**intervention.info, "method": "shuffled", "seed": seed})
