"""Figure 5: DynScalar at lengths that it was not trained on."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ...fit import fit_grid, score
from ...intervention import Intervention
from ...methods.learned import DynScalar, Learned
from ...metrics import share
from ...model import SteerableModel
from ...objective import Objective
from ...tasks import Task, ccc, ioi
from ...tasks.ccc import PLAIN
from ...tasks.ioi import OPENINGS, TEMPLATES
from .maps import scalars_by_token
from .settings import USUAL, Folder


def lengths(
    lm: SteerableModel,
    task: Task,
    objective: Objective = USUAL,
    method: Learned | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """DynScalar trained on some lengths and tested on others (Figure 5); make the task with `task_of_lengths`.

    Returns:
        The rows of `by_length`, with `seed`.
    """
    parts = []
    for seed in tqdm(seeds, disable=not progress, leave=False):
        kept: dict[str, Any] = {"seeds": (seed,), "folder": folder, "progress": False}
        [fit] = fit_grid(lm, task.train, method or DynScalar(), [objective], **kept, **options)
        parts.append(by_length(lm, task, fit.intervention).assign(seed=seed))
    return pd.concat(parts, ignore_index=True)


def by_length(lm: SteerableModel, task: Task, intervention: Intervention) -> pd.DataFrame:
    """What an intervention does to each prompt.

    Returns:
        What `score` finds, with `split`, `row` (of the prompt in its split: fits with several seeds share prompts, so
        that intervals are over these), `length` in tokens, and `seen` (whether the training had that length).
    """
    parts = []
    for split, side in (("train", task.train), ("test", task.test)):
        tokens = [len(lm.tokens(prompt)) for prompt in side["prompt"]]
        parts.append(score(lm, side, intervention).assign(split=split, row=range(len(side)), length=tokens))
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(seen=rows["length"].isin(parts[0]["length"]))


def task_of_lengths(lm: SteerableModel, n: int = 200, seed: int = 0, *, capitals: bool = False) -> Task:
    """A task whose answer stands elsewhere in the test: the same sentence after other openings; see `ioi` and `ccc`."""
    base = PLAIN[0] if capitals else TEMPLATES[0]
    forms = [opening + base.lstrip() if opening else base for opening in OPENINGS]
    make: Callable[..., Task] = ccc if capitals else ioi
    return make(lm, n, seed, templates=[forms[0], forms[2]], test_templates=forms)


def strongest(lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention) -> pd.DataFrame:
    """Where the largest and the smallest scalar of each prompt stand, BOS left out: does the map find the answers?

    Returns:
        Two rows per prompt: the columns of `scalars_by_token`, with `row` (of the frame) and `which` (largest,
        smallest).
    """
    parts = []
    for number, (_, row) in enumerate(frame.iterrows()):
        alphas = scalars_by_token(lm, intervention, row).query("role != 'BOS'")
        ends = alphas.loc[[alphas["value"].idxmax(), alphas["value"].idxmin()]]
        parts.append(ends.assign(row=number, which=["largest", "smallest"]))
    return pd.concat(parts, ignore_index=True)


def largest_by_role(lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention) -> pd.DataFrame:
    """Is the largest scalar on the answer's token? The paper's question of Figure 5, and the smallest beside it.

    Returns:
        One row per `which` (largest, smallest) and `role` of the token: `share` of the prompts in which it stands
        there, with Wilson's interval `low` and `high`, and `n`.
    """
    ends, rows = strongest(lm, frame, intervention), []
    for which, own in ends.groupby("which", sort=False):
        for role in ends["role"].unique():
            rows.append((which, role, *share(own["role"] == role)))
    return pd.DataFrame(rows, columns=["which", "role", "share", "low", "high", "n"])
