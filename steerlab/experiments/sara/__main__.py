"""The command line: every experiment at full size, as small tables, each with a line on how it was made.

Answers are kept in OUT/sara.sqlite as they come: a run that was stopped goes on there.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from ... import data
from ...judges import ChatJudge, Judge, ZeroShotJudge, word_judge
from ...model import SteerableModel
from .. import results
from ..results import Ask, Experiment, Frames
from .decoding import decode_gains, decode_texts, texts_table
from .dilemmas import author_file, held_out_dilemmas, load_dilemmas, load_released_dilemmas
from .dose import best_layer, dose_answers, dose_response, dose_table, parted
from .sensitivity import VARIED, sensitivity, sensitivity_table
from .study import ANSWERS, Method, dilemma_study, effects, shares, with_depth

CONTROLS = 20  # draws of the shuffled control


def _run_study(lm: SteerableModel, ask: Ask) -> Frames:
    frame = dilemma_study(lm, _dilemmas(ask), layers=ask.layers, **_answers(lm, ask), **ANSWERS)
    frame = with_depth(frame, lm.n_layers)
    cells = {"effects": (), "depths": ("depth",), "layers": ("layer",), "dilemmas": ("id",)}
    return {"shares": shares(frame)} | {name: effects(frame, by) for name, by in cells.items()}


def _run_released(lm: SteerableModel, ask: Ask) -> Frames:
    """One dilemma alone, as in the release."""
    told: dict[str, Any] = {"layers": ask.layers, **_answers(lm, ask)}
    one = _dilemmas(ask).head(1)
    return {"released": shares(dilemma_study(lm, one, methods=("sara",), variant="released", **told, **ANSWERS))}


def _run_dose(lm: SteerableModel, ask: Ask) -> Frames:
    """Everywhere, and answers where the train dilemmas' preferences are parted most."""
    few: dict[str, Any] = {"methods": ("sara", "actadd"), "coefficients": (-1, 1)}
    everywhere = range(lm.n_layers) if ask.layers is None else ask.layers
    choice = pd.concat([dose_response(lm, load_dilemmas("train"), layer=one, **few) for one in everywhere])
    doses = pd.concat([dose_response(lm, load_dilemmas("test"), layer=one, seed=ask.seed) for one in everywhere])
    told, dilemmas = _answers(lm, ask), _dilemmas(ask)
    plan: dict[Method, tuple[Method, ...]] = {"sara": ("sara", "shuffled"), "actadd": ("actadd",)}
    answers = [
        dose_answers(lm, dilemmas, layer=best_layer(choice, one), methods=methods, **told)
        for one, methods in plan.items()
    ]
    draws = [
        dose_answers(
            lm, dilemmas, layer=best_layer(choice), methods=("shuffled",), coefficients=(-4, 4),
            **told | {"repeats": 5, "seed": ask.seed + draw},
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
    prompts, layer = list(_dilemmas(ask)["prompt"]), _layer(lm, ask)
    gains = decode_gains(lm, prompts, layer=layer, seed=ask.seed)
    texts = decode_texts(lm, prompts, _judge(lm, ask), layer=layer, repeats=ask.repeats, seed=ask.seed)
    steps = gains.groupby(["step", "gamma"])["share"].mean().reset_index()
    return {"decode_gains": steps, "decode_texts": texts_table(texts)}


def _layer(lm: SteerableModel, ask: Ask) -> int:
    """The middle layer where none is asked for."""
    return lm.n_layers // 2 if ask.layer is None else int(ask.layer)


def _dilemmas(ask: Ask) -> pd.DataFrame:
    """Ours, or the author's."""
    if ask.dilemmas is None:
        return held_out_dilemmas()
    ask.data["Input_Dilemmas.txt"] = data.checksum(author_file(ask.dilemmas, "Input_Dilemmas.txt"))
    return load_released_dilemmas(ask.dilemmas)


def _answers(lm: SteerableModel, ask: Ask) -> dict[str, Any]:
    """How answers are sampled, judged and kept."""
    return {"judge": _judge(lm, ask), "repeats": ask.repeats, "seed": ask.seed, "file": ask.file}


def _judge(lm: SteerableModel, ask: Ask) -> Judge:
    """The judge that was asked for; without one the word judge, of the bundled model alone."""
    if ask.judge in (None, "words"):
        return word_judge(None if ask.judge else lm)
    file = ask.out / "judged.sqlite"
    return ChatJudge(ask.judge, ask.judge_url, file=file) if ask.judge_url else ZeroShotJudge(ask.judge, file=file)


EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {  # repeats: answers to a dilemma, of study and released at each layer
        "study": Experiment(_run_study, sampled=True, defaults={"repeats": 10}),
        "released": Experiment(_run_released, sampled=True, defaults={"repeats": 5}),
        "dose": Experiment(_run_dose, sampled=True, defaults={"repeats": 10}),
        "sensitivity": Experiment(_run_sensitivity),
        "decode": Experiment(_run_decode, sampled=True, defaults={"repeats": 10}),
    }
)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layer", type=int, help="of sensitivity and decode; the middle one by default")
    parser.add_argument("--repeats", type=int, help="answers to a dilemma at each layer; 10, of released 5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dilemmas", type=Path, help="folder of the author's; our own by default")
    parser.add_argument("--judge", help='a zero-shot classifier, a chat model with --judge-url, or "words": the word '
                        "judge, which is the default for the bundled model alone")  # fmt: skip
    parser.add_argument("--judge-url", help="of an API that speaks OpenAI's chat completions")


PAPER = results.Paper("sara", "SARA's experiments.", EXPERIMENTS, _options, ("seed", "repeats"))
main = PAPER.main

if __name__ == "__main__":
    raise SystemExit(main())
