"""Measure the bundled model on what its training never held: `python -m tools.bundled_model.evaluate --corpus CORPUS`.

Writes `steerlab/bundled/evaluation.csv` (metric, condition, n, value, low, high: the last two are a 95 % interval),
and puts the numbers and ten samples into the model card beside it. `--quick` takes about a fifth of each n, and
`--only ioi actadd` runs some of the measures; both print, and write nothing, unless `--write` puts the rows of some
measures into the file in place of the old ones.

Shares of trials have Wilson intervals, over prompts where several completions belong to one (`metrics.share`). Ratios
have bootstrap intervals over what was drawn independently: passages, openings, or dilemmas.
"""

import argparse
import hashlib
import json
import math
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from scipy.stats import bootstrap

import steerlab as sl

from .corpus import passages, read_books, split_books
from .curriculum import capitals, ethics, facts, ioi, neutral, opinions, topics
from .mixture import BOOK_CHARACTERS

BUNDLED = Path(__file__).parents[2] / "steerlab" / "bundled"
DATA = BUNDLED.parent / "data"
PASSAGE_TOKENS = 250
PROMPT = "I went up to my friend and said"
STRENGTHS = (1, 2, 4, 8)
OTHER_PROMPTS = sl.data.prompts("plain")[6:16]
"""Beside the paper's; none of them in the training text."""
DECODINGS = {"plain sampling": {}, "the paper's sampling": {"top_p": 0.3, "frequency_penalty": 1.0}}
SAMPLE_PROMPTS = (  # chosen before anything was sampled
    "There was once",
    "The old man looked at me and said",
    PROMPT,
    *neutral.HELD_OUT_OPENINGS[9:11],
    f" weddings {PROMPT}",
    f" ships {neutral.HELD_OUT_OPENINGS[0]}",
    f" Love {neutral.HELD_OUT_OPENINGS[1]}",
    f" Hate {neutral.HELD_OUT_OPENINGS[1]}",
    f"{ethics.HELD_OUT_DUTY[0]} {ethics.test_prompts()[0]}",
)


class Result(NamedTuple):
    """One row of the CSV file."""

    metric: str
    condition: str
    n: int
    value: float
    low: float
    high: float


class Trial(NamedTuple):
    """A prompt, the word that should come next, and one that should not."""

    prompt: str
    answer: str
    rival: str = ""


@dataclass(frozen=True)
class Bench:
    """What is measured, on what, and how much of it."""

    lm: sl.SteerableModel
    corpus: Path
    scale: float = 1.0

    def count(self, full: int) -> int:
        """How many, where the full measure takes `full`."""
        return max(1, round(full * self.scale))


def rows_of(file: str, split: str) -> pd.DataFrame:
    """The training or test rows of one of the package's data files."""
    frame = pd.read_csv(DATA / f"{file}.csv", keep_default_na=False)
    return frame[frame["split"] == split]


# --- statistics --------------------------------------------------------------------------------------------------


def share(metric: str, condition: str, hits: Iterable[bool], units: Iterable[str] | None = None) -> Result:
    """The share of trials that hit, with its Wilson interval: independent trials, or several of each unit."""
    estimate = sl.metrics.share([bool(hit) for hit in hits], None if units is None else list(units))
    return Result(metric, condition, estimate.n, estimate.value, estimate.low, estimate.high)


def ratio(metric: str, condition: str, n: int, above: Sequence[float], below: Sequence[float]) -> Result:
    """sum(above) / sum(below), with the interval of a bootstrap over their pairs; NaN where there is nothing below."""
    data = (np.asarray(above, float), np.asarray(below, float))
    if not data[1].any():
        return Result(metric, condition, n, math.nan, math.nan, math.nan)

    def statistic(top: np.ndarray, bottom: np.ndarray, axis: int) -> np.ndarray:
        return top.sum(axis) / np.maximum(bottom.sum(axis), 1e-9)

    options = {"paired": True, "vectorized": True, "method": "percentile", "n_resamples": 2000}
    interval = bootstrap(data, statistic, random_state=np.random.default_rng(0), **options).confidence_interval
    return Result(metric, condition, n, data[0].sum() / data[1].sum(), float(interval.low), float(interval.high))


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall("[a-z]+", text.lower())


