"""What every panel shares: state, a picture that follows it, a button, the code that does the same, a static twin."""

import io
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, ClassVar, Generic

import ipywidgets as w
import matplotlib.pyplot as plt
from IPython.display import DisplayHandle, display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import imsave
from traitlets import Unicode

from .controls import WIDE, S, give, make, wrapped
from .names import prelude
from .runner import Guard, later, on_loop

DPI = 110
VIEW = "a panel: run this cell to use it; beneath is a picture of it"
STILL_EVERY = 1.0  # seconds, since a notebook is not saved more often
STYLE = """<style>
.steerlab-old { opacity: 0.65; }
.steerlab:has(.steerlab-stop:enabled) .steerlab-run { opacity: 0.5; }
.steerlab.disconnected::before { content: "The kernel has been restarted: run the cell again."; font-weight: bold; }
.jp-OutputArea-child:has(.steerlab) + .jp-OutputArea-child:has(.jp-RenderedImage) { display: none; }
</style>"""
"""What is old fades, and the button while it runs; a panel without its kernel says so; its still picture makes room."""


class Picture(w.Image):
    """An image that a screen reader can name: its tooltip, which the page sets where a widget has a description."""

    description = Unicode().tag(sync=True)


class Panel(ABC, Generic[S]):
    """A panel: controls, a picture that follows them, what the button writes, and the code that does the same.

    `state` can be read and set, `code()` gives the lines that do the same without the panel, `figure()` is the static
    twin of the picture. A remote model runs on the button only.

    Args:
        state: first values of the controls.
        controls: one for each field of the state, by its name.
        rows: names of the controls that stand beside each other, parted by spaces.
        lm: the model, if the panel runs one.
    """

    name: ClassVar[str]
    alt: ClassVar[str] = "the panel's picture"  # what it shows, for those who cannot see it
    size: tuple[float, float] = (6.0, 3.8)  # inches of the picture
    whole: ClassVar[tuple[float, float] | None] = None  # of the static twin, where it shows more than the picture
    margins: ClassVar[Mapping[str, float]] = {}  # of the picture, where finding them anew would take too long
    button_text: ClassVar[str] = ""
    on_button: ClassVar[frozenset[str]] = frozenset()  # controls that the picture does not depend on
    local: ClassVar[frozenset[str]] = frozenset()  # controls that need no new run of the model

    def __init__(self, state: S, controls: dict[str, Any], rows: Sequence[str], lm: Any = None) -> None:
        self.controls, self.lm = controls, lm
        self.remote = lm is not None and lm.runner.at_once
        self._quiet, self._stale = False, True
        self._still: DisplayHandle | None = None
        self._still_due = False
        self.log = w.Output()
        self.button = w.Button(description=self.button_text or "Run", button_style="primary", icon="play")
        self.button.layout = w.Layout(width="auto", flex="none")  # as wide as its text, whatever stands beside it
        self.button.tooltip = f"{self.button.description}: runs the model"
        self.button.add_class("steerlab-run")
        self.runner = Guard(list(controls.values()), self.log if self.remote else None)  # the button keeps the focus
        self.picture = Picture(
            format="png", tooltip=self.alt, layout=w.Layout(width=f"{self.size[0] * 100:.0f}px", max_width="100%")
        )
        self.numbers, self.completions = w.HTML(), w.HTML(layout=w.Layout(width="98%"))
        self.copy, self.style = make(w.Textarea, "copy as code", WIDE), w.HTML(STYLE)
        for part in ("picture", "numbers", "completions", "copy", "log"):
            getattr(self, part).add_class(f"steerlab-{part}")
        self._assign(state)
        for name, control in controls.items():
            control.observe(on_loop(lambda change, name=name: self._changed(name)), names="value")
        self.button.on_click(on_loop(lambda _: self.press()))
        self.widget = self.arrange(rows)
        self.widget.add_class("steerlab").add_class(f"steerlab-{self.name}")
        self.open()

    # --- what a panel is ---------------------------------------------------------------------------------------------

    @abstractmethod
    def draw(self, figure: FigureBase) -> None:
        """Draw what the controls say, into an empty figure."""

    def draw_whole(self, figure: Figure) -> None:
        """Draw what the static twin shows: the picture, and what the page shows beside it as buttons."""
        self.draw(figure)

    @abstractmethod
    def code(self) -> str:
        """The lines that do the same without the panel; `sl` is steerlab, `lm` the model."""

    def notes(self) -> str:
        """Numbers beneath the picture, as HTML; called after `draw`."""
        return ""

    def sync(self, name: str) -> None:
        """Bring other controls in line with one that has a new value."""

    def mark(self) -> None:
        """Mark what is shown and does not belong to the controls' values."""

    # --- what all panels do ------------------------------------------------------------------------------------------

    @property
    def state(self) -> S:
        """What the controls say now."""
        return self._kind(**{name: control.value for name, control in self.controls.items()})

    @state.setter
    def state(self, state: S) -> None:
        """Set all controls, or none of them.

        Raises:
            ValueError: a value that its control does not take.
        """
        before = self.state
        try:
            self._assign(state)
        except ValueError:
            self._assign(before)
            raise
        self.open()

    def open(self) -> None:
        """The first picture of a state; of a remote model only the code."""
        self.mark()
        if self.remote:
            self._stale = True
            self.show_code()
            self.runner.say(f"press <b>{self.button.description}</b> to run the remote model")
        else:
            self.runner.here(self.refresh)

    def refresh(self) -> None:
        """A new picture, with its numbers and code; the old one fades where there is none."""
        with self.fading():
            figure = Figure(self.size, layout=None if self.margins else "constrained", facecolor="white")
            if self.margins:
                figure.subplots_adjust(**self.margins)
            self.draw(figure)
            self._stale = False
            self.picture.value = png(figure)
            self.numbers.value = self.notes()
            self.show_code()
        self._renew_still()

    def show_code(self) -> None:
        """The code, in a box that is high enough for it."""
        text = prelude(self.lm) + self.code()
        self.copy.rows = sum(1 + len(line) // 100 for line in text.splitlines())
        self.copy.value = text

    def press(self) -> None:
        """What the button does."""
        self.runner.now(self.refresh)

    def figure(self) -> Figure:
        """The static twin of the panel."""
        figure = plt.figure(figsize=self.whole or self.size, layout="constrained", facecolor="white")
        self.draw_whole(figure)
        return figure

    def arrange(self, rows: Sequence[str]) -> w.VBox:
        """Controls on the left, the picture on the right, or beneath where the window is narrow."""
        left = self.control_rows(rows) + [self.log] * self.remote
        sides = [
            w.VBox(left, layout=w.Layout(flex="1 1 440px", min_width="380px")),
            w.VBox([self.picture, self.numbers], layout=w.Layout(flex="0 1 auto")),
        ]
        return w.VBox([wrapped(sides), self.completions, wrapped([self.copy]), self.style])

    def control_rows(self, rows: Sequence[str]) -> list[w.HBox]:
        """Controls in rows; Stop and the message stand beside the button, or at the end of the last row."""
        controls = [[self.controls[name] for name in row.split()] for row in rows]
        end = [self.runner.stop] * (self.lm is not None) + [self.message]
        if self.button_text or self.remote:
            return [*map(wrapped, controls), w.HBox([self.button, *end])]
        return [*map(wrapped, controls[:-1]), wrapped([*controls[-1], *end])]

    @contextmanager
    def fading(self) -> Iterator[None]:
        """Let the picture fade where what renews it fails; else nothing travels to the page on its account."""
        try:
            yield
        except BaseException:
            self._fade(True)
            raise
        self._fade(False)

    def _fade(self, old: bool) -> None:
        for part in (self.picture, self.numbers):
            (part.add_class if old else part.remove_class)("steerlab-old")

    @property
    def message(self) -> w.HTML:
        """Where the spinner turns and an error stands."""
        return self.runner.message

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Let controls change without a run."""
        quiet, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = quiet

    def _changed(self, name: str) -> None:
        """A control has a new value."""
        quiet = self._quiet
        with self.quietly():
            self.sync(name)
        if quiet:
            return
        self.mark()
        self._stale |= name not in self.local
        if name in self.on_button or (self.remote and self._stale):
            self.show_code()
        else:
            self.runner.request(self.refresh)

    def _assign(self, state: S) -> None:
        """Give all controls their values, without a run."""
        self._kind = type(state)
        with self.quietly():
            for field in fields(state):  # type: ignore[arg-type]  # a dataclass
                give(field.name, self.controls[field.name], getattr(state, field.name))
                self.sync(field.name)

    def still(self) -> bytes:
        """The static twin as a PNG, which stands for the panel where no kernel runs."""
        if self.whole is None:
            return bytes(self.picture.value)
        figure = Figure(self.whole, layout="constrained", facecolor="white")
        self.draw_whole(figure)
        return png(figure)

    def _ipython_display_(self) -> None:
        """Shown by a cell as its widget, and as a picture that follows it, to be saved with the notebook.

        JupyterLab and Notebook 7 hide the picture beside a living panel; without a kernel, and where notebooks are only
        read, it is what is seen.
        """
        data = self.widget._repr_mimebundle_()
        display(data | {"text/plain": VIEW}, raw=True)  # type: ignore[no-untyped-call]  # IPython has no types here
        self._still = display(self._still_data(), raw=True, display_id=True)  # type: ignore[no-untyped-call]  # nor here

    def _still_data(self) -> dict[str, str]:
        """The still picture as Jupyter sends it."""
        image = self.still()
        return {"text/plain": "", **({"image/png": b64encode(image).decode()} if image else {})}

    def _renew_still(self) -> None:
        """Renew the still picture, not at every move of a slider."""
        if self._still is not None and not self._still_due:
            self._still_due = True
            later(STILL_EVERY, self._update_still)

    def _update_still(self) -> None:
        self._still_due = False
        if self._still is not None:
            self._still.update(self._still_data(), raw=True)  # type: ignore[no-untyped-call]  # nor here


def png(figure: Figure) -> bytes:
    """A figure as a PNG, for an image widget; drawn once, where `savefig` draws it twice."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib has no types here
    buffer = io.BytesIO()
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]  # nor here
    imsave(buffer, pixels, format="png", pil_kwargs={"compress_level": 1})
    return buffer.getvalue()
