"""SARA by hand: a dilemma, a prompt to move towards and one to move away from."""

from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

import ipywidgets as w
import pandas as pd
from matplotlib.figure import FigureBase

from .. import plots
from ..experiments.sara import CONSEQUENCES, DUTY, PARENT, judge_answers, load_dilemmas, shares
from ..intervention import Intervention
from ..judges import Judge
from ..methods.sara import sara
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
from .dial import Dial, Presets


@dataclass(frozen=True)
class SaraState(Question):
    """What the controls of the SARA panel say."""

    max_new_tokens: int = 60
    prompt: str = PARENT
    attract: str = DUTY
    repel: str = CONSEQUENCES
    layer: int = 0
    coefficient: float = 1.0
    when: str = "all"


class SaraPanel(Dial[SaraState]):
    """The panel of `sara_panel`."""

    name, dial, target, presets_label = "sara_panel", "coefficient", 0.5, "dilemma"
    alt = "Histogram of coefficient times γ, and probabilities of the next tokens before and after."
    size = (6.4, 4.2)
    button_text = "Write answers"
    conditions = ("unsteered", "steered", "steered the other way round")

    def __init__(
        self, lm: SteerableModel, state: SaraState, judge: Judge | None, presets: Presets, choose: bool = False
    ) -> None:
        self.lm, self.judge = lm, judge
        self._gamma = lru_cache(maxsize=64)(self._build)
        rows = [*question_rows(lm), "attract", "repel", "layer coefficient when", *SAMPLING_ROWS]
        super().__init__(lm, state, _controls(lm.n_layers), rows, presets, choose)

    def unit(self) -> Intervention:
        """SARA at coefficient 1."""
        s = self.state
        return self._gamma(s.prompt, s.chat, s.attract, s.repel, s.layer, s.when)

    def draw(self, figure: FigureBase) -> None:
        """The histogram of coefficient · γ, and the next token before and after."""
        s, unit = self.state, self.unit()
        gain = unit.edits[0][1].gain
        assert gain is not None
        self.before, self.after = self.lm.logits([s.asked] * 2, [None, s.coefficient * unit]).cpu()
        left, right = figure.subplots(1, 2)
        plots.gain_histogram((s.coefficient * gain[0]).tolist(), ax=left).set_title("coefficient · γ", fontsize=10)
        left.set_ylim(top=1.3 * left.get_ylim()[1])  # room for the legend
        left.locator_params(axis="x", nbins=5)
        table = plots.token_table(self.lm, {"before": self.before, "after": self.after}, k=6)
        plots.next_token_bars(table, ax=right).set_title("next token", fontsize=10)
        right.locator_params(axis="x", nbins=4)  # more run into each other

    def steers(self) -> dict[str, Intervention | None]:
        """Nothing, SARA, and SARA the other way round."""
        strength, unit = self.state.coefficient, self.unit()
        return dict(zip(self.conditions, [None, strength * unit, -strength * unit], strict=True))

    def page(self, frame: pd.DataFrame) -> str:
        """Answers side by side, and the judge's shares."""
        judged = "" if self.judge is None else self._judged(frame, self.judge)
        return judged + super().page(frame)

    def code(self) -> str:
        """The lines that reproduce the answers."""
        s = self.state
        return (
            f"vector = sl.sara(lm, {s.asked!r},\n    attract={s.attract!r}, repel={s.repel!r}, "
            f"layer={s.layer}, when={s.when!r})\n"
            f"lm.generate([{s.asked!r}] * 3,\n    [None, {s.coefficient:g} * vector, {-s.coefficient:g} * vector], "
            f"{s.options_code()})"
        )

    def _judged(self, frame: pd.DataFrame, judge: Judge) -> str:
        """Shares of the judge's groups as a table."""
        groups = shares(judge_answers(frame, judge), ("condition",))
        groups["text"] = [f"{row.share:.0%} [{row.low:.0%}, {row.high:.0%}]" for row in groups.itertuples()]
        table = groups.pivot(index="condition", columns="group", values="text").reindex(frame["condition"].unique())
        table.index.name = table.columns.name = None
        note = f"<p>Shares by the judge <i>{escape(judge.name)}</i>, 95 % intervals:</p>"
        return prose(note + html_table(table, index=True))

    def _build(self, text: str, chat: bool, attract: str, repel: str, layer: int, when: Any) -> Intervention:
        return sara(self.lm, asked(text, chat), attract=attract, repel=repel, layer=layer, when=when)


def sara_panel(
    lm: SteerableModel, *, judge: Judge | None = None, dilemmas: pd.DataFrame | None = None, **state: Any
) -> SaraPanel:
    """A panel for SARA (the anchored variant): γ follows the controls, the button writes answers.

    Args:
        lm: the model.
        judge: sorts the answers, such as `judges.word_judge()`; without one no shares are shown.
        dilemmas: to choose from, with `id` and `prompt`; the package's own that the bundled model has not read by
            default.
        state: first values of the controls, the fields of `SaraState`.

    Raises:
        ValueError: a field that `SaraState` does not have, or a value out of range.
    """
    chosen = load_dilemmas("test") if dilemmas is None else dilemmas
    presets: dict[str, dict[str, Any]] = {"parent": {"prompt": PARENT}} if dilemmas is None else {}
    presets |= {str(name): {"prompt": text} for name, text in zip(chosen["id"], chosen["prompt"], strict=True)}
    given = make_state(SaraState, "SARA panel", state, layer=lm.n_layers // 2)
    return SaraPanel(lm, given, judge, presets, "coefficient" not in state)


def _controls(layers: int) -> dict[str, Any]:
    return {
        "attract": make(w.Textarea, "towards", WIDE, rows=2),
        "repel": make(w.Textarea, "away from", WIDE, rows=2),
        "layer": make(w.IntSlider, "layer", min=0, max=layers - 1),
        "coefficient": make(w.FloatSlider, "coefficient", min=-4, max=4, step=0.1, readout_format=".1f"),
        "when": make(w.Dropdown, "when", options=["prompt", "decode", "all"]),
    } | question_controls(make(w.Textarea, "prompt", WIDE, rows=3))