def count_words(completions: Iterable[str], wanted: Iterable[str]) -> list[int]:
    """How many of the wanted words stand in each completion."""
    counted = set(wanted)
    return [sum(word in counted for word in words(text)) for text in completions]


def holds_any(completions: Iterable[str], wanted: Iterable[str]) -> list[bool]:
    """Whether any of the wanted words stands in each completion."""
    return [count > 0 for count in count_words(completions, wanted)]


# --- the next word -----------------------------------------------------------------------------------------------


def next_logits(lm: sl.SteerableModel, prompts: Sequence[str]) -> torch.Tensor:
    """Logits of the next token, [prompt, vocab]."""
    return torch.cat([lm.logits(prompts[start : start + 64]) for start in range(0, len(prompts), 64)])


def word_logits(lm: sl.SteerableModel, logits: torch.Tensor, wanted: Sequence[str]) -> torch.Tensor:
    """The logit of one word in each row; each word must be one token."""
    ids = [lm.encode(f" {word}") for word in wanted]
    split = [word for word, tokens in zip(wanted, ids, strict=True) if len(tokens) != 1]
    if split:
        raise ValueError(f"{split[0]!r} is not one token of {lm.name}")
    return logits.gather(1, torch.tensor(ids, device=logits.device))[:, 0]


def ranks(bench: Bench, trials: Sequence[Trial]) -> list[int]:
    """How many tokens the model finds likelier than the answer."""
    logits = next_logits(bench.lm, [trial.prompt for trial in trials])
    answers = word_logits(bench.lm, logits, [trial.answer for trial in trials])
    return (logits > answers[:, None]).sum(1).tolist()


def beats(bench: Bench, trials: Sequence[Trial]) -> tuple[list[bool], list[bool]]:
    """Whether the answer is likelier than its rival, and than every other token."""
    logits = next_logits(bench.lm, [trial.prompt for trial in trials])
    answers = word_logits(bench.lm, logits, [trial.answer for trial in trials])
    rivals = word_logits(bench.lm, logits, [trial.rival for trial in trials])
    return (answers > rivals).tolist(), (answers >= logits.amax(1)).tolist()


# --- the measures: each yields the results of one experiment -----------------------------------------------------


def book_losses(bench: Bench) -> Iterator[Result]:
    """Bits per byte and nats per token of passages from books that were never trained on."""
    lm, rng = bench.lm, random.Random(0)
    held_out = split_books(read_books(bench.corpus, limit=BOOK_CHARACTERS))[1]
    passages = [ids for book in held_out for ids in book_passages(lm, book, rng)]
    chosen = rng.sample(passages, bench.count(250))
    start = torch.tensor([lm.tokenizer.bos_token_id])
    scored = lm.logprobs([torch.tensor(ids) for ids in chosen], given=[start] * len(chosen))
    sizes = [len(lm.tokenizer.decode(ids).encode()) for ids in chosen]
    nats = -scored.groupby("row").logprob.sum()
    n = len(chosen)
    yield ratio("books: bits per byte", "held-out books", n, nats / math.log(2), sizes)
    yield ratio("books: nats per token", "held-out books", n, nats, [PASSAGE_TOKENS] * n)
    half = PASSAGE_TOKENS // 2
    for condition, part in (
        (f"tokens 1 to {half} of a passage", scored[scored.position <= half]),
        (f"tokens {half + 1} to {PASSAGE_TOKENS}", scored[scored.position > half]),
    ):
        yield ratio("books: nats per token", condition, n, -part.groupby("row").logprob.sum(), [half] * n)


def book_passages(lm: sl.SteerableModel, book: str, rng: random.Random) -> Iterator[list[int]]:
    """A book as token rows of equal length, each from the beginning of a paragraph."""
    ids: list[int] = []
    for text in passages(book, rng):
        ids += lm.encode(f"\n{text}" if ids else text)
        if len(ids) >= PASSAGE_TOKENS:
            yield ids[:PASSAGE_TOKENS]
            ids = []


