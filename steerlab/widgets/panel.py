"""What every panel shares: state, one pending run at a time, a busy mark, errors as one line, and a static twin."""

import asyncio
import html
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Generic, TypeVar

import ipywidgets as w
import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import imsave
from traitlets import Any as AnyTrait
from traitlets import HasTraits, TraitError

from ..model import SteerableModel
from ..prompts import Prompt, is_chat

S = TypeVar("S")
DPI = 110
WIDE, PART = "1 1 100%", "1 1 240px"  # of a row of controls: the whole, or as many beside each other as there is room
ALERT = "background:#fde7e9;color:#7a0012;padding:3px 8px;border-radius:3px"  # readable on light and dark pages


class Guard:
    """Runs a panel's work, so that the panel lives on whatever happens.

    While work runs, a spinner turns, and with `now` the controls are disabled. An error becomes one line in the panel.
    Requests that arrive while one is pending replace it, so that dragging a slider never queues more than one run.
    """

    def __init__(self, controls: Sequence[Any], log: AbstractContextManager[Any] | None = None) -> None:
        self.controls = controls
        self.log = log or nullcontext()
        self.message = w.HTML(layout=w.Layout(min_width="20px", min_height="28px"))
        self.message.add_class("steerlab-message")
        self._pending: Callable[[], None] | None = None
        self._busy = False

    def request(self, work: Callable[[], None]) -> None:
        """Run soon, in place of what still waits; at once where no event loop runs."""
        waiting = self._pending is not None
        self._pending = work
        if not waiting:
            _later(0.02, self._run_pending)

    def now(self, work: Callable[[], None]) -> None:
        """Run with the controls disabled, for work that takes more than a moment.

        What is pressed meanwhile reaches the kernel when the work is done; it is still dropped then.
        """
        if self._busy:
            return
        self._busy = True
        enabled = [control for control in self.controls if not control.disabled]
        for control in enabled:
            control.disabled = True
        try:
            self._guard(work, " running …")
        finally:
            _later(0.1, lambda: self._release(enabled))

    def _release(self, controls: Sequence[Any]) -> None:
        self._busy = False
        for control in controls:
            control.disabled = False

    def _run_pending(self) -> None:
        work, self._pending = self._pending, None
        if work is not None:
            self._guard(work)

    def _guard(self, work: Callable[[], None], note: str = "") -> None:
        """Turn an error into one line; also an interrupt, which would end the kernel's event loop."""
        self.message.value = f'<i class="fa fa-spinner fa-spin" aria-label="running"></i>{note}'
        told = ""
        with self.log:
            try:
                work()
            except (Exception, KeyboardInterrupt) as error:  # whatever it is, the panel must live on
                told = (str(error).strip() or type(error).__name__).splitlines()[0]
        self.message.value = told and f'<span role="alert" style="{ALERT}">⚠ {html.escape(told)}</span>'


