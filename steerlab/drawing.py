"""What figures share: colours that every eye tells apart, axes on white, cells of a grid, letters that can be read."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

PALETTE: tuple[str, ...] = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which stay apart for every kind of colour vision."""


def axes_of(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The given Axes, or those of a new figure on white, so that its black text can be read on a dark page too."""
    if ax is not None:
        return ax
    return plt.figure(figsize=size, layout="constrained", facecolor="white").subplots()


def draw_cells(ax: Axes, grid: pd.DataFrame, label: str, **options: Any) -> None:
    """The cells of a grid in colours, the first row at the bottom, grey where there is no number; and their scale."""
    ax.set_facecolor("#cccccc")
    sns.heatmap(grid.astype(float), ax=ax, cbar_kws={"label": label}, **options)
    ax.invert_yaxis()
    ax.tick_params(left=True, bottom=True)


def label_step(ax: Axes, rows: int) -> int:
    """Every how many rows a label stands at the vertical axis, so that they don't touch: 0.18 inches for each."""
    inches = ax.get_position().height * ax.get_figure(root=True).get_figheight()  # type: ignore[union-attr]
    return max(1, math.ceil(0.18 * rows / inches))


def letters_on(rgb: Sequence[float]) -> str:
    """Black or white, whichever stands out from a colour: a contrast of 4.5 or more, by the luminance of WCAG 2."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return "#000000" if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else "#ffffff"


def plain(text: object) -> str:
    """A text for matplotlib, to which a dollar sign would be mathematics."""
    return str(text).replace("$", r"\$")


def visible(token: str) -> str:
    """A token with its spaces and line breaks to be seen."""
    return plain(token.replace("\n", "↵").replace(" ", "␣"))


def need(frame: pd.DataFrame, *columns: str) -> None:
    """Refuse a frame without a column that is drawn."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"the frame has no column {missing[0]!r}: it has {', '.join(map(str, frame.columns))}")
