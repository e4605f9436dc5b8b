"""Where do learned scalars act, and which of them are needed? A map to switch locations off on, and a strength."""

from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any, ClassVar

import ipywidgets as w
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure, FigureBase

from .. import plots
from ..experiments import scaling
from ..fit import Fit
from ..intervention import Intervention
from ..methods.learned import keep
from ..model import SteerableModel
from ..objective import difference
from ..tasks import answer_tokens
from .controls import WIDE, Held, make, make_state, prose, wrapped
from .grid import Cell, Grid, token_head
from .names import called
from .panel import Panel
from .runner import on_loop

TRIED = 16  # prompts, to find one to open on
BETAS = tuple(round(0.1 * i, 1) for i in range(-10, 11))


@dataclass(frozen=True)
class ScalarState:
    """What the controls say; `toggled` are rows of the map that were pressed: on where the threshold says off, or off.

    A location is on where |α| is at least the threshold, a share of the largest |α| on this prompt.
    """

    prompt: int = 0
    beta: float = -1.0  # at 1 the right answer, which the bare model gives, becomes a little surer
    threshold: float = 0.0
    place: str = ""
    toggled: tuple[int, ...] = ()


class ScalarMap(Panel[ScalarState]):
    """The panel of `scalar_panel`."""

    name = "scalar_panel"
    alt = "Probabilities of the two answers against the strength, and of the next tokens."
    given = ""
    size, whole = (7.2, 3.1), (9.0, 7.5)
    local = frozenset({"beta", "place"})
    margins: ClassVar = {"left": 0.11, "right": 0.97, "bottom": 0.16, "top": 0.91, "wspace": 0.45}

    def __init__(self, lm: SteerableModel, intervention: Intervention, frame: pd.DataFrame, state: ScalarState) -> None:
        self.lm, self.intervention, self.frame = lm, intervention, frame.reset_index(drop=True)
        self._map, self._curves = lru_cache(maxsize=32)(self._find_map), lru_cache(maxsize=32)(self._run)
        self.grid = Grid(mpl.colormaps["RdBu"], self._click)
        self.reset = w.Button(description="All on", icon="undo", tooltip="Switch all locations on again")
        self.scale = w.HTML()
        self.reset.on_click(on_loop(lambda _: self._reset()))
        self._rows: dict[tuple[int, int], Any] = {}
        controls = _controls(list(self.frame["prompt"]), intervention)
        super().__init__(state, controls, ["prompt", "place beta threshold"], lm)

    def on(self) -> "pd.Series[bool]":
        """Which rows of the map are switched on."""
        s = self.state
        size = self._map(s.prompt)["value"].abs()
        lit: pd.Series[bool] = (size >= s.threshold * size.max()) ^ size.index.isin(s.toggled)
        return lit

    def kept(self) -> Intervention:
        """The intervention at the locations that are switched on."""
        return keep(self.intervention, self._map(self.state.prompt)[self.on()])

    def curves(self, every: bool = False) -> tuple[pd.DataFrame, Any]:
        """The sweep of β with what is switched on, or with everything, and the next token's logits at each β."""
        on = self.on()
        return self._curves(self.state.prompt, tuple(on[on].index) if not every else tuple(on.index))

    def draw(self, figure: FigureBase) -> None:
        """The answers' curves with a cursor, and the five likeliest tokens there."""
        s, row = self.state, self.frame.iloc[self.state.prompt]
        frame, logits = self.curves()
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        answers = (row["correct"], row["wrong"])
        plots.answer_curves(frame, beta=s.beta, faint=self.curves(every=True)[0], answers=answers, ax=left)
        at = int(np.abs(np.array(BETAS) - s.beta).argmin())
        steered = f"β = {s.beta:g}".replace("-", "−")
        table = plots.token_table(self.lm, {"β = 0": logits[BETAS.index(0)], steered: logits[at]}, k=5)
        plots.next_token_bars(table, ax=right)
        right.set_xlabel("")
        right.set_title("next token", fontsize=10)

    def refresh(self) -> None:
        """The map as buttons, and the picture."""
        super().refresh()
        self._show_map()

    def draw_whole(self, figure: Figure) -> None:
        """The map above the picture."""
        where = self._map(self.state.prompt).assign(on=self.on())
        upper, lower = figure.subfigures(2, 1, height_ratios=(3, 2))  # type: ignore[misc]  # typed as one
        plots.scalar_map(where[where["place"] == self.place], ax=upper.subplots())
        self.draw(lower)

    def notes(self) -> str:
        """Whether the flip survives."""
        on = self.on()
        verdicts = [f"all {len(on)} locations: {self._verdict(every=True)}"]
        if not on.all():
            verdicts.append(f"those that are on ({int(on.sum())} of {len(on)}): {self._verdict()}")
        row = self.frame.iloc[self.state.prompt]
        answers = f"Right answer <b>{escape(repr(row['correct']))}</b>, wrong <b>{escape(repr(row['wrong']))}</b>."
        return prose(f"{answers}<br>With " + "<br>With ".join(verdicts))

    def code(self) -> str:
        """The lines that reproduce the answers."""
        s = self.state
        toggled = f"on ^= where.index.isin({list(s.toggled)})\n" if s.toggled else ""
        return (
            "from steerlab.experiments import scaling\n"
            f"{self.given}row = frame.iloc[{s.prompt}]\nwhere = scaling.scalars_by_token(lm, intervention, row)\n"
            f"size = where['value'].abs()\non = size >= {s.threshold:g} * size.max()\n{toggled}"
            f"lm.logits(row['prompt'], {s.beta:g} * sl.keep(intervention, where[on]))"
        )

    def sync(self, name: str) -> None:
        """Positions belong to a prompt, and so do the locations that were pressed."""
        if name == "prompt":
            self.controls["toggled"].value = ()

    def arrange(self, rows: Any) -> w.VBox:
        """The map stands between the controls and the picture, as wide as the page."""
        title = w.HTML("<b>Scalars α by layer and token</b>: press a cell to switch it off or on.")
        head = w.HBox([title, self.reset, self.scale])
        seen = [self.numbers, self.picture, wrapped([self.copy]), self.style]
        return w.VBox([*self.control_rows(rows), head, self.grid.widget, *([self.log] * self.remote), *seen])

    @property
    def place(self) -> str:
        """The place whose map is shown."""
        return str(self.controls["place"].value)

    def _find_map(self, prompt: int) -> pd.DataFrame:
        return scaling.scalars_by_token(self.lm, self.intervention, self.frame.iloc[prompt])

    def _run(self, prompt: int, rows: tuple[int, ...]) -> tuple[pd.DataFrame, Any]:
        """All strengths in one batch."""
        kept = keep(self.intervention, self._map(prompt).loc[list(rows)])
        row = self.frame.iloc[[prompt]]
        correct, wrong = answer_tokens(self.lm, row)
        text = str(row["prompt"].iloc[0])
        logits = self.lm.logits([text] * len(BETAS), [beta * kept for beta in BETAS])
        p = logits.softmax(-1)
        columns = {"beta": BETAS, "p_correct": p[:, correct[0]].cpu().numpy(), "p_wrong": p[:, wrong[0]].cpu().numpy()}
        gap = difference(logits, correct.expand(len(BETAS)), wrong.expand(len(BETAS)))
        return pd.DataFrame(columns).assign(difference=gap.cpu().numpy()), logits.cpu()

    def _verdict(self, every: bool = False) -> str:
        """Does the answer follow the sign of β?"""
        by_beta = self.curves(every)[0].set_index("beta")["difference"]
        plus, minus = by_beta[1.0], by_beta[-1.0]
        flips = plus > 0 > minus
        verdict = "<b>✔ the answer flips</b>" if flips else "<b>✘ no flip</b>"
        return f"{verdict} by logit difference: {_signed(plus)} at β = 1, {_signed(minus)} at β = −1"

    def _show_map(self) -> None:
        """Buttons for the chosen place, the last layer on top."""
        where, on = self._map(self.state.prompt), self.on().to_dict()
        shown = where[where["place"] == self.place]
        if not self.grid.fits(len(shown)):
            return
        top = max(float(shown["value"].abs().max()), 1e-12)
        self.scale.value = _scale(top)
        layers, positions = sorted(shown["layer"].unique(), reverse=True), sorted(shown["position"].unique())
        cells, self._rows = {}, {}
        for index, row in shown.iterrows():
            place = (layers.index(row["layer"]), positions.index(row["position"]))
            self._rows[place] = index
            lit = bool(on[index])
            tooltip = f"layer {row['layer']}, {row['token']!r}: α = {row['value']:.3g}, {'on' if lit else 'off'}"
            shade = 0.5 + row["value"] / top / 2
            cells[place] = Cell(_short(row["value"]) if lit else "×", shade if lit else None, tooltip)
        tokens = shown.drop_duplicates("position").set_index("position")["token"]
        self.grid.show(
            [str(layer) for layer in layers], [token_head(self.lm, tokens[p]) for p in positions], cells, "layer"
        )

    def _click(self, row: int, column: int) -> None:
        """Switch a location off, or on."""
        control = self.controls["toggled"]
        control.value = tuple(sorted(set(control.value) ^ {int(self._rows[row, column])}))

    def _reset(self) -> None:
        self.controls["threshold"].value = 0.0
        self.controls["toggled"].value = ()


