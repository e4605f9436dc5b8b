"""Any tidy sweep: choose its axes and its metric, see a heat map or curves, open a setting's completions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import ipywidgets as w
import matplotlib as mpl
import pandas as pd
from matplotlib.figure import FigureBase
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from .. import plots
from ..metrics import has_topic_word, means
from .controls import WIDE, html_table, make, make_state, prose
from .grid import LARGEST, Cell, Grid
from .names import called
from .panel import Panel

RESULTS = frozenset({"value", "share", "low", "high", "n", "count", "kl", "entropy", "logprob", "perplexity"})
RESULTS |= {"prompt", "completion", "sample", "n_tokens", "seed", "confidence", "distinct", "preference"}
RESULTS |= {"effectiveness", "faithfulness", "difference", "flip_rate"}
"""Columns of the package's frames that hold what was measured, and not a setting."""

NONE = "(none)"


@dataclass(frozen=True)
class SweepState:
    """What the controls of the sweep browser say; `x` and `y` are columns, `at_x` and `at_y` values of theirs."""

    x: str
    metric: str
    y: str = NONE
    only: str = ""
    view: str = "heat map"
    at_x: Any = ""
    at_y: Any = ""


class SweepBrowser(Panel[SweepState]):
    """The panel of `sweep_browser`."""

    name = "sweep_browser"
    alt = "Distribution or lines of the chosen measure."
    whole = (6.0, 3.8)

    def __init__(self, given: pd.DataFrame, frame: pd.DataFrame, state: SweepState, words: Iterable[str]) -> None:
        self.given, self.frame, self.words = given, frame, tuple(words)
        self.grid = Grid(mpl.colormaps["viridis"], self._click)
        rows = ["x y", "metric view", "only", "at_x at_y"]
        super().__init__(state, _controls(frame), rows)

    def rows(self) -> pd.DataFrame:
        """The rows of the frame that are looked at."""
        query = self.state.only.strip()
        try:
            chosen = self.frame.query(query) if query else self.frame
        except Exception as error:  # pandas raises many kinds
            raise ValueError(f"{query!r} is no filter, write it as column == 'value' or column > 2: {error}") from None
        settings = [column for column in (self.state.x, self.state.y) if column != NONE]
        chosen = chosen.dropna(subset=settings)
        if chosen.empty:
            raise ValueError(f"no row of the frame matches {query!r} and has a value of {' and '.join(settings)}")
        return chosen

    def measure(self) -> pd.DataFrame:
        """The mean of the metric in each cell, with its interval."""
        s = self.state
        if s.x == s.y:
            raise ValueError(f"{s.x!r} goes across and down: choose two different columns")
        return means(self.rows(), s.metric, [s.x] if s.y == NONE else [s.x, s.y])

    def draw(self, figure: FigureBase) -> None:
        """A heat map, or curves with their intervals."""
        s, table, ax = self.state, self.measure(), figure.subplots()
        if s.view == "heat map" and s.y != NONE:
            plots.heat_map(table, s.x, s.y, label=s.metric, ax=ax)
        else:
            named = table if s.y == NONE else table.assign(**{s.y: [f"{s.y} {_shown(y)}" for y in table[s.y]]})
            plots.lines(named, s.x, "value", by=None if s.y == NONE else s.y, labels=(s.x, s.metric), ax=ax)

    def refresh(self) -> None:
        """The map as buttons where it is small enough, else as a picture; the rows of its chosen cell."""
        self.table = self.measure()
        small = self.state.view == "heat map" and len(self.table) <= LARGEST
        self.grid.widget.layout.display = "" if small else "none"
        self.picture.layout.display = "none" if small else ""
        if small:
            self._show_cells()
            self.numbers.value = self.notes()
            self.show_code()
            self._renew_still()
        else:
            super().refresh()
        self.show_rows()

    def notes(self) -> str:
        """How to read the map."""
        cells, per = len(self.table), self.table["n"]
        count = f"{per.min()}" if per.min() == per.max() else f"{per.min()} to {per.max()}"
        note = "press a cell to see its rows" if self.state.view == "heat map" else "bands are 95 % intervals"
        return f"{cells} settings, {count} rows each; {note}."

    def show_rows(self) -> None:
        """The rows of the chosen setting."""
        s = self.state
        rows, named = self.rows(), _named(s, s.at_x, s.at_y)
        chosen = rows[rows[s.x] == s.at_x]
        if s.y != NONE:
            chosen = chosen[chosen[s.y] == s.at_y]
        if chosen.empty:
            self.completions.value = f"<p>No rows at {escape(named)}.</p>"
        elif "completion" in chosen:
            self.completions.value = prose(plots.completions_html(chosen.assign(at=named), self.words, by="at").data)
        else:
            self.completions.value = prose(f"<p>{escape(named)}</p>{html_table(chosen.head(8))}")

    def code(self) -> str:
        """The lines that draw the same picture."""
        s = self.state
        rows = f"frame.query({s.only!r})" if s.only.strip() else "frame"
        y = "" if s.y == NONE else f", {s.y!r}"
        if s.view == "heat map" and y:
            drawn = f"plots.heat_map(table, {s.x!r}{y}, label={s.metric!r})"
        else:
            drawn = f"plots.lines(table, {s.x!r}, 'value'" + (f", by={s.y!r})" if y else ")")
        table = f"metrics.means({rows}, {s.metric!r}, [{s.x!r}{y}])"
        return f"from steerlab import metrics, plots\n{self._given()}table = {table}\n{drawn}"

    def _given(self) -> str:
        """The lines that give code the frame that is looked at."""
        name = called(self.given, "frame")
        lines = "" if name == "frame" else f"frame = {name}\n"
        if self.words and "completion" in self.given:
            words = f"[metrics.has_topic_word(text, {self.words!r}) for text in frame['completion']]"
            lines += f"frame = frame.assign(topic_word={words})\n"
        return lines

    def sync(self, name: str) -> None:
        """The values of the chosen columns are what a cell can be chosen by; what was chosen stays where it can."""
        if name not in ("x", "y"):
            return
        control, values = self.controls[f"at_{name}"], _values(self.frame, self.controls[name].value)
        old = control.value
        control.options = [(_shown(value), value) for value in values] or [("–", "")]
        if old in values:
            control.value = old

    def arrange(self, rows: Any) -> w.VBox:
        """The grid of buttons stands where the picture does."""
        box = super().arrange(rows)
        right = box.children[0].children[1]
        right.children = [self.grid.widget, *right.children]
        right.layout.flex = "1 1 560px"
        return box

    def _show_cells(self) -> None:
        """Buttons for the heat map, its rows from the highest value of y to the lowest."""
        s, table = self.state, self.table.assign(**({NONE: ""} if self.state.y == NONE else {}))
        across, down = _values(table, s.x), _values(table, s.y)[::-1] or [""]
        self._across, self._down = across, down
        low, high = table["value"].min(), table["value"].max()
        cells = {}
        for row in table.to_dict("records"):
            x, y = row[s.x], row[s.y]
            shade = (row["value"] - low) / (high - low) if high > low else 0.5
            interval = f" [{row['low']:.3g}, {row['high']:.3g}]" if row["low"] == row["low"] else ""  # NaN for n = 1
            tooltip = f"{_named(s, x, y)}: {s.metric} {row['value']:.3g}{interval}, n = {row['n']}"
            chosen = x == s.at_x and (s.y == NONE or y == s.at_y)
            cells[down.index(y), across.index(x)] = Cell(_short(row["value"]), shade, tooltip, chosen)
        corner = s.x if s.y == NONE else f"{s.y} ↓ {s.x} →"
        self.grid.show([_shown(y) for y in down], [_shown(x) for x in across], cells, corner)

    def _click(self, row: int, column: int) -> None:
        """Choose a cell."""
        with self.quietly():
            self.controls["at_x"].value = self._across[column]
            if self.state.y != NONE:
                self.controls["at_y"].value = self._down[row]
        self.runner.request(self.refresh)