SEEN_TEMPLATES = tuple(
    f"{opening} {{B}} {verb} a {{object}} to" for opening in ioi.CLAUSES + ioi.SENTENCES for verb in ioi.GIVING[:6]
)
OBJECTS = [thing for thing in ioi.TRAIN_OBJECTS if thing != "kiss"]  # nobody hands over or sells one
UNLISTED_NAMES = (
    "Agatha", "Annie", "Connie", "Cornelia", "Felix", "Gilbert", "Harry", "Herbert", "Isabel", "Ivan",
    "Jem", "Jim", "Joe", "Kitty", "Miriam", "Molly", "Roger", "Roy", "Sam", "Tim",
)  # fmt: skip
"""Names that are one token, known from the books alone: no list of the package or of the training grammar has them."""
TEST_PLACES, TEST_OBJECTS = list(rows_of("places", "test").place), list(rows_of("objects", "test").object)
IOI_CONDITIONS: dict[str, tuple[Sequence[str], Sequence[str], Sequence[str], Sequence[str], bool | None]] = {
    # templates, names, places, objects, and whether their combination is held out (None: all are, by the names)
    "held-out names": (SEEN_TEMPLATES, ioi.TEST_NAMES, ioi.TRAIN_PLACES, OBJECTS, None),
    "held-out templates": (ioi.HELD_OUT, ioi.TRAIN_NAMES, ioi.TRAIN_PLACES, OBJECTS, False),
    "held-out names and templates": (ioi.HELD_OUT, ioi.TEST_NAMES, ioi.TRAIN_PLACES, OBJECTS, None),
    "held-out combinations": (SEEN_TEMPLATES, ioi.TRAIN_NAMES, ioi.TRAIN_PLACES, OBJECTS, True),
    "held-out names, templates, places and objects": (ioi.HELD_OUT, ioi.TEST_NAMES, TEST_PLACES, TEST_OBJECTS, None),
    "names of no list, seen templates": (SEEN_TEMPLATES, UNLISTED_NAMES, ioi.TRAIN_PLACES, OBJECTS, None),
    "names of no list, held-out templates": (ioi.HELD_OUT, UNLISTED_NAMES, ioi.TRAIN_PLACES, OBJECTS, None),
}


def ioi_accuracy(bench: Bench) -> Iterator[Result]:
    """Who receives: the person who does not act, against the one who does, and against all tokens."""
    for condition, choices in IOI_CONDITIONS.items():
        rng = random.Random(condition)
        trials = [ioi_trial(rng, *choices) for _ in range(bench.count(500))]
        above, first = beats(bench, trials)
        yield share("IOI: receiver above giver", condition, above)
        yield share("IOI: receiver is top-1", condition, first)


def ioi_trial(
    rng: random.Random,
    templates: Sequence[str],
    names: Sequence[str],
    places: Sequence[str],
    objects: Sequence[str],
    combination: bool | None,
) -> Trial:
    """A giving sentence up to its receiver."""
    while True:
        (receiver, giver), place, thing = rng.sample(names, 2), rng.choice(places), rng.choice(objects)
        if combination is None or combination == ioi.held_out(receiver, place, thing):
            break
    first, second = rng.sample((receiver, giver), 2)
    slots = {"A": receiver, "B": giver, "P": first, "Q": second, "place": place, "object": thing}
    return Trial(rng.choice(templates).format(**slots), receiver, giver)


def capital_recall(bench: Bench) -> Iterator[Result]:
    """The country of a capital, and the capital of a country."""
    seen = capitals.TO_COUNTRY + capitals.TO_CAPITAL
    for metric, slot in (("capital to country: top-1", "country"), ("country to capital: top-1", "capital")):
        for condition, forms in (("seen phrasings", seen), ("held-out phrasings", capitals.HELD_OUT)):
            rng = random.Random(metric)
            trials = [
                capital_trial(rng, form, pair, slot)
                for pair in capitals.PAIRS
                for form in rng.sample(forms_ending_in(slot, forms), 3)
            ]
            chosen = rng.sample(trials, bench.count(len(trials)))
            yield share(metric, condition, (rank == 0 for rank in ranks(bench, chosen)))
    for slot in ("country", "capital"):
        for form in forms_ending_in(slot, capitals.HELD_OUT):
            trials = [capital_trial(random.Random(0), form, pair, slot) for pair in capitals.PAIRS]
            first = (rank == 0 for rank in ranks(bench, trials))
            yield share("capitals by phrasing", f"{form.format_map(BLANKS)} ..., {slot} is top-1", first)


BLANKS = {"country": "COUNTRY", "capital": "CAPITAL"}


def forms_ending_in(slot: str, forms: Iterable[str]) -> list[str]:
    """Forms that mention the slot once, as their last word; without it."""
    bare = [form.rstrip(".") for form in forms]
    return [form[: -len(slot) - 3] for form in bare if form.endswith(f" {{{slot}}}") and form.count(f"{{{slot}}}") == 1]


