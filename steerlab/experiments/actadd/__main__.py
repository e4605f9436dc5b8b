"""The command line: every experiment at the paper's size, resumable, as small tables with a line on how they were made.

The settings come from `choose`, which runs first: "strongest" steers most, "gentle" most among those that leave
unrelated text within 2 %. Completions are kept in OUT/actadd.sqlite as they come: a run that was stopped goes on there.
"""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

import pandas as pd

from ... import data
from ...metrics import Scorer, means, word_scorer
from ...model import SteerableModel
from .. import results
from ..results import Ask, Experiment, Frames
from .choice import UNRELATED, Choice, choose, pick
from .gallery import gallery
from .knowledge import knowledge
from .overhead import SHAPES, overhead, overhead_by_size, summarise_overhead
from .perplexity import (
    essay_sweep,
    essays,
    paragraphs,
    perplexity_by_density,
    perplexity_by_topic,
    sentence_shifts,
    shifts_by_token,
)
from .price import price
from .sentiment import summarise_tone, tone
from .topics import layer_sweep, summarise, topic_control
from .vectors import dimension_sweep, just_tokens, kl_shares, place_sweep, random_vectors, relative_sizes, shared_part

ZERO = {"condition": "zero"}
"""The unsteered model, which the others are compared with."""

COST = 0.02
"""How far from 1 the gentle setting may move the perplexity of unrelated text."""

READ = ["sentences", "whole documents"]
"""How documents are read: as the release does, or each as one text."""

PICKS: Mapping[str, float | None] = MappingProxyType({"strongest": None, "gentle": COST})
"""The settings at which is reported, and what they may cost."""


