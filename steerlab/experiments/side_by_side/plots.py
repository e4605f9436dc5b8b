"""The figures: effect at matched KL, and effect against what it does to unrelated text."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...plots import MARKERS, PALETTE
from ..beside import axes
from .methods import RANDOM, TYPED

LEAST = 1e-4
"""KL below which a point is drawn at the left margin."""

MOST = 3.0
"""KL of unrelated text above which no point is drawn: there a model no longer writes sentences."""

Style = Mapping[str, tuple[str, str]]


def plot_matched(methods: pd.DataFrame) -> Figure:
    """Effect against the KL on the task's own prompts, a panel per task, with intervals; typed words as a star."""
    return _panels(methods[methods["target"] != "best"], "kl", "KL of the next token, nats")


def plot_fronts(curves: pd.DataFrame) -> Figure:
    """Effect against the KL of unrelated text, a line over strengths per method and a panel per task.

    Points that no other one beats in both are filled, the others hollow. Up and left is better. A line ends at `MOST`.
    """
    return _panels(curves[curves["unrelated"] <= MOST], "unrelated", "KL of the next token, unrelated text, nats")


def _panels(frame: pd.DataFrame, x: str, label: str) -> Figure:
    """A panel per task; the methods have the same colours and markers in all."""
    style, tasks = _style(frame), {str(task): rows for task, rows in frame.groupby("task", sort=False)}
    for ax, rows in axes(tasks, size=(4.6, 4), columns=3):
        for name, own in rows.dropna(subset="effect").groupby("method", sort=False):
            _line(ax, own.assign(x=own[x].clip(lower=LEAST)), str(name), style)
        ax.axhline(0, color="#777777", linewidth=0.8)
        ax.set(xscale="log", xlabel=label, ylabel="rise of the wanted token, nats")
    figure = ax.figure
    assert isinstance(figure, Figure)
    handles, names = max((each.get_legend_handles_labels() for each in figure.axes), key=lambda pair: len(pair[1]))
    figure.legend(handles, names, loc="outside lower center", ncol=5, frameon=False)
    return figure


def _line(ax: Axes, rows: pd.DataFrame, name: str, style: Style) -> None:
    """One method: its points over strengths, joined; those of a front filled; intervals where they are few."""
    colour, marker = style[name]
    rows = rows.sort_values("strength")
    face = "white" if "front" in rows else colour
    options: dict[str, Any] = {
        "color": colour,
        "marker": marker,
        "markerfacecolor": face,
        "markersize": 9 if name == TYPED else 5,
    }
    ax.plot(rows["x"], rows["effect"], linestyle="--" if name == RANDOM else "-", label=name, linewidth=1.2, **options)
    if "front" in rows:
        best = rows[rows["front"]]
        ax.plot(best["x"], best["effect"], linestyle="", **options | {"markerfacecolor": colour})
    else:
        ax.vlines(rows["x"], rows["low"], rows["high"], color=colour, alpha=0.5)


def _style(frame: pd.DataFrame) -> Style:
    """A colour and a marker for each method."""
    others = [name for name in dict.fromkeys(frame["method"]) if name not in (RANDOM, TYPED)]
    looks = zip(others, zip(cycle(PALETTE), cycle(MARKERS), strict=False), strict=False)
    return dict(looks) | {RANDOM: ("#999999", "x"), TYPED: ("#000000", "*")}