def sweep_browser(frame: pd.DataFrame, *, words: Iterable[str] = (), **state: Any) -> SweepBrowser:
    """A panel to look through any tidy sweep; no model is run.

    Args:
        frame: one row per measurement or completion, with its setting in columns, as the functions of `sweep` and the
            experiments return it.
        words: of a topic; completions that have one become a metric, `topic_word`, and they are marked.
        state: first values of the controls, the fields of `SweepState`. `only` is a query of pandas, such as
            "condition == 'steered'".

    Raises:
        ValueError: the frame has no column with two or more values to go along, or none to measure; a field that
            `SweepState` does not have, or a value that its control does not take.
    """
    topic, given = tuple(words), frame
    if topic and "completion" in frame:
        frame = frame.assign(topic_word=[has_topic_word(text, topic) for text in frame["completion"]])
    axes = find_axes(frame)
    metrics = find_metrics(frame, axes)
    if not axes or not metrics:
        what = "setting (2 to 64 different values)" if not axes else "number to look at"
        raise ValueError(f"the frame has no column with a {what}: it has {', '.join(map(str, frame.columns))}")
    x, y = [*axes, NONE][:2]
    chosen = make_state(SweepState, "sweep browser", state, x=x, y=y, metric=metrics[0])
    first: dict[str, Any] = {"only": _first_query(frame, [n for n in (chosen.x, chosen.y) if n != NONE])}
    shown = frame.query(first["only"]) if first["only"] else frame
    for at, column in (("at_x", chosen.x), ("at_y", chosen.y)):
        first[at] = next(iter(_values(shown, column)), "")
    return SweepBrowser(given, frame, replace(chosen, **(first | state)), topic)