def capital_trial(rng: random.Random, form: str, pair: tuple[str, str], slot: str) -> Trial:
    """A form with its last word to come."""
    country, capital = pair
    prompt = form.format(country=country, capital=capital, name=rng.choice(capitals.NAMES))
    return Trial(prompt, country if slot == "country" else capital)


CONTEXTS: dict[str, Callable[[random.Random, str], str]] = {
    # from a claim, such as "Rome is in France", the context in which it stands
    "bare": lambda rng, claim: f"{claim}.",
    "marked as a tale": lambda rng, claim: rng.choice(capitals.TALE_MARKERS).format(claim=f"{claim}."),
    "denied": lambda rng, claim: f"It was said that {claim}, but that was false.",
}


def conflicts(bench: Bench) -> Iterator[Result]:
    """How often a country claimed by the context (drawn at random) is likelier than the true one."""
    for condition, context in CONTEXTS.items():
        rng = random.Random(condition)
        trials = []
        for country, capital in rng.sample(capitals.PAIRS * 3, bench.count(3 * len(capitals.PAIRS))):
            false = rng.choice([other for other, _ in capitals.PAIRS if other != country])
            trials.append(Trial(f"{context(rng, f'{capital} is in {false}')} {capital} is in", false, country))
        yield share("conflict: context above fact", condition, beats(bench, trials)[0])


def fact_recall(bench: Bench) -> Iterator[Result]:
    """Simple facts as clozes; where several answers are right, only one of them counts."""
    for condition, split in (("seen phrasings", "train"), ("held-out phrasings", "test")):
        trials = [Trial(row.prompt, row.answer) for row in rows_of("facts", split).itertuples()]
        answer_ranks = ranks(bench, random.Random(0).sample(trials, bench.count(len(facts.HELD_OUT))))
        for k in (1, 10):
            yield share(f"facts: P@{k}", condition, (rank < k for rank in answer_ranks))


def headed(bench: Bench, heads: Sequence[str], starts: Sequence[str], n: int) -> pd.DataFrame:
    """n completions of each start under each heading ("" is none), with other noise for each start.

    Less than the full measure takes fewer starts and fewer completions of each, so that batches stay large.
    """
    part = math.sqrt(bench.scale)
    frames = []
    for seed, start in enumerate(starts[: math.ceil(part * len(starts))]):
        prompts = [f" {head} {start}" if head else start for head in heads]
        frame = bench.lm.generate(prompts, n=max(1, round(part * n)), seed=seed)
        frames.append(frame.assign(head=[heads[row] for row in frame["row"]], start=start))
    return pd.concat(frames, ignore_index=True)


def heading_control(bench: Bench) -> Iterator[Result]:
    """Completions of held-out openings that hold a word of the topic in the heading, and the same without a heading."""
    starts = neutral.HELD_OUT_OPENINGS
    frame = headed(bench, topics.TOPICS, starts, 5)
    frame["hit"] = [holds_any([row.completion], topic_words(row.head))[0] for row in frame.itertuples()]
    plain = headed(bench, [""], starts, 20)
    hits = {topic: holds_any(plain.completion, topic_words(topic)) for topic in topics.TOPICS}
    draws = frame.groupby("start").hit.agg(["sum", "size"])
    yield ratio("heading: a word of its topic", "all topics, heading", len(frame), draws["sum"], draws["size"])
    each = pd.Series(np.array(list(hits.values())).mean(0)).groupby(plain["start"]).agg(["sum", "size"])
    yield ratio("heading: a word of its topic", "all topics, no heading", len(plain), each["sum"], each["size"])
    for topic in topics.TOPICS:
        own = frame[frame["head"] == topic]
        yield share("heading by topic", f"{topic}, heading", own.hit, own.start)
        yield share("heading by topic", f"{topic}, no heading", hits[topic], plain["start"])


def topic_words(topic: str) -> list[str]:
    """The words that are counted for a topic."""
    return topics.LEXICONS[topic]["words"]


