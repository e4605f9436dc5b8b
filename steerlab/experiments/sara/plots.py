"""The figures that no general plot draws: shares beside the paper's, and the released γ step by step."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import plots
from ...judges import GROUPS, SCHOOL_LABELS
from .published import published, published_models, published_schools, swapped


def plot_shares(shares: pd.DataFrame, *, ax: Axes | None = None, paper: bool = False) -> Axes:
    """Share of each group under each steering, as bars with intervals; the paper's numbers as crosses on demand."""
    ax = ax or plt.subplots(figsize=(7.5, 4), layout="constrained")[1]
    cells = list(shares.groupby(["method", "direction"], sort=False))
    width = 0.8 / len(cells)
    reported = published().query("depth == 'all'")
    for place, (((method, direction), cell), colour) in enumerate(
        zip(cells, ("#999999", *plots.PALETTE), strict=False)
    ):
        name = "unsteered" if method == "unsteered" else f"{method} to {direction}"
        x = np.arange(len(cell)) + (place - (len(cells) - 1) / 2) * width
        error = [cell["share"] - cell["low"], cell["high"] - cell["share"]]
        ax.bar(x, cell["share"], width * 0.9, yerr=error, color=colour, ecolor="#333333", capsize=2, label=name)
        crosses = reported[reported["direction"] == direction].set_index("group")["share"].reindex(cell["group"])
        if paper and method in ("unsteered", "sara"):
            ax.plot(x, crosses, "kx", label="paper, Gemma-2B" if method == "unsteered" else None)
    ax.set_xticks(np.arange(len(GROUPS)), GROUPS)
    ax.set(ylabel="share of answers", ylim=(0, 1.05))
    ax.legend(frameon=False)
    return ax


def plot_schools(own: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """Shares of the eight schools without steering: the paper's, and ours by model, of `shares(..., of="label")`."""
    ax = ax or plt.subplots(figsize=(7.5, 3.8), layout="constrained")[1]
    parts = [published_schools(), *(frame[["label", "share"]].assign(model=model) for model, frame in own.items())]
    frame = pd.concat(parts, ignore_index=True)
    order = [label for label in SCHOOL_LABELS if label in set(frame["label"])]
    colours = list(plots.PALETTE[: frame["model"].nunique()])
    sns.barplot(frame, y="label", x="share", hue="model", order=order, palette=colours, errorbar=None, ax=ax)
    ax.set(xlabel="share of unsteered answers", ylabel="")
    sns.move_legend(ax, "lower center", bbox_to_anchor=(0.5, 1), ncol=2, frameon=False, title=None)
    return ax


def plot_published(own: pd.DataFrame | None = None) -> Figure:
    """Gemma-2B's unsteered groups as printed and with their labels mended, and the seven models with ours beneath.

    Args:
        own: `model`, `consistency`, `agreement` of our models, as in `published_models`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    counted = published().query("direction == 'unsteered'")
    groups = pd.concat([swapped(counted).assign(labels="as printed"), counted.assign(labels="mended")])
    sns.barplot(groups, x="group", y="share", hue="labels", order=GROUPS[:3], palette=["#bbbbbb", "#333333"], ax=left)
    left.set(xlabel="", ylabel="share of answers", title="Gemma-2B unsteered, 75 answers", ylim=(0, 1))
    left.legend(frameon=False, title=None)
    models = pd.concat([published_models(), own]).melt("model", var_name="measure", value_name="share")
    shown = models.replace({"consistency": "1 / distinct labels", "agreement": "agreement of two judges"})
    colours = list(plots.PALETTE[:2])
    sns.stripplot(shown, y="model", x="share", hue="measure", palette=colours, size=8, jitter=False, ax=right)
    right.set(ylabel="", xlabel="", xlim=(0, 1))
    sns.move_legend(right, "lower center", bbox_to_anchor=(0.5, 1), ncol=2, frameon=False, title=None)
    return figure


def plot_decode_gains(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """The released γ step by step: which share of the neurons is flipped, left alone or tripled."""
    means = frame.groupby(["gamma", "step"])["share"].mean().reset_index()
    names = {-2: "γ = −2 (× −1)", 0: "γ = 0 (× 1)", 2: "γ = 2 (× 3)"}
    labels = ("pass (0 is the prompt, γ rounded there)", "share of neurons")
    ax = plots.lines(means.assign(name=means["gamma"].map(names)), "step", "share", by="name", labels=labels, ax=ax)
    ax.set(ylim=(0, 1))
    return ax
