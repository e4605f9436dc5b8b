"""DataFrame in, matplotlib Axes out. Colours of Okabe and Ito, told apart also by marker or dash; no global state.

Everywhere `ax` is where to draw, a new figure by default; `labels` are those of the horizontal and the vertical axis
(of `bars` those of its rows and its numbers), by default the columns' names. `low` and `high` are drawn as an interval
where the frame has them, and a column that is drawn and missing is a ValueError.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import probplot
from torch import Tensor

from .drawing import PALETTE as PALETTE
from .drawing import axes_of, draw_cells, label_step, need
from .drawing import letters_on as letters_on
from .drawing import plain as plain
from .drawing import visible as visible
from .fit import Fit
from .intervention import Intervention
from .marked import completions_html as completions_html
from .marked import mark_words as mark_words
from .methods.learned import locations
from .model import SteerableModel
from .prompts import Prompt
from .site import Site
from .token_plots import token_map as token_map
from .token_plots import token_strip as token_strip

MARKERS = "osD^vPX"
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "|||", "---")
_GREY = "#777777"


def token_table(lm: SteerableModel, logits: Mapping[str, Float[Tensor, " vocab"]], *, k: int = 10) -> pd.DataFrame:
    """Probabilities of the next token under several conditions, given as logits by the condition's name.

    Returns:
        One row for each of the k tokens that change most, from the most raised to the most lowered by the last
        condition (of one condition, the most probable): `token`, and a column for each condition.
    """
    shares = torch.stack(list(logits.values())).softmax(-1).cpu()
    best = (1.001 * shares.amax(0) - shares.amin(0)).topk(min(k, shares.shape[1])).indices
    best = best[(shares[-1] - shares[0])[best].argsort(descending=True, stable=True)]
    tokens = [lm.tokenizer.decode([token]) for token in best.tolist()]
    return pd.DataFrame({"token": tokens} | dict(zip(logits, shares[:, best].numpy(), strict=True)))


def next_token_bars(
    source: SteerableModel | pd.DataFrame,
    prompt: Prompt | None = None,
    steer: Intervention | None = None,
    *,
    k: int = 10,
    ax: Axes | None = None,
) -> Axes:
    """Bars side by side: the probability of each next token before and after steering, or under any conditions.

    Args:
        source: a frame of `token_table`; or a model, to which the other arguments belong.
        prompt: one prompt.
        steer: the intervention.
        k: how many tokens.
        ax: where to draw.

    Raises:
        ValueError: a model is given without a prompt.
    """
    if isinstance(source, pd.DataFrame):
        frame = source
    elif prompt is None:
        raise ValueError("a model alone says nothing: next_token_bars(lm, prompt, steer)")
    else:
        before, after = source.logits([prompt, prompt], [None, steer])
        frame = token_table(source, {"before": before, "after": after}, k=k)
    ax = axes_of(ax, (6, 0.34 * len(frame) + 1))
    rows, names = np.arange(len(frame)), [name for name in frame.columns if name != "token"]
    height = 0.8 / len(names)
    for i, name in enumerate(names):
        colour = PALETTE[i % len(PALETTE)] if i else _GREY
        where = rows + (i - (len(names) - 1) / 2) * height
        hatch = HATCHES[i % len(HATCHES)]
        ax.barh(where, frame[name], height, color=colour, label=plain(name), hatch=hatch, edgecolor="white")
    ax.set_yticks(rows, [visible(token) for token in frame["token"]], family="monospace")
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set(xlabel="probability of the next token", xlim=(0, None))
    ax.legend(loc="best", frameon=False)
    return _clean(ax)


def shares_by_layer(shares: pd.DataFrame, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Share of completions with a topic word against the layer: a line per strength, controls as dashed lines.

    A control that was measured at every layer and strength (the random vectors) is a dashed line of the mean over
    strengths, in a band from its lowest to its highest limit; one that has no layer (zero, prompt) a level with its
    interval. `shares` has one row per setting: `condition`, `layer`, `coefficient`, `share`, `low`, `high`.
    """
    need(shares, "condition", "layer", "coefficient", "share", "low", "high")
    ax = axes_of(ax, (7.5, 4.2))
    steered = shares[shares["condition"] == "steered"]
    style = zip(cycle(PALETTE), cycle(MARKERS), strict=False)
    for (coefficient, rows), (colour, marker) in zip(steered.groupby("coefficient"), style, strict=False):
        _band(ax, rows.sort_values("layer"), "layer", "share", f"steered, c = {coefficient:g}", colour, marker)
    controls = shares[shares["condition"] != "steered"].groupby("condition", sort=False)
    for (name, rows), dash in zip(controls, cycle(["--", ":", "-."]), strict=False):
        _control(ax, rows, str(name), dash)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set(xlabel="layer", ylabel="completions with a topic word", ylim=(-0.02, 1.02), title=title or "")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return _clean(ax)


def lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    by: str | None = None,
    level: float | None = None,
    log: bool = False,
    labels: tuple[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A line with an interval band for each value of `by`; a thin line at the `level` of "nothing has changed"."""
    need(frame, x, y, *([by] if by else []))
    ax = axes_of(ax, (6.5, 4))
    style = zip(cycle(PALETTE), cycle(MARKERS), strict=False)
    for (name, rows), (colour, marker) in zip(_groups(frame, by), style, strict=False):
        _band(ax, rows.sort_values(x), x, y, name, colour, marker)
    if level is not None:
        ax.axhline(level, color=_GREY, linewidth=0.8)
    across, up = labels or (x, y)
    ax.set(xlabel=across, ylabel=up, xscale="log" if log else "linear")
    return _clean(ax, legend=by is not None)


def bars(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    by: str | None = None,
    level: float | None = None,
    labels: tuple[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Points with intervals, a row of the figure per value of `x`: shares by place of injection, by topic, by method.

    The values of `by` stand beside each other in a row; a thin line marks the `level` of "nothing has changed".
    """
    need(frame, x, y, *([by] if by else []))
    names = list(dict.fromkeys(frame[x]))
    groups = _groups(frame, by)
    ax = axes_of(ax, (6.5, 0.3 * len(names) * max(1, len(groups) / 2) + 1.2))
    for i, (name, rows) in enumerate(groups):
        at = [names.index(row) + (i - (len(groups) - 1) / 2) * 0.6 / len(groups) for row in rows[x]]
        _points(ax, rows, y, at, name, i)
    if level is not None:
        ax.axvline(level, color=_GREY, linewidth=0.8)
    ax.set_yticks(range(len(names)), [str(name) for name in names])
    ax.invert_yaxis()
    up, across = labels or (x, y)
    ax.set(ylabel=up, xlabel=across)
    return _clean(ax, legend=by is not None)


def heat_map(
    frame: pd.DataFrame, x: str, y: str, value: str = "value", *, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """A number over two settings, such as layer and strength; the numbers are written in where there is room.

    `frame` has one row per cell, as `metrics.means` gives; the highest `y` is on top. `label` is that of the colours.
    """
    need(frame, x, y, value)
    grid = frame.pivot_table(value, y, x)
    rows, columns = grid.shape
    ax = axes_of(ax, (1.8 + 0.5 * columns, 1.2 + 0.3 * rows))
    across, up = (
        [plain(f"{name:g}" if isinstance(name, float) else name) for name in names]
        for names in (grid.columns, grid.index)
    )
    numbers = {"annot": grid.size <= 150, "fmt": ".2g", "annot_kws": {"fontsize": 8}}
    draw_cells(ax, grid, label or value, cmap="viridis", xticklabels=across, yticklabels=up, **numbers)
    ax.tick_params(labelrotation=0)
    ax.set(xlabel=x, ylabel=y)
    return ax


def tradeoff(frame: pd.DataFrame, *, labels: tuple[str, str] | None = None, ax: Axes | None = None) -> Axes:
    """Effect against cost: share of hits and disfluency of each condition, of `experiments.actadd.summarise_tone`."""
    need(frame, "condition", "share", "low", "high", "disfluency", "disfluency_low", "disfluency_high")
    ax = axes_of(ax, (5.5, 4))
    for i, row in enumerate(frame.to_dict("records")):
        wide = [[row["disfluency"] - row["disfluency_low"]], [row["disfluency_high"] - row["disfluency"]]]
        high = [[row["share"] - row["low"]], [row["high"] - row["share"]]]
        colour, marker, name = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)], str(row["condition"])
        ax.errorbar(row["disfluency"], row["share"], xerr=wide, yerr=high, color=colour, marker=marker, label=name)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    across, up = labels or ("disfluency (perplexity of the completion)", "completions that hit")
    ax.set(xlabel=across, ylabel=up)
    return _clean(ax, legend=True)


def qq(values: Sequence[float], *, ax: Axes | None = None, label: str = "shift in log-probability, nats") -> Axes:
    """Quantiles of values against those of a normal distribution, with the line that a normal sample would follow.

    ActAdd's figure of per-token shifts: a straight bulk, and a tail of the topic's words.
    """
    ax = axes_of(ax, (5, 4))
    (theory, observed), (slope, intercept, _) = probplot(np.asarray(values, dtype=float))
    ax.plot(theory, observed, "o", markersize=3, color=PALETTE[0])
    ax.plot(theory, intercept + slope * theory, color=PALETTE[1], label="normal")
    ax.set(xlabel="quantile of a normal distribution", ylabel=label)
    return _clean(ax, legend=True)