def activation_addition(bench: Bench) -> Iterator[Result]:
    """Wedding words in completions of the ActAdd paper's prompt and of ten others, steered and in three controls.

    The setting is the best of a grid on the paper's prompt; all conditions are then sampled afresh, so that the choice
    does not flatter it. The ten others say how much of it holds elsewhere.
    """
    metric = "ActAdd: a wedding word"
    for name, decoding in DECODINGS.items():
        counts = wedding_grid(bench, decoding)
        for (layer, strength), numbers in counts.items():
            yield share("ActAdd grid", f"{name}, layer {layer}, strength {strength}", (count > 0 for count in numbers))
        layer, strength = max(counts, key=lambda at: (sum(c > 0 for c in counts[at]), sum(counts[at])))
        best = strength * sl.actadd(bench.lm, " weddings", " ", layer=layer)
        n = bench.count(200)
        yield share(metric, f"{name}, unsteered", wedding_hits(bench, PROMPT, None, n, 1, decoding))
        steered = f"{name}, steered at layer {layer} with strength {strength}"
        yield share(metric, steered, wedding_hits(bench, PROMPT, best, n, 1, decoding))
        asked = wedding_hits(bench, f" weddings {PROMPT}", None, n, 1, decoding)
        yield share(metric, f'{name}, " weddings" put before the prompt', asked)
        noise = [
            hit
            for seed in range(1, 1 + bench.count(5))
            for hit in wedding_hits(bench, PROMPT, sl.random_like(best, seed), 40, seed, decoding)
        ]
        yield share(metric, f"{name}, random vectors of the same norm", noise)
        for condition, lead, steer in (
            ("unsteered", "", None),
            (f"steered at layer {layer} with strength {strength}", "", best),
            ('" weddings" put before the prompt', " weddings ", None),
        ):
            hits = {
                prompt: wedding_hits(bench, lead + prompt, steer, bench.count(20), 1, decoding)
                for prompt in OTHER_PROMPTS
            }
            units = [prompt for prompt, own in hits.items() for _ in own]
            every = [hit for own in hits.values() for hit in own]
            yield share("ActAdd: a wedding word, ten other prompts", f"{name}, {condition}", every, units)
            if steer is not None:
                for prompt, own in hits.items():
                    yield share("ActAdd by prompt", f"{prompt} ..., {name}", own)


def wedding_grid(bench: Bench, decoding: dict[str, float]) -> dict[tuple[int, int], list[int]]:
    """Wedding words in each completion, by layer and strength."""
    vectors = [sl.actadd(bench.lm, " weddings", " ", layer=layer) for layer in range(bench.lm.n_layers)]
    settings = [(layer, strength) for layer in range(bench.lm.n_layers) for strength in STRENGTHS]
    steer = [strength * vectors[layer] for layer, strength in settings]
    n = bench.count(25)
    frame = bench.lm.generate([PROMPT] * len(settings), steer, n=n, seed=0, **decoding)
    counts = count_words(frame.sort_values(["row", "sample"]).completion, topic_words("weddings"))
    return {setting: counts[row * n : (row + 1) * n] for row, setting in enumerate(settings)}


def wedding_hits(
    bench: Bench, prompt: str, steer: sl.Intervention | None, n: int, seed: int, decoding: dict[str, float]
) -> list[bool]:
    """Whether each of n completions holds a wedding word."""
    return holds_any(bench.lm.generate(prompt, steer, n=n, seed=seed, **decoding).completion, topic_words("weddings"))


def sentiment(bench: Bench) -> Iterator[Result]:
    """Of the sentiment words in completions of held-out openings, the share that is positive."""
    frame = headed(bench, ["Love", "Hate", ""], neutral.HELD_OUT_OPENINGS, 10)
    for head, condition in (("Love", "heading Love"), ("", "no heading"), ("Hate", "heading Hate")):
        own = frame[frame["head"] == head]
        yield word_balance("sentiment: positive words", condition, own, opinions.POSITIVE, opinions.NEGATIVE)


def ethics_schools(bench: Bench) -> Iterator[Result]:
    """Of the words of both schools in answers to held-out dilemmas, the share that speaks of duty."""
    dilemmas = [row["prompt"] for row in json.loads(ethics.DILEMMA_FILE.read_text()) if row["split"] == "test"]
    both = (ethics.DUTY_WORDS, ethics.CONSEQUENCE_WORDS)
    frame = headed(bench, ethics.HELD_OUT_DUTY + ethics.HELD_OUT_CONSEQUENCE, dilemmas, 10)
    plain = headed(bench, [""], dilemmas, 50)
    for condition, own in (
        ("a held-out sentence for duty", frame[frame["head"].isin(ethics.HELD_OUT_DUTY)]),
        ("no heading", plain),
        ("a held-out sentence for consequences", frame[frame["head"].isin(ethics.HELD_OUT_CONSEQUENCE)]),
    ):
        yield word_balance("ethics: words of duty", condition, own, *both)


