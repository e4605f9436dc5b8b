"""DataFrame in, matplotlib Axes out. Colours of Okabe and Ito, told apart also by marker or dash; no global state."""

import html
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import probplot

from .intervention import Intervention
from .metrics import WORD, topic_word_count
from .model import Prompt, SteerableModel

PALETTE: tuple[str, ...] = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which stay apart for every kind of colour vision."""

MARKERS = "osD^vPX"
_GREY = "#777777"
_MARK = "background:rgba(230,159,0,.45);color:inherit;border-radius:3px;padding:0 2px"


def next_token_table(lm: SteerableModel, prompt: Prompt, steer: Intervention | None, *, k: int = 10) -> pd.DataFrame:
    """Probabilities of the next token before and after steering.

    Args:
        lm: the model.
        prompt: one prompt.
        steer: what to compare with nothing.
        k: how many tokens: those with the largest probability in either of the two.

    Returns:
        One row per token, the most probable first: `token`, `before`, `after`.
    """
    before, after = lm.logits([prompt, prompt], [None, steer]).softmax(-1).cpu()
    best = before.maximum(after).topk(min(k, len(before))).indices
    tokens = [lm.tokenizer.decode([token]) for token in best.tolist()]
    return pd.DataFrame({"token": tokens, "before": before[best].numpy(), "after": after[best].numpy()})


def next_tokens(
    source: SteerableModel | pd.DataFrame,
    prompt: Prompt | None = None,
    steer: Intervention | None = None,
    *,
    k: int = 10,
    ax: Axes | None = None,
) -> Axes:
    """Paired bars: the probability of each next token before and after steering.

    Args:
        source: a model, or a frame of `next_token_table`.
        prompt: one prompt, with a model.
        steer: the intervention, with a model.
        k: how many tokens, with a model.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: a model is given without a prompt.
    """
    if isinstance(source, pd.DataFrame):
        frame = source
    elif prompt is None:
        raise ValueError("a model alone says nothing: next_tokens(lm, prompt, steer)")
    else:
        frame = next_token_table(source, prompt, steer, k=k)
    ax = _axes(ax, (6, 0.34 * len(frame) + 1))
    rows = np.arange(len(frame))
    ax.barh(rows - 0.2, frame["before"], 0.4, color=_GREY, label="before")
    ax.barh(rows + 0.2, frame["after"], 0.4, color=PALETTE[1], label="after", hatch="///", edgecolor="white")
    ax.set_yticks(rows, [_visible(token) for token in frame["token"]], family="monospace")
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set(xlabel="probability of the next token", xlim=(0, None))
    ax.legend(loc="lower right", frameon=False)
    return _clean(ax)


def layer_sweep(shares: pd.DataFrame, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Share of completions with a topic word against the layer: a line per strength, controls as dashed lines.

    A control that was measured at every layer and strength (the random vectors) is a dashed line of the mean over
    strengths, in a band from its lowest to its highest limit; one that has no layer (zero, prompt) a level with its
    interval.

    Args:
        shares: one row per setting: `condition`, `layer`, `coefficient`, `share`, `low`, `high`.
        ax: where to draw; a new figure by default.
        title: of the Axes.

    Raises:
        ValueError: a column is missing.
    """
    _need(shares, "condition", "layer", "coefficient", "share", "low", "high")
    ax = _axes(ax, (7.5, 4.2))
    steered = shares[shares["condition"] == "steered"]
    style = zip(cycle(PALETTE), cycle(MARKERS), strict=False)
    for (coefficient, rows), (colour, marker) in zip(steered.groupby("coefficient"), style, strict=False):
        _band(ax, rows.sort_values("layer"), "layer", "share", f"steered, c = {coefficient:g}", colour, marker)
    for (name, rows), dash in zip(_controls(shares), cycle(["--", ":", "-."]), strict=False):
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
    """A line with an interval band for each group of a tidy frame.

    Args:
        frame: with the columns `x` and `y`, and `low` and `high` where there is an interval.
        x: column of the horizontal axis.
        y: column of the vertical axis.
        by: column whose values are lines of their own.
        level: where to draw a thin line for "nothing has changed".
        log: whether the horizontal axis is logarithmic.
        labels: of the two axes, the columns' names by default.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: a column is missing.
    """
    _need(frame, x, y, *([by] if by else []))
    ax = _axes(ax, (6.5, 4))
    groups = list(frame.groupby(by, sort=False)) if by else [(None, frame)]
    for (name, rows), (colour, marker) in zip(groups, zip(cycle(PALETTE), cycle(MARKERS), strict=False), strict=False):
        _band(ax, rows.sort_values(x), x, y, None if name is None else str(name), colour, marker)
    if level is not None:
        ax.axhline(level, color=_GREY, linewidth=0.8)
    if log:
        ax.set_xscale("log")
    shown = labels or (x, y)
    ax.set(xlabel=shown[0], ylabel=shown[1])
    if by:
        ax.legend(frameon=False)
    return _clean(ax)


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
    """Points with intervals, a row per value of a column: shares by place of injection, by topic, by method.

    Args:
        frame: with the columns `x` and `y`, and `low` and `high` where there is an interval.
        x: column of names, one row of the figure each.
        y: column of numbers, on the horizontal axis.
        by: column whose values stand beside each other in a row, in colours and markers of their own.
        level: where to draw a thin line for "nothing has changed".
        labels: of the rows and the numbers, the columns' names by default.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: a column is missing.
    """
    _need(frame, x, y, *([by] if by else []))
    names = list(dict.fromkeys(frame[x]))
    groups = list(frame.groupby(by, sort=False)) if by else [(None, frame)]
    ax = _axes(ax, (6.5, 0.3 * len(names) * max(1, len(groups) / 2) + 1.2))
    for i, (name, rows) in enumerate(groups):
        at = [names.index(one) + (i - (len(groups) - 1) / 2) * 0.6 / len(groups) for one in rows[x]]
        _points(ax, rows, y, at, None if name is None else str(name), i)
    if level is not None:
        ax.axvline(level, color=_GREY, linewidth=0.8)
    ax.set_yticks(range(len(names)), [str(name) for name in names])
    ax.invert_yaxis()
    shown = labels or (x, y)
    ax.set(ylabel=shown[0], xlabel=shown[1])
    if by:
        ax.legend(frameon=False)
    return _clean(ax)