def scalar_panel(
    lm: SteerableModel, fit: Fit | Intervention, frame: pd.DataFrame, *, limit: int = 50, **state: Any
) -> ScalarMap:
    """A panel on learned scalars: where they act on a prompt, what β does, and which locations the flip needs.

    Args:
        lm: the model.
        fit: of ActivScalar or DynScalar, or its intervention.
        frame: prompts to choose from, with `prompt`, `correct`, `wrong`: the test side of a task.
        limit: prompts offered, at most.
        state: first values of the controls, the fields of `ScalarState`.

    Raises:
        ValueError: the frame has no prompts, or an answer that is no single token; the intervention holds no scalars;
            a field that `ScalarState` does not have, or a value out of range.
    """
    intervention = fit.intervention if isinstance(fit, Fit) else fit
    if frame.empty:
        raise ValueError("the frame has no prompts: give the test side of a task")
    answer_tokens(lm, frame)
    if not any(edit.gain is not None or edit.probe is not None for _, edit in intervention.edits):
        raise ValueError("the intervention holds no scalars: fit ActivScalar or DynScalar (SteerVec has vectors)")
    some, length = frame.head(limit), intervention.info.get("length")
    if length is not None and (other := set(lm.batch(list(some["prompt"])).lengths) - {length}):
        raise ValueError(f"a prompt has {min(other)} tokens, the intervention was fitted at the positions of {length}")
    usual: dict[str, Any] = {"place": intervention.sites[-1].place}
    if "prompt" not in state and not lm.runner.at_once:
        usual["prompt"] = _first_flip(lm, intervention, some.head(TRIED))
    chosen = make_state(ScalarState, "scalar map", state, **usual)
    panel = ScalarMap(lm, intervention, some, chosen)
    panel.given = _given(fit, frame)
    panel.show_code()
    return panel


