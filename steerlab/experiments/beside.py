"""The real model's kept tables beside those of the loaded model, to be drawn next to each other."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from ..model import SteerableModel
from . import results

REAL = "gemma-3-270m"
"""The real model, by the name of its folder in notebooks/results, and as `sl.load` knows it."""


def tables(
    name: str, lm: SteerableModel, own: pd.DataFrame, by: str | None = None, folder: Path = results.FOLDER
) -> dict[str, pd.DataFrame]:
    """A table of the loaded model, after the real model's kept one where there is one.

    Args:
        name: of the kept table, such as "actadd_layer_sweep".
        lm: the loaded model.
        own: its table.
        by: a column whose values get a table each, such as "position".
        folder: of the models' folders.

    Returns:
        The tables, by the models' names.
    """
    loaded = results.short_name(lm)
    kept = None if loaded == REAL else results.find(name, REAL, folder / REAL)
    by_model = ({} if kept is None else {f"{REAL} (kept run)": kept}) | {loaded: own}
    if by is None:
        return by_model
    return {
        f"{model}, {value}": rows for model, all_ in by_model.items() for value, rows in all_.groupby(by, sort=False)
    }


def axes(
    frames: Mapping[str, pd.DataFrame], size: tuple[float, float] = (5.5, 3.8), columns: int = 2
) -> Iterator[tuple[Axes, pd.DataFrame]]:
    """Axes with their tables, in rows of a new figure; each gets its table's name as a title once it is drawn."""
    wide = min(columns, len(frames))
    high = -(-len(frames) // wide)
    figure, grid = plt.subplots(
        high, wide, figsize=(size[0] * wide, size[1] * high), layout="constrained", facecolor="white", squeeze=False
    )
    for ax, (name, frame) in zip(grid.flat, frames.items(), strict=False):
        yield ax, frame
        ax.set_title(name)
    for ax in grid.flat[len(frames) :]:
        figure.delaxes(ax)
