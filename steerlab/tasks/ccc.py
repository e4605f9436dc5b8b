"""Country-capital conflicts: where a capital lies, asked plainly or after a statement that puts it elsewhere.

In the style of the task CCC of Stoehr et al. (arXiv 2410.04962), whose templates and sizes are not known to us;
templates and countries are our own. Apart from the first of each kind, no template was in the bundled model's training.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from ..data import table
from ..model import SteerableModel
from .frames import Task, fill, single_tokens

PLAIN = (
    " {capital} is in",
    "A train to {capital} will carry you into",
    "The people who were born in {capital} are citizens of",
)
CONFLICT = (
    " {capital} is in {false}. {capital} is in",
    "In the book, {capital} is in {false}. A train to {capital} will carry you into",
    "The letter puts {capital} in {false}. The people who were born in {capital} are citizens of",
)
"""{capital} stands after a space wherever it stands, so that it is one token."""

Pair = tuple[str, str]


def ccc(
    lm: SteerableModel,
    n: int = 100,
    seed: int = 0,
    *,
    conflict: bool = False,
    templates: Sequence[str] | None = None,
    test_templates: Sequence[str] | None = None,
) -> Task:
    """Capitals: " Rome is in" -> " Italy", not " France"; in conflict, " Rome is in France. Rome is in".

    The capitals of the test, and the countries beside them, are others than those of the training, and all are single
    tokens, so that a template has one length. The wrong answer is a country drawn at random: the one that the context
    names, where there is a conflict.

    Args:
        lm: the model whose tokens the countries and capitals must be.
        n: prompts, half of them to train on; a plain template has no more prompts than there are capitals.
        seed: of the split and of the wrong answers.
        conflict: whether a false statement stands before the question.
        templates: of the training, with the fields {capital} and, in conflict, {false}; the first of `PLAIN` or
            `CONFLICT` by default.
        test_templates: of the test, those of the training by default.

    Returns:
        Frames with the columns `prompt`, `correct`, `wrong`, `counter` (a prompt of the same form to which the wrong
        answer is right), `template`, `roles` (of each token: BOS, capital, false, capital2, text, end), `capital`.

    Raises:
        ValueError: too few prompts to be had, or too few words that are single tokens of the model.
    """
    if n < 2:
        raise ValueError(f"n={n} is too few: one prompt to train on and one to test")
    chosen = list(templates or (CONFLICT if conflict else PLAIN)[:1])
    rng = random.Random(seed)
    pairs = _pairs(lm)
    rng.shuffle(pairs)
    half = len(pairs) // 2
    train = _frame(lm, rng, n // 2, pairs[:half], chosen)
    test = _frame(lm, rng, n - n // 2, pairs[half:], list(test_templates or chosen))
    return Task("ccc in conflict" if conflict else "ccc", train, test)


def _pairs(lm: SteerableModel) -> list[Pair]:
    """Countries and capitals that are single tokens, both."""
    rows = table("countries")
    single = [rows[column].isin(single_tokens(lm, rows[column], least=4)) for column in ("country", "capital")]
    both = rows[single[0] & single[1]]
    return list(zip(both["country"], both["capital"], strict=True))


def _frame(lm: SteerableModel, rng: random.Random, count: int, pairs: list[Pair], templates: list[str]) -> pd.DataFrame:
    """Different prompts, in random order."""
    rows: dict[str, dict[str, Any]] = {}
    for template, (country, capital), (false, other) in _candidates(pairs, templates):
        prompt, roles = fill(lm, template, {"capital": capital, "false": false})
        counter = template.format(capital=other, false=country)
        answers = {"correct": f" {country}", "wrong": f" {false}", "counter": counter}
        rows.setdefault(prompt, {"prompt": prompt, **answers, "template": template, "roles": roles, "capital": capital})
        if len(rows) == count:
            return pd.DataFrame(rng.sample(list(rows.values()), count))
    raise ValueError(f"{len(pairs)} capitals give {len(rows)} prompts for one side, not {count}: use a smaller n")


def _candidates(pairs: list[Pair], templates: list[str]) -> Iterator[tuple[str, Pair, Pair]]:
    """Template, pair and false pair: all capitals once before one comes again with another template or country."""
    for turn in range(len(pairs) - 1):
        for number, pair in enumerate(pairs):
            false = pairs[(number + turn + 1) % len(pairs)]
            yield templates[(number + turn) % len(templates)], pair, false
