"""What is read at a layer and a token, what the model would say there, and what an edit there changes downstream."""

from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

import ipywidgets as w
import matplotlib as mpl
import torch
from matplotlib.figure import Figure, FigureBase

from .. import lens, plots
from ..intervention import Intervention
from ..methods.own import add, scale
from ..metrics import kl
from ..model import SteerableModel
from ..site import PLACES, Site
from .controls import WIDE, make, make_state, prose, shortened, visible, wrapped
from .grid import LARGEST, Cell, Grid, token_head
from .panel import Panel

EDITS = {"add a random vector": "add", "remove what is there": "remove"}
FIRST = 4  # token to open at: " France"


@dataclass(frozen=True)
class TraceState:
    """What the controls say; `size` is the norm of the vector that is added, relative to that of what is read."""

    prompt: str = "The capital of France is"
    place: str = "resid_post"
    layer: int = 0
    position: int = 0
    edit: str = "add"
    size: float = 1.0


class TraceViewer(Panel[TraceState]):
    """The panel of `trace_viewer`."""

    name = "trace_viewer"
    alt = "How far an edit moves the stream, by layer and token."
    size, whole = (6.4, 3.6), (8.0, 8.0)

    def __init__(self, lm: SteerableModel, state: TraceState) -> None:
        self.lm = lm
        self._lens = lru_cache(maxsize=16)(lambda prompt: lens.logit_lens(lm, prompt))
        self._read = lru_cache(maxsize=16)(lambda prompt, site: lm.activations(prompt, site).row(0, site))
        self._moved = lru_cache(maxsize=16)(lambda state: lens.moved(lm, state.prompt, self.steer()))
        self.grid = Grid(mpl.colormaps["Blues"], self._click)
        controls = _controls(lm.n_layers)
        super().__init__(state, controls, ["prompt", "layer position place", "edit size"], lm)

    def site(self) -> Site:
        """Where is read and edited."""
        return Site(self.state.place, self.state.layer)  # type: ignore[arg-type]  # the control offers places alone

    def read(self) -> torch.Tensor:
        """The activations at the site, [pos, d_model]."""
        activations: torch.Tensor = self._read(self.state.prompt, self.site())
        return activations

    def steer(self) -> Intervention:
        """The edit of one token."""
        s = self.state
        where: dict[str, Any] = {"layer": s.layer, "place": s.place, "anchor": "front", "start": s.position}
        if s.edit == "remove":
            return scale(-1.0, **where)
        direction = torch.randn(self.lm.d_model, generator=torch.Generator().manual_seed(0))
        return add(s.size * self.read()[s.position].float().norm().cpu() * direction / direction.norm(), **where)

    def draw(self, figure: FigureBase) -> None:
        """How far the edit moves the stream."""
        s = self.state
        frame = self._moved(s)
        frame = frame.assign(token=[token_head(self.lm, token) for token in frame["token"]])
        plots.token_map(frame, "moved", mark=(s.layer, s.position), label="distance / mean norm", ax=figure.subplots())

    def refresh(self) -> None:
        """The lens as buttons, and the picture."""
        with self.fading():
            self._show_lens()
        super().refresh()

    def draw_whole(self, figure: Figure) -> None:
        """The lens above the map of the edit."""
        s, lens_map = self.state, self._lens(self.state.prompt)
        upper, lower = figure.subfigures(2, 1)  # type: ignore[misc]  # typed as one
        words = "top" if len(lens_map) <= LARGEST else None
        mark = (s.layer, s.position)
        plots.token_map(lens_map, "probability", words=words, mark=mark, limit=1, ax=upper.subplots())
        self.draw(lower)

    def notes(self) -> str:
        """What is read, and what the edit makes of the next token."""
        s, h = self.state, self.read().float()
        norms, tokens = h.norm(dim=-1), self.lm.tokens(s.prompt)
        first = ", ".join(f"{value:.2f}" for value in h[s.position, :4].tolist())
        before, after = self.lm.logits([s.prompt] * 2, [None, self.steer()])
        lines = [
            f"Read at {self.site()}: <b>[1, {len(h)}, {h.shape[1]}]</b> = batch, tokens, d_model.",
            f"At token {s.position}, <code>{escape(visible(tokens[s.position]))}</code>: norm "
            f"<b>{float(norms[s.position]):.3g}</b>, the vector begins {first} …",
            f"Next token: {self._says(before)}; after the edit {self._says(after)}, KL {float(kl(after, before)):.3f} "
            "nats.",
        ]
        return prose("<br>".join(lines))

    def code(self) -> str:
        """The lines that read, look through the lens, and edit."""
        s = self.state
        where = f"layer={s.layer}, place={s.place!r}, anchor='front', start={s.position}"
        steer = f"steer = sl.scale(-1, {where})\n"
        if s.edit == "add":
            steer = (
                "direction = torch.randn(lm.d_model, generator=torch.Generator().manual_seed(0))\n"
                f"vector = {s.size:g} * h[{s.position}].float().norm().cpu() * direction / direction.norm()\n"
                f"steer = sl.add(vector, {where})\n"
            )
        return (
            f"import torch\nsite = sl.Site({s.place!r}, {s.layer})\n"
            f"h = lm.activations({s.prompt!r}, site).row(0, site)\n{steer}"
            f"sl.plots.token_map(sl.lens.logit_lens(lm, {s.prompt!r}), 'probability', words='top')\n"
            f"sl.plots.token_map(sl.lens.moved(lm, {s.prompt!r}, steer), 'moved')"
        )

    def sync(self, name: str) -> None:
        """Positions are those of the prompt; what is removed has no size."""
        if name == "prompt":
            self.controls["position"].max = max(0, len(self.lm.tokens(self.controls["prompt"].value)) - 1)
        self.controls["size"].disabled = self.controls["edit"].value == "remove"

    def arrange(self, rows: Any) -> w.VBox:
        """The lens stands between the controls and the picture, as wide as the page."""
        title = "<b>Logit lens</b>, the most probable next token at each layer and token, dark where it is sure: "
        head = w.HTML(f"{title}press a cell to read and edit there.")
        self.numbers.layout = w.Layout(flex="1 1 300px", min_width="0")
        beside = wrapped([self.picture, self.numbers])
        return w.VBox([*self.control_rows(rows), head, self.grid.widget, beside, wrapped([self.copy]), self.style])

    def _says(self, logits: torch.Tensor) -> str:
        """The most probable next token."""
        best = logits.softmax(-1).max(-1)
        token = escape(visible(self.lm.tokenizer.decode([int(best.indices)])))
        return f"<code>{token}</code> {float(best.values):.0%}"

    def _show_lens(self) -> None:
        """Buttons, the last layer on top; none where there would be too many."""
        s, frame = self.state, self._lens(self.state.prompt)
        if not self.grid.fits(len(frame)):
            return
        top = self.lm.n_layers - 1
        columns = ["layer", "position", "token", "top", "probability"]
        cells = {
            (top - layer, position): Cell(
                visible(shortened(word, 9)),
                probability,
                f"layer {layer}, token {token!r}: {word!r} {probability:.0%}",
                (layer, position) == (s.layer, s.position),
            )
            for layer, position, token, word, probability in frame[columns].to_numpy().tolist()
        }
        heads = [token_head(self.lm, token) for token in self.lm.tokens(s.prompt)]
        self.grid.show([str(layer) for layer in range(top, -1, -1)], heads, cells, "layer")

    def _click(self, row: int, column: int) -> None:
        """Read and edit at a cell."""
        with self.quietly():
            self.controls["layer"].value = self.lm.n_layers - 1 - row
            self.controls["position"].value = column
        self._changed("position")


