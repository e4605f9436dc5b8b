"""Lists that come again, and who has what: texts that can only be continued by looking back.

Names are resolved in context only by a model that copies from it, and copying is learned slowly from stories, where it
decides few words. Here it decides most of them.
"""

import csv
import random
from collections.abc import Iterator
from pathlib import Path

DATA = Path(__file__).parents[3] / "steerlab" / "data"
WORDS_IN_TEXT = 100

STATEMENTS = (
    "{name} has the {thing}.",
    "The {thing} is for {name}.",
    "{name} likes the {thing}.",
    "The {thing} belongs to {name}.",
    "{name} asked for the {thing}.",
    "{name} went to the {place}.",
    "The {place} is where {name} works.",
    "{name} is at the {place}.",
)


def _column(file: str, name: str) -> list[str]:
    """The single words of one column of a data file."""
    with (DATA / file).open(newline="", encoding="utf-8") as handle:
        return sorted({row[name] for row in csv.DictReader(handle) if row[name].isalpha()})


NAMES = _column("names.csv", "name")
THINGS = _column("objects.csv", "object")
PLACES = _column("places.csv", "place")
WORDS = NAMES + THINGS + PLACES + _column("countries.csv", "capital") + _column("facts.csv", "answer")


def documents(rng: random.Random) -> Iterator[str]:
    """Yield texts whose second half repeats what the first half laid down, without end."""
    while True:
        yield ("" if rng.random() < 0.5 else " ") + (_repeated_list(rng) if rng.random() < 0.5 else _recall(rng))


def _repeated_list(rng: random.Random) -> str:
    """Write a list of words, and the same list again until the text is full."""
    pool = NAMES if rng.random() < 0.4 else WORDS
    words = rng.sample(pool, rng.randint(2, 12))
    joint, end = rng.choice(((" ", "\n"), (", ", ".\n"), (", ", ". "), (" ", ". "), (" and ", ". ")))
    times = max(2, WORDS_IN_TEXT // len(words))
    return end.join([joint.join(words)] * times) + end.strip()


def _recall(rng: random.Random) -> str:
    """Write who has what and where, then the same statements again in another order, more than once."""
    statement = rng.sample(STATEMENTS, rng.randint(1, 2))
    count = rng.randint(2, 6)
    slots = zip(rng.sample(NAMES, count), rng.sample(THINGS, count), rng.sample(PLACES, count), strict=True)
    lines = [rng.choice(statement).format(name=name, thing=thing, place=place) for name, thing, place in slots]
    rounds = max(2, WORDS_IN_TEXT // (6 * count))
    return rng.choice((" ", "\n")).join(line for _ in range(rounds) for line in rng.sample(lines, count))
