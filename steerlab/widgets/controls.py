"""What a panel's controls are made of: the parts of a state that several panels have, and how controls are set."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, TypeVar

import ipywidgets as w
import pandas as pd
from traitlets import Any as AnyTrait
from traitlets import HasTraits, TraitError

from ..model import SteerableModel
from ..prompts import Prompt, is_chat

S = TypeVar("S")
WIDE, PART = "1 1 100%", "1 1 240px"  # of a row of controls: the whole, or as many beside each other as there is room


class Held(HasTraits):
    """A part of a panel's state that no single control shows."""

    value = AnyTrait()
    disabled = False


def give(name: str, control: Any, value: Any) -> None:
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


def visible(token: str) -> str:
    """A token with its spaces and line breaks to be seen."""
    return token.replace("\n", "↵").replace(" ", "␣")


def shortened(text: str, longest: int) -> str:
    """A text, its end left out where it is too long."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def html_table(frame: pd.DataFrame, index: bool = False) -> str:
    """A frame as HTML, its columns apart from each other."""
    text = str(frame.to_html(index=index, border=0, justify="left", col_space="7em"))
    return text.replace("<table", '<table cellpadding="3"', 1)


def prose(text: str) -> str:
    """HTML whose lines are as close as a page's; in a widget they are as far apart as controls."""
    return f'<div style="line-height:1.5">{text}</div>'