def _given(fit: Fit | Intervention, frame: pd.DataFrame) -> str:
    """The lines that give code the names `frame` and `intervention`, where the notebook has others."""
    part = ".intervention" if isinstance(fit, Fit) else ""
    names = {"frame": called(frame, "frame"), "intervention": called(fit, "fit" if part else "intervention") + part}
    return "".join(f"{name} = {theirs}\n" for name, theirs in names.items() if name != theirs)


def _first_flip(lm: SteerableModel, intervention: Intervention, frame: pd.DataFrame) -> int:
    """The first prompt whose answer follows the sign of β; where none does, the one that moves farthest."""
    correct, wrong = answer_tokens(lm, frame)
    prompts = list(frame["prompt"])
    plus, minus = (difference(lm.logits(prompts, sign * intervention), correct, wrong) for sign in (1.0, -1.0))
    flips = (plus > 0) & (minus < 0)
    return int((flips.float().argmax() if bool(flips.any()) else (plus - minus).argmax()).item())


def _scale(top: float) -> str:
    """The colours' bar, with the numbers at its ends."""
    steps = ", ".join(to_hex(mpl.colormaps["RdBu"](i / 8)) for i in range(9))
    bar = (
        f'<span style="display:inline-block;width:120px;height:10px;background:linear-gradient(90deg, {steps})"></span>'
    )
    least, most = _short(-top), _short(top)
    return f'<span title="α at the ends of the colours">α = {least} {bar} {most} (largest |α| here)</span>'


def _controls(prompts: list[str], intervention: Intervention) -> dict[str, Any]:
    places = list(dict.fromkeys(site.place for site in intervention.sites))
    shown = [(f"{i}: {prompt}", i) for i, prompt in enumerate(prompts)]
    return {
        "prompt": make(w.Dropdown, "prompt", WIDE, options=shown),
        "beta": make(w.FloatSlider, "strength β", min=-1, max=1, step=0.1, readout_format=".1f"),
        "threshold": make(w.FloatSlider, "threshold", min=0, max=1, step=0.01, readout_format=".0%"),
        "place": make(w.Dropdown, "place", options=places),
        "toggled": Held(value=()),
    }


def _short(value: float) -> str:
    """A scalar for a narrow button, with two significant digits, or one where it is small."""
    if abs(value) < 1e-3 or abs(value) >= 1e4:
        text = f"{value:.0e}".replace("e-0", "e-") if value else "0"
    else:
        text = f"{value:.{2 if abs(value) >= 0.01 else 1}g}"
    return text.replace("-", "−")


def _signed(value: float) -> str:
    """A number with its sign."""
    return f"{value:+.2f}".replace("-", "−")