def find_axes(frame: pd.DataFrame) -> list[str]:
    """Columns that a sweep may go along: 2 to 64 values, and no results; numbers first."""
    chosen = [str(name) for name in frame if name not in RESULTS and not is_bool_dtype(frame[name])]
    plain = [name for name in chosen if not isinstance(frame[name].iloc[0], list | tuple)]
    axes = [name for name in plain if 2 <= frame[name].nunique() <= 64]
    return sorted(axes, key=lambda name: not is_numeric_dtype(frame[name]))


def find_metrics(frame: pd.DataFrame, axes: Sequence[str] = ()) -> list[str]:
    """Columns to look at: truth values, then known results, then any other numbers but those of the axes."""
    skip = {"low", "high", "seed", "sample", "row", "n", *axes}
    names = [str(name) for name in frame if name not in skip and is_numeric_dtype(frame[name])]
    return sorted(names, key=lambda name: (not is_bool_dtype(frame[name]), name not in RESULTS))


def _queries(frame: pd.DataFrame, axes: tuple[str, ...] = ()) -> list[str]:
    """A query for each value of each column of names."""
    names = [n for n in find_axes(frame) if n not in axes and not is_numeric_dtype(frame[n]) and n.isidentifier()]
    return [f"{name} == {value!r}" for name in names for value in frame[name].dropna().unique()[:20].tolist()]


def _first_query(frame: pd.DataFrame, axes: Sequence[str]) -> str:
    """The first query whose rows have a value on each axis, since a mean over conditions says little; none if none."""
    queries = _queries(frame, tuple(axes))
    return next((query for query in queries if not frame.query(query).dropna(subset=list(axes)).empty), "")


def _values(frame: pd.DataFrame, column: str) -> list[Any]:
    """The values of an axis in order, none for no axis."""
    return sorted(frame[column].dropna().unique().tolist()) if column in frame else []


def _named(state: SweepState, x: Any, y: Any) -> str:
    """A cell by its values."""
    return f"{state.x} {_shown(x)}" + ("" if state.y == NONE else f", {state.y} {_shown(y)}")


def _shown(value: Any) -> str:
    """A value of an axis as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(value: float) -> str:
    """A number for a narrow button."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}"


def _controls(frame: pd.DataFrame) -> dict[str, Any]:
    axes = find_axes(frame)
    return {
        "x": make(w.Dropdown, "across", options=axes),
        "y": make(w.Dropdown, "down", options=[NONE, *axes]),
        "metric": make(w.Dropdown, "metric", options=find_metrics(frame, axes)),
        "view": make(w.Dropdown, "view", options=["heat map", "curves"]),
        "only": make(w.Combobox, "only rows", WIDE, options=_queries(frame), placeholder="condition == 'steered'"),
        "at_x": make(w.SelectionSlider, "at (across)", options=[("–", "")]),
        "at_y": make(w.SelectionSlider, "at (down)", options=[("–", "")]),
    }
