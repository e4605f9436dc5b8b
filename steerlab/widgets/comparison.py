"""Several interventions on one prompt, at strengths that compare."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ipywidgets as w
import pandas as pd
from matplotlib.figure import FigureBase

from .. import plots
from ..intervention import Intervention
from ..metrics import kl
from ..model import SteerableModel
from ..strength import strength_for_size
from .controls import (
    SAMPLING_ROWS,
    WIDE,
    Question,
    asked,
    html_table,
    make,
    make_state,
    prose,
    question_controls,
    question_rows,
)
from .dial import Curve
from .playground import Saved, read_saved, saved_code
from .writer import Writer

TARGETS = tuple(float(f"{10 ** (i / 10):.2g}") for i in range(-20, 14))
MATCHES = {"KL of the next token, nats": "kl", "size relative to the activations": "size", "strength β itself": "beta"}
UNSTEERED = "unsteered"


@dataclass(frozen=True)
class CompareState(Question):
    """What the controls say; `match` is "kl", "size" or "beta", `target` its value for all interventions."""

    prompt: str = "I went to see the"
    match: str = "kl"
    target: float = 1.0


class Compare(Writer[CompareState]):
    """The panel of `compare`."""

    name = "compare"
    alt = "Probabilities of the next tokens under each intervention."
    size = (6.4, 4.6)
    button_text = "Write completions"

    def __init__(
        self, lm: SteerableModel, saved: Saved, state: CompareState, words: Iterable[str], choose: bool = False
    ) -> None:
        self.lm, self.words, self.saved, self._choose = lm, tuple(words), saved, choose
        self.units = read_saved(lm, saved)
        self.conditions = (UNSTEERED, *self.units)
        self._curve, self._size = lru_cache(maxsize=64)(self._run_curve), lru_cache(maxsize=64)(self._run_size)
        controls = {
            "match": make(w.Dropdown, "same", WIDE, options=list(MATCHES.items())),
            "target": make(w.SelectionSlider, "of", WIDE, options=[(f"{t:g}", t) for t in TARGETS]),
        }
        rows = [*question_rows(lm), "match", "target", *SAMPLING_ROWS]
        super().__init__(state, controls | question_controls(make(w.Text, "prompt", WIDE)), rows, lm)

    def strengths(self) -> dict[str, float | str]:
        """The strength of each intervention, or why it has none here."""
        s = self.state
        return {name: self._match(name, s) for name in self.units}

    def steers(self) -> dict[str, Intervention | None]:
        """What is compared: nothing, and each intervention that has a strength."""
        scaled = {n: b * self.units[n] for n, b in self.strengths().items() if not isinstance(b, str)}
        return {UNSTEERED: None, **scaled}

    def refresh(self) -> None:
        """A new picture; the first at a target that all can reach."""
        with self.fading():
            self._choose_target()
        super().refresh()

    def draw(self, figure: FigureBase) -> None:
        """The next token under each."""
        s, steers = self.state, self.steers()
        rows = self.lm.logits([s.asked] * len(steers), list(steers.values())).cpu()
        self.moved = dict(zip(steers, kl(rows, rows[:1]).tolist(), strict=True))
        table = plots.token_table(self.lm, dict(zip(steers, rows, strict=True)), k=7)
        plots.next_token_bars(table, ax=figure.subplots())

    def notes(self) -> str:
        """Strength and KL of each, as a table."""
        rows = [
            {"intervention": name, "strength β": strength, "KL, nats": ""}
            if isinstance(strength, str)
            else {"intervention": name, "strength β": f"{strength:.3g}", "KL, nats": f"{self.moved[name]:.3f}"}
            for name, strength in self.strengths().items()
        ]
        return prose(html_table(pd.DataFrame(rows)))

    def code(self) -> str:
        """The lines that reproduce the completions."""
        s = self.state
        made = {name: saved_code(name, self.saved) for name in self.saved}
        known = {} if self.remote and self._stale else self.strengths()  # a remote model is asked by the button alone
        lines = "".join(f"    {b!r} * {made[name]},\n" for name, b in known.items() if not isinstance(b, str))
        return f"steer = [\n    None,\n{lines}]\nlm.generate([{s.asked!r}] * len(steer), steer, {s.options_code()})"

    def _choose_target(self) -> None:
        """One nat, or the most that all reach which reach anything."""
        s = self.state
        if self._choose and not self.remote:
            most = [self._curve(name, s.prompt, s.chat).nats.max() for name in self.units]
            reach = min((nats for nats in most if nats >= TARGETS[0]), default=1.0)
            with self.quietly():
                self.controls["target"].value = max(t for t in TARGETS if t <= min(reach, 1.0))
            self._choose = False

    def _match(self, name: str, state: CompareState) -> float | str:
        """The strength of one intervention; a bad prompt is an error of the panel, not of one intervention."""
        if state.match == "beta":
            return state.target
        self.lm.batch(state.asked)
        try:
            if state.match == "kl":
                return self._curve(name, state.prompt, state.chat).strength(state.target)
            return state.target * self._size(name, state.prompt, state.chat)
        except ValueError as error:
            return str(error)

    def _run_curve(self, name: str, text: str, chat: bool) -> Curve:
        return Curve(self.lm, self.units[name], asked(text, chat), points=48)

    def _run_size(self, name: str, text: str, chat: bool) -> float:
        """The strength of size 1, of which others are multiples."""
        return strength_for_size(self.lm, self.units[name], 1.0, asked(text, chat))


def compare(lm: SteerableModel, interventions: Saved, *, words: Iterable[str] = (), **state: Any) -> Compare:
    """A panel that puts interventions side by side on one prompt, at matched strength.

    It opens at the same KL for all: one nat, or the most that all reach.

    Args:
        lm: the model.
        interventions: by name, each one or the path of a saved one; 1 to 6.
        words: to mark in completions.
        state: first values of the controls, the fields of `CompareState`.

    Raises:
        ValueError: no interventions or too many, a field that `CompareState` does not have, or a value that its control
            does not take; what `load_intervention` refuses.
    """
    if not 1 <= len(interventions) <= 6:
        raise ValueError(f"{len(interventions)} interventions: give 1 to 6, more are too many bars to tell apart")
    if UNSTEERED in interventions:
        raise ValueError(f"{UNSTEERED!r} is the name of the bare model here: give the intervention another")
    choose = "target" not in state and state.get("match", "kl") == "kl"
    return Compare(lm, interventions, make_state(CompareState, "comparison", state), words, choose)
