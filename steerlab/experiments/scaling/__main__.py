"""The command line: every experiment, as small tables with a line on how they were made; finished fits are kept."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from ...fit import fit_grid
from ...methods.learned import ActivScalar, DynScalar, Learned, SteerVec
from ...model import SteerableModel
from ...objective import Objective
from ...tasks import ioi
from .. import results
from ..results import Ask, Experiment, Frames
from .choices import choices, gradients
from .held_out import BETAS, faithfulness_at_equal_effectiveness, held_out, summarise_held_out
from .lengths import largest_by_role, lengths, task_of_lengths
from .maps import (
    beta_sweep,
    by_role,
    example_maps,
    map_agreement,
    mean_answers,
    patching,
    run_agreement,
    scalars_by_token,
    vector_changes,
)
from .pareto import pareto, pareto_of_tasks
from .restarts import VARIANTS, restarts
from .settings import CHEAP, CHECKED, DYNAMIC, FREE, SOFT, STREAM, SUBLAYERS, TASKS, THOROUGH
from .table import table


def _pareto(lm: SteerableModel, ask: Ask) -> Frames:
    options: dict[str, Any] = {"seeds": ask.seeds, **_options(ask)}
    return {
        "pareto": pareto_of_tasks(
            ask.model,
            ask.tasks,
            ask.n,
            Objective.grid(*[ask.grid] * 3),
            ask.processes,
            methods=_within(ask, SUBLAYERS),
            **options,
        )
    }


def _cheap_against_thorough(lm: SteerableModel, ask: Ask) -> Frames:
    """Do the options of the grid change what a few of its settings come to?"""
    parts = []
    for name in ask.tasks:
        task = TASKS[name](lm, ask.n)
        for options, chosen in {"cheap": {}, "thorough": THOROUGH}.items():
            settings: dict[str, Any] = {"seeds": ask.seeds[:1], **_options(ask) | chosen}
            parts.append(
                pareto(lm, task, _within(ask, SUBLAYERS), CHECKED, **settings).assign(options=options, task=task.name)
            )
    return {"options": pd.concat(parts, ignore_index=True)}


def _maps(lm: SteerableModel, ask: Ask) -> Frames:
    task, stream = ioi(lm, ask.n, ask.seeds[0], orders=["ABBA"]), _within(ask, STREAM)
    scalars, vectors = (
        [
            fit_grid(lm, task.train, method, [objective], seeds=(seed,), progress=False, **_options(ask))[0]
            for seed in ask.seeds
        ]
        for method, objective in zip(stream, (Objective(10, 1, 1), FREE), strict=True)
    )
    first, some = scalars[0].intervention, task.test.head(ask.examples)
    maps = patching(lm, some)
    return {
        "map": scalars_by_token(lm, first, task.test.iloc[0]),
        "examples": by_role(example_maps(lm, some, stream[0], **_options(ask))),
        "beta": mean_answers(beta_sweep(lm, task.test, first)),
        "vectors": pd.concat([vector_changes(lm, task.test, v.intervention).assign(seed=v.seed) for v in vectors]),
        "runs": run_agreement(lm, task.test, vectors, scalars),
        "patching": maps,
        "patching_agreement": map_agreement(maps, first),
    }


def _lengths(lm: SteerableModel, ask: Ask) -> Frames:
    names, capitals = task_of_lengths(lm, ask.n), task_of_lengths(lm, min(ask.n, 100), capitals=True)
    [method] = _within(ask, [DynScalar()])
    frames: dict[str, list[pd.DataFrame]] = {"lengths": [], "largest": []}
    for task, objective in ((names, DYNAMIC), (capitals, SOFT)):
        frames["lengths"].append(lengths(lm, task, objective, method, seeds=ask.seeds, **_options(ask)))
        kept: dict[str, Any] = {"seeds": ask.seeds[:1], "progress": False, **_options(ask)}
        [fit] = fit_grid(lm, task.train, method, [objective], **kept)
        frames["largest"].append(largest_by_role(lm, task.test, fit.intervention))
        for parts in frames.values():
            parts[-1] = parts[-1].assign(task=task.name)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()}


def _held_out(lm: SteerableModel, ask: Ask) -> Frames:
    """Flips with intervals, scalars beside vectors, and the prompts, whose words depend on the model's tokenizer."""
    options: dict[str, Any] = {"betas": ask.betas, "seed": ask.seeds[0], **_options(ask)}
    tasks = [TASKS[name](lm, ask.n) for name in ask.tasks]
    methods = [method for method in _within(ask, SUBLAYERS) if method.name in ask.methods]
    rows = {task.name: held_out(lm, task, methods, **options) for task in tasks}
    frames = {"held_out": summarise_held_out}
    if len(methods) > 1:
        frames["equal"] = faithfulness_at_equal_effectiveness
    prompts = [task.test[["prompt", "correct", "wrong"]].assign(task=task.name) for task in tasks]
    return {"held_out_prompts": pd.concat(prompts, ignore_index=True)} | {
        name: pd.concat([summarise(own).assign(task=task) for task, own in rows.items()], ignore_index=True)
        for name, summarise in frames.items()
    }


