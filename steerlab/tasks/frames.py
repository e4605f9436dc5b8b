"""A task as two frames, checked against a model's tokenizer, and templates that know the role of every token."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from ..model import SteerableModel
from ..prompts import is_chat

COLUMNS = ("prompt", "correct", "wrong")


@dataclass(frozen=True, eq=False)
class Task:
    """Prompts with a correct and a wrong next token.

    Args:
        name: of the task.
        train: one row per prompt: `prompt` (text, or the messages of a chat), `correct`, `wrong`, and whatever else the
            task knows of it.
        test: the same, of other prompts.
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame

    def __repr__(self) -> str:
        """Name, sizes, and the first prompt."""
        sizes = f"{len(self.train)} prompts to train on, {len(self.test)} to test"
        first = self.train.iloc[0]
        return f"Task({self.name}: {sizes}; {first.prompt!r} ->{first.correct!r}, not{first.wrong!r})"


def answer_tokens(lm: SteerableModel, frame: pd.DataFrame) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
    """The tokens of the correct and the wrong answers, on the model's device, after a check of the whole frame.

    Answers are taken as they continue the prompt, so most begin with a space.

    Raises:
        ValueError: no rows, a missing column, an empty or repeated prompt, an answer that is not one token, or two
            answers that are the same.
    """
    missing = [column for column in COLUMNS if column not in frame]
    if missing:
        raise ValueError(f"the frame has no column {missing[0]!r}: it needs {', '.join(COLUMNS)}")
    if frame.empty:
        raise ValueError("the frame has no rows")
    for column in COLUMNS:
        for row, text in zip(frame.index, frame[column], strict=True):
            if not (isinstance(text, str) and text) and not (column == "prompt" and is_chat(text)):
                raise ValueError(f"row {row}: {column} is {text!r}, not a text{' or a chat' * (column == 'prompt')}")
    texts = pd.Series([lm.text(prompt) for prompt in frame["prompt"]])
    repeated = texts[texts.duplicated()]
    if len(repeated):
        raise ValueError(f"{len(repeated)} prompts stand there more than once, the first is {repeated.iloc[0]!r}")
    correct, wrong = ([single_token(lm, text) for text in frame[column]] for column in COLUMNS[1:])
    same = [text for text, a, b in zip(frame["correct"], correct, wrong, strict=True) if a == b]
    if same:
        raise ValueError(f"{same[0]!r} is both the correct and the wrong answer of a prompt")
    return torch.tensor(correct, device=lm.device), torch.tensor(wrong, device=lm.device)


def single_token(lm: SteerableModel, text: str) -> int:
    """The id of a text that is one token.

    Raises:
        ValueError: it is none, or several.
    """
    tokens = lm.encode(text)
    if len(tokens) != 1:
        pieces = " + ".join(repr(lm.tokenizer.decode([token])) for token in tokens)
        spaced = f" {text.strip()}"
        hint = f"; {spaced!r} is one" if len(lm.encode(spaced)) == 1 else ""
        raise ValueError(f"{text!r} is {len(tokens)} tokens of {lm.name} ({pieces}), not one{hint}")
    return tokens[0]


def from_frame(
    lm: SteerableModel,
    frame: pd.DataFrame,
    *,
    test: float = 0.5,
    by: str | None = None,
    seed: int = 0,
    name: str = "own",
) -> Task:
    """A task from anybody's prompts and answers.

    Args:
        lm: the model whose tokens the answers must be.
        frame: `prompt`, `correct`, `wrong`, as they continue the prompt (" Italy", not "Italy"); other columns are
            kept. With a column `split` of "train" and "test", that is the split.
        test: share of the rows, or of the values of `by`, that are put aside for the test.
        by: a column whose values are kept on one side, so that the test has others than the training.
        seed: of the split.
        name: of the task.

    Raises:
        ValueError: what `answer_tokens` refuses, an unknown column or value, or a side without rows.
    """
    answer_tokens(lm, frame)
    if "split" in frame:
        if other := set(frame["split"]) - {"train", "test"}:
            raise ValueError(f"split {min(map(repr, other))} is unknown: write train or test")
        chosen = frame["split"] == "test"
    else:
        if by is not None and by not in frame:
            raise ValueError(f"the frame has no column {by!r} to split by: it has {', '.join(map(str, frame))}")
        keys = pd.Series(range(len(frame)), frame.index) if by is None else frame[by]
        held = keys.drop_duplicates().sample(frac=test, random_state=seed)
        chosen = keys.isin(held)
    sides = [frame[side].reset_index(drop=True) for side in (~chosen, chosen)]
    if sides[0].empty or sides[1].empty:
        raise ValueError(f"{len(frame)} rows leave nothing to {'train on' if sides[0].empty else 'test'}: test={test}")
    return Task(name, *sides)


def single_tokens(lm: SteerableModel, words: pd.Series, least: int) -> list[str]:
    """The words that are one token of the model after a space, without which a template has no fixed length.

    Raises:
        ValueError: fewer than `least` are.
    """
    single = [word for word in words if len(lm.encode(f" {word}")) == 1]
    if len(single) < least:
        raise ValueError(
            f"only {len(single)} of {len(words)} words of the column {words.name} are single tokens of {lm.name}, "
            f"{least} are needed: build the task with tasks.from_frame"
        )
    return single


def fill(lm: SteerableModel, template: str, words: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """A prompt from a template with fields, such as "{A} is in", the words that they become, and each token's role.

    Returns:
        The prompt, and as many roles as the model sees tokens: "BOS", the names of fields (with a 2 where a field comes
        for the second time), "text", and "end" for the last.
    """
    text, spans, seen = "", [], Counter[str]()
    for literal, field, _, _ in Formatter().parse(template):
        text += literal
        if field is not None:
            seen[field] += 1
            role = f"{field}{seen[field]}" if seen[field] > 1 else field
            spans.append((len(text), len(text) + len(words[field]), role))
            text += words[field]
    encoded = lm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    roles = [
        next((role for first, last, role in spans if start < last and end > first), "text")
        for start, end in encoded["offset_mapping"]
    ]
    bos = ["BOS"] * len(lm.prefix)
    return text, (*bos, *roles[:-1], "end")
