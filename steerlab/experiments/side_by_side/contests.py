"""The tasks: frames of prompts of one length, with a wanted token and another one, and what each method is told."""

from dataclasses import dataclass

import pandas as pd

from ... import data
from ...model import SteerableModel
from ...tasks import answer_tokens, ioi


@dataclass(frozen=True)
class Contest:
    """A task on which methods are compared.

    Args:
        train: prompts to make interventions from: `prompt`, `correct` (the wanted token), `wrong`.
        test: prompts to measure on.
        pair: ActAdd's two texts.
        stances: SARA's attracting and repelling texts.
        typed: what one would type in front instead.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    pair: tuple[str, str]
    stances: tuple[str, str]
    typed: str

    @property
    def many(self) -> tuple[list[str], list[str]]:
        """The training prompts with either token written out, for the mean difference."""
        return list(self.train["prompt"] + self.train["correct"]), list(self.train["prompt"] + self.train["wrong"])


def contests(lm: SteerableModel, n: int = 40, seed: int = 0) -> dict[str, Contest]:
    """An answer pair (the other name), a topic and a tone, at most n prompts to train on and n to test on.

    Raises:
        ValueError: a wanted token is not one token of the model, or its tokenizer leaves too few prompts of one length.
    """
    wanted = {"correct": "wrong", "wrong": "correct"}  # towards the name that the bare model does not give
    names = ioi(lm, 2 * n, seed=seed, orders=["ABBA"])
    train, test = (side.rename(columns=wanted)[["prompt", "correct", "wrong"]] for side in (names.train, names.test))
    first = train.iloc[0]
    made = {
        "answer": Contest(
            train,
            test,
            pair=(first.correct, first.wrong),
            stances=(first.prompt + first.correct, first.prompt + first.wrong),
            typed="Not the first name, the other one.",
        ),
        "topic": Contest(
            *_template(lm, "{name} told me all about the", " wedding", " journey", n, seed),
            pair=(" weddings", " "),
            stances=("The bride and the groom.", "The ship and the road."),
            typed=" weddings",
        ),
        "tone": Contest(
            *_template(lm, "{name} said that the dinner was", " good", " bad", n, seed),
            pair=(" good", " bad"),
            stances=("It was good and fine.", "It was bad and poor."),
            typed=" good",
        ),
    }
    for contest in made.values():
        for side in (contest.train, contest.test):
            answer_tokens(lm, side)  # refuses what is not one token
    return made


def _template(
    lm: SteerableModel, text: str, correct: str, wrong: str, n: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test prompts of the most common length, with other names in each."""
    names = data.table("names")["name"].sample(frac=1, random_state=seed)
    rows = pd.DataFrame({"prompt": [text.format(name=name) for name in names], "correct": correct, "wrong": wrong})
    lengths = pd.Series([len(lm.ids(prompt)) for prompt in rows["prompt"]])
    rows = rows[(lengths == lengths.mode()[0]).to_numpy()]
    half = min(n, len(rows) // 2)
    if half < 2:
        raise ValueError(f"{lm.name} leaves {len(rows)} prompts of one length of {text!r}: at least 4 are needed")
    return rows.head(half).reset_index(drop=True), rows.iloc[half : 2 * half].reset_index(drop=True)