def scalar_map(
    source: pd.DataFrame | Fit | Intervention,
    *,
    x: str = "position",
    value: str = "value",
    limit: float | None = None,
    label: str = "α",
    ax: Axes | None = None,
) -> Axes:
    """Heat map of one number per location: tokens from left to right, the forward pass from bottom to top.

    Blue is above 0, red below, white 0. A cell that the frame lacks is grey; one whose `on` is False is crossed out.

    Args:
        source: a frame with `layer`, `place`, and the columns `x` and `value`, such as that of
            `experiments.scaling.scalars_by_token` with `token`, or of `by_role`; or a fit or intervention of
            ActivScalar, of which the positions are shown.
        x: the column of the horizontal axis: "position", labelled by `token` where the frame has it, or "role".
        value: the column that is drawn.
        limit: value of the darkest colours, to compare maps; the largest by size by default.
        label: of the colours.
        ax: where to draw.

    Raises:
        ValueError: there is no number to draw.
    """
    steer = source.intervention if isinstance(source, Fit) else source
    frame = steer if isinstance(steer, pd.DataFrame) else locations(steer)
    need(frame, "place", "layer", x, value)
    at = [Site(place, int(layer)) for place, layer in zip(frame["place"], frame["layer"], strict=True)]
    sites = sorted(set(at))
    names = sorted(frame[x].unique()) if x == "position" else list(dict.fromkeys(frame[x]))
    cells = frame.assign(site=[sites.index(site) for site in at], column=[names.index(name) for name in frame[x]])
    if frame[value].isna().all():
        raise ValueError(f"the column {value!r} holds no number: only scalars have a map of their own")
    grid = cells.pivot_table(value, "site", "column", dropna=False).reindex(
        index=range(len(sites)), columns=range(len(names))
    )
    top = limit or max(float(grid.abs().max().max()), 1e-12)
    ax = axes_of(ax, (1.6 + 0.42 * len(names), 1.4 + min(0.27 * len(sites), 9)))
    draw_cells(ax, grid, label, cmap="RdBu", vmin=-top, vmax=top, xticklabels=False, yticklabels=False)
    if "on" in frame:
        off = cells[~cells["on"].astype(bool)]
        ax.plot(off["column"] + 0.5, off["site"] + 0.5, "x", color="black", markersize=5)
    tokens = dict(zip(cells["column"], cells["token"], strict=True)) if x == "position" and "token" in frame else {}
    shown = [visible(str(tokens.get(i, name))[:12]) for i, name in enumerate(names)]
    ax.set_xticks(np.arange(len(names)) + 0.5, shown, rotation=60, ha="right", rotation_mode="anchor")
    step = label_step(ax, len(sites))
    several = frame["place"].nunique() > 1
    ax.set_yticks(np.arange(0, len(sites), step) + 0.5, [str(s) if several else str(s.layer) for s in sites[::step]])
    ax.set(xlabel="", ylabel="site" if several else f"layer, {sites[0].place}")
    return ax


def answer_curves(
    frame: pd.DataFrame,
    *,
    beta: float | None = None,
    faint: pd.DataFrame | None = None,
    answers: tuple[str, str] = ("correct", "wrong"),
    ax: Axes | None = None,
) -> Axes:
    """The probabilities of the two answers against the strength β, with a mark where the answer flips.

    `frame` is of one prompt, of `experiments.scaling.beta_sweep`; `faint` is another such frame, drawn in dots. A line
    stands at the `beta` that is looked at.
    """
    need(frame, "beta", "p_correct", "p_wrong")
    ax = axes_of(ax, (5, 3.4))
    for name, answer, colour, marker in zip(("p_correct", "p_wrong"), answers, PALETTE, MARKERS, strict=False):
        ax.plot(frame["beta"], frame[name], color=colour, marker=marker, markersize=4, label=plain(answer))
        if faint is not None:
            ax.plot(faint["beta"], faint[name], color=colour, linestyle=":", linewidth=1)
    for i, at in enumerate(crossings(frame)):
        ax.axvline(at, color=_GREY, linestyle="--", linewidth=1, label="flip" if i == 0 else None)
    if beta is not None:
        ax.axvline(beta, color="black", linewidth=1.5)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set(xlabel="strength β", ylabel="probability", ylim=(0, None))
    return _clean(ax, legend=True)


def crossings(frame: pd.DataFrame) -> list[float]:
    """The strengths at which the two answers are equally likely, by straight lines between the rows of a sweep of β."""
    rows = frame.sort_values("beta")
    gap, beta = (rows["p_correct"] - rows["p_wrong"]).to_numpy(), rows["beta"].to_numpy()
    at = np.flatnonzero(gap[:-1] * gap[1:] < 0)
    strengths: list[float] = (beta[at] - gap[at] * (beta[at + 1] - beta[at]) / (gap[at + 1] - gap[at])).tolist()
    return strengths