def _later(seconds: float, work: Callable[[], None]) -> None:
    """Run when the messages that wait have come in; at once where no event loop runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        work()
    else:
        loop.call_later(seconds, work)


class Held(HasTraits):
    """A part of a panel's state that no single control shows."""

    value = AnyTrait()
    disabled = False


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
    size: ClassVar[tuple[float, float]] = (6.0, 3.8)
    margins: ClassVar[Mapping[str, float]] = {}  # of the picture, where finding them anew would take too long
    button_text: ClassVar[str] = ""
    on_button: ClassVar[frozenset[str]] = frozenset()  # controls that the picture does not depend on
    local: ClassVar[frozenset[str]] = frozenset()  # controls that need no new run of the model

    def __init__(self, state: S, controls: dict[str, Any], rows: Sequence[str], lm: Any = None) -> None:
        self.controls = controls
        self.remote = lm is not None and lm.runner.at_once
        self._quiet, self._stale = False, True
        self.log = w.Output()
        self.button = w.Button(description=self.button_text or "Run", button_style="primary", icon="play")
        self.button.layout.width = "auto"  # as wide as its text
        self.button.tooltip = f"{self.button.description}: runs the model"
        self.button.add_class("steerlab-run")
        self.runner = Guard([*controls.values(), self.button], self.log if self.remote else None)
        self.picture = w.Image(format="png", layout=w.Layout(width=f"{self.size[0] * 100:.0f}px", max_width="100%"))
        self.numbers, self.completions = w.HTML(), w.HTML(layout=w.Layout(width="98%"))
        self.copy = make(w.Textarea, "copy as code", WIDE)
        for part in ("picture", "numbers", "completions", "copy", "log"):
            getattr(self, part).add_class(f"steerlab-{part}")
        self._assign(state)
        for name, control in controls.items():
            control.observe(lambda change, name=name: self._changed(name), names="value")
        self.button.on_click(lambda _: self.runner.now(self.press))
        self.widget = self.arrange(rows)
        self.widget.add_class("steerlab").add_class(f"steerlab-{self.name}")
        self.open()

    # --- what a panel is ---------------------------------------------------------------------------------------------

    @abstractmethod
    def draw(self, figure: FigureBase) -> None:
        """Draw what the controls say, into an empty figure."""

    @abstractmethod
    def code(self) -> str:
        """The lines that do the same without the panel; `sl` is steerlab, `lm` the model."""

    def notes(self) -> str:
        """Numbers beneath the picture, as HTML; called after `draw`."""
        return ""

    def write(self) -> None:
        """What the button does, besides a new picture."""

    def sync(self, name: str) -> None:
        """Bring other controls in line with one that has a new value."""

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
        if self.remote:
            self._stale = True
            self.show_code()
            self.runner.message.value = f"press <b>{self.button.description}</b> to run the remote model"
        else:
            self.runner._guard(self.refresh)

    def refresh(self) -> None:
        """A new picture, with its numbers and code."""
        figure = Figure(self.size, layout=None if self.margins else "constrained", facecolor="white")
        if self.margins:
            figure.subplots_adjust(**self.margins)
        self.draw(figure)
        self._stale = False
        self.picture.value = png(figure)
        self.numbers.value = self.notes()
        self.show_code()

    def show_code(self) -> None:
        """The code, in a box that is high enough for it."""
        text = self.code()
        self.copy.rows = sum(1 + len(line) // 100 for line in text.splitlines())
        self.copy.value = text

    def press(self) -> None:
        """What the button does."""
        if self.remote:
            self.refresh()
        self.write()

    def figure(self) -> Figure:
        """The picture as a figure: the static twin of the panel."""
        figure = plt.figure(figsize=self.size, layout="constrained", facecolor="white")
        self.draw(figure)
        return figure

    def arrange(self, rows: Sequence[str]) -> w.VBox:
        """Controls on the left, the picture on the right, or beneath where the window is narrow."""
        left = self.control_rows(rows) + [self.log] * self.remote
        sides = [
            w.VBox(left, layout=w.Layout(flex="1 1 440px", min_width="380px")),
            w.VBox([self.picture, self.numbers], layout=w.Layout(flex="0 1 auto")),
        ]
        return w.VBox([wrapped(sides), self.completions, wrapped([self.copy])])

    def control_rows(self, rows: Sequence[str]) -> list[w.HBox]:
        """Controls in rows; the message stands beside the button, or at the end of the last row."""
        found = [[self.controls[name] for name in row.split()] for row in rows]
        if self.button_text or self.remote:
            return [*map(wrapped, found), w.HBox([self.button, self.message])]
        return [*map(wrapped, found[:-1]), wrapped([*found[-1], self.message])]

    @property
    def message(self) -> w.HTML:
        """Where the spinner turns and an error stands."""
        return self.runner.message

    def _changed(self, name: str) -> None:
        """A control has a new value."""
        quiet, self._quiet = self._quiet, True
        try:
            self.sync(name)
        finally:
            self._quiet = quiet
        if quiet:
            return
        self._stale |= name not in self.local
        if name in self.on_button or (self.remote and self._stale):
            self.show_code()
        else:
            self.runner.request(self.refresh)

    def _assign(self, state: S) -> None:
        """Give all controls their values, without a run."""
        self._kind = type(state)
        self._quiet = True
        try:
            for field in fields(state):  # type: ignore[arg-type]  # a dataclass
                _give(field.name, self.controls[field.name], getattr(state, field.name))
                self.sync(field.name)
        finally:
            self._quiet = False

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Shown by a cell as its widget."""
        return self.widget._repr_mimebundle_(**options)


def _give(name: str, control: Any, value: Any) -> None:
    """Set a control, or say in one line what it takes."""
    with suppress(TraitError):
        control.value = value
    if control.value == value:
        return
    if hasattr(control, "options"):
        options = [str(option) for option in control.options]
        near = get_close_matches(str(value), options, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name}={value!r} is unknown: choose one of {', '.join(options[:12])}{hint}")
    limits = f": {control.min:g} to {control.max:g}" if hasattr(control, "max") else ""
    raise ValueError(f"{name}={value!r} is out of range{limits}")


def make_state(kind: type[S], panel: str, given: Mapping[str, Any], **usual: Any) -> S:
    """A panel's state from keyword arguments.

    Args:
        kind: the dataclass.
        panel: its name, for the error.
        given: what the user asks for.
        usual: values that depend on the model or the data, in place of the class's own.

    Raises:
        ValueError: a field that the state does not have, or a chat of several turns.
    """
    if is_chat(given.get("prompt")):
        if [turn["role"] for turn in given["prompt"]] != ["user"]:
            raise ValueError("a panel takes a chat of one message, the user's: give the rest as text")
        given = {**given, "prompt": given["prompt"][0]["content"], "chat": True}
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    if unknown := [name for name in given if name not in known]:
        near = get_close_matches(unknown[0], known, 1)
        hint = f" (nearest: {near[0]})" if near else ""
        raise ValueError(f"the {panel} has no control {unknown[0]!r}{hint}: choose among {', '.join(known)}")
    return kind(**(usual | dict(given)))


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn: the part of a state that every panel with a button for them has."""

    n: int = 3
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 0.9
    max_new_tokens: int = 40

    def options(self) -> dict[str, Any]:
        """As keyword arguments of `lm.generate`."""
        return {field.name: getattr(self, field.name) for field in fields(Sampling)}

    def options_code(self) -> str:
        """The same as code."""
        return ", ".join(f"{name}={value:g}" for name, value in self.options().items())


@dataclass(frozen=True)
class Question(Sampling):
    """A prompt and how completions of it are drawn; with `chat` the prompt is what the user of a chat says."""

    prompt: str = ""
    chat: bool = False

    @property
    def asked(self) -> Prompt:
        """What the model is given."""
        return asked(self.prompt, self.chat)


def asked(prompt: str, chat: bool) -> Prompt:
    """A text as the model is given it: as it is, or as the message of a chat's user."""
    return [{"role": "user", "content": prompt}] if chat else prompt


def question_rows(lm: SteerableModel) -> list[str]:
    """The row of the prompt, and of the choice that only chat models have."""
    return ["prompt", "chat"] if lm.tokenizer.chat_template else ["prompt"]


def question_controls(prompt: Any) -> dict[str, Any]:
    """A control for each field of `Question`, around that of the prompt."""
    chat = make(w.Checkbox, "as a message of a chat", WIDE)
    return {"prompt": prompt, "chat": chat, **sampling_controls()}


SAMPLING_ROWS = ("n seed", "temperature top_p max_new_tokens")
SAMPLING = frozenset(field.name for field in fields(Sampling))


def sampling_controls() -> dict[str, Any]:
    """A control for each field of `Sampling`."""
    return {
        "n": make(w.IntSlider, "samples", min=1, max=12),
        "seed": make(w.BoundedIntText, "seed", min=0, max=2**31 - 1),
        "temperature": make(w.FloatSlider, "temperature", min=0, max=2, step=0.1, readout_format=".1f"),
        "top_p": make(w.FloatSlider, "top-p", min=0.05, max=1, step=0.05),
        "max_new_tokens": make(w.IntSlider, "new tokens", min=5, max=200),
    }


def make(kind: Any, label: str, flex: str = PART, **options: Any) -> Any:
    """A control with a label; text is sent when it is complete."""
    if kind in (w.Text, w.Textarea, w.Combobox):
        options["continuous_update"] = False
    layout = w.Layout(flex=flex, width="auto", min_width="0")
    return kind(description=label, layout=layout, style={"description_width": "92px"}, **options)


def wrapped(widgets: Sequence[Any]) -> w.HBox:
    """Widgets beside each other, the last of them beneath where the window is narrow."""
    return w.HBox(list(widgets), layout=w.Layout(flex_flow="row wrap"))


def prose(text: str) -> str:
    """HTML whose lines are as close as a page's; in a widget they are as far apart as controls."""
    return f'<div style="line-height:1.5">{text}</div>'


def png(figure: Figure) -> bytes:
    """A figure as a PNG, for an image widget; drawn once, where `savefig` draws it twice."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib has no types here
    buffer = io.BytesIO()
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]  # nor here
    imsave(buffer, pixels, format="png", pil_kwargs={"compress_level": 1})
    return buffer.getvalue()
