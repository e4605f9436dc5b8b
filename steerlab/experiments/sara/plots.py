"""The figures that no general plot draws: shares beside the paper's, and the released γ step by step."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ... import plots
from ...judges import GROUPS
from .study import published


def plot_shares(shares: pd.DataFrame, *, ax: Axes | None = None, paper: bool = False) -> Axes:
    """Share of each group under each steering, as bars with intervals; the paper's numbers as crosses on demand."""
    ax = ax or plt.subplots(figsize=(7.5, 4), layout="constrained")[1]
    cells = list(shares.groupby(["method", "direction"], sort=False))
    width = 0.8 / len(cells)
    told = published().query("depth == 'all'")
    for place, (((method, direction), cell), colour) in enumerate(
        zip(cells, ("#999999", *plots.PALETTE), strict=False)
    ):
        name = "unsteered" if method == "unsteered" else f"{method} to {direction}"
        x = np.arange(len(cell)) + (place - (len(cells) - 1) / 2) * width
        error = [cell["share"] - cell["low"], cell["high"] - cell["share"]]
        ax.bar(x, cell["share"], width * 0.9, yerr=error, color=colour, ecolor="#333333", capsize=2, label=name)
        own = told[told["direction"] == direction].set_index("group")["share"].reindex(cell["group"])
        if paper and method in ("unsteered", "sara"):
            ax.plot(x, own, "kx", label="paper, Gemma-2B" if method == "unsteered" else None)
    ax.set_xticks(np.arange(len(GROUPS)), GROUPS)
    ax.set(ylabel="share of answers", ylim=(0, 1.05))
    ax.legend(frameon=False)
    return ax


def plot_decode_gains(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """The released γ step by step: which share of the neurons is flipped, left alone or tripled."""
    means = frame.groupby(["gamma", "step"])["share"].mean().reset_index()
    names = {-2: "γ = −2 (× −1)", 0: "γ = 0 (× 1)", 2: "γ = 2 (× 3)"}
    labels = ("pass (0 is the prompt, γ rounded there)", "share of neurons")
    ax = plots.lines(means.assign(name=means["gamma"].map(names)), "step", "share", by="name", labels=labels, ax=ax)
    ax.set(ylim=(0, 1))
    return ax
