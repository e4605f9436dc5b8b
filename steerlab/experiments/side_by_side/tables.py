"""The measurements as tables to be read, and the decision that follows from them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .measure import BEST, TARGETS, K
from .methods import RANDOM

COLUMNS = {str(target): f"{target:g} nat" for target in TARGETS} | {BEST: "best, at its KL"}
"""Titles of the targets."""

DECISION = ("most", "effect", "close", "fewest", "gentlest")
"""What `decide` says of a task and a target."""

NONE = "–"


def effects(methods: pd.DataFrame) -> pd.DataFrame:
    """The effect in nats with its interval, one row per task and method, one column per target.

    Args:
        methods: of `compare`. Typed words have no strength, so that they stand in the last column.
    """
    rows = []
    for (task, method), own in methods.groupby(["task", "method"], sort=False):
        cells = dict.fromkeys(COLUMNS.values(), NONE)
        for row in own.dropna(subset="effect").to_dict("records"):
            cell = _interval(row, "effect", "low", "high", ".1f")
            title = COLUMNS.get(str(row["target"]), COLUMNS[BEST])
            cells[title] = f"{cell} at {row['kl']:.2g}" if title == COLUMNS[BEST] else cell
        rows.append({"task": task, "method": method, **cells, "n": int(own["n"].max())})
    return pd.DataFrame(rows).set_index(["task", "method"])


def costs(methods: pd.DataFrame, target: str = str(TARGETS[1])) -> pd.DataFrame:
    """What each method costs at a target, one row per task and method; typed words at the KL that they have."""
    rows = []
    for row in methods[methods["target"].isin([target, "as typed"])].to_dict("records"):
        reached = not np.isnan(row["effect"])
        perplexity = _interval(row, "perplexity", "perplexity_low", "perplexity_high", ".2f")
        known = _interval(row, "known", "known_low", "known_high", "+.0%")
        rows.append(
            {
                "task": row["task"],
                "method": row["method"],
                "unrelated KL": f"{row['unrelated']:.2g}" if reached else NONE,
                f"perplexity, × ({row['sentences']} sentences)": perplexity if reached else NONE,
                f"P@{K} ({row['facts']} facts)": known if reached else NONE,
                "numbers": f"{row['numbers']:,}",
                "forward + backward": f"{row['forwards']:,} + {row['backwards']:,}",
                "seconds to make": f"{row['seconds']:.1f}",
                "time of a pass, ×": f"{row['apply']:.2f}",
            }
        )
    return pd.DataFrame(rows).set_index(["task", "method"])


def sums(frame: pd.DataFrame) -> pd.DataFrame:
    """The sum of two methods less either alone, in nats: one row per task and target, one column per method."""
    cells = [_interval(row, "difference", "low", "high", "+.2f") for row in frame.to_dict("records")]
    titles = frame["target"].astype(str).map(COLUMNS)
    shown = frame.assign(cell=cells, KL=titles, against="less " + frame["against"] + " alone")
    return shown.pivot(index=["task", "KL", "n"], columns="against", values="cell").rename_axis(columns=None)


def decide(methods: pd.DataFrame) -> pd.DataFrame:
    """What to take: one row per task and target.

    Considered are methods whose interval lies above 0, and above the random vector's where that reaches the target.
    "best" knows no limit to the KL, so there the typed words compete.

    Returns:
        `task`, `target`, `most` (the method with the largest effect), `effect` (with its interval), `close` (others
        whose intervals overlap with its), and among these and the first `fewest` (passes to make it, and of as many the
        fewest numbers) and `gentlest` (the lowest perplexity of unrelated text).
    """
    rows = []
    for task, own in methods.groupby("task", sort=False):
        for target in COLUMNS:
            cells = own[own["target"].isin([target, "as typed"] if target == BEST else [target])]
            floor = max([0.0, *cells.loc[cells["method"] == RANDOM, "high"].dropna()])
            better = cells[(cells["low"] > floor) & (cells["method"] != RANDOM)].sort_values("effect", ascending=False)
            if better.empty:
                rows.append({"task": task, "target": target} | dict.fromkeys(DECISION, ""))
                continue
            first = better.iloc[0]
            level = better[better["high"] >= first["low"]]
            cheap = level.assign(passes=level["forwards"] + level["backwards"]).sort_values(["passes", "numbers"])
            rows.append(
                {
                    "task": task,
                    "target": target,
                    "most": first["method"],
                    "effect": _interval(first.to_dict(), "effect", "low", "high", ".1f"),
                    "close": ", ".join(level["method"].iloc[1:]),
                    "fewest": cheap["method"].iloc[0],
                    "gentlest": level.sort_values("perplexity")["method"].iloc[0],
                }
            )
    return pd.DataFrame(rows).assign(target=lambda own: own["target"].map(COLUMNS))


def differences(decisions: Mapping[str, pd.DataFrame]) -> tuple[str, pd.DataFrame]:
    """What two models disagree on: two sentences, and the rows of `decide` in which they do.

    They agree in a row where the first method of either is the other's first, or close to it, or neither has one.
    """
    (model, first), (other, second) = decisions.items()
    both = first.merge(second, on=["task", "target"], suffixes=("_1", "_2"))

    def within(row: pd.Series, side: int) -> bool:
        return row[f"most_{3 - side}"] in [row[f"most_{side}"], *row[f"close_{side}"].split(", ")]

    apart = both[[not (within(row, 1) and within(row, 2)) for _, row in both.iterrows()]]
    frame = apart[["task", "target", "most_1", "most_2"]].rename(columns={"most_1": model, "most_2": other})
    frame = frame.replace("", "none").reset_index(drop=True)
    most = ", ".join(f"{task} ({count} of {(both['task'] == task).sum()})" for task, count in _counts(frame).items())
    favourites = "; ".join(f"on {name} {_favourite(own)}" for name, own in decisions.items())
    return (
        f"The two models agree in {len(both) - len(apart)} of {len(both)} rows"
        + (f" and disagree on {most}" if most else "")
        + f". Most often first: {favourites}.",
        frame,
    )


def _counts(frame: pd.DataFrame) -> dict[str, int]:
    """Rows of each task."""
    return {str(task): int(count) for task, count in frame["task"].value_counts().items()}


def _favourite(decision: pd.DataFrame) -> str:
    """The method that is first most often, and in how many rows."""
    counts = decision.loc[decision["most"] != "", "most"].value_counts()
    return f"{counts.index[0]} ({counts.iloc[0]} of {len(decision)} rows)" if len(counts) else "none"


def _interval(row: Mapping[Any, Any], value: str, low: str, high: str, form: str) -> str:
    """A number with its interval, as text."""
    return f"{format(row[value], form)} [{format(row[low], form)}, {format(row[high], form)}]"
