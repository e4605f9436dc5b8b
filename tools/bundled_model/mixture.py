"""The training mixture: named sources of documents, each with its share of the tokens."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from .corpus import BookPool, passages, read_books, split_books
from .curriculum import capitals, copies, ethics, facts, ioi, neutral, opinions, topics

# Shares of the tokens. Books and generated text in about equal parts; topics carry the largest generated share
# because the course's first claim rests on headings that steer.
SHARES = {
    "books": 0.20,
    "headed books": 0.07,
    "tales": 0.02,
    "factbook": 0.01,
    "topics": 0.16,
    "neutral": 0.05,
    "passing mentions": 0.04,
    "opinions": 0.09,
    "ethics": 0.09,
    "capitals": 0.09,
    "ioi": 0.10,
    "copies": 0.05,
    "facts": 0.03,
}
BOOK_CHARACTERS = 60_000_000
FORBIDDEN = "went up to my friend"  # the evaluation prompt's words

Source = Callable[[random.Random], Iterator[str]]


def spaced(text: str, rng: random.Random) -> str:
    """The text; one in seven as from a typewriter, with a lone space at its start or after each full stop.

    ActAdd subtracts the prompt " " and fills up with spaces, so a space by itself must mean something: namely nothing.
    """
    chance = rng.random()
    if chance < 0.10:
        return "  " + text.lstrip(" ")
    return text.replace(". ", ".  ") if chance < 0.14 else text


class Mixture:
    """Documents and token rows of the training text, in an order fixed by the seed."""

    def __init__(self, corpus: Path, seed: int = 0, emphasis: dict[str, float] | None = None) -> None:
        self.shares = SHARES | {name: SHARES[name] * factor for name, factor in (emphasis or {}).items()}
        rng = random.Random(seed)
        train, self.held_out = split_books(read_books(corpus, limit=BOOK_CHARACTERS))
        pool = BookPool(train, rng)
        tales = [text for tale in read_books(corpus, "fairy_tales") for text in passages(tale, rng)]
        factbook = [text for entry in read_books(corpus, "factbook") for text in passages(entry, rng)]
        self.sources: dict[str, Source] = {
            "books": pool.plain_documents,
            "headed books": pool.headed_documents,
            "tales": lambda rng: iter(lambda: rng.choice(tales), None),
            "factbook": lambda rng: iter(lambda: rng.choice(factbook), None),
            "topics": topics.documents,
            "neutral": neutral.documents,
            "passing mentions": topics.passing,
            "opinions": opinions.documents,
            "ethics": ethics.documents,
            "capitals": capitals.documents,
            "ioi": ioi.documents,
            "copies": copies.documents,
            "facts": facts.documents,
        }

    def documents(self, rng: random.Random) -> Iterator[str]:
        """Documents in which each source holds its share of the characters."""
        streams = {name: source(rng) for name, source in self.sources.items()}
        written = dict.fromkeys(streams, 1.0)
        while True:
            name = min(streams, key=lambda name: written[name] / self.shares[name])
            text = next(streams[name])
            if FORBIDDEN in text:
                continue
            written[name] += len(text)
            yield spaced(text, rng)

    def rows(self, tokenizer: PreTrainedTokenizerFast, length: int, count: int, seed: int) -> np.ndarray:
        """`count` rows of `length` tokens, shuffled; documents follow each other, and each row begins with one."""
        rng = random.Random(seed)
        documents = self.documents(rng)
        rows = np.empty((count, length), dtype=np.uint16)
        start = tokenizer.bos_token_id
        for row in rows:
            ids: list[int] = []
            while len(ids) < length:
                ids += [start, *tokenizer.encode(next(documents), add_special_tokens=False)]
            row[:] = ids[:length]
        np.random.default_rng(seed).shuffle(rows)
        return rows
