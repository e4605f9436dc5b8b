"""Simple facts in their training phrasings, lessons about them, and plain stories that train the names."""

import csv
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parents[3] / "steerlab" / "data"


class Fact(NamedTuple):
    """One cloze: the prompt, without a space at its end, and the one word that completes it."""

    kind: str
    prompt: str
    answer: str


def _rows(file: str) -> list[dict[str, str]]:
    with open(DATA / file, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


_ALL = _rows("facts.csv")
TRAIN: list[Fact] = [Fact(row["kind"], row["prompt"], row["answer"]) for row in _ALL if row["split"] == "train"]
# Phrasings for evaluation only; no training document contains one of these prompts.
HELD_OUT: tuple[str, ...] = tuple(row["prompt"] for row in _ALL if row["split"] == "test")
NAMES: list[tuple[str, str]] = [(row["name"], row["gender"]) for row in _rows("names.csv")]
BY_KIND: dict[str, list[Fact]] = {}
for _fact in TRAIN:
    BY_KIND.setdefault(_fact.kind, []).append(_fact)

NEUTRAL = (
    "The room was quiet.",
    "It was nearly noon.",
    "The window was open.",
    "Nobody spoke for a while.",
    "The clock went on ticking.",
    "They sat round the table.",
    "The page was turned.",
    "The old man smiled.",
    "It was an easy lesson.",
    "Everyone listened.",
    "There was still some time left.",
    "The door was half open.",
    "A chair was moved.",
    "The next line was read aloud.",
)
# Kinds in which another answer of the same kind is always wrong.
SURE_KINDS = (
    "young",
    "sound",
    "colour",
    "number",
    "sum",
    "day",
    "month",
    "season",
    "kind",
    "opposite",
    "job",
    "past",
)
PRAISE = ("Quite right", "Very good", "That is true", "Well said", "Yes", "Just so", "Good")
ASK = (
    "The teacher asked {name} to finish the line.",
    "The teacher looked at {name} and waited.",
    "Now it was the turn of {name}.",
    '"What do you know, {name}?" asked the teacher.',
    '"{name}, it is your turn," said the teacher.',
    "Then {name} stood up.",
    '"Tell me something, {name}," said the teacher.',
    "{name} put up a hand.",
)
SAID = (
    '"{line}," said {name}. "{praise}," said the teacher.',
    '{name} said, "{line}."',
    '"{line}," {name} answered.',
    '"{line}," said {name}, and that was right.',
    '{name} thought a little and said, "{line}."',
)
LEADS = (
    "Everyone knows this:",
    "Here is a true thing:",
    "Remember this:",
    "It is true:",
    "Write it down:",
    "The book says:",
    "My mother told me:",
)
WRONG = (
    '"{bad}," said {name}. "No," said the teacher. "{line}."',
    '{name} wrote, "{bad}." That was wrong. {line}.',
    "It is wrong to say: {bad}. It is right to say: {line}.",
)
GAPS = (
    "Question: {prompt} what? Answer: {line}.",
    "Find the last word. {prompt} ... The word is {answer}. {line}.",
    "Question: How does this end? {prompt} ... Answer: {answer}.",
    "Finish the line: {prompt} {answer}.",
)

STORY_A = (
    "{name} walked home.",
    "{name} came in and sat down.",
    "{name} woke up early.",
    "In the morning {name} went out.",
    "{name} had been away for a week.",
    "There was once a {child} called {name}.",
    "The name of the {child} was {name}.",
    "We all waited for {name}.",
    "Nobody had seen {name} that day.",
    "The door opened, and it was {name}.",
    "A letter came for {name}.",
    "My neighbour has a {kin} called {name}.",
    "The coat on the chair belonged to {name}.",
    "{name} lived in a small house at the end of the road.",
    "On Monday {name} stayed at home.",
    "I had a long talk with {name}.",
)
STORY_B = (
    "It was late.",
    "{They} had nothing to do.",
    "The street was quiet.",
    "Nobody else was there.",
    "The bread was on the table.",
    "{They} took off {their} coat.",
    "A cup of tea was ready.",
    "The rest of the day was free.",
    "There was a lot of work to do.",
    "{They} looked out of the window.",
    "It had begun to rain.",
    "The house was empty.",
    "{They} sat by the door for a while.",
    "Somebody called from the garden.",
    "{They} was in a good mood.",
    "{They} did not stay long.",
)
STORY_C = (
    "{name} was tired.",
    "{name} laughed.",
    "Everyone liked {name}.",
    "The others looked at {name}.",
    "Then we said goodbye to {name}.",
    "Somebody ran after {name}.",
    "We listened to {name}.",
    "I still think of {name}.",
    "{name} was glad to be there.",
    "A neighbour came to talk to {name}.",
    "All the same, {name} was happy.",
    "The old dog always followed {name}.",
    "In the evening {name} read a book.",
    "The next day I wrote to {name}.",
    "There was nobody like {name}.",
    "And that is what I know about {name}.",
    "The little house belonged to {name}.",
    "The dinner was for {name}.",
    '"Good night, {name}," said the old man.',
    '"Come again soon, {name}," we said.',
    "The whole street spoke about {name}.",
)


def _line(fact: Fact) -> str:
    return f"{fact.prompt} {fact.answer}"


def _names(rng: random.Random, count: int) -> list[str]:
    return [name for name, _ in rng.sample(NAMES, count)]


def _pad(rng: random.Random, parts: list[str], least: int = 20) -> list[str]:
    """Add facts, now and then a neutral sentence, while the parts are too short."""
    parts = list(parts)
    while sum(len(part.split()) for part in parts) < least:
        parts.append(_line(rng.choice(TRAIN)) + "." if rng.random() < 0.75 else rng.choice(NEUTRAL))
    return parts


def _mixed(rng: random.Random) -> str:
    """Facts of any kind in a row."""
    parts: list[str] = []
    for fact in rng.sample(TRAIN, rng.randint(1, 5)):
        lead = rng.choice(LEADS) + " " if rng.random() < 0.12 else ""
        parts.append(f"{lead}{_line(fact)}.")
        if rng.random() < 0.15:
            parts.append(rng.choice(NEUTRAL))
    return " ".join(_pad(rng, parts))


def _same_kind(rng: random.Random) -> str:
    """Facts of one kind in a row."""
    facts = BY_KIND[rng.choice(sorted(BY_KIND))]
    parts = [_line(fact) + "." for fact in rng.sample(facts, min(len(facts), rng.randint(3, 6)))]
    return rng.choice((" ", " ", "\n")).join(_pad(rng, parts))


def _gap(rng: random.Random) -> str:
    """Questions and answers."""
    form = rng.choice(GAPS)
    parts = [form.format(prompt=f.prompt, line=_line(f), answer=f.answer) for f in rng.sample(TRAIN, rng.randint(2, 4))]
    return rng.choice((" ", "\n")).join(_pad(rng, parts))


def _lesson(rng: random.Random) -> str:
    """Pupils and a teacher."""
    parts = [rng.choice(NEUTRAL)] if rng.random() < 0.3 else []
    for name, fact in zip(_names(rng, 4)[: rng.randint(2, 4)], rng.sample(TRAIN, 4), strict=False):
        parts.append(rng.choice(ASK).format(name=name))
        parts.append(rng.choice(SAID).format(name=name, line=_line(fact), praise=rng.choice(PRAISE)))
    return rng.choice((" ", "\n")).join(_pad(rng, parts))


def _corrected(rng: random.Random) -> str:
    """A wrong answer, put right, then a few facts."""
    fact = rng.choice(BY_KIND[rng.choice(SURE_KINDS)])
    others = [other.answer for other in BY_KIND[fact.kind] if other.answer != fact.answer]
    bad = f"{fact.prompt} {rng.choice(others)}"
    parts = [rng.choice(WRONG).format(bad=bad, line=_line(fact), name=_names(rng, 1)[0])]
    return " ".join(_pad(rng, parts, rng.randint(20, 45)))


def _narrate(rng: random.Random, name: str, gender: str) -> list[str]:
    """A plain little story about one person, whose name comes back after a sentence or two."""
    words = {
        "name": name,
        "They": "He" if gender == "m" else "She",
        "their": "his" if gender == "m" else "her",
        "child": "boy" if gender == "m" else "girl",
        "kin": "son" if gender == "m" else "daughter",
    }
    middles, ends = rng.sample(STORY_B, 3), rng.sample(STORY_C, 2)
    forms = [rng.choice(STORY_A), *middles[: rng.randint(1, 2)], ends[0]]
    if rng.random() < 0.5:
        forms += [middles[2], ends[1]]
    return [form.format(**words) for form in forms]


def _story(rng: random.Random) -> str:
    """Plain stories about one or two people, one after the other."""
    parts: list[str] = []
    for name, gender in rng.sample(NAMES, rng.randint(1, 2)):
        parts += _narrate(rng, name, gender)
    return " ".join(_pad(rng, parts))


KINDS: tuple[tuple[Callable[[random.Random], str], int], ...] = (
    (_mixed, 30),
    (_same_kind, 20),
    (_gap, 12),
    (_lesson, 15),
    (_corrected, 5),
    (_story, 18),
)


def documents(rng: random.Random) -> Iterator[str]:
    """Yield documents of simple facts and plain stories without end; a fifth begin with a single space."""
    makers = [maker for maker, _ in KINDS]
    weights = [weight for _, weight in KINDS]
    while True:
        text = rng.choices(makers, weights)[0](rng)
        yield " " + text if rng.random() < 0.2 else text
