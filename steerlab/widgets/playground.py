"""Two prompts, a layer, a strength: steer by hand and see what changes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w
import pandas as pd
from matplotlib.figure import FigureBase

from .. import lens, plots
from ..intervention import Intervention
from ..loading import load_intervention
from ..methods.actadd import actadd
from ..model import SteerableModel
from .controls import (
    SAMPLING_ROWS,
    WIDE,
    Question,
    make,
    make_state,
    prose,
    question_controls,
    question_rows,
    visible,
)
from .dial import Dial
from .names import called
from .writer import side_by_side

ACTADD = "ActAdd"
PAIRS = {
    "weddings": (" weddings", " "),
    "ships": (" ships", " "),
    "Love - Hate": ("Love", "Hate"),
    "Anger - Calm": ("Anger", "Calm"),
    "praise - hurt": ("Intent to praise", "Intent to hurt"),
}
"""Pairs to start from, by name: two topics of the course, and pairs that ActAdd's authors show."""

TEXT = " wedding, and about the ships in the harbour."
"""A text that the unsteered model might have written after the playground's prompt."""

BARS, STRIPS = 3.8, 2.1  # inches of the picture's two parts

Saved = Mapping[str, Intervention | str | Path]


@dataclass(frozen=True)
class PlaygroundState(Question):
    """What the controls of the playground say."""

    method: str = ACTADD
    plus: str = " weddings"
    minus: str = " "
    layer: int = 0
    strength: float = 2.0
    vector: str = "positions"
    when: str = "prompt"
    prompt: str = "She told me all about the"
    text: str = ""


class Playground(Dial[PlaygroundState]):
    """The panel of `playground`."""

    name = "playground"
    alt = "Probabilities of the next tokens, unsteered and steered; beneath, where steering acts in the text."
    aside = frozenset({"text"})
    button_text = "Write completions"
    conditions = ("unsteered", "steered")

    def __init__(
        self,
        lm: SteerableModel,
        state: PlaygroundState,
        words: Iterable[str],
        saved: Saved,
        rows: Iterable[str] = (),
        choose: bool = False,
    ) -> None:
        self.lm, self.words, self.saved = lm, tuple(words), saved
        self.interventions = read_saved(lm, saved)
        self._actadd = lru_cache(maxsize=64)(self._build)
        every = ["method strength", "plus minus", "layer vector when", *question_rows(lm), "text", *SAMPLING_ROWS]
        presets = {name: {"method": ACTADD, "plus": plus, "minus": minus} for name, (plus, minus) in PAIRS.items()}
        super().__init__(lm, state, _controls(lm.n_layers, [ACTADD, *saved]), list(rows) or every, presets, choose)

    def unit(self) -> Intervention:
        """The intervention that the controls describe, at strength 1."""
        s = self.state
        if s.method == ACTADD:
            return self._actadd(s.plus, s.minus, s.layer, s.vector, s.when)
        return self.interventions[s.method]

    def steer(self) -> Intervention:
        """The same at the strength that is set."""
        return self.state.strength * self.unit()

    def steers(self) -> dict[str, Intervention | None]:
        """Nothing, and the intervention."""
        return {"unsteered": None, "steered": self.steer()}

    def draw(self, figure: FigureBase) -> None:
        """The next token before and after, and beneath it the text."""
        s, upper = self.state, figure
        if s.text:
            upper, lower = figure.subfigures(2, 1, height_ratios=(BARS, STRIPS))  # type: ignore[misc]  # typed as one
            self._draw_text(lower)
        self.before, self.after = self.lm.logits([s.asked] * 2, [None, self.steer()]).cpu()
        table = plots.token_table(self.lm, {"before": self.before, "after": self.after}, k=8)
        ax = plots.next_token_bars(table, ax=upper.subplots())
        what = f"{s.plus!r} - {s.minus!r}, layer {s.layer}" if s.method == ACTADD else s.method
        ax.set_title(plots.plain(f"{what}, strength {s.strength:g}"), fontsize=10)

    def _draw_text(self, figure: FigureBase) -> None:
        """Where steering acts in the text, as the tokens' colours."""
        s = self.state
        effects = lens.token_effects(self.lm, s.asked, s.text, self.steer())
        upper, lower = figure.subplots(2, 1)
        plots.token_strip(effects, "kl", label="KL of what was expected here, nats", ax=upper)
        plots.token_strip(effects, "shift", label="log-probability of the token: steered − unsteered, nats", ax=lower)

    def notes(self) -> str:
        """How far the next token has moved; the tokens of both prompts, where a space makes a difference."""
        s = self.state
        if s.method != ACTADD:
            return super().notes()
        sides = {"towards": s.plus, "away from": s.minus}
        tokens = "; ".join(f"{name} {self._tokens(text)}" for name, text in sides.items())
        return super().notes() + prose(f"Tokens: {tokens}")

    def _tokens(self, text: str) -> str:
        """The tokens of a text, each in a frame, with its spaces to be seen."""
        shown = (escape(visible(token)) for token in self.lm.tokens(text))
        return " ".join(
            f'<code style="border:1px solid;border-radius:3px;padding:0 3px">{token}</code>' for token in shown
        )

    def code(self) -> str:
        """The lines that reproduce the panel's completions."""
        s = self.state
        options = "" if s.vector == "positions" else f", vector={s.vector!r}, when={s.when!r}"
        vector = f"sl.actadd(lm, {s.plus!r}, {s.minus!r}, layer={s.layer}{options})"
        if s.method != ACTADD:
            vector = saved_code(s.method, self.saved)
        lines = [f"vector = {vector}"]
        if s.text:
            lines.append(f"sl.lens.token_effects(lm, {s.asked!r}, {s.text!r}, {s.strength:g} * vector)")
        lines.append(f"lm.generate([{s.asked!r}] * 2, [None, {s.strength:g} * vector], {s.options_code()})")
        return "\n".join(lines)

    def page(self, frame: pd.DataFrame) -> str:
        """Completions with their prompt in front."""
        return side_by_side(self.lm, frame, self.words)

    def sync(self, name: str) -> None:
        """Only what the method heeds can be set."""
        super().sync(name)
        c = self.controls
        self.size = (self.size[0], BARS + STRIPS * bool(c["text"].value))
        by_prompts = c["method"].value == ACTADD
        for field in ("plus", "minus", "layer", "vector"):
            c[field].disabled = not by_prompts
        if name == "vector" and c["vector"].value == "positions":
            c["when"].value = "prompt"
        c["when"].disabled = not by_prompts or (c["vector"].value, c["when"].value) == ("positions", "prompt")

    def _build(self, plus: str, minus: str, layer: int, vector: Any, when: Any) -> Intervention:
        return actadd(self.lm, plus, minus, layer=layer, vector=vector, when=when)