def _choice(lm: SteerableModel, ask: Ask) -> Frames:
    options: dict[str, Any] = {"layers": ask.layers, "coefficients": ask.coefficients, "file": ask.file}
    options |= {"positions": ask.positions, "max_new_tokens": ask.tokens, "limit": ask.sentences}
    return {"choice": choose(lm, n=max(1, ask.n // 6), seed=ask.seed + 1000, **options)}


def _picks(lm: SteerableModel, ask: Ask) -> dict[str, Choice]:
    """The two settings, from OUT/actadd_choice.csv where it is this model's."""
    if results.find("actadd_choice", lm, ask.out) is None:
        PAPER.run("choice", lm, ask.asked)
    frame = pd.read_csv(ask.out / "actadd_choice.csv")
    return {name: pick(frame, cost) for name, cost in PICKS.items()}


def _settings(lm: SteerableModel, ask: Ask) -> dict[str, Choice]:
    """Those to report at: the picks, with the layer and the strength that were asked for, which need no choice."""
    if None not in (ask.layer, ask.coefficient):
        return {ask.settings[0]: Choice(ask.layer, ask.coefficient, room=ask.positions[-1] == "pad")}
    given = {name: getattr(ask, name) for name in ("layer", "coefficient") if getattr(ask, name) is not None}
    return {name: replace(own, **given) for name, own in _picks(lm, ask).items() if name in ask.settings}


def _at_both(lm: SteerableModel, ask: Ask, run: Callable[[Choice], pd.DataFrame]) -> pd.DataFrame:
    """A frame for both settings, or those that were asked for, which it names."""
    frames = [run(own).assign(setting=name, where=str(own)) for name, own in _settings(lm, ask).items()]
    return pd.concat(frames, ignore_index=True)


def _sampling(ask: Ask) -> dict[str, Any]:
    return {"n": ask.n, "seed": ask.seed, "file": ask.file, "max_new_tokens": ask.tokens}


def _at_places(ask: Ask, run: Callable[[bool], pd.DataFrame]) -> pd.DataFrame:
    """A frame for a vector over the first tokens and one for a vector over spaces of its own, or those asked for."""
    frames = [run(position == "pad").assign(position=position) for position in ask.positions]
    return pd.concat(frames, ignore_index=True)


def _layer_sweep(lm: SteerableModel, ask: Ask) -> Frames:
    options: dict[str, Any] = {"layers": ask.layers, "coefficients": ask.swept, **_sampling(ask)}

    def run(room: bool) -> pd.DataFrame:
        return summarise(layer_sweep(lm, room=room, **options), baseline=ZERO)

    return {"layer_sweep": _at_places(ask, run)}


def _best(lm: SteerableModel, ask: Ask) -> Frames:
    def run(choice: Choice) -> pd.DataFrame:
        options: dict[str, Any] = {"layers": [choice.layer], "coefficients": [choice.coefficient], "room": choice.room}
        return summarise(layer_sweep(lm, **options, **_sampling(ask) | {"seed": ask.seed + 1}), baseline=ZERO)

    return {"best": _at_both(lm, ask, run)}


def _topics(lm: SteerableModel, ask: Ask) -> Frames:
    frame = topic_control(lm, **asdict(_picks(lm, ask)["strongest"]), topics=ask.topics, **_sampling(ask))
    return {"topics": summarise(frame, by=["topic", "condition"], baseline=ZERO)}


def _perplexity(lm: SteerableModel, ask: Ask) -> Frames:
    documents = data.documents(n=ask.n, seed=ask.seed, leave_out=UNRELATED)

    def run(choice: Choice) -> pd.DataFrame:
        parts = []
        for read in ask.read:
            shifts = sentence_shifts(lm, choice.vector(lm), documents, room=choice.room, whole=read == READ[1])
            parts.append(perplexity_by_density(shifts, documents, width=0.02).assign(read=read))
        return pd.concat(parts, ignore_index=True)

    best = _picks(lm, ask)["strongest"]
    tokens = shifts_by_token(sentence_shifts(lm, best.vector(lm), documents, room=best.room))
    return {"perplexity": _at_both(lm, ask, run), "tokens": tokens}


def _real_text(lm: SteerableModel, ask: Ask) -> Frames:
    """The perplexity of texts that were not written for this, in the public set that was asked for."""
    documents = paragraphs(data.texts(ask.texts), ask.n, seed=ask.seed)
    ask.data[ask.texts] = data.checksum(ask.texts)

    def run(choice: Choice) -> pd.DataFrame:
        return perplexity_by_topic(sentence_shifts(lm, choice.vector(lm), documents, room=choice.room), documents)

    return {"real_text": _at_both(lm, ask, run).assign(set=ask.texts)}


def _knowledge(lm: SteerableModel, ask: Ask) -> Frames:
    facts = _some(data.facts("test"), ask)
    return {"knowledge": _at_both(lm, ask, lambda choice: knowledge(lm, choice.vector(lm), facts, room=choice.room))}


def _some(clozes: pd.DataFrame, ask: Ask) -> pd.DataFrame:
    """As many clozes as were asked for, drawn at random, or all."""
    return clozes if ask.n is None or ask.n >= len(clozes) else clozes.sample(ask.n, random_state=ask.seed)


def _clozes(lm: SteerableModel, ask: Ask) -> Frames:
    """The same of the public sets that STEERLAB_DATA has: LAMA's ConceptNet, and ConceptNet's triples."""
    sets = {}
    for name in ("lama", "conceptnet"):
        try:
            sets[name], ask.data[name] = _some(data.clozes(name), ask), data.checksum(name)
        except FileNotFoundError as missing:
            print(missing, file=sys.stderr)
    if not sets:
        raise FileNotFoundError("no clozes: set STEERLAB_DATA to a folder that has LAMA or ConceptNet")

    def run(choice: Choice) -> pd.DataFrame:
        steer = choice.vector(lm)
        return pd.concat([knowledge(lm, steer, own, room=choice.room).assign(set=name) for name, own in sets.items()])

    return {"clozes": _at_both(lm, ask, run)}


def _price(lm: SteerableModel, ask: Ask) -> Frames:
    def run(choice: Choice) -> pd.DataFrame:
        steer = replace(choice, coefficient=1.0).vector(lm)
        texts = data.prompts("plain")[6:26][: ask.prompts]
        return price(
            lm, steer, room=choice.room, prompts=texts, **_sampling(ask) | {"n": math.ceil(ask.n / len(texts))}
        )

    return {"price": _at_both(lm, ask, run)}


def _essays(lm: SteerableModel, ask: Ask) -> Frames:
    topics = ask.topics or [topic for topic in data.essays() if topic not in UNRELATED]

    def run(choice: Choice) -> pd.DataFrame:
        where: dict[str, Any] = {"layer": choice.layer, "coefficient": choice.coefficient}
        return essays(lm, **where, topics=topics, limit=ask.sentences)

    return {"essays": _at_both(lm, ask, run)}


def _text_sweep(lm: SteerableModel, plus: str, texts: Mapping[str, Sequence[str]] | None, ask: Ask) -> pd.DataFrame:
    options: dict[str, Any] = {"layers": ask.layers, "coefficients": [-1.0, *ask.swept], "texts": texts}
    options |= {"limit": ask.sentences}
    return _at_places(ask, lambda room: essay_sweep(lm, plus, room=room, **options))


def _tones(
    lm: SteerableModel, ask: Ask, choice: Choice, prompts: Sequence[str], scorer: Scorer, plus: str, minus: str
) -> pd.DataFrame:
    """About n completions at a setting, shared by the prompts: the paper's pair, and its first half against a space."""
    options: dict[str, Any] = {
        "prefix": plus,
        "room": choice.room,
        **_sampling(ask),
        "n": math.ceil(ask.n / len(prompts)),
    }
    parts = {
        against: summarise_tone(tone(lm, choice.vector(lm, plus, against), prompts, scorer, **options))
        for against in (minus, " ")
    }
    return pd.concat([part.assign(minus=against.strip() or "space") for against, part in parts.items()])


def _tone(lm: SteerableModel, ask: Ask) -> Frames:
    lists = {"pleasant": (" Love", " Hate"), "unpleasant": (" Hate", " Love")}

    def run(choice: Choice) -> pd.DataFrame:
        parts = []
        for wanted, pair in lists.items():
            [other] = set(lists) - {wanted}
            scorer = word_scorer(data.words(wanted), data.words(other))
            parts.append(_tones(lm, ask, choice, data.prompts("pleased"), scorer, *pair).assign(towards=wanted))
        return pd.concat(parts)

    return {"tone": _at_both(lm, ask, run)}


def _toxicity(lm: SteerableModel, ask: Ask) -> Frames:
    rude = (data.prompts("rude"), word_scorer(data.words("rude")), " Love", " Hate")
    return {"toxicity": _at_both(lm, ask, lambda choice: _tones(lm, ask, choice, *rude))}


def _vectors(lm: SteerableModel, ask: Ask) -> Frames:
    """The short ones, all at the strongest setting."""
    best = _picks(lm, ask)["strongest"]
    steer, sampling = best.vector(lm), _sampling(ask)
    stress = random_vectors(lm, steer, data.prompts()[: ask.prompts], room=best.room, seed=ask.seed)
    stress = stress.groupby(["condition", "prompt"], sort=False)["relative"].mean().reset_index()
    parts = dimension_sweep(lm, steer, room=best.room, prompts=data.prompts("plain")[6:9], **sampling)
    places = place_sweep(lm, layer=best.layer, coefficient=best.coefficient, **sampling)
    moved = just_tokens(lm, **asdict(best), sources=ask.layers, **sampling)
    return {
        "random_vectors": means(stress, "relative", ["condition"]),
        "dimensions": summarise(parts, by=["dimensions"]),
        "places": summarise(places, by=["condition"]),
        "just_tokens": summarise(moved, by=["source", "condition"]),
        "relative_sizes": relative_sizes(lm, layers=ask.layers),
        "kl_shares": kl_shares(lm, steer, "I went to see the", room=best.room),
    }


def _pairs(lm: SteerableModel, ask: Ask) -> Frames:
    """Weddings against each other topic, counted in wedding words, and love against hate, in pleasant ones."""
    options: dict[str, Any] = {**asdict(_picks(lm, ask)["strongest"]), **_sampling(ask)}
    others = [f" {topic}" for topic in ask.topics or data.topics() if topic != "weddings"]
    weddings = shared_part(lm, " weddings", others, **options)
    options |= {"prompts": data.prompts("plain")[6:26][: ask.prompts], "words": data.words("pleasant")}
    parts = {"weddings − another topic": weddings, "Love − Hate": shared_part(lm, " Love", [" Hate"], **options)}
    frames = [summarise(own, by=["condition"], baseline=ZERO).assign(pair=pair) for pair, own in parts.items()]
    return {"pairs": pd.concat(frames)}


def _gallery(lm: SteerableModel, ask: Ask) -> Frames:
    return {"gallery": gallery(lm, strengths=ask.strengths, **_sampling(ask))}


def _overhead(lm: SteerableModel, ask: Ask) -> Frames:
    """Of the model itself, and of random-weight models of GPT-2's shapes."""
    options: dict[str, Any] = {"rows": ask.rows, "repeats": ask.n, "warmup": 1, "seconds": ask.seconds}
    frames = [overhead(lm, **options)] + ([overhead_by_size(ask.shapes, **options)] if ask.shapes else [])
    return {"overhead": summarise_overhead(pd.concat(frames, ignore_index=True))}


def _sweep_of_essays(lm: SteerableModel, ask: Ask) -> Frames:
    return {"essay_sweep": _text_sweep(lm, " weddings", None, ask)}


def _reviews(lm: SteerableModel, ask: Ask) -> Frames:
    return {"reviews": _text_sweep(lm, " worst", data.reviews(), ask)}


EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {  # n: completions of each setting, texts, or repeats: the paper's where it gives one; None reads all there is
        "choice": Experiment(_choice, sampled=True, defaults={"n": 48}),
        "layer-sweep": Experiment(_layer_sweep, sampled=True, defaults={"n": 200}),
        "best": Experiment(_best, sampled=True, defaults={"n": 200}),
        "perplexity": Experiment(_perplexity, defaults={"n": 1000}),
        "real-text": Experiment(_real_text, defaults={"n": 100}),
        "price": Experiment(_price, sampled=True, defaults={"n": 500}),
        "knowledge": Experiment(_knowledge),
        "clozes": Experiment(_clozes),
        "essays": Experiment(_essays),
        "essay-sweep": Experiment(_sweep_of_essays),
        "reviews": Experiment(_reviews),
        "vectors": Experiment(_vectors, sampled=True, defaults={"n": 100}),
        "pairs": Experiment(_pairs, sampled=True, defaults={"n": 20}),
        "tone": Experiment(_tone, sampled=True, defaults={"n": 1000}),
        "toxicity": Experiment(_toxicity, sampled=True, defaults={"n": 2000}),
        "topics": Experiment(_topics, sampled=True, defaults={"n": 1000}),
        "gallery": Experiment(_gallery, sampled=True, defaults={"n": 3}),
        "overhead": Experiment(_overhead, defaults={"n": 100}),
    }
)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=int, help="instead of the paper's, for every experiment; clozes: all by default")
    parser.add_argument("--tokens", type=int, default=40, help="of a completion")
    parser.add_argument("--sentences", type=int, help="of each topic's essays or verdict's reviews; all by default")
    parser.add_argument(
        "--prompts", type=int, help="of the price, of random vectors and of Love − Hate; all by default"
    )
    parser.add_argument("--read", nargs="+", choices=READ, default=READ, help="what the perplexity reads at a time")
    parser.add_argument("--topics", nargs="+", help="of topics, pairs and essays; all by default")
    parser.add_argument("--settings", nargs="+", choices=list(PICKS), default=list(PICKS), help="at which to report")
    parser.add_argument("--layer", type=int, help="at which to report, instead of the settings' own")
    parser.add_argument("--coefficient", type=float, help="the same, such as the paper's 1")
    parser.add_argument("--seed", type=int, default=0)
    numbers: dict[str, Any] = {"type": float, "nargs": "+"}
    both = ["front", "pad"]
    parser.add_argument("--positions", nargs="+", choices=both, default=both, help="of the choice and of the sweeps")
    parser.add_argument("--coefficients", **numbers, default=[0.5, 0.7, 1, 2, 4, 8], help="strengths of the choice")
    parser.add_argument("--swept", **numbers, default=[1, 2, 4], help="strengths of the sweeps over layers")
    parser.add_argument("--strengths", **numbers, default=[1], help="of the gallery, times the released ones")
    parser.add_argument("--texts", default="wikitext", help="the set of `data.texts` that real-text reads")
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), help="of the overhead, beside the model itself")
    parser.add_argument("--rows", type=int, default=4, help="of 64 tokens, in the overhead's batch; the paper has 32")
    parser.add_argument("--seconds", type=float, default=90, help="for each model of the overhead")


PAPER = results.Paper("actadd", "ActAdd's experiments.", EXPERIMENTS, _options, ("n", "seed"))
main = PAPER.main

if __name__ == "__main__":
    raise SystemExit(main())
