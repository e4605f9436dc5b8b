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
from ...judges import (
    ChatJudge,
    Judge,
    ModelJudge,
    WordJudge,
    ZeroShotJudge,
    count_words,
    word_judge,
)
from ...model import SteerableModel
from .. import results
from ..results import Ask, Experiment, Frames
from .decoding import decode_gains, decode_texts, texts_table
from .dilemmas import (
    RELEASED,
    as_chats,
    author_file,
    held_out_dilemmas,
    load_dilemmas,
    load_released_dilemmas,
    persona_statements,
)
from .dose import best_layer, dose_answers, dose_response, dose_table, parted
from .sensitivity import VARIED, sensitivity, sensitivity_table
from .study import (
    ANSWERS,
    DOSES,
    METHODS,
    Method,
    agreement,
    consistency,
    dilemma_study,
    effects,
    need_known,
    shares,
    with_depth,
)

CONTROLS = 20  # draws of the shuffled control


def _run_study(lm: SteerableModel, ask: Ask) -> Frames:
    options: dict[str, Any] = {"layers": ask.layers, "methods": ask.methods, "dose": ask.kl, **_steering(ask)}
    frame = dilemma_study(lm, _dilemmas(ask), **options, **_answers(lm, ask), **ANSWERS)
    frame = with_depth(frame, lm.n_layers)
    cells = {"effects": (), "depths": ("depth",), "layers": ("layer",), "dilemmas": ("id",)}
    tables = {"shares": shares(frame)} | {name: effects(frame, by) for name, by in cells.items()}
    some = frame.sample(min(ask.shown, len(frame)), random_state=ask.seed)
    if ask.second:
        verdicts = _judge(lm, ask, ask.second)(list(some["completion"]), list(some["prompt"]))
        some = some.assign(second=verdicts["group"].to_numpy(), second_label=verdicts["label"].to_numpy())
        tables["agreement"] = agreement(some)
    columns = ["id", "method", "direction", "layer", "sample", "completion", "group", "second", "second_label"]
    answers = some[[column for column in columns if column in some]]
    return tables | {"consistency": consistency(frame), "answers": answers}


def _run_released(lm: SteerableModel, ask: Ask) -> Frames:
    """One dilemma alone, as in the release, and by depth (Figure 6)."""
    options: dict[str, Any] = {"layers": ask.layers, **_steering(ask), **_answers(lm, ask)}
    first = _dilemmas(ask).head(1)
    frame = dilemma_study(lm, first, methods=("sara",), variant="released", **options, **ANSWERS)
    return {"released": shares(frame), "released_depths": effects(with_depth(frame, lm.n_layers), ("depth",))}


def _run_equal(lm: SteerableModel, ask: Ask) -> Frames:
    """SARA as released beside the anchored one: as it is, where γ is as large, and where it moves the model by --kl."""
    options: dict[str, Any] = {"layers": ask.layers, "methods": ("sara",), **_steering(ask), **_answers(lm, ask)}
    settings = {**DOSES, "anchored, equal KL": {"dose": ask.kl}}
    frames = {
        dose: with_depth(dilemma_study(lm, _dilemmas(ask), **options, **settings[dose], **ANSWERS), lm.n_layers)
        for dose in ask.doses
    }
    cells = {"equal": (), "equal_depths": ("depth",), "equal_layers": ("layer",)}
    return {
        name: pd.concat([effects(frame, by).assign(dose=dose) for dose, frame in frames.items()])
        for name, by in cells.items()
    }


def _run_schools(lm: SteerableModel, ask: Ask) -> Frames:
    """Unsteered answers to all dilemmas, by school: what the paper compares its seven models by."""
    frame = dilemma_study(lm, _dilemmas(ask), methods=(), directions=(), layers=[0], **_answers(lm, ask), **ANSWERS)
    tables = {"schools": shares(frame, of="label"), "schools_consistency": consistency(frame)}
    if ask.second:
        verdicts = _judge(lm, ask, ask.second)(list(frame["completion"]), list(frame["prompt"]))
        tables["schools_agreement"] = agreement(frame.assign(second=verdicts["group"].to_numpy()))
    return tables


