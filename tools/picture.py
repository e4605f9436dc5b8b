"""Draw the README's picture from what the bundled model writes: `python tools/picture.py`.

On the left the recipe, on the right the first completions without and with the vector, unselected, the topic's words
marked. Both columns are drawn with the same noise.
"""

import argparse
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

import steerlab as sl
from steerlab import data

OUT = Path(__file__).resolve().parents[1] / "notebooks" / "images" / "steering.png"
PROMPT = "I went up to my friend and said"
ORANGE, BLUE, GREY = "#D55E00", "#0072B2", "#777777"
FONT = 8.5  # points; a DejaVu Sans Mono character is 0.602 of that wide
COLUMNS = 48


def box(
    ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str, *, full: bool = False
) -> None:
    """A rounded box with a text in its middle."""
    face = colour if full else "white"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.02", facecolor=face, edgecolor=colour))
    ax.text(
        x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9, color="white" if full else "black"
    )


def recipe(ax: Axes, layer: int, layers: int) -> None:
    """Two prompts, their difference, and the block that it goes into."""
    ax.set(xlim=(-0.1, 3.9), ylim=(-0.6, layers + 0.6))
    ax.axis("off")
    for block in range(layers):
        box(ax, 2.5, block + 0.15, 1.3, 0.6, f"block {block}", BLUE if block >= layer else GREY, full=block >= layer)
    middle = layer + 0.45
    box(ax, 0.0, middle + 0.9, 1.5, 0.7, "“ weddings”", ORANGE)
    box(ax, 0.0, middle - 1.6, 1.5, 0.7, "“ ”", ORANGE)
    ax.text(0.75, middle, r"$c\,(h_+ - h_-)$", ha="center", va="center", fontsize=12, color=ORANGE)
    ax.annotate(
        "", (2.45, layer - 0.02), (1.52, middle - 0.05), arrowprops={"arrowstyle": "-|>", "color": ORANGE, "lw": 2}
    )
    ax.text(3.15, -0.45, "the prompt", ha="center", fontsize=9)
    ax.text(3.15, layers + 0.2, "the completion", ha="center", fontsize=9)


def passage(ax: Axes, title: str, completions: list[str], words: set[str], colour: str) -> None:
    """Completions as wrapped monospaced text, the topic's words on a coloured ground."""
    ax.axis("off")
    ax.set_title(title, loc="left", fontsize=10, color=colour, fontweight="bold")
    size = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    step_x, step_y = 0.602 * FONT / 72 / size.width, 1.45 * FONT / 72 / size.height
    y = 1 - step_y
    for completion in completions:
        for line in textwrap.wrap(f"{PROMPT}{completion}".replace("\n", " "), COLUMNS):
            for match in re.finditer(r"\S+", line):
                hit = re.sub(r"\W", "", match[0].lower()) in words
                marked = {"facecolor": "#F3C98B", "edgecolor": "none", "pad": 1.2} if hit else None
                text = match[0].replace("$", r"\$")
                ax.text(match.start() * step_x, y, text, family="monospace", fontsize=FONT, va="center", bbox=marked)
            y -= step_y
        y -= 0.55 * step_y


def draw(out: Path, layer: int, strength: float, samples: int, seed: int) -> None:
    """Ask the model, and draw."""
    lm = sl.load(device="cpu")
    steer = sl.actadd(lm, " weddings", " ", layer=layer, coefficient=strength)
    rows = lm.generate([PROMPT, PROMPT], [None, steer], n=samples, seed=seed)
    words = set(data.topics()["weddings"])
    figure = plt.figure(figsize=(11, 3.9), facecolor="white", dpi=150)
    recipe(figure.add_axes((0.01, 0.02, 0.25, 0.94)), layer, lm.n_layers)
    titles = {0: ("unsteered", GREY, 0.29), 1: (f"steered: block {layer}, c = {strength:g}", ORANGE, 0.655)}
    for row, (title, colour, left) in titles.items():
        ax = figure.add_axes((left, 0.03, 0.34, 0.87))
        passage(ax, title, rows[rows["row"] == row]["completion"].tolist(), words, colour)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    print(f"{out.name}: {out.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--strength", type=float, default=4)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw(options.out, options.layer, options.strength, options.samples, options.seed)


if __name__ == "__main__":
    main()