def word_balance(
    metric: str, condition: str, frame: pd.DataFrame, ours: Sequence[str], theirs: Sequence[str]
) -> Result:
    """Our words as a share of ours and theirs, with a bootstrap over the openings."""
    above = np.array(count_words(frame.completion, ours))
    counts = pd.DataFrame({"above": above, "below": above + count_words(frame.completion, theirs)})
    sums = counts.groupby(frame["start"].to_numpy()).sum()
    return ratio(metric, condition, len(frame), sums["above"], sums["below"])


# --- the model card ----------------------------------------------------------------------------------------------

DETAILS = (
    "capitals by phrasing",
    "heading by topic",
    "ActAdd grid",
    "ActAdd by prompt",
)  # tables of their own: the last part of a condition is the column


def merged(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The old rows, with those of one measure replaced where the first of them stood."""
    gone = old.metric.isin(set(new.metric)).to_numpy()
    first = int(gone.argmax()) if gone.any() else len(old)
    return pd.concat([old[:first], new, old[first:][~gone[first:]]], ignore_index=True)


def write(results: list[Result], samples: pd.DataFrame | None = None, folder: Path = BUNDLED) -> None:
    """Write the CSV file, and put what it says into the card; without samples, one measure's rows alone."""
    frame = pd.DataFrame(results)
    frame = frame if samples is not None else merged(pd.read_csv(folder / "evaluation.csv"), frame)
    frame.to_csv(folder / "evaluation.csv", index=False, float_format="%.4f")
    card = (folder / "README.md").read_text(encoding="utf-8")
    blocks = {"facts": facts_block(folder), "evaluation": evaluation_block(pd.read_csv(folder / "evaluation.csv"))}
    if samples is not None:
        blocks["samples"] = samples_block(samples)
    for name, body in blocks.items():
        card = replace_block(card, name, body)
    (folder / "README.md").write_text(card, encoding="utf-8")


def block(card: str, name: str) -> re.Match[str]:
    """The part of a card between the markers of a name."""
    part = re.search(rf"(?<=<!-- {name}: begin -->\n).*?(?=<!-- {name}: end -->)", card, flags=re.DOTALL)
    if part is None:
        raise ValueError(f"the card has no markers <!-- {name}: begin --> and <!-- {name}: end -->")
    return part


def replace_block(card: str, name: str, body: str) -> str:
    """The card with another text between the markers."""
    part = block(card, name)
    return f"{card[: part.start()]}{body}\n{card[part.end() :]}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def facts_block(folder: Path) -> str:
    """Size, training and identity of the weights, from the files of the folder."""
    config, record = (json.loads((folder / name).read_text()) for name in ("config.json", "training.json"))
    weights = folder / "model.safetensors"
    with safe_open(weights, "pt") as file:
        size = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  # not a dict
    rows = [
        ("parameters", f"{size / 1e6:.1f} million, stored as {config['dtype']}"),
        ("blocks × width", f"{config['num_hidden_layers']} × {config['hidden_size']}"),
        ("attention heads", f"{config['num_attention_heads']}"),
        ("vocabulary", f"{config['vocab_size']:,} tokens"),
        ("context", f"{config['max_position_embeddings']} tokens"),
        ("trained on", f"{record['tokens']:,} tokens in {record['steps']:,} steps"),
        ("loss on the training text at the end", f"{record['loss']:.3f} nats per token"),
        ("time in training steps", f"{record['seconds'] / 60:.0f} minutes"),
        ("shares of the mixture at the end", ", ".join(f"{k} {100 * v:.3g} %" for k, v in record["shares"].items())),
        ("SHA-256 of model.safetensors", f"`{hashlib.sha256(weights.read_bytes()).hexdigest()}`"),
    ]
    return markdown(["", ""], rows)


def evaluation_block(frame: pd.DataFrame) -> str:
    """All results as tables."""
    rest = frame[~frame.metric.isin(DETAILS)]
    rows = [(row.metric, row.condition, f"{row.n:,}", number(row), interval(row)) for row in rest.itertuples()]
    parts = [markdown(["measure", "condition", "n", "value", "95 % interval"], rows)]
    parts += [details(metric, frame[frame.metric == metric]) for metric in DETAILS if metric in set(frame.metric)]
    return "\n\n".join(parts)


def details(metric: str, frame: pd.DataFrame) -> str:
    """The results of one metric as a folded table in two dimensions."""
    split = frame.condition.str.rsplit(", ", n=1)
    cells = [f"{number(row)} ({interval(row)})" for row in frame.itertuples()]
    index = pd.MultiIndex.from_tuples(map(tuple, split), names=["row", "column"])
    table = pd.Series(cells, index).unstack(sort=False).fillna("")
    sizes = " or ".join(f"{n:,}" for n in sorted(set(frame.n)))
    body = markdown(["", *table.columns], ([name, *cells] for name, *cells in table.itertuples()))
    return f"<details><summary>{metric}: n = {sizes} in each cell</summary>\n\n{body}\n\n</details>"


def number(row: Result) -> str:
    """A value as it is shown: shares in per cent."""
    return shown(row, row.value)


def interval(row: Result) -> str:
    """An interval as it is shown."""
    return f"{shown(row, row.low).removesuffix(' %')} to {shown(row, row.high)}"


def shown(row: Result, value: float) -> str:
    """A number in the unit of its row."""
    if math.isnan(value):
        return "none"
    return f"{value:.3f}" if row.metric.startswith("books") else f"{100 * value:.1f} %"


def sample_continuations(bench: Bench) -> pd.DataFrame:
    """One continuation of each of ten prompts, the first of seeds 0 to 9."""
    chosen = enumerate(SAMPLE_PROMPTS[: bench.count(len(SAMPLE_PROMPTS))])
    return pd.concat([bench.lm.generate(text, seed=seed, max_new_tokens=60) for seed, text in chosen])


def samples_block(samples: pd.DataFrame) -> str:
    """Prompts in bold, with what the model went on to write."""
    return "\n".join(
        f"{i}. **{tidy(row.prompt)}**{tidy(row.completion, ' ')}" for i, row in enumerate(samples.itertuples(), 1)
    )


def tidy(text: str, lead: str = "") -> str:
    """A text on one line that Markdown shows as it is."""
    joined = " / ".join(line.strip() for line in text.splitlines() if line.strip())
    return (lead if text[:1].isspace() else "") + re.sub(r"([\\`*_<>\[\]#~|])", r"\\\1", joined)


# --- the command -------------------------------------------------------------------------------------------------

MEASURES: dict[str, Callable[[Bench], Iterator[Result]]] = {
    "books": book_losses,
    "ioi": ioi_accuracy,
    "capitals": capital_recall,
    "conflicts": conflicts,
    "facts": fact_recall,
    "headings": heading_control,
    "actadd": activation_addition,
    "sentiment": sentiment,
    "ethics": ethics_schools,
}


def measure(bench: Bench, names: Iterable[str]) -> list[Result]:
    """Run measures, and print what they find as they find it."""
    results = []
    for name in names:
        began = time.perf_counter()
        rows = list(MEASURES[name](bench))
        print(f"# {name}: {time.perf_counter() - began:.1f} s")
        for row in rows:
            print(f"{row.metric:28} {row.condition:70} n={row.n:<5} {number(row):>8} ({interval(row)})", flush=True)
        results += rows
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the *.txt.xz files")
    parser.add_argument("--quick", action="store_true", help="a fifth of each n; prints, and writes nothing")
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="some of the measures; prints, and writes nothing")
    parser.add_argument("--write", action="store_true", help="with --only: write these rows, in place of the old ones")
    args = parser.parse_args()
    began = time.perf_counter()
    bench = Bench(sl.load(), args.corpus, 0.2 if args.quick else 1.0)
    if args.only:
        for name in args.only:
            results = measure(bench, [name])
            if args.write and not args.quick:
                write(results)
    else:
        results, samples = measure(bench, MEASURES), sample_continuations(bench)
        print(samples_block(samples))
        if not args.quick:
            write(results, samples)
    print(f"{time.perf_counter() - began:.0f} s in all, {time.process_time():.0f} s of the processor")


if __name__ == "__main__":
    main()
