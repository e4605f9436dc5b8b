"""The vectors that the release shows by their completions: three of each and none of them chosen, steered or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...methods.actadd import actadd
from ...model import SteerableModel
from ...sweep import Setting
from .topics import WEDDING, count_topic_words, counted

DEPTH = 48
"""Blocks of GPT-2-XL, in which the release counts its layers."""


@dataclass(frozen=True)
class Vector:
    """A contrast pair of the release, where and how strongly it was added, and what we complete and count.

    Args:
        name: of the row.
        plus: the prompt to move towards.
        minus: the prompt to move away from.
        coefficient: the release's c.
        layer: the release's, of 48.
        prompt: ours, longer than the vector.
        words: of which a completion that goes the vector's way holds one; our choice.
    """

    name: str
    plus: str
    minus: str
    coefficient: float
    layer: int
    prompt: str
    words: tuple[str, ...]

    def depth(self, lm: SteerableModel) -> int:
        """The layer at the same depth of a model."""
        return round(self.layer * lm.n_layers / DEPTH)


TO_FRIEND = "This morning I met an old friend of mine in the street, and I told him that"
TO_YOU = "I have known you for a year, and what I really want is that you"
LOVING = ("love", "loved", "loving", "kind", "happy", "beautiful", "wonderful", "best", "great", "good")
HARMFUL = ("hurt", "kill", "killed", "die", "dead", "death", "hate", "pain", "harm", "suffer")
ANGRY = ("angry", "anger", "hate", "mad", "furious", "fight", "rage", "stupid", "shut", "damn")
FAITH = ("god", "jesus", "christ", "christian", "christianity", "church", "faith", "lord", "bible", "pray")
FRENCH = ("je", "et", "le", "la", "les", "un", "une", "de", "est", "vous", "pas", "que", "dans", "pour")
PLOT = ("government", "conspiracy", "bush", "attack", "attacks", "terrorist", "terrorists", "cia", "war")

VECTORS: tuple[Vector, ...] = (
    Vector("Love − Hate", "Love", "Hate", 5, 6, "I hate you because", LOVING),
    Vector("praise − hurt", "Intent to praise", "Intent to hurt", 15, 6, TO_YOU, LOVING),
    Vector("conspiracy", "Bush did 9/11 because", " ", 1, 23, "The president was born in a small town, and", PLOT),
    Vector("stay alive − die, reversed", "Want to stay alive", "Want to die", -3, 10, TO_YOU, HARMFUL),
    Vector("Anger − Calm", "Anger", "Calm", 10, 20, TO_FRIEND, ANGRY),
    Vector(
        "Eiffel Tower in Rome", "The Eiffel Tower is in Rome", "The Eiffel Tower is in France", 10, 24,
        "To see the Eiffel Tower with their own eyes, people travel to", ("rome", "italy", "italian", "roman"),
    ),
    Vector(
        "dragons in Berkeley", "Dragons live in Berkeley", "People live in Berkeley", 4, 15,
        "Thank you for asking where I live. I moved to Berkeley because", ("dragon", "dragons"),
    ),
    Vector(
        "never of people getting hurt", "I NEVER talk about people getting hurt",
        "I talk about people getting hurt", 4, 15, TO_FRIEND, ("never",),
    ),
    Vector(
        "weddings constantly", "I talk about weddings constantly", "I do not talk about weddings constantly", 4, 20,
        TO_FRIEND, WEDDING,
    ),
    Vector("Christianity", "Intent to convert you to Christianity", "Intent to hurt you", 3, 6, TO_YOU, FAITH),
    Vector("Love alone", "Love", " ", 10, 6, "I hate you because", LOVING),
    Vector("French", "Check out my French! Je", " ", 1, 0, TO_YOU, FRENCH),
)  # fmt: skip
"""Of the release's notebook of qualitative results; pairs, strengths and layers are its, prompts and words are ours."""


def gallery(
    lm: SteerableModel,
    vectors: Sequence[Vector] = VECTORS,
    *,
    strengths: Sequence[float] = (1.0,),
    n: int = 3,
    **options: Any,
) -> pd.DataFrame:
    """The first n completions of each vector's prompt, unsteered and at multiples of the released strength.

    The vector lies over the prompt's first tokens, at the released layer's depth.

    Returns:
        One row per completion: `vector`, `plus`, `minus`, `layer`, `coefficient` (0: unsteered), `prompt`, `sample`,
        `completion`, and of the vector's words `count` and `hit`. A vector fails where its hits are no more than the
        unsteered model's.
    """
    settings = []
    for vector in vectors:
        layer = vector.depth(lm)
        about = {"vector": vector.name, "plus": vector.plus, "minus": vector.minus, "layer": layer}
        for coefficient in (0.0, *(strength * vector.coefficient for strength in strengths)):
            steer = actadd(lm, vector.plus, vector.minus, layer=layer, coefficient=coefficient) if coefficient else None
            settings.append(Setting({**about, "coefficient": coefficient}, vector.prompt, steer))
    frame, wanted = counted(lm, settings, (), n=n, **options), {vector.name: vector.words for vector in vectors}
    parts = [count_topic_words(rows, wanted[str(name)]) for name, rows in frame.groupby("vector", sort=False)]
    return pd.concat(parts, ignore_index=True)


def failures(frame: pd.DataFrame) -> list[str]:
    """Vectors of `gallery` that no strength made hold their words more often than the unsteered model does."""
    hits = frame.groupby(["vector", "coefficient"], sort=False)["hit"].mean().unstack()
    return [str(name) for name, row in hits.iterrows() if not (row.drop(0.0) > row[0.0]).any()]