def tradeoff(frame: pd.DataFrame, *, labels: tuple[str, str] | None = None, ax: Axes | None = None) -> Axes:
    """Effect against cost: the share of hits and the disfluency of each condition, with both intervals.

    Args:
        frame: of `experiments.actadd.summarise_tone`: `condition`, `share`, `low`, `high`, `disfluency`,
            `disfluency_low`, `disfluency_high`.
        labels: of the horizontal and the vertical axis.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: a column is missing.
    """
    _need(frame, "condition", "share", "low", "high", "disfluency", "disfluency_low", "disfluency_high")
    ax = _axes(ax, (5.5, 4))
    for i, row in enumerate(frame.to_dict("records")):
        across = [[row["disfluency"] - row["disfluency_low"]], [row["disfluency_high"] - row["disfluency"]]]
        up = [[row["share"] - row["low"]], [row["high"] - row["share"]]]
        colour, marker, name = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)], str(row["condition"])
        ax.errorbar(row["disfluency"], row["share"], xerr=across, yerr=up, color=colour, marker=marker, label=name)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    shown = labels or ("disfluency (perplexity of the completion)", "completions that hit")
    ax.set(xlabel=shown[0], ylabel=shown[1])
    ax.legend(frameon=False)
    return _clean(ax)


def qq(values: Sequence[float], *, ax: Axes | None = None, label: str = "shift in log-probability, nats") -> Axes:
    """Quantiles of values against those of a normal distribution, with the line that a normal sample would follow.

    ActAdd's figure of per-token shifts: a straight bulk, and a tail of the topic's words.
    """
    ax = _axes(ax, (5, 4))
    (theory, found), (slope, intercept, _) = probplot(np.asarray(values, dtype=float))
    ax.plot(theory, found, "o", markersize=3, color=PALETTE[0])
    ax.plot(theory, intercept + slope * theory, color=PALETTE[1], label="normal")
    ax.set(xlabel="quantile of a normal distribution", ylabel=label)
    ax.legend(frameon=False)
    return _clean(ax)


