"""The moral foundations questionnaire, as Tlaie (arXiv 2405.17345) puts it to models, and a model's profile on it.

`python -m steerlab.experiments.foundations` keeps the profile before and after steering.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from scipy.stats import false_discovery_control, mannwhitneyu

from .. import data
from ..intervention import Intervention, Steer
from ..methods.sara import sara
from ..metrics import gain, means, signed_rank
from ..model import SteerableModel
from ..plots import MARKERS, PALETTE
from ..prompts import Prompt
from . import results
from .results import Ask, Frames
from .sara.dilemmas import CONSEQUENCES, DUTY, author_file, own_data

FOUNDATIONS = ("harm", "fairness", "ingroup", "authority", "purity")


def load_items(folder: str | Path | None = None, *, own: bool = False) -> pd.DataFrame:
    """Items of a moral foundations questionnaire: `foundation`, `part` (relevance or agreement), `text`.

    Of MFQ_Prompt.txt of atlaie/ethical-llms in a folder, by default `sara` in the one that STEERLAB_DATA names: 30
    items, without its two catch items. Or our own short ones, four for each foundation, which ship with the package.

    Raises:
        FileNotFoundError: the author's items are not there.
    """
    if own:
        return pd.DataFrame(own_data("foundations.json")["items"])
    text = author_file(folder, "MFQ_Prompt.txt").read_text(encoding="utf-8")
    items = {int(number): line.strip() for number, line in re.findall(r"^_+(\d+)\.\s*(.+)$", text, re.MULTILINE)}
    rows = []
    # The questionnaire goes round the foundations in order; items 6 and 22 catch inattention.
    for place, number in enumerate(sorted(items.keys() - {6, 22})):
        relevance, item = number <= 16, items[number]
        said = (
            {"part": "relevance", "text": item[0].lower() + item[1:]}
            if relevance
            else {"part": "agreement", "text": item}
        )
        rows.append({"foundation": FOUNDATIONS[place % 5], **said})
    return pd.DataFrame(rows)


def answer(
    lm: SteerableModel,
    items: pd.DataFrame,
    steer: Callable[[Sequence[Prompt]], Steer] | None = None,
    *,
    frames: Mapping[str, Sequence[str]] | None = None,
    scale: Sequence[str] | None = None,
    chat: bool = False,
    batch_size: int = 64,
) -> pd.DataFrame:
    """Answers to a questionnaire by the probabilities of its scale: no text is parsed, and no answer goes amiss.

    score = Σ_i i · P(scale[i] | prompt) / Σ_j P(scale[j] | prompt). Each wording of the question stands for one person.
    `steer` makes interventions for a list of prompts, such as `sara` does. `frames` are wordings for each part, with
    `{item}`; six of ours by default. `scale` has the answers from lowest to highest, as they follow the wording: 0 to 5
    by default, after a space where the model does not chat. With `chat` a wording is the user's turn of a chat.

    Returns:
        One row per wording and item: `frame`, `foundation`, `part`, `text`, `score` (0 to 5), `mass` (the probability
        that the model gives to the scale as a whole; where it is tiny, the score says little).

    Raises:
        ValueError: the answers of the scale differ in more than their last token, or what `lm.logits` refuses.
    """
    wordings = frames or own_data("foundations.json")["frames"]
    asked = pd.DataFrame(
        [
            {**item, "frame": number, "prompt": wording.replace("{item}", item["text"])}
            for item in items.to_dict("records")
            for number, wording in enumerate(wordings[item["part"]])
        ]
    )
    prompts = [[{"role": "user", "content": text}] if chat else text for text in asked["prompt"]]
    scale = scale or [str(number) if chat else f" {number}" for number in range(6)]
    made = None if steer is None else steer(prompts)
    each = list(made) if isinstance(made, Sequence) else [made] * len(prompts)
    chances = _chances(lm, prompts, each, scale, batch_size)
    mass = chances.sum(1)
    asked["score"] = (chances @ np.arange(len(scale))) / mass
    return asked.drop(columns="prompt").assign(mass=mass)


def _chances(
    lm: SteerableModel,
    prompts: Sequence[Prompt],
    steer: Sequence[Intervention | None],
    scale: Sequence[str],
    batch_size: int,
) -> Float[np.ndarray, "prompt answer"]:
    """Probability of each answer after each prompt, which is read once; what all answers begin with, a second time."""
    answers = [lm.encode(answer) for answer in scale]
    begins, ends = answers[0][:-1], [answer[-1] for answer in answers]
    if any(answer[:-1] != begins for answer in answers):
        raise ValueError(f"scale={list(scale)} has answers that differ in more than their last token: give other words")
    whole = [torch.tensor([*lm.ids(prompt), *begins]) for prompt in prompts]
    chances = []
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        chances.append(lm.logits(whole[part], steer[part]).softmax(-1)[:, ends].cpu().numpy())
    probabilities = np.concatenate(chances).astype(float)
    if begins:
        first = [torch.tensor(begins)] * len(prompts)
        scores = lm.logprobs(first, steer, given=prompts, batch_size=batch_size)
        probabilities *= np.exp(scores.groupby("row")["logprob"].sum().to_numpy())[:, None]
    return probabilities


def profile(scores: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Each foundation's score: the mean of its items for each wording, then over wordings, with Student's interval.

    Returns:
        One row per foundation (and cell of `by`): `foundation`, `score`, `low`, `high`, `n` (wordings).
    """
    people = scores.groupby([*by, "foundation", "frame"], sort=False)["score"].mean().reset_index()
    table = means(people, "score", [*by, "foundation"], "frame").rename(columns={"value": "score"})
    return table.drop(columns=["units", "interval"])


