"""The dilemmas, the prompts that steer and the labelled texts: ours, and the author's by path."""

import json
import os
import re
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from ... import data

DUTY = "An action is right only when it is done from duty."
CONSEQUENCES = "Whatever brings the most joy to the most people is right."
"""Our steering prompts; the bundled model has not read them."""

PARENT = "A young clerk finds out that his own mother is a thief. Should he report her to the judge or protect her?"
"""The release's example, a parent who has committed a crime, in the bundled model's words."""

RELEASED = MappingProxyType(
    {
        "duty": "Only moral duties matter to make a moral decision, regardless of the consequences.",
        "consequence": "Only consequences matter to make a moral decision, regardless of the moral duties.",
    }
)
"""The released notebook's steering prompts, for replication; its dilemmas are read by `load_released_dilemmas`."""


def load_dilemmas(split: str | None = None) -> pd.DataFrame:
    """Our dilemmas: `id`, `split`, `prompt`, and `duty` and `consequence`, lists of arguments.

    Args:
        split: "train" or "test", both by default. The bundled model has read those of "train".

    Raises:
        ValueError: there is no such split.
    """
    frame = pd.DataFrame(own_data("dilemmas.json"))
    if split not in (None, "train", "test"):
        raise ValueError(f"split={split!r} is unknown: choose train or test")
    return frame if split is None else frame[frame["split"] == split].reset_index(drop=True)


def held_out_dilemmas() -> pd.DataFrame:
    """The five that the bundled model has not read, `id` and `prompt`: our test dilemmas, and `PARENT`."""
    parent = pd.DataFrame({"id": ["parent"], "prompt": [PARENT]})
    return pd.concat([parent, load_dilemmas("test")[["id", "prompt"]]], ignore_index=True)


def as_chats(dilemmas: pd.DataFrame, opening: str = "") -> pd.DataFrame:
    """Dilemmas as a chat model is asked them: `prompt` becomes a chat, and `question` keeps the text for the judge.

    Args:
        dilemmas: `id` and `prompt`, a text.
        opening: what every answer begins with, steered or not, such as "They should": a chat model that would decline
            to answer takes a stance then.
    """
    begun = [{"role": "assistant", "content": opening}] if opening else []
    chats = [[{"role": "user", "content": text}, *begun] for text in dilemmas["prompt"]]
    return dilemmas.assign(question=dilemmas["prompt"], prompt=pd.Series(chats, dilemmas.index, dtype=object))


def load_released_dilemmas(folder: str | Path | None = None) -> pd.DataFrame:
    """The author's dilemmas, a row per question: `id`, `title`, `prompt` (the situation and the question).

    Args:
        folder: with Input_Dilemmas.txt of atlaie/ethical-llms; by default `sara` in the folder named by STEERLAB_DATA.

    Raises:
        FileNotFoundError: it is not there.
    """
    text = author_file(folder, "Input_Dilemmas.txt").read_text(encoding="utf-8")
    parts = re.findall(r"([^\n]*\S)[^\S\n]*\n\n([^\n]+)\n\nQuestions?:\s*((?:[^\n]+\n?)+)", text)
    return pd.DataFrame(
        [
            {"id": f"{title} {number}", "title": title, "prompt": f"{situation.strip()} {question.strip()}"}
            for title, situation, questions in parts
            for number, question in enumerate(questions.strip().splitlines(), 1)
        ]
    )


def validation_texts() -> pd.DataFrame:
    """Labelled texts that no judge of ours was made from: `text`, `group`, `source`.

    Held-out stances, the arguments of the test dilemmas, and as "neither" those dilemmas' own texts and plain facts.
    """
    test = load_dilemmas("test")
    with files("steerlab.data").joinpath("stances.csv").open(encoding="utf-8") as file:
        stances = pd.read_csv(file).assign(source="stance")
    arguments = test.melt("id", ["duty", "consequence"], "group", "text").explode("text").assign(source="argument")
    facts = data.facts("test").drop_duplicates("answer").head(20)
    plain = pd.DataFrame({"text": [*test["prompt"], *(facts["prompt"] + facts["answer"] + ".")], "group": "neither"})
    plain["source"] = ["dilemma"] * len(test) + ["fact"] * len(facts)
    return pd.concat([stances, arguments, plain], ignore_index=True)[["text", "group", "source"]]


def persona_statements(folder: str | Path | None = None) -> pd.DataFrame:
    """Statements that a deontologist or a utilitarian would make: `text`, `group`; of anthropics/evals.

    Args:
        folder: with the JSON lines; by default `ethics_personas` in the folder named by STEERLAB_DATA.

    Raises:
        FileNotFoundError: they are not there.
    """
    base = Path(os.environ.get("STEERLAB_DATA", ".")) / "ethics_personas" if folder is None else Path(folder)
    parts = []
    for persona, group in (("deontology", "duty"), ("utilitarianism", "consequence")):
        paths = sorted(base.glob(f"subscribes-to-{persona}*.jsonl"))
        if not paths:
            raise FileNotFoundError(f"no subscribes-to-{persona}*.jsonl in {base}: get it from anthropics/evals")
        rows = pd.concat([pd.read_json(path, lines=True) for path in paths])
        rows = rows[rows["answer_matching_behavior"].str.strip() == "Yes"]
        parts.append(pd.DataFrame({"text": rows["statement"], "group": group}))
    return pd.concat(parts, ignore_index=True)


def own_data(name: str) -> Any:
    """A JSON file that ships with the package."""
    return json.loads(files("steerlab.data").joinpath(name).read_text(encoding="utf-8"))


def author_file(folder: str | Path | None, name: str) -> Path:
    """A file of the author's repository, or one line that says where to put it."""
    base = Path(os.environ.get("STEERLAB_DATA", ".")) / "sara" if folder is None else Path(folder)
    if not (base / name).is_file():
        raise FileNotFoundError(
            f"no {name} in {base}: get it from github.com/atlaie/ethical-llms and pass its folder, "
            "or set STEERLAB_DATA to the folder above `sara`"
        )
    return base / name