def completions_html(frame: pd.DataFrame, words: Iterable[str] = (), *, by: str = "condition", limit: int = 8) -> HTML:
    """Completions side by side, a column per condition and a row per sample, with the topic's words marked.

    Readable on light and dark themes: the mark is translucent, everything else takes the page's colours.

    Args:
        frame: completions with the columns `completion` and `by`; `prompt` is shown in grey where it is there.
        words: to mark, compared as `metrics.topic_word_count` compares them.
        by: the column that parts conditions.
        limit: rows shown, at most.

    Raises:
        ValueError: a column is missing.
    """
    _need(frame, "completion", by)
    wanted = {word.lower() for word in words}
    groups = {str(name): rows for name, rows in frame.groupby(by, sort=False)}
    heads = "".join(
        f'<th scope="col" style="text-align:left">{html.escape(name)}{_count(rows, wanted)}</th>'
        for name, rows in groups.items()
    )
    cells = [[_cell(row, wanted) for row in _rows(rows, limit)] for rows in groups.values()]
    height = max(map(len, cells))
    body = "".join(
        "<tr>" + "".join(column[i] if i < len(column) else "<td></td>" for column in cells) + "</tr>"
        for i in range(height)
    )
    table = f'<table style="width:100%;table-layout:fixed"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
    return HTML(table)  # type: ignore[no-untyped-call]  # IPython has no types here


def _count(rows: pd.DataFrame, wanted: set[str]) -> str:
    """How many completions of a column have a topic word."""
    if not wanted:
        return ""
    hits = sum(topic_word_count(text, wanted) > 0 for text in rows["completion"])
    return f'<br><small style="font-weight:normal">{hits} of {len(rows)} with a topic word</small>'


def _rows(rows: pd.DataFrame, limit: int) -> Iterator[dict[str, str]]:
    """The first rows as dictionaries."""
    return ({str(k): v for k, v in row.items()} for row in rows.head(limit).to_dict("records"))


def _cell(row: dict[str, str], wanted: set[str]) -> str:
    """One completion as a table cell, its prompt in grey in front."""
    prompt = f'<span style="opacity:.6">{html.escape(str(row["prompt"]))}</span>' if "prompt" in row else ""
    text = mark_words(row["completion"], wanted).replace("\n", "<br>")
    return f'<td style="text-align:left;vertical-align:top">{prompt}{text}</td>'


def mark_words(text: str, words: Iterable[str]) -> str:
    """A text as HTML, escaped, with the words of a topic in `<mark>`."""
    wanted = {word.lower() for word in words}
    parts, end = [], 0
    for word in WORD.finditer(text):
        if word[0].lower() in wanted:
            parts += [html.escape(text[end : word.start()]), f'<mark style="{_MARK}">{html.escape(word[0])}</mark>']
            end = word.end()
    return "".join([*parts, html.escape(text[end:])])


def _controls(shares: pd.DataFrame) -> list[tuple[object, pd.DataFrame]]:
    """The conditions that are not `steered`, in the order of the frame."""
    return list(shares[shares["condition"] != "steered"].groupby("condition", sort=False))


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
    """A line with markers, and its interval where the frame has one."""
    ax.plot(rows[x], rows[y], color=colour, marker=marker, markersize=5, label=label)
    if {"low", "high"} <= set(rows.columns):
        ax.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)


def _points(ax: Axes, rows: pd.DataFrame, y: str, at: Sequence[float], label: str | None, number: int) -> None:
    """Points at heights, with horizontal bars for their intervals where the frame has them."""
    spread = None
    if {"low", "high"} <= set(rows.columns):
        spread = np.clip([rows[y] - rows["low"], rows["high"] - rows[y]], 0, None)
    colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    ax.errorbar(rows[y], at, xerr=spread, color=colour, marker=marker, linestyle="", capsize=2, label=label)


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The given Axes, or those of a new figure on white, so that its black text can be read on a dark page too."""
    if ax is not None:
        return ax
    return plt.figure(figsize=size, layout="constrained", facecolor="white").subplots()


def _clean(ax: Axes) -> Axes:
    """Without the frame's upper and right line."""
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _visible(token: str) -> str:
    """A token with its spaces and line breaks to be seen; a dollar sign is no mathematics."""
    return token.replace("\n", "⏎").replace(" ", "␣").replace("$", r"\$")


def _need(frame: pd.DataFrame, *columns: str) -> None:
    """Refuse a frame without a column that is drawn."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"the frame has no column {missing[0]!r}: it has {', '.join(map(str, frame.columns))}")
