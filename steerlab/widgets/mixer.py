"""Several interventions at once, a strength for each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ipywidgets as w
import pandas as pd
import traitlets
from matplotlib.figure import FigureBase

from .. import plots
from ..intervention import Intervention
from ..metrics import kl
from ..model import SteerableModel
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
from .dial import FARTHEST, Curve, reached, rounded, widen
from .playground import Saved, read_saved, saved_code
from .writer import Writer

MOST = 8


@dataclass(frozen=True)
class MixerState(Question):
    """What the controls say; `strengths` are those of the interventions in their order."""

    prompt: str = "I went to see the"
    strengths: tuple[float, ...] = ()


class Sliders(w.VBox):
    """A slider for each name, as one control: its value is a tuple of all."""

    value = traitlets.Tuple()
    disabled = traitlets.Bool(False)
    description = "strengths"
    _showing = False

    def __init__(self, names: Iterable[str]) -> None:
        self.sliders = [make(w.FloatSlider, name, WIDE, min=-16, max=16, step=0.5) for name in names]
        super().__init__(self.sliders, layout=w.Layout(flex=WIDE))
        self.value = tuple(slider.value for slider in self.sliders)
        for slider in self.sliders:
            slider.observe(lambda _: self._read(), names="value")

    @traitlets.observe("value")
    def _show(self, change: Any) -> None:
        """Any strength can be set."""
        self._showing = True
        for slider, value in zip(self.sliders, change["new"], strict=True):
            widen(slider, max(abs(value), slider.max))
            slider.value = value
        self._showing = False

    @traitlets.observe("disabled")
    def _disable(self, change: Any) -> None:
        for slider in self.sliders:
            slider.disabled = change["new"]

    def _read(self) -> None:
        if not self._showing:
            self.value = tuple(slider.value for slider in self.sliders)


class Mixer(Writer[MixerState]):
    """The panel of `mixer`."""

    name = "mixer"
    alt = "Probabilities of the next tokens, unsteered and with all interventions at once."
    button_text = "Write completions"
    conditions = ("unsteered", "mixed")

    def __init__(
        self, lm: SteerableModel, saved: Saved, state: MixerState, words: Iterable[str], choose: bool = False
    ) -> None:
        self.lm, self.saved, self.words, self._choose = lm, saved, tuple(words), choose
        self.units = read_saved(lm, saved)
        self._curve = lru_cache(maxsize=64)(lambda name, text, chat: Curve(lm, self.units[name], asked(text, chat)))
        controls = {"strengths": Sliders(self.units), **question_controls(make(w.Text, "prompt", WIDE))}
        super().__init__(state, controls, ["strengths", *question_rows(lm), *SAMPLING_ROWS], lm)

    def parts(self) -> dict[str, Intervention]:
        """Each intervention at its strength, those at 0 left out."""
        strengths = zip(self.units.items(), self.state.strengths, strict=True)
        return {name: strength * unit for (name, unit), strength in strengths if strength}

    def mix(self) -> Intervention:
        """All at once."""
        return sum(self.parts().values(), Intervention())

    def steers(self) -> dict[str, Intervention | None]:
        """Nothing, and all at once."""
        return {"unsteered": None, "mixed": self.mix()}

    def refresh(self) -> None:
        """A new picture, after the sliders were given their ranges."""
        with self.fading():
            self._set_ranges()
        super().refresh()

    def draw(self, figure: FigureBase) -> None:
        """The next token before and after."""
        steers = {**self.steers(), **self.parts()}
        rows = self.lm.logits([self.state.asked] * len(steers), list(steers.values())).cpu()
        self.moved = dict(zip([*self.conditions, *self.parts()], kl(rows, rows[:1]).tolist(), strict=True))
        table = plots.token_table(self.lm, dict(zip(self.conditions, rows[:2], strict=True)), k=8)
        plots.next_token_bars(table, ax=figure.subplots())

    def notes(self) -> str:
        """KL(steered ‖ unsteered) of the next token: of each alone, and of all at once."""
        alone = {name: self.moved[name] for name in self.parts()}
        rows = {**alone, "sum of these": sum(alone.values()), "all at once": self.moved["mixed"]}
        table = pd.DataFrame({"KL of the next token, nats": {name: f"{value:.3f}" for name, value in rows.items()}})
        return prose(html_table(table, index=True))

    def code(self) -> str:
        """The lines that reproduce the completions."""
        s = self.state
        strengths = zip(self.units, s.strengths, strict=True)
        terms = [f"{strength:g} * {saved_code(name, self.saved)}" for name, strength in strengths if strength]
        return (
            f"mixed = {' + '.join(terms) or 'sl.Intervention()'}\n"
            f"lm.generate([{s.asked!r}] * 2, [None, mixed], {s.options_code()})"
        )

    def _set_ranges(self) -> None:
        """Each slider goes to 4 times the strength of one nat; at the beginning each stands at one nat, if it can."""
        if self.remote:
            return
        s, sliders = self.state, self.controls["strengths"]
        curves = [self._curve(name, s.prompt, s.chat) for name in self.units]
        start = [reached(curve, 1.0) or reached(curve, 0.9 * curve.nats.max()) or 1.0 for curve in curves]
        with self.quietly():
            if self._choose:
                sliders.value = tuple(rounded(strength) for strength in start)
                self._choose = False
            for slider, strength in zip(sliders.sliders, start, strict=True):
                widen(slider, min(FARTHEST, max(rounded(4 * strength), abs(slider.value))))


def mixer(lm: SteerableModel, interventions: Mapping[str, Any], *, words: Iterable[str] = (), **state: Any) -> Mixer:
    """A panel that applies several interventions at once, with a slider for the strength of each.

    It opens with each at the strength that alone has a KL of one nat on the prompt, or 0.9 of what it reaches.

    Args:
        lm: the model.
        interventions: by name, each one or the path of a saved one; 1 to 8.
        words: to mark in completions.
        state: first values of the controls, the fields of `MixerState`.

    Raises:
        ValueError: no interventions or too many, another number of strengths, a field that `MixerState` does not have,
            or a value that its control does not take; what `load_intervention` refuses.
    """
    if not 1 <= len(interventions) <= MOST:
        raise ValueError(f"{len(interventions)} interventions: give 1 to {MOST}")
    strengths = tuple(state.pop("strengths", ()))
    if strengths and len(strengths) != len(interventions):
        raise ValueError(f"{len(strengths)} strengths for {len(interventions)} interventions: give one for each")
    chosen = make_state(MixerState, "mixer", state, strengths=strengths or (0.0,) * len(interventions))
    return Mixer(lm, interventions, chosen, words, not strengths)
