"""Make the offline judge's word counts from the training grammar: `python tools/word_judge.py`.

Reads only what the bundled model may train on. Writes steerlab/data/stance_words.csv, and stances.csv with the held-out
sentences on which the judge is validated.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bundled_model.curriculum import ethics, neutral
from steerlab.judges import count_words

DATA = Path(__file__).resolve().parents[1] / "steerlab" / "data"
ANSWERS = 3000  # of each group
NEUTRAL = 1500
STANCE_REPEATS = 5  # a stance is one sentence, an answer up to five


def training_texts(seed: int = 0) -> Iterator[tuple[str, str]]:
    """Pairs of text and group: answers to dilemmas, stances, hesitations, and everyday talk."""
    rng = random.Random(seed)
    for _ in range(ANSWERS):
        for school, group in (("duty", "duty"), ("consequence", "consequence"), ("none", "neither")):
            drawn = ethics.draw_dilemma(rng, rng.random() < 0.08)
            text = " ".join(ethics.answer(rng, school, drawn, rng.randint(1, 5)))
            if ethics.allowed(text):
                yield text, group
    for school, stances in ethics.STANCES.items():
        yield from [(stance, school) for stance in stances] * STANCE_REPEATS
    talk = neutral.documents(rng)
    for _ in range(NEUTRAL):
        yield next(talk), "neither"


def main() -> None:
    count_words(training_texts()).to_csv(DATA / "stance_words.csv")
    held_out = [(text, group) for group, texts in ethics.HELD_OUT_STANCES.items() for text in texts]
    pd.DataFrame(held_out, columns=["text", "group"]).to_csv(DATA / "stances.csv", index=False)


if __name__ == "__main__":
    main()
