"""A heat map whose cells are buttons: within reach of mouse and keyboard, without JavaScript."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

import ipywidgets as w
from matplotlib.colors import Colormap, to_hex

from .. import plots
from ..model import SteerableModel
from .controls import shortened, visible
from .runner import on_loop

LARGEST = 700
"""Cells that a page still bears; a larger map is drawn as a picture."""

LONGEST = 12
"""Letters of a column's head that are shown."""


class Cell(NamedTuple):
    """One cell: what it says, its colour from 0 to 1 on the map's scale (or none), and what a pointer is told."""

    text: str
    shade: float | None
    tooltip: str
    marked: bool = False


def token_head(lm: SteerableModel, token: str) -> str:
    """A token as the head of its column: with spaces and line breaks to be seen, the one that begins a text as BOS."""
    return "BOS" if token == lm.tokenizer.bos_token else visible(token)


class Grid:
    """Rows and columns of buttons, which are kept and changed when another map is shown.

    Args:
        colours: of the cells.
        click: called with row and column.
    """

    def __init__(self, colours: Colormap, click: Callable[[int, int], None]) -> None:
        self.colours, self.click = colours, click
        self.buttons: list[w.Button] = []
        self.places: list[tuple[int, int]] = []
        self.widget = w.GridBox(layout=w.Layout(width="98%", grid_gap="3px", overflow="auto", padding="0 4px 4px 0"))
        self.widget.add_class("steerlab-grid")
        self._styles: dict[int, w.ButtonStyle] = {}
        size = {"width": "auto", "min_width": "34px", "padding": "0"}
        self._label_layout = w.Layout(width="auto", margin="0 2px")
        self._layouts = {
            False: w.Layout(**size, height="28px", margin="0"),
            True: w.Layout(**size, height="34px", margin="-3px", border="3px solid #D55E00"),  # within the gaps
        }

    def show(
        self, rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[int, int], Cell], corner: str = ""
    ) -> None:
        """Show another map; a place without a cell stays empty."""
        while len(self.buttons) < len(cells):
            self._add()
        self.places = sorted(cells)
        for button, place in zip(self.buttons, self.places, strict=False):
            self._paint(button, cells[place])
        button_at = dict(zip(self.places, self.buttons, strict=False))
        shape = (tuple(rows), tuple(columns), tuple(self.places), corner)
        if shape == getattr(self, "_shape", None):
            return
        self._shape = shape
        self.widget.layout.grid_template_columns = f"auto repeat({len(columns)}, minmax(max-content, 1fr))"
        children = [self._label(corner), *(self._label(name, LONGEST) for name in columns)]
        for i, row in enumerate(rows):
            children += [self._label(row), *(button_at.get((i, j)) or self._label("") for j in range(len(columns)))]
        old, self.widget.children = self.widget.children, children
        for label in old:
            if isinstance(label, w.HTML):
                label.close()

    def fits(self, cells: int) -> bool:
        """Whether so many cells are shown as buttons; if not, the grid makes room for a picture of them."""
        few = cells <= LARGEST
        self.widget.layout.display = "" if few else "none"
        return few

    def at(self, row: int, column: int) -> w.Button:
        """The button of a cell."""
        return self.buttons[self.places.index((row, column))]

    def _add(self) -> None:
        button, number = w.Button(), len(self.buttons)
        button.add_class("steerlab-cell")
        button.on_click(on_loop(lambda _: self.click(*self.places[number])))
        self.buttons.append(button)

    def _paint(self, button: w.Button, cell: Cell) -> None:
        button.description, button.tooltip = cell.text, cell.tooltip
        button.style, button.layout = self._style(cell.shade), self._layouts[cell.marked]

    def _style(self, shade: float | None) -> w.ButtonStyle:
        """Of 33 shades, one for all cells that have it; letters stand out from each."""
        step = -1 if shade is None else round(32 * min(1.0, max(0.0, shade)))
        if step not in self._styles:
            rgb = (0.8, 0.8, 0.8) if shade is None else self.colours(step / 32)[:3]
            letters = plots.letters_on(rgb)
            self._styles[step] = w.ButtonStyle(button_color=to_hex(rgb), text_color=letters, font_size="11px")
        return self._styles[step]

    def _label(self, text: str, longest: int = 0) -> w.HTML:
        """The head of a row, or of a column: centred, and where it is long shortened, the whole for a pointer."""
        short = shortened(text, longest) if longest else text
        style = f"font-size:11px;white-space:nowrap;text-align:{'center' if longest else 'left'}"
        return w.HTML(f'<div style="{style}" title="{escape(text)}">{escape(short)}</div>', layout=self._label_layout)
