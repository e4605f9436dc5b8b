"""Passages of the public-domain books, fairy tales and factbook, cut for training and for the held-out measure.

A passage is headed by a topic word when it is dense in that topic, so that the books too teach that a heading sets
what follows; all other passages stay unheaded, and those that speak of a wedding in passing are left out, so that
unheaded text stays neutral about the one topic that the course counts.
"""

import lzma
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .curriculum.topics import LEXICONS, heading, mentions

HELD_OUT_BOOK = 20  # every twentieth book is never trained on: 5 %
WORDS_PER_PASSAGE = (50, 170)
MIN_TOPIC_WORDS = 3
MIN_TOPIC_SHARE = 0.025
WORD = re.compile(r"[a-z']+")

TOPIC_OF_WORD = {word: topic for topic, lexicon in LEXICONS.items() for word in lexicon["words"]}


@dataclass(frozen=True)
class Passage:
    """A stretch of whole paragraphs, and the topic that it is dense in, if any."""

    text: str
    topic: str | None


def read_books(folder: Path, name: str = "books_easy_first", limit: int | None = None) -> list[str]:
    """The books of one corpus file, at most `limit` characters of them."""
    with lzma.open(folder / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
        text = file.read(limit if limit else -1)
    return [book.strip() for book in text.split("<|endoftext|>") if book.strip()]


def split_books(books: list[str]) -> tuple[list[str], list[str]]:
    """Books to train on, and books held out."""
    held_out = [book for i, book in enumerate(books) if i % HELD_OUT_BOOK == 7]
    return [book for i, book in enumerate(books) if i % HELD_OUT_BOOK != 7], held_out


def passages(book: str, rng: random.Random) -> Iterator[str]:
    """Cut a book into runs of paragraphs of a random length within `WORDS_PER_PASSAGE`."""
    taken: list[str] = []
    size, wanted = 0, rng.randint(*WORDS_PER_PASSAGE)
    for paragraph in re.split(r"\n\s*\n", book):
        paragraph = " ".join(paragraph.split())
        if not paragraph or paragraph.isupper():
            continue
        taken.append(paragraph)
        size += paragraph.count(" ") + 1
        if size >= wanted:
            yield "\n".join(taken)
            taken, size, wanted = [], 0, rng.randint(*WORDS_PER_PASSAGE)


def topic_of(text: str) -> tuple[str | None, bool]:
    """The topic a passage is dense in (or None), and whether it holds any wedding word."""
    words = WORD.findall(text.lower())
    counts: dict[str, int] = {}
    for word in words:
        topic = TOPIC_OF_WORD.get(word)
        if topic:
            counts[topic] = counts.get(topic, 0) + 1
    if not counts:
        return None, False
    best = max(counts, key=lambda topic: counts[topic])
    dense = counts[best] >= MIN_TOPIC_WORDS and counts[best] / len(words) >= MIN_TOPIC_SHARE
    return best if dense else None, "weddings" in counts


class BookPool:
    """All training passages, ready to be drawn in an order that the seed decides."""

    def __init__(self, books: list[str], rng: random.Random) -> None:
        self.plain: list[str] = []
        self.topical: dict[str, list[str]] = {topic: [] for topic in LEXICONS}
        for book in books:
            for text in passages(book, rng):
                topic, speaks_of_wedding = topic_of(text)
                if topic:
                    self.topical[topic].append(text)
                elif not speaks_of_wedding:
                    self.plain.append(text)

    def plain_documents(self, rng: random.Random) -> Iterator[str]:
        """Unheaded passages, each once per pass over the pool."""
        while True:
            yield from rng.sample(self.plain, len(self.plain))

    def headed_documents(self, rng: random.Random) -> Iterator[str]:
        """Topical passages under their heading, the topics in balance."""
        topics = [topic for topic, texts in self.topical.items() if len(texts) >= 20]
        while True:
            topic = rng.choice(topics)
            yield heading(topic, rng) + mentions(topic, rng) + rng.choice(self.topical[topic])