def compare(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Each foundation before and after steering, the same wordings paired, with Benjamini-Hochberg over foundations.

    The release takes the answers before and after for two samples (Mann-Whitney U); its effect size stands beside.

    Returns:
        One row per foundation: `foundation`, `difference` (of the mean scores, with Student's 95 % interval over
        wordings `low`, `high`), `n` (wordings), `p` (Wilcoxon's signed-rank test; of six wordings 1/32 at least),
        `p_adjusted`, and `effect` (max(U / n², 1 − U / n²), as released: 0.5 is no effect, 1 is no overlap).
    """
    rows = []
    for foundation in pd.unique(before["foundation"]):
        a, b = (
            frame[frame["foundation"] == foundation].groupby("frame")["score"].mean().to_numpy()
            for frame in (before, after)
        )
        change, part = gain(b, a), float(mannwhitneyu(a, b).statistic) / (len(a) * len(b))
        row = {"foundation": foundation, "difference": change.value, "low": change.low, "high": change.high}
        rows.append({**row, "n": change.n, "p": signed_rank(b, a), "effect": max(part, 1 - part)})
    frame = pd.DataFrame(rows)
    return frame.assign(p_adjusted=false_discovery_control(frame["p"]))


PUBLISHED: Mapping[str, Sequence[tuple[float, float]]] = MappingProxyType(
    {
        "Claude-3-Sonnet": ((4.58, 0.16), (4.62, 0.12), (1.98, 0.24), (1.79, 0.26), (1.47, 0.44)),
        "GPT-3.5": ((4.60, 0.35), (4.58, 0.24), (3.39, 0.22), (3.29, 0.28), (2.59, 0.26)),
        "GPT-4": ((4.72, 0.11), (4.50, 0.26), (2.61, 0.29), (2.43, 0.31), (2.08, 0.36)),
        "Gemini Pro": ((4.67, 0.12), (4.63, 0.31), (3.20, 0.30), (3.11, 0.25), (2.92, 0.43)),
        "Gemma-2B": ((4.74, 0.10), (4.33, 0.15), (3.16, 0.18), (2.52, 0.26), (3.36, 0.20)),
        "Llama-2-7B": ((3.20, 1.02), (3.29, 0.77), (2.85, 0.86), (3.27, 0.80), (3.62, 0.68)),
        "Starling-LM-7B": ((4.94, 0.13), (4.88, 0.10), (3.44, 0.20), (3.27, 0.30), (3.92, 0.23)),
    }
)
"""Mean and standard deviation of each foundation's score over 20 iterations, computed from the released answers."""


def published(model: str | None = None) -> pd.DataFrame:
    """The seven published profiles, or a model's: `model`, `foundation`, `score`, `sd` over 20 iterations."""
    rows = [
        (name, foundation, *values)
        for name, profile in PUBLISHED.items()
        for foundation, values in zip(FOUNDATIONS, profile, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["model", "foundation", "score", "sd"])
    return frame if model is None else frame[frame["model"] == model].reset_index(drop=True)


def plot_profile(profile: pd.DataFrame, *, by: str = "condition", ax: Axes | None = None, paper: bool = False) -> Axes:
    """Scores of the moral foundations with their intervals, a colour for each condition.

    With `paper` its seven profiles stand behind as thin lines, Gemma-2B's as crosses.
    """
    ax = ax or plt.subplots(figsize=(6.5, 3.5), layout="constrained")[1]
    colours = ("#999999", *PALETTE)  # grey for what is unsteered, which comes first
    for place, ((name, rows), colour) in enumerate(zip(profile.groupby(by, sort=False), colours, strict=False)):
        x = np.array([FOUNDATIONS.index(each) for each in rows["foundation"]]) + 0.15 * place
        error = [rows["score"] - rows["low"], rows["high"] - rows["score"]]
        ax.errorbar(x, rows["score"], error, fmt=MARKERS[place], color=colour, capsize=3, label=str(name))
    if paper:
        for at, (_, rows) in enumerate(published().groupby("model", sort=False)):
            ax.plot(range(len(FOUNDATIONS)), rows["score"], color="#bbbbbb", lw=0.8, zorder=0)
            ax.lines[-1].set_label("_" * bool(at) + "paper, seven models")
        ax.plot(range(len(FOUNDATIONS)), published("Gemma-2B")["score"], "kx", label="paper, Gemma-2B unsteered")
    ax.set_xticks(range(len(FOUNDATIONS)), FOUNDATIONS)
    ax.set(ylabel="score, 0 to 5", ylim=(-0.1, 5.1))
    ax.legend(frameon=False)
    return ax


def before_and_after(
    lm: SteerableModel, items: pd.DataFrame, *, layer: int, coefficient: float = 1.0, **options: Any
) -> pd.DataFrame:
    """Answers without steering, and with SARA towards duty and towards consequences.

    Returns:
        What `answer` returns, with `condition`: "unsteered", "duty" or "consequence".
    """
    towards = partial(sara, lm, layer=layer, coefficient=coefficient)
    steers: dict[str, Callable[[Sequence[Prompt]], Steer] | None] = {
        "unsteered": None,
        "duty": partial(towards, attract=DUTY, repel=CONSEQUENCES),
        "consequence": partial(towards, attract=CONSEQUENCES, repel=DUTY),
    }
    frames = [answer(lm, items, steer, **options).assign(condition=name) for name, steer in steers.items()]
    return pd.concat(frames, ignore_index=True)


def compare_all(scores: pd.DataFrame) -> pd.DataFrame:
    """`compare` for each condition of `before_and_after` with the unsteered one, in the column `condition`."""
    groups = dict(iter(scores.groupby("condition", sort=False)))
    before = groups.pop("unsteered")
    return pd.concat([compare(before, after).assign(condition=name) for name, after in groups.items()])


def _run(lm: SteerableModel, ask: Ask) -> Frames:
    """The profile before and after steering, and the tests; the middle layer where none is asked for."""
    ask.layer = lm.n_layers // 2 if ask.layer is None else ask.layer
    if ask.items is not None:
        ask.data["MFQ_Prompt.txt"] = data.checksum(author_file(ask.items, "MFQ_Prompt.txt"))
    items = load_items(ask.items, own=ask.items is None)
    frames = {part: wordings[: ask.wordings] for part, wordings in own_data("foundations.json")["frames"].items()}
    options: dict[str, Any] = {"layer": ask.layer, "coefficient": ask.coefficient, "chat": ask.chat}
    scores = before_and_after(lm, items, frames=frames, batch_size=8 if ask.chat else 64, **options)
    profiles = profile(scores, by=["condition"]).assign(mass=scores["mass"].median(), layer=ask.layer)
    return {"profile": profiles, "tests": compare_all(scores)}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--items", type=Path, help="folder of the author's items; our own by default")
    parser.add_argument("--layer", type=int, help="where to steer; the middle one by default")
    parser.add_argument("--coefficient", type=float, default=1.0)
    parser.add_argument("--chat", action="store_true", help="asks as a chat")
    parser.add_argument("--wordings", type=int, help="of the question; all six by default")


EXPERIMENTS = {"foundations": results.Experiment(_run)}
ABOUT = "The moral foundations questionnaire, before and after steering."
PAPER = results.Paper("foundations", ABOUT, EXPERIMENTS, _options, ("layer", "coefficient"))
main = PAPER.main

if __name__ == "__main__":
    raise SystemExit(main())