def playground(
    lm: SteerableModel, *, words: Iterable[str] = (), interventions: Saved | None = None, **state: Any
) -> Playground:
    """A panel to steer by hand: ActAdd with two prompts of one's own, or any intervention at hand.

    The bars follow the controls; the button writes completions. Beneath the bars stands a text after the prompt, each
    token on the colour of what steering does there (`lens.token_effects`). It opens at a third of the depth and at the
    strength of 3 nats, unless told otherwise.

    Args:
        lm: the model.
        words: to mark in completions.
        interventions: by name, each one or the path of a saved one.
        state: first values of the controls, the fields of `PlaygroundState`.

    Raises:
        ValueError: a field that `PlaygroundState` does not have, or a value out of range; what `load_intervention`
            refuses.
    """
    usual = {"layer": lm.n_layers // 3, "text": "" if lm.runner.at_once else TEXT}
    chosen = make_state(PlaygroundState, "playground", state, **usual)
    return Playground(lm, chosen, words, interventions or {}, choose="strength" not in state)


def starter(lm: SteerableModel, *, words: Iterable[str] = (), **state: Any) -> Playground:
    """The playground with three controls to begin with: a word, a strength, a prompt.

    Args:
        lm: the model.
        words: to mark in completions.
        state: first values of the controls, also of those that are not shown: the fields of `PlaygroundState`.

    Raises:
        ValueError: a field that `PlaygroundState` does not have, or a value out of range.
    """
    chosen = make_state(PlaygroundState, "starter", state, layer=lm.n_layers // 3)
    panel = Playground(lm, chosen, words, {}, ["plus strength", "prompt"], "strength" not in state)
    panel.widget.add_class("steerlab-starter")
    return panel


def read_saved(lm: SteerableModel, saved: Saved) -> dict[str, Intervention]:
    """Interventions by name, those that are given by their path read from there.

    Raises:
        ValueError: what `load_intervention` refuses.
    """
    return {
        name: value if isinstance(value, Intervention) else load_intervention(value, lm)
        for name, value in saved.items()
    }


def saved_code(name: str, saved: Saved) -> str:
    """How code comes by an intervention that a panel was given."""
    value = saved[name]
    if isinstance(value, Intervention):
        return called(value, f"{called(saved, 'interventions')}[{name!r}]")
    return f"sl.load_intervention({str(value)!r}, lm)"


def _controls(layers: int, methods: list[str]) -> dict[str, Any]:
    """A control for each field of the state, labelled, in reach of the keyboard."""
    return {
        "method": make(w.Dropdown, "method", options=methods),
        "strength": make(w.FloatSlider, "strength", min=-16, max=16, step=0.5),
        "plus": make(w.Text, "towards"),
        "minus": make(w.Text, "away from"),
        "layer": make(w.IntSlider, "layer", min=0, max=layers - 1),
        "vector": make(w.Dropdown, "vector", options=["positions", "mean", "last"]),
        "when": make(w.Dropdown, "when", options=["prompt", "decode", "all"]),
        "text": make(w.Text, "text after it", WIDE, placeholder="where does steering act in it?"),
    } | question_controls(make(w.Text, "prompt", WIDE))
