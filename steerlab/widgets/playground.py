"""Two prompts, a layer, a strength: steer by hand and see what changes."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import ipywidgets as w
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from .. import plots
from ..intervention import Intervention
from ..methods.actadd import actadd
from ..metrics import kl
from ..model import SteerableModel
from .panel import Runner, png


@dataclass(frozen=True)
class PlaygroundState:
    """What the controls of the playground say."""

    plus: str = " weddings"
    minus: str = " "
    layer: int = 0
    strength: float = 4.0
    prompt: str = "I went to see the"
    seed: int = 0
    n: int = 3
    temperature: float = 1.0
    top_p: float = 0.9
    max_new_tokens: int = 40

    def code(self) -> str:
        """The lines that reproduce the panel's completions."""
        return (
            f"vector = sl.actadd(lm, {self.plus!r}, {self.minus!r}, layer={self.layer})\n"
            f"lm.generate([{self.prompt!r}] * 2, [None, {self.strength:g} * vector], n={self.n}, seed={self.seed}, "
            f"temperature={self.temperature:g}, top_p={self.top_p:g}, max_new_tokens={self.max_new_tokens})"
        )


class Playground:
    """The panel: `playground(lm)` in a cell shows it.

    The next-token view follows the controls; the button writes completions. `state` can be read and set, `code()` gives
    the lines that do the same, and `figure()` the static twin of the next-token view.
    """

    def __init__(self, lm: SteerableModel, state: PlaygroundState, words: Iterable[str]) -> None:
        self.lm = lm
        self.words = tuple(words)
        self._vector = lru_cache(maxsize=64)(self._build_vector)
        self.controls = _controls(state, lm.n_layers)
        self.button = w.Button(description="Write completions", button_style="primary", icon="pencil")
        self.runner = Runner([*self.controls.values(), self.button])
        self.picture = w.Image(format="png")
        self.numbers = w.HTML()
        self.completions = w.HTML()
        self.copy = w.Textarea(value=state.code(), rows=3, description="as code", layout=w.Layout(width="98%"))
        self.button.on_click(lambda _: self.runner.now(self.write))
        for control in self.controls.values():
            control.observe(lambda _: self.runner.request(self.refresh), names="value")
        self.widget = self._arrange()
        self.runner.request(self.refresh)

    @property
    def state(self) -> PlaygroundState:
        """What the controls say now."""
        return PlaygroundState(**{name: control.value for name, control in self.controls.items()})

    @state.setter
    def state(self, state: PlaygroundState) -> None:
        for name, value in asdict(state).items():
            self.controls[name].value = value

    def steer(self) -> Intervention:
        """The intervention that the controls describe."""
        state = self.state
        return state.strength * self._vector(state.plus, state.minus, state.layer)

    def code(self) -> str:
        """The lines that reproduce the panel's completions."""
        return self.state.code()

    def refresh(self) -> None:
        """Draw the next-token view."""
        figure = self.figure()
        self.picture.value = png(figure)
        plt.close(figure)
        before, after = self.lm.logits([self.state.prompt] * 2, [None, self.steer()])
        self.numbers.value = f"KL(unsteered ‖ steered) at the next token: <b>{float(kl(before, after)):.3f}</b> nats"
        self.copy.value = self.code()

    def figure(self) -> Figure:
        """The next-token view as a figure: the static twin of the panel."""
        state = self.state
        figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained", facecolor="white")
        plots.next_tokens(self.lm, state.prompt, self.steer(), k=8, ax=ax)
        ax.set_title(f"{state.plus!r} - {state.minus!r}, layer {state.layer}, strength {state.strength:g}")
        return figure

    def samples(self) -> pd.DataFrame:
        """Unsteered and steered completions, drawn with the same noise."""
        s = self.state
        options = {name: getattr(s, name) for name in ("n", "seed", "temperature", "top_p", "max_new_tokens")}
        frame = self.lm.generate([s.prompt] * 2, [None, self.steer()], **options)
        return frame.assign(condition=frame["row"].map({0: "unsteered", 1: "steered"}))

    def write(self) -> None:
        """Show completions side by side, with the topic's words marked."""
        self.completions.value = plots.completions_html(self.samples(), words=self.words).data

    def _build_vector(self, plus: str, minus: str, layer: int) -> Intervention:
        return actadd(self.lm, plus, minus, layer=layer)

    def _arrange(self) -> w.VBox:
        rows = ["plus minus", "prompt", "layer strength", "n seed", "temperature top_p max_new_tokens"]
        left = [w.HBox([self.controls[name] for name in row.split()]) for row in rows]
        left += [w.HBox([self.button, self.runner.message]), self.copy]
        return w.VBox(
            [
                w.HBox([w.VBox(left, layout=w.Layout(width="52%")), w.VBox([self.picture, self.numbers])]),
                self.completions,
            ]
        )

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Shown by a cell as its widget."""
        return self.widget._repr_mimebundle_(**options)


def playground(lm: SteerableModel, *, words: Iterable[str] = (), **state: Any) -> Playground:
    """A panel to steer by hand with ActAdd.

    Args:
        lm: the model.
        words: to mark in completions.
        state: first values of the controls, the fields of `PlaygroundState`.

    Raises:
        ValueError: a field that `PlaygroundState` does not have.
    """
    known = {field.name for field in fields(PlaygroundState)}
    if unknown := sorted(set(state) - known):
        raise ValueError(f"the playground has no control {unknown[0]!r}: choose among {', '.join(sorted(known))}")
    return Playground(lm, PlaygroundState(**state), words)


def _controls(state: PlaygroundState, layers: int) -> dict[str, Any]:
    """A control for each field of the state, labelled, in reach of the keyboard."""
    wide, half, third = w.Layout(width="98%"), w.Layout(width="49%"), w.Layout(width="33%")
    style = {"description_width": "72px"}

    def make(kind: Any, name: str, layout: w.Layout, description: str, **options: Any) -> Any:
        return kind(value=getattr(state, name), description=description, layout=layout, style=style, **options)

    return {
        "plus": make(w.Text, "plus", half, "towards", continuous_update=False),
        "minus": make(w.Text, "minus", half, "away from", continuous_update=False),
        "layer": make(w.IntSlider, "layer", half, "layer", min=0, max=layers - 1),
        "strength": make(w.FloatSlider, "strength", half, "strength", min=-16, max=16, step=0.5),
        "prompt": make(w.Text, "prompt", wide, "prompt", continuous_update=False),
        "seed": make(w.BoundedIntText, "seed", half, "seed", min=0, max=2**31 - 1),
        "n": make(w.IntSlider, "n", half, "samples", min=1, max=12),
        "temperature": make(w.FloatSlider, "temperature", third, "temperature", min=0, max=2, step=0.1),
        "top_p": make(w.FloatSlider, "top_p", third, "top-p", min=0.05, max=1, step=0.05),
        "max_new_tokens": make(w.IntSlider, "max_new_tokens", third, "length", min=5, max=120),
    }
