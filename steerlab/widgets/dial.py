"""Panels with one intervention: a strength that goes as far as this model hears it, and presets to start from."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import ipywidgets as w
import numpy as np
import torch
from torch import Tensor

from ..intervention import Intervention
from ..metrics import kl
from ..model import SteerableModel
from ..prompts import Prompt
from ..strength import mean_kl
from .controls import WIDE, asked, make, prose, wrapped
from .runner import on_loop
from .writer import Q, Writer

OWN = "(own)"
FARTHEST = 1000.0
"""The largest strength that a slider is given."""

Presets = Mapping[str, Mapping[str, Any]]


class Curve:
    """KL(steered ‖ unsteered) of the next token over a grid of strengths, run once for all targets.

    Args:
        lm: the model.
        unit: the intervention at strength 1.
        prompt: one prompt.
        points: strengths of the grid, from 0.01 to 1000, all in one batch.

    Raises:
        ValueError: what `mean_kl` refuses.
    """

    def __init__(self, lm: SteerableModel, unit: Intervention, prompt: Prompt, points: int = 24) -> None:
        self.strengths = np.geomspace(1e-2, FARTHEST, points)
        self.nats = mean_kl(lm, unit, self.strengths.tolist(), prompt)

    def strength(self, target: float) -> float:
        """The smallest strength whose KL is a target in nats, between the points of the grid by power laws.

        Raises:
            ValueError: the KL lies above or below the target on all of the grid.
        """
        first = int((self.nats >= target).argmax())
        if self.nats[first] < target:
            raise ValueError(f"no strength up to {FARTHEST:g} reaches {target:g} nats: at most {self.nats.max():.3g}")
        if first == 0:
            raise ValueError(f"strength {self.strengths[0]:g} has {self.nats[0]:.3g} nats already")
        x, y = (np.log(np.maximum(part[first - 1 : first + 1], 1e-12)) for part in (self.strengths, self.nats))
        return float(np.exp(x[0] + (math.log(target) - y[0]) / (y[1] - y[0]) * (x[1] - x[0])))


class Dial(Writer[Q]):
    """A panel with one intervention, a slider for its strength, and a list of presets.

    Args:
        lm: the model.
        state: first values of the controls.
        controls: one for each field of the state.
        rows: see `Panel`.
        presets: by name, what each sets; first of all `OWN`, which sets nothing.
        choose: whether to open at the strength of `target` nats, whatever the state says.
    """

    dial: ClassVar[str] = "strength"
    target: ClassVar[float] = 3.0
    presets_label: ClassVar[str] = "preset"
    before: Tensor
    after: Tensor

    def __init__(
        self,
        lm: SteerableModel,
        state: Q,
        controls: dict[str, Any],
        rows: Sequence[str],
        presets: Presets,
        choose: bool = False,
    ) -> None:
        self.preset_values, self._choose = presets, choose
        self.presets = make(w.Dropdown, self.presets_label, WIDE, options=[OWN, *presets])
        self.presets.observe(on_loop(lambda change: self._take(change["new"])), names="value")
        self._curve = lru_cache(maxsize=64)(lambda unit, text, chat: Curve(lm, unit, asked(text, chat)))
        super().__init__(state, controls, rows, lm)
        self.runner.controls = [*self.runner.controls, self.presets]

    @abstractmethod
    def unit(self) -> Intervention:
        """The intervention at strength 1; the same object for the same controls."""

    def refresh(self) -> None:
        """A new picture, after the slider was given its range."""
        with self.fading():
            self._set_range()
        super().refresh()

    def notes(self) -> str:
        """How far the next token's distribution has moved, and why if it has not."""
        text = f"KL(steered ‖ unsteered) of the next token: <b>{float(kl(self.after, self.before)):.3f}</b> nats"
        if self.one_nat is not None:
            text += f"; 1 nat at {self.dial} {self.one_nat:.3g}"
        if why := self._why_nothing():
            text += f"<br>{why}"
        return prose(text)

    def sync(self, name: str) -> None:
        """The list of presets says which one the controls hold."""
        values = {name: control.value for name, control in self.controls.items()}
        held = (key for key, preset in self.preset_values.items() if preset.items() <= values.items())
        self.presets.value = next(held, OWN)

    def arrange(self, rows: Any) -> w.VBox:
        """The list of presets stands above what they set."""
        box = super().arrange(rows)
        left = box.children[0].children[0]
        left.children = [wrapped([self.presets]), *left.children]
        return box

    def _take(self, name: str) -> None:
        """Set what a preset sets, and a strength at which it is seen."""
        values = {} if self._quiet else self.preset_values.get(name, {})
        if any(self.controls[field].value != value for field, value in values.items()):
            self._choose = True
            for field, value in values.items():
                self.controls[field].value = value

    def _assign(self, state: Q) -> None:
        """Any strength can be set; the slider is made to suit afterwards."""
        widen(self.controls[self.dial], FARTHEST)
        super()._assign(state)

    def _set_range(self) -> None:
        """From -4 to 4 times the strength of one nat, and in any case as far as the strength that is set."""
        slider = self.controls[self.dial]
        self.one_nat: float | None = None
        with self.quietly():
            if not self.remote and any(self.unit().norm().values()):
                curve = self._curve(self.unit(), self.state.prompt, self.state.chat)
                self.one_nat = reached(curve, 1.0)
                start = reached(curve, self.target) or self.one_nat
                if self._choose and start is not None:
                    slider.value = rounded(start)
                self._choose = False
            reach = rounded(4 * self.one_nat) if self.one_nat else 16.0
            widen(slider, min(FARTHEST, max(reach, abs(slider.value))))

    def _why_nothing(self) -> str:
        """Why the model does not hear the intervention, if so."""
        if not torch.equal(self.after, self.before):
            return ""
        if getattr(self.state, self.dial) == 0:
            return f"{self.dial} 0 is the unsteered model."
        if not any(self.unit().norm().values()):
            return "Both prompts leave the same activations: their difference is 0."
        return "Nothing is steered before the next token: see <i>when</i>."


def reached(curve: Curve, target: float) -> float | None:
    """The strength for a target, none where the curve does not pass it."""
    try:
        return curve.strength(target)
    except ValueError:
        return None


def widen(slider: Any, reach: float) -> None:
    """Let a slider go from -reach to reach."""
    slider.max, slider.min = reach, -reach
    slider.step = 10 ** math.floor(math.log10(reach / 20))


def rounded(strength: float) -> float:
    """Two significant digits, which a slider can be set to by hand."""
    return float(f"{strength:.2g}")
