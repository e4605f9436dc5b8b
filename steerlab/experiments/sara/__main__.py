"""The command line: every experiment at full size, as small tables, each with a line on how it was made.

Answers are kept in OUT/sara.sqlite as they come: a run that was stopped goes on there.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import pandas as pd

from ...loading import load
from ...model import SteerableModel
from .. import results
from .decoding import decode_gains, decode_texts, texts_table
from .dilemmas import held_out_dilemmas, load_dilemmas
from .dose import best_layer, dose_answers, dose_response, dose_table, parted
from .sensitivity import VARIED, sensitivity, sensitivity_table
from .study import ANSWERS, Method, dilemma_study, effects, shares, with_depth

CONTROLS = 20  # draws of the shuffled control
Ask = argparse.Namespace
Frames = Mapping[str, pd.DataFrame]


def _run_study(lm: SteerableModel, ask: Ask) -> Frames:
    frame = dilemma_study(lm, held_out_dilemmas(), repeats=ask.repeats, seed=ask.seed, file=ask.file, **ANSWERS)
    frame = with_depth(frame, lm.n_layers)
    cells = {"effects": (), "depths": ("depth",), "layers": ("layer",), "dilemmas": ("id",)}
    return {"shares": shares(frame)} | {name: effects(frame, by) for name, by in cells.items()}


def _run_released(lm: SteerableModel, ask: Ask) -> Frames:
    """One dilemma alone, as in the release."""
    told: dict[str, Any] = {"repeats": ask.repeats, "seed": ask.seed, "file": ask.file}
    one = held_out_dilemmas().head(1)
    return {"released": shares(dilemma_study(lm, one, methods=("sara",), variant="released", **told, **ANSWERS))}


def _run_dose(lm: SteerableModel, ask: Ask) -> Frames:
    """Everywhere, and answers where the train dilemmas' preferences are parted most."""
    few: dict[str, Any] = {"methods": ("sara", "actadd"), "coefficients": (-1, 1)}
    everywhere = range(lm.n_layers)
    choice = pd.concat([dose_response(lm, load_dilemmas("train"), layer=one, **few) for one in everywhere])
    doses = pd.concat([dose_response(lm, load_dilemmas("test"), layer=one, seed=ask.seed) for one in everywhere])
    told: dict[str, Any] = {"repeats": ask.repeats, "seed": ask.seed, "file": ask.file}
    plan: dict[Method, tuple[Method, ...]] = {"sara": ("sara", "shuffled"), "actadd": ("actadd",)}
    answers = [
        dose_answers(lm, held_out_dilemmas(), layer=best_layer(choice, one), methods=methods, **told)
        for one, methods in plan.items()
    ]
    draws = [
        dose_answers(
            lm, held_out_dilemmas(), layer=best_layer(choice), methods=("shuffled",), coefficients=(-4, 4),
            repeats=5, seed=ask.seed + draw, file=ask.file,
        ).assign(draw=draw)
        for draw in range(CONTROLS)
    ]  # fmt: skip
    return {
        "dose_control": parted(shares(pd.concat(draws), by=("draw", "coefficient")), by="draw"),
        "dose_train": choice.groupby(["method", "layer", "coefficient"], sort=False)["preference"].mean().reset_index(),
        "dose": dose_table(doses),
        "dose_shares": shares(pd.concat(answers), by=("method", "layer", "coefficient")),
    }


def _run_sensitivity(lm: SteerableModel, ask: Ask) -> Frames:
    tables = [
        sensitivity_table(sensitivity(lm, load_dilemmas("test"), vary, layer=_layer(lm, ask))).assign(vary=vary)
        for vary in VARIED
    ]
    return {"sensitivity": pd.concat(tables, ignore_index=True)}


def _run_decode(lm: SteerableModel, ask: Ask) -> Frames:
    prompts, layer = list(held_out_dilemmas()["prompt"]), _layer(lm, ask)
    gains = decode_gains(lm, prompts, layer=layer, seed=ask.seed)
    texts = decode_texts(lm, prompts, layer=layer, repeats=ask.repeats, seed=ask.seed)
    steps = gains.groupby(["step", "gamma"])["share"].mean().reset_index()
    return {"decode_gains": steps, "decode_texts": texts_table(texts)}


def _layer(lm: SteerableModel, ask: Ask) -> int:
    """The middle layer where none is asked for."""
    return lm.n_layers // 2 if ask.layer is None else int(ask.layer)


RUNS: Mapping[str, Callable[[SteerableModel, Ask], Frames]] = MappingProxyType(
    {
        "study": _run_study,
        "released": _run_released,
        "dose": _run_dose,
        "sensitivity": _run_sensitivity,
        "decode": _run_decode,
    }
)
"""The experiments by the names that the command line knows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: runs experiments, and writes each frame to OUT/sara_NAME.csv; stopped, it goes on there."""
    parser = results.command_line("sara", "SARA's experiments.", RUNS)
    parser.add_argument("--layer", type=int, default=None, help="of sensitivity and decode; the middle one by default")
    parser.add_argument("--repeats", type=int, help="answers to a dilemma at each layer; 10, of released 5")
    parser.add_argument("--seed", type=int, default=0)
    ask = parser.parse_args(arguments)
    given = list(sys.argv[1:] if arguments is None else arguments)
    lm, ask.file = load(ask.model), ask.out / "sara.sqlite"
    ask.out.mkdir(parents=True, exist_ok=True)
    for name in RUNS if ask.experiment == "all" else [ask.experiment]:
        own = Ask(**vars(ask) | {"repeats": ask.repeats or (5 if name == "released" else 10)})
        told = {"seed": ask.seed, "repeats": own.repeats}
        results.record("sara", name, partial(RUNS[name], lm, own), ask.out, lm, given, **told)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
