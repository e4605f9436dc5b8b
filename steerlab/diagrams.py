"""A picture of an intervention before it is run: which tokens, which layers, which passes, and how many numbers."""

from typing import Final

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from .edits import Edit
from .intervention import Intervention
from .model import SteerableModel
from .plots import PALETTE, visible
from .site import PLACES

KINDS: Final = {"shift": "shift a, added", "gain": "gain γ, times h", "probe": "probe w, ⟨w, h⟩ times h"}
"""The three terms of the equation, h <- h + (γ + ⟨w, h⟩) ⊙ h + a."""

_HATCHES = {"shift": "", "gain": "///", "probe": "..."}
_SLOT = 0.8 / len(PLACES)


def intervention(
    lm: SteerableModel,
    steer: Intervention,
    prompt: str,
    *,
    new_tokens: int = 3,
    title: str = "",
    labels: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Where an intervention edits: tokens from left to right, layers from bottom to top, the edited places in colour.

    A grey bar is the residual stream of a token in a block. Within it the four places lie in the order of the pass:
    `resid_pre`, `attn_out`, `mlp_out`, `resid_post`. Behind the dashed line stand tokens that are generated, each in a
    pass of its own. The legend says what is done and with how many numbers.

    Args:
        lm: the model, for its layers and tokens.
        steer: the intervention; its strength makes no difference here.
        prompt: one prompt.
        new_tokens: how many generated tokens to draw.
        title: of the picture.
        labels: whether the tokens are written below and the legend beside it.
        ax: where to draw, a new figure by default.

    Raises:
        ValueError: the intervention does not fit the model or the prompt.
    """
    lm.check(steer, lm.batch(prompt))
    tokens = lm.tokens(prompt)
    columns = len(tokens) + new_tokens
    if ax is None:
        size = (2.8 + 0.42 * columns, 1.2 + 0.26 * lm.n_layers)
        ax = plt.figure(figsize=size, layout="constrained", facecolor="white").subplots()
    for layer in range(lm.n_layers):
        ax.broken_barh([(column - 0.42, 0.84) for column in range(columns)], (layer - 0.44, 0.88), facecolor="#e4e4e4")
    for site, edit in steer.edits:
        bottom = site.layer - 0.4 + _SLOT * PLACES.index(site.place)
        bars = [(column - 0.42, 0.84) for column in _columns(edit, len(tokens), new_tokens)]
        for kind in edit.tensors:
            colour = PALETTE[list(KINDS).index(kind)]
            ax.broken_barh(
                bars, (bottom, _SLOT), facecolor=colour, hatch=_HATCHES[kind], edgecolor="white", linewidth=0
            )
    ax.axvline(len(tokens) - 0.5, color="#777777", linestyle="--", linewidth=1)
    ax.set(xlim=(-0.6, columns - 0.4), ylim=(-0.6, lm.n_layers - 0.4), ylabel="layer")
    ax.set_title(title, pad=18 if labels else 6)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    shown = ["BOS" if token == lm.tokenizer.bos_token else visible(token) for token in tokens]
    _label(ax, shown, new_tokens, labels)
    if labels:
        ax.legend(handles=_legend(steer), loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return ax


def _columns(edit: Edit, length: int, new_tokens: int) -> list[int]:
    """The columns that an edit touches."""
    prompt = {
        "all": range(length),
        "front": range(edit.start, edit.start + edit.length),
        "back": range(length - edit.length, length),
    }[edit.anchor]
    first = [] if edit.when == "decode" else list(prompt)
    later = [] if edit.when == "prompt" else list(range(length, length + new_tokens))
    return first + later


def _label(ax: Axes, tokens: list[str], new_tokens: int, written: bool) -> None:
    """The tokens below, and above them the passes in which they are read."""
    if not written:
        ax.set(xticks=[], yticks=[])
        return
    ax.set_xticks(range(len(tokens) + new_tokens), [*tokens, *["new"] * new_tokens], rotation=60, ha="right")
    ax.set_yticks(range(round(ax.get_ylim()[1])))
    above = {"one pass: the prompt": len(tokens) / 2 - 0.5, "a pass each": len(tokens) + new_tokens / 2 - 0.5}
    for text, column in above.items():
        ax.annotate(text, (column, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)


def _legend(steer: Intervention) -> list[Patch]:
    """A patch for each kind of tensor, with how many numbers it has."""
    entries = []
    for kind, name in KINDS.items():
        tensors = [edit.tensors[kind] for _, edit in steer.edits if kind in edit.tensors]
        if tensors:
            numbers = sum(tensor.numel() for tensor in tensors)
            sites = "1 site" if len(tensors) == 1 else f"{len(tensors)} sites"
            text = f"{name}\n{numbers:,} numbers at {sites}"
            colour = PALETTE[list(KINDS).index(kind)]
            entries.append(Patch(facecolor=colour, hatch=_HATCHES[kind], edgecolor="white", label=text))
    return entries
