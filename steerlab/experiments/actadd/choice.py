"""Which layer, strength and place to report: chosen on other prompts, noise and text than the reported ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ... import data
from ...intervention import Intervention
from ...methods.actadd import actadd
from ...model import SteerableModel
from ...sweep import Setting, grid
from .perplexity import essay_sweep
from .topics import counted, lay, summarise

UNRELATED: tuple[str, ...] = ("winter", "school")
"""Topics of the essays that the choice is made on; what is reported leaves them out."""

SETTING = ["layer", "coefficient", "position"]


@dataclass(frozen=True)
class Choice:
    """A setting of ActAdd.

    Args:
        layer: whose input is steered.
        coefficient: the paper's c.
        room: whether the vector lies over spaces of its own ("pad") instead of the prompt's first tokens ("front").
    """

    layer: int
    coefficient: float
    room: bool

    def __str__(self) -> str:
        """In words, as in a table."""
        return f"layer {self.layer}, c = {self.coefficient:g}, {'pad' if self.room else 'front'}"

    def vector(self, lm: SteerableModel, plus: str = " weddings", minus: str = " ") -> Intervention:
        """The vector of a contrast pair at this setting."""
        return actadd(lm, plus, minus, layer=self.layer, coefficient=self.coefficient)


def choose(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    layers: Iterable[int] | None = None,
    coefficients: Sequence[float] = (0.5, 0.7, 1, 2, 4, 8),
    positions: Sequence[str] = ("front", "pad"),
    prompts: Sequence[str] | None = None,
    n: int = 8,
    seed: int = 1000,
    limit: int | None = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """How often each setting steers, and what it costs on text that has nothing to do with the topic.

    The paper's search (c from 3 to 20, layers 6 to 24 of GPT-2-XL), made on prompts, noise and text of its own, so that
    what is then reported at a setting is not flattered by its having been picked.

    All layers and six of `data.prompts("plain")` by default; `positions` are some of "front" and "pad"; `limit` is as
    in `essay_sweep`.

    Returns:
        One row per setting: `layer`, `coefficient`, `position`, and of the share of completions with a topic word what
        `summarise` finds, with the unsteered model for a baseline; `ratio`, `ratio_low`, `ratio_high` (perplexity ratio
        of essays on other topics); `zero` (the unsteered share).
    """
    chosen = list(range(lm.n_layers) if layers is None else layers)
    texts = data.prompts("plain")[:6] if prompts is None else prompts
    points = grid(position=positions, layer=chosen, coefficient=[float(c) for c in coefficients])
    nothing = {"position": "zero", "layer": -1, "coefficient": 0.0}
    settings = [Setting({**nothing, "bare_prompt": text}, text) for text in texts]
    for point in tqdm(points, desc="vectors", disable=not progress, leave=False):
        steer = actadd(lm, plus, minus, layer=point["layer"], coefficient=point["coefficient"])
        room = point["position"] == "pad"
        settings += [Setting({**point, "bare_prompt": text}, lay(lm, text, steer, room), steer) for text in texts]
    frame = counted(lm, settings, n=n, seed=seed, progress=progress, **options)
    shares = summarise(frame, by=SETTING, baseline={"position": "zero"}).drop(columns="mean_count")
    zero = shares.loc[shares["position"] == "zero", "share"].item()
    unrelated = {"unrelated": [essay for topic in UNRELATED for essay in data.essays()[topic]]}
    read: dict[str, Any] = {"layers": chosen, "coefficients": [float(c) for c in coefficients], "texts": unrelated}
    read |= {"limit": limit, "progress": progress}
    costs = [
        essay_sweep(lm, plus, minus, room=position == "pad", **read).assign(position=position) for position in positions
    ]
    cost = pd.concat(costs).rename(columns={"low": "ratio_low", "high": "ratio_high"})
    return shares.merge(cost[[*SETTING, "ratio", "ratio_low", "ratio_high"]], on=SETTING).assign(zero=zero)


def pick(frame: pd.DataFrame, cost: float | None = None) -> Choice:
    """The setting of `choose` that steers most, or most among those that leave unrelated text alone.

    A setting steers where its gain over the unsteered model, prompt by prompt, has an interval above 0. Of settings
    that steer equally often it is the one whose perplexity ratio is nearest to 1; where none that steers is within the
    cost, it is the one among them that comes nearest.

    Args:
        frame: of `choose`.
        cost: how far the perplexity ratio of unrelated text may be from 1, such as 0.02; None for anything.
    """
    rows = frame.assign(far=(frame["ratio"] - 1).abs())
    steers = rows[rows["gain_low"] > 0]
    rows = steers if len(steers) else rows
    if cost is not None:
        within = rows[rows["far"] <= cost]
        rows = within if len(within) else rows[rows["far"] == rows["far"].min()]
    best = rows.sort_values(["share", "far"], ascending=[False, True]).iloc[0]
    return Choice(int(best["layer"]), float(best["coefficient"]), best["position"] == "pad")