def _table(lm: SteerableModel, ask: Ask) -> Frames:
    tasks = [*(TASKS[name](lm, ask.n) for name in ask.tasks), replace(ioi(lm, ask.n), name="ioi, both orders")]
    layers = sorted(ask.layers or range(lm.n_layers))
    upper = tuple(layers[len(layers) // 2 :])  # where nothing can be erased before it is read
    every = _within(ask, (*SUBLAYERS, *STREAM, DynScalar()))
    methods = (*every, ActivScalar(layers=upper), SteerVec(layers=upper))
    return {"table": table(lm, tasks, methods, SOFT, seeds=ask.seeds, **_options(ask))}


def _choices(lm: SteerableModel, ask: Ask) -> Frames:
    task, options = ioi(lm, ask.n, orders=["ABBA"]), _options(ask)
    slow = options | {"lr": 0.03}  # an estimated slope wants smaller steps
    [method] = _within(ask, SUBLAYERS[:1])
    return {
        "choices": choices(lm, task, layers=method.layers, **options),
        "gradients": gradients(lm, task, method, SOFT, **slow),
    }


def _restarts(lm: SteerableModel, ask: Ask) -> Frames:
    """On sentences of both orders, where the place of the receiver's name says nothing, with the thorough options."""
    methods = [method for method in _within(ask, SUBLAYERS) if method.name in ask.methods]
    options: dict[str, Any] = {"seeds": ask.seeds, "folder": ask.fits, **THOROUGH}
    variants = {name: VARIANTS[name] for name in ask.variants}
    return {"restarts": restarts(lm, ioi(lm, ask.n), methods, variants=variants, **options)}


def _options(ask: Ask) -> dict[str, Any]:
    """Those of a fit, and where it is kept."""
    return {"folder": ask.fits} | {name: getattr(ask, name) for name in CHEAP}


def _within(ask: Ask, methods: Sequence[Learned]) -> list[Learned]:
    """Methods in the layers that were asked for, where they had all."""
    return [method if method.layers else replace(method, layers=ask.layers and tuple(ask.layers)) for method in methods]


EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        "held-out": Experiment(_held_out),
        "pareto": Experiment(_pareto),
        "options": Experiment(_cheap_against_thorough),
        "maps": Experiment(_maps),
        "lengths": Experiment(_lengths),
        "table": Experiment(_table),
        "choices": Experiment(_choices),
        "restarts": Experiment(_restarts),
    }
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fits", type=Path, default=Path("build/fits"), help="where finished fits are kept")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--n", type=int, default=200, help="prompts of a task, half of them to train on")
    parser.add_argument("--grid", type=float, nargs="+", default=[0, 1, 10, 100], help="of margin, λ_F and λ_M")
    names = [method.name for method in SUBLAYERS]
    parser.add_argument("--methods", nargs="+", choices=names, default=names, help="of held-out and restarts")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="of restarts")
    parser.add_argument("--betas", type=float, nargs="+", default=list(BETAS), help="strengths of held-out")
    parser.add_argument("--examples", type=int, default=20, help="prompts that are fitted and patched one by one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=1, help="among which the grid is shared")
    for name, value in CHEAP.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help="of a fit")


PAPER = results.Paper("scaling", "Activation scaling.", EXPERIMENTS, _add_options, ("n", "seeds", *CHEAP))
main = PAPER.main

if __name__ == "__main__":
    raise SystemExit(main())