def _run_dose(lm: SteerableModel, ask: Ask) -> Frames:
    """Everywhere, and answers where the train dilemmas' preferences are parted most."""
    few: dict[str, Any] = {"methods": ("sara", "actadd"), "coefficients": (-1, 1)}
    everywhere = range(lm.n_layers) if ask.layers is None else ask.layers
    choice = pd.concat([dose_response(lm, load_dilemmas("train"), layer=layer, **few) for layer in everywhere])
    doses = pd.concat([dose_response(lm, load_dilemmas("test"), layer=layer, seed=ask.seed) for layer in everywhere])
    options, dilemmas = _answers(lm, ask), _dilemmas(ask)
    plan: dict[Method, tuple[Method, ...]] = {"sara": ("sara", "shuffled"), "actadd": ("actadd",)}
    answers = [
        dose_answers(lm, dilemmas, layer=best_layer(choice, method), methods=methods, **options)
        for method, methods in plan.items()
    ]
    draws = [
        dose_answers(
            lm, dilemmas, layer=best_layer(choice), methods=("shuffled",), coefficients=(-4, 4),
            **options | {"repeats": 5, "seed": ask.seed + draw},
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
    texts = decode_texts(lm, prompts, _judge(lm, ask, ask.judge), layer=layer, repeats=ask.repeats, seed=ask.seed)
    steps = gains.groupby(["step", "gamma"])["share"].mean().reset_index()
    return {"decode_gains": steps, "decode_texts": texts_table(texts)}


def _layer(lm: SteerableModel, ask: Ask) -> int:
    """The middle layer where none is asked for."""
    return lm.n_layers // 2 if ask.layer is None else int(ask.layer)


def _dilemmas(ask: Ask) -> pd.DataFrame:
    """Ours, or the author's; all or some; as chats on demand."""
    if ask.dilemmas is None:
        dilemmas = held_out_dilemmas()
    else:
        ask.data["Input_Dilemmas.txt"] = data.checksum(author_file(ask.dilemmas, "Input_Dilemmas.txt"))
        dilemmas = load_released_dilemmas(ask.dilemmas)
    if ask.ids:
        need_known("dilemma", ask.ids, list(dilemmas["id"]))
        dilemmas = dilemmas[dilemmas["id"].isin(ask.ids)].reset_index(drop=True)
    return dilemmas if ask.opening is None else as_chats(dilemmas, ask.opening)


def _steering(ask: Ask) -> dict[str, str]:
    """The steering prompts: ours, or the author's."""
    return dict(RELEASED) if ask.steering == "released" else {}


def _answers(lm: SteerableModel, ask: Ask) -> dict[str, Any]:
    """How answers are sampled, judged and kept."""
    return {"judge": _judge(lm, ask, ask.judge), "repeats": ask.repeats, "seed": ask.seed, "file": ask.file}


def _judge(lm: SteerableModel, ask: Ask, name: str | None) -> Judge:
    """A judge by name; without one the word judge, of the bundled model alone."""
    if name in (None, "words"):
        return word_judge(None if name else lm)
    if name == "personas":
        statements = persona_statements()
        ask.data["ethics_personas"] = f"{len(statements)} statements"
        return WordJudge(count_words(zip(statements["text"], statements["group"], strict=True), 3), name=name)
    if name == "self":
        return ModelJudge(lm, batch_size=4)
    file = ask.out / "judged.sqlite"
    return ChatJudge(name, ask.judge_url, file=file) if ask.judge_url else ZeroShotJudge(name, file=file)


EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {  # repeats: answers to a dilemma, of study and released at each layer
        "study": Experiment(_run_study, sampled=True, defaults={"repeats": 10}),
        "released": Experiment(_run_released, sampled=True, defaults={"repeats": 5}),
        "equal": Experiment(_run_equal, sampled=True, defaults={"repeats": 5, "kl": 0.7}),
        "schools": Experiment(_run_schools, sampled=True, defaults={"repeats": 5}),
        "dose": Experiment(_run_dose, sampled=True, defaults={"repeats": 10}),
        "sensitivity": Experiment(_run_sensitivity),
        "decode": Experiment(_run_decode, sampled=True, defaults={"repeats": 10}),
    }
)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layer", type=int, help="of sensitivity and decode; the middle one by default")
    parser.add_argument(
        "--repeats", type=int, help="answers to a dilemma at each layer; 10, of released, equal and schools 5"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dilemmas", type=Path, help="folder of the author's; our own by default")
    parser.add_argument("--ids", nargs="+", help="of the dilemmas that are put; all by default")
    parser.add_argument("--opening", help="asks as a chat whose answers begin with this, such as 'They should'")
    parser.add_argument("--steering", choices=["own", "released"], default="own", help="prompts that steer")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="of the study")
    parser.add_argument("--kl", type=float, help="nats at which every method steers in the study; of equal 0.7")
    parser.add_argument("--doses", nargs="+", choices=DOSES, default=list(DOSES), help="of equal")
    parser.add_argument("--shown", type=int, default=60, help="answers of the study that are kept as they are")
    parser.add_argument("--judge", help="see below; by default the word judge, for the bundled model alone")
    parser.add_argument("--second", help="another, for the answers that are kept as they are")
    parser.add_argument("--judge-url", help="of an API that speaks OpenAI's chat completions")


ABOUT = """SARA's experiments. A judge is "words", the word judge; "personas", the same made of the statements of
anthropics/evals (in STEERLAB_DATA); "self", the model that is judged, if it chats; a zero-shot classifier; or a chat
model with --judge-url."""
PAPER = results.Paper("sara", ABOUT, EXPERIMENTS, _options, ("seed", "repeats", "kl"))
main = PAPER.main

if __name__ == "__main__":
    raise SystemExit(main())
