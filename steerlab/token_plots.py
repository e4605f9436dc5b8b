"""Figures of single tokens: a number by layer and token, and a text whose tokens stand on colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from .drawing import PALETTE, axes_of, draw_cells, label_step, letters_on, need, visible


def token_map(
    frame: pd.DataFrame,
    value: str,
    *,
    words: str | None = None,
    mark: tuple[int, int] | None = None,
    limit: float | None = None,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Heat map of a number at least 0 by layer and token: tokens from left to right, the pass from bottom to top.

    Args:
        frame: one row per cell with `layer`, `position` and `token`, such as that of `lens.logit_lens` or `lens.moved`.
        value: the column that is drawn.
        words: a column that is written into the cells, such as the lens' "top".
        mark: layer and position of a cell that gets a frame.
        limit: value of the darkest colour; the largest by default.
        label: of the colours.
        ax: where to draw.
    """
    need(frame, "layer", "position", "token", value, *([words] if words else []))
    grid = frame.pivot(index="layer", columns="position", values=value)
    rows, columns = grid.shape
    ax = axes_of(ax, (1.6 + (0.7 if words else 0.45) * columns, 1.4 + min(0.27 * rows, 9)))
    top = limit or max(float(grid.max().max()), 1e-12)
    options: dict[str, Any] = {"cmap": "Blues", "vmin": 0, "vmax": top, "xticklabels": False, "yticklabels": False}
    if words:
        texts = frame.pivot(index="layer", columns="position", values=words).map(lambda word: visible(_cut(word, 9)))
        options |= {"annot": texts, "fmt": "", "annot_kws": {"fontsize": 7}}
    draw_cells(ax, grid, label or value, **options)
    if mark is not None:
        row, column = (np.flatnonzero(names == at)[0] for names, at in ((grid.index, mark[0]), (grid.columns, mark[1])))
        corner = (float(column), float(row))
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=PALETTE[1], linewidth=2.5, clip_on=False))
    tokens = frame.drop_duplicates("position").sort_values("position")["token"]
    shown = [visible(_cut(token, 12)) for token in tokens]
    ax.set_xticks(np.arange(columns) + 0.5, shown, rotation=60, ha="right", rotation_mode="anchor")
    step = label_step(ax, rows)
    ax.set_yticks(np.arange(0, rows, step) + 0.5, [str(layer) for layer in grid.index[::step]])
    ax.set(xlabel="", ylabel="layer")
    return ax


def _cut(token: str, longest: int) -> str:
    """A token without its end where it is too long."""
    return token if len(token) <= longest else f"{token[: longest - 1]}…"


def token_strip(
    frame: pd.DataFrame, value: str, *, columns: int = 56, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """A text in lines, each token on the colour of a number: blue above 0, red below, white 0.

    Args:
        frame: one row per token with `token`, such as that of `lens.token_effects`; where `given` ends, an upright bar
            parts the prompt from the text.
        value: the column that is drawn.
        columns: letters of a line.
        label: of the colours.
        ax: where to draw.
    """
    need(frame, "token", value)
    shown = [visible(token) for token in frame["token"]]
    boxes, lines = _line_boxes([len(text.replace(r"\$", "$")) for text in shown], columns)
    ax = axes_of(ax, (7, 0.5 + 0.32 * lines))
    values = frame[value].to_numpy(dtype=float)
    top = max(float(np.abs(values).max()), 1e-12)
    both = bool((values < 0).any())
    colours = ScalarMappable(Normalize(-top if both else 0, top), "RdBu" if both else "Blues")
    figure = ax.get_figure()
    assert figure is not None, "axes that were removed have no figure"
    inches = figure.bbox.width / figure.dpi_scale_trans.to_values()[0]
    size = min(11.0, 0.8 * inches * 72 / (0.61 * columns))  # a letter of a monospaced font is 0.6 of its size wide
    font: dict[str, Any] = {"family": "monospace", "fontsize": size, "ha": "center", "va": "center"}
    for text, number, (x, line, width) in zip(shown, values, boxes, strict=True):
        colour = colours.to_rgba(number)
        ax.add_patch(Rectangle((x, line), width, 0.86, facecolor=colour, edgecolor="#cccccc", linewidth=0.4))
        letters = ax.text(x + width / 2, line + 0.46, text, **font, color=letters_on(list(colour[:3])))
        letters.set_in_layout(False)  # the box holds it; to measure each takes time
    if "given" in frame and 0 < (first := int(frame["given"].sum())) < len(boxes):
        x, line, _ = boxes[first]
        ax.plot([x, x], [line - 0.06, line + 0.92], color=PALETTE[1], linewidth=2.5, clip_on=False)
    ax.set(xlim=(0, columns), ylim=(lines, 0))
    ax.set_axis_off()
    ax.figure.colorbar(colours, ax=ax, aspect=8, pad=0.02).ax.tick_params(labelsize=8)
    ax.set_title(label or value, fontsize=9, loc="left")
    return ax


def _line_boxes(widths: Sequence[int], columns: int) -> tuple[list[tuple[int, int, int]], int]:
    """Where tokens of these widths stand (x, line, width) when a line takes so many letters; how many lines."""
    boxes, x, line = [], 0, 0
    for width in widths:
        if x and x + width > columns:
            x, line = 0, line + 1
        boxes.append((x, line, width))
        x += width
    return boxes, line + 1
