"""Indirect objects: two people, one of whom acts; the next word is the other's name.

The task of Wang et al. (arXiv 2211.00593), which Stoehr et al. (arXiv 2410.04962) use; templates and word lists are our
own. The names, places and objects of the test stand in no such sentence that the bundled model was trained on, and none
of the templates does.
"""

import random
from collections.abc import Sequence
from typing import Any, Literal, get_args

import pandas as pd

from ..data import table
from ..model import SteerableModel
from .frames import Task, fill, single_tokens

TEMPLATES = (
    "When {P} and {Q} went to the {place}, {S} gave a {object} to",
    "Then, {P} and {Q} had a long walk to the {place}. {S} handed the {object} to",
    "Friends {P} and {Q} found a {object} at the {place}. {S} gave it to",
    "As soon as {P} and {Q} got to the {place}, {S} offered a {object} to",
    "The {place} was full when {P} and {Q} arrived, and {S} passed the {object} to",
    "All day long {P} and {Q} were busy at the {place}, until {S} sent a {object} to",
)
"""{S} is who acts; {P} and {Q} are the receiver and {S}, in either order."""

OPENINGS = (
    "",
    "It was a fine day. ",
    "Nobody was in a hurry, and the sun was still high. ",
    "It rained. ",
    "The snow was gone at last, the roads were dry again, and the birds had come back. ",
)
"""To put before a template: the same sentence in several lengths."""

Order = Literal["ABBA", "BABA"]
ORDERS: tuple[Order, ...] = get_args(Order)
"""The receiver (A) is named first, or the one who acts (B)."""

WORDS = {"name": "names", "place": "places", "object": "objects"}
TRIES = 1000


def ioi(
    lm: SteerableModel,
    n: int = 200,
    seed: int = 0,
    *,
    templates: Sequence[str] = TEMPLATES[:1],
    test_templates: Sequence[str] | None = None,
    orders: Sequence[Order] = ORDERS,
) -> Task:
    """Giving sentences: "When Mary and John went to the store, John gave a book to" -> " Mary", not " John".

    Names, places and objects of the test are others than those of the training, and all are single tokens, so that a
    template has one length. By default both sides share one template, as methods tied to positions need it.

    Args:
        lm: the model whose tokens the names must be.
        n: prompts, half of them to train on.
        seed: of the words.
        templates: of the training, with the fields {P}, {Q}, {S}, {place}, {object}; see `TEMPLATES`.
        test_templates: of the test, the same by default.
        orders: "ABBA" names the receiver first, "BABA" the one who acts.

    Returns:
        Frames with the columns `prompt`, `correct`, `wrong`, `counter` (the same prompt in which the other person acts,
        so that the wrong answer is right), `template`, `order`, `roles` (of each token: BOS, IO, S, S2, place, object,
        text, end), `place`, `object`.

    Raises:
        ValueError: an unknown order, too few prompts to be had, or too few words that are single tokens of the model.
    """
    unknown = set(orders) - set(ORDERS)
    if unknown or not orders:
        raise ValueError(f"orders={tuple(orders)!r}: choose some of {', '.join(ORDERS)}")
    if n < 2:
        raise ValueError(f"n={n} is too few: one prompt to train on and one to test")
    rng = random.Random(seed)
    sides = []
    for split, count, forms in (("train", n // 2, templates), ("test", n - n // 2, test_templates or templates)):
        words = {word: _words(lm, word, split) for word in WORDS}
        sides.append(_frame(lm, rng, count, words, [(form, order) for form in forms for order in orders]))
    return Task("ioi", *sides)


def _words(lm: SteerableModel, column: str, split: str) -> list[str]:
    """The words of one side that are single tokens."""
    rows = table(WORDS[column])
    return single_tokens(lm, rows.loc[rows["split"] == split, column], least=2)


def _frame(
    lm: SteerableModel, rng: random.Random, count: int, words: dict[str, list[str]], forms: list[tuple[str, Order]]
) -> pd.DataFrame:
    """Different prompts, the forms in turn."""
    rows: dict[str, dict[str, Any]] = {}
    for number in range(count):
        for _ in range(TRIES):
            row = _row(lm, rng, words, *forms[number % len(forms)])
            if row["prompt"] not in rows:
                break
        else:
            raise ValueError(f"no more than {len(rows)} different prompts were found for one side: ask for a smaller n")
        rows[row["prompt"]] = row
    return pd.DataFrame(rows.values())


def _row(
    lm: SteerableModel, rng: random.Random, words: dict[str, list[str]], template: str, order: Order
) -> dict[str, Any]:
    """One prompt with its answers."""
    receiver, actor = rng.sample(words["name"], 2)
    place, item = rng.choice(words["place"]), rng.choice(words["object"])
    fields = ("{IO}", "{S}") if order == "ABBA" else ("{S}", "{IO}")
    named = template.replace("{P}", fields[0]).replace("{Q}", fields[1])
    prompt, roles = fill(lm, named, {"IO": receiver, "S": actor, "place": place, "object": item})
    people = (receiver, actor) if order == "ABBA" else (actor, receiver)
    counter = template.format(P=people[0], Q=people[1], S=receiver, place=place, object=item)
    answers = {"correct": f" {receiver}", "wrong": f" {actor}", "counter": counter}
    settings = {"template": template, "order": order, "roles": roles, "place": place, "object": item}
    return {"prompt": prompt, **answers, **settings}