def gain_histogram(gain: Sequence[float], *, ax: Axes | None = None) -> Axes:
    """How many neurons are scaled by how much: a histogram of relative changes, such as SARA's coefficient times γ.

    0 leaves a neuron alone, -1 silences it, less than -1 reverses it; these two are marked.
    """
    ax = axes_of(ax, (5, 3.2))
    ax.hist(np.asarray(gain, dtype=float), bins=40, color=PALETTE[0], edgecolor="white", linewidth=0.4)
    for level, name, dash in ((0, "left alone", "-"), (-1, "silenced", "--")):
        ax.axvline(level, color="black", linewidth=1, linestyle=dash, label=name)
    ax.set(xlabel="relative change of a neuron", ylabel="neurons")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper right", frameon=False)
    return _clean(ax)


def fronts(frame: pd.DataFrame, cost: str = "faithfulness", *, seed: int | None = None, ax: Axes | None = None) -> Axes:
    """Effectiveness against what it costs, a point per setting, and each method's front (activation scaling, Figure 2).

    The test side of all seeds as points and a line along the front of one, the first by default; the training side as
    crosses. Down and left is better. `cost`, of `experiments.scaling.pareto`: "faithfulness" or "minimality".
    """
    need(frame, "method", "seed", "split", "effectiveness", cost, f"front_{cost}")
    ax, least = axes_of(ax, (5.5, 4)), 1e-4
    chosen = frame["seed"].min() if seed is None else seed
    for (name, rows), colour, marker in zip(frame.groupby("method"), PALETTE, MARKERS, strict=False):
        at = rows[cost].clip(lower=least)
        train, test = rows["split"] == "train", rows["split"] == "test"
        ax.scatter(at[train], rows["effectiveness"][train], s=16, marker="x", color=colour, alpha=0.35, linewidths=0.8)
        ax.scatter(at[test], rows["effectiveness"][test], s=10, marker=marker, color=colour, alpha=0.5)
        front = rows[test & (rows["seed"] == chosen) & rows[f"front_{cost}"]].sort_values(cost)
        ax.step(
            front[cost].clip(lower=least), front["effectiveness"], where="post", color=colour, label=f"{name}, test"
        )
    ax.set_xscale("log")
    units = {"faithfulness": "KL of the other tokens, nats", "minimality": "l1 norm of what was learned"}
    ax.set(xlabel=f"{cost}: {units.get(cost, '')}".rstrip(": "), ylabel="effectiveness: nats short of the margin")
    return _clean(ax, legend=True)


def _control(ax: Axes, rows: pd.DataFrame, name: str, dash: str) -> None:
    """One control: a level with its interval, or a line of means over strengths with their widest limits."""
    if rows["layer"].isna().all():
        row = rows.iloc[0]
        ax.axhline(row["share"], color=_GREY, linestyle=dash, label=name)
        ax.axhspan(row["low"], row["high"], color=_GREY, alpha=0.15, linewidth=0)
        return
    by_layer = rows.groupby("layer").agg(share=("share", "mean"), low=("low", "min"), high=("high", "max"))
    label = f"{name}, mean over c" if rows["coefficient"].nunique() > 1 else name
    ax.plot(by_layer.index, by_layer["share"], color=_GREY, linestyle=dash, label=label)
    ax.fill_between(by_layer.index, by_layer["low"], by_layer["high"], color=_GREY, alpha=0.15, linewidth=0)


def _band(ax: Axes, rows: pd.DataFrame, x: str, y: str, label: str | None, colour: str, marker: str) -> None:
    """A line with markers, and its interval where the frame has one: a band, or of a single point a bar."""
    ax.plot(rows[x], rows[y], color=colour, marker=marker, markersize=5, label=label)
    if {"low", "high"} <= set(rows.columns):
        if len(rows) > 1:
            ax.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)
        else:
            ax.vlines(rows[x], rows["low"], rows["high"], color=colour)


def _points(ax: Axes, rows: pd.DataFrame, y: str, at: Sequence[float], label: str | None, number: int) -> None:
    """Points at heights, with horizontal bars for their intervals where the frame has them."""
    spread = None
    if {"low", "high"} <= set(rows.columns):
        spread = np.clip([rows[y] - rows["low"], rows["high"] - rows[y]], 0, None)
    colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    ax.errorbar(rows[y], at, xerr=spread, color=colour, marker=marker, linestyle="", capsize=2, label=label)


def _clean(ax: Axes, legend: bool = False) -> Axes:
    """Without the frame's upper and right line."""
    sns.despine(ax=ax)
    if legend:
        ax.legend(frameon=False)
    return ax


def _groups(frame: pd.DataFrame, by: str | None) -> list[tuple[str | None, pd.DataFrame]]:
    """The groups of a frame by their names; the whole frame without one."""
    return [(str(name), rows) for name, rows in frame.groupby(by, sort=False)] if by else [(None, frame)]