def trace_viewer(lm: SteerableModel, **state: Any) -> TraceViewer:
    """A panel on one pass: choose a layer and a token, and see what is read, the logit lens, and what an edit changes.

    Args:
        lm: the model, with its weights here.
        state: first values of the controls, the fields of `TraceState`.

    Raises:
        ValueError: the model is remote, or its final norm is not known (`lens.logit_lens`); a field that `TraceState`
            does not have, or a value that its control does not take.
    """
    if lm.runner.at_once:
        raise ValueError("the lens needs the model's weights: load it without remote=")
    tokens = lm.tokens(state.get("prompt", TraceState.prompt))
    usual = {"layer": lm.n_layers // 3, "position": min(FIRST, len(tokens) - 1)}
    return TraceViewer(lm, make_state(TraceState, "trace viewer", state, **usual))


def _controls(layers: int) -> dict[str, Any]:
    return {
        "prompt": make(w.Text, "prompt", WIDE),
        "place": make(w.Dropdown, "place", options=PLACES),
        "layer": make(w.IntSlider, "layer", min=0, max=layers - 1),
        "position": make(w.IntSlider, "token", min=0, max=0),
        "edit": make(w.Dropdown, "edit there", options=list(EDITS.items())),
        "size": make(w.FloatSlider, "size", min=0, max=4, step=0.1, readout_format=".1f"),
    }
