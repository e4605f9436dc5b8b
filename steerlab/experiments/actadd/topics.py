"""Topic words in completions: by layer and strength beside three controls, and for many topics."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd

from ... import data
from ...intervention import Intervention
from ...methods.actadd import actadd, make_room, random_like
from ...metrics import gain, mcnemar, means, topic_word_count
from ...model import SteerableModel
from ...prompts import Prompt
from ...sweep import Setting, completions, grid

PAPER_SAMPLING: Mapping[str, Any] = MappingProxyType({"temperature": 1.0, "top_p": 0.3, "frequency_penalty": 1.0})
"""How the released experiments sample."""

WEDDING: tuple[str, ...] = data.topics()["weddings"]
"""The paper's nine wedding words."""

PROMPT = "I went up to my friend and said"
"""The prompt of the paper's generation experiment."""


def layer_sweep(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    prompt: str = PROMPT,
    layers: Iterable[int] | None = None,
    coefficients: Sequence[float] = (1, 2, 4),
    room: bool = False,
    n: int = 200,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Topic words in completions against layer and strength, beside three controls (the paper's layer figure).

    The controls: `zero` (strength 0, the unsteered model), `random` (a vector of random directions and the same norm at
    each position, at every layer and strength), `prompt` (`plus` in front of the prompt, no steering). All settings
    share their noise: sample i is drawn alike in each. All layers by default; the paper's figure has c = 1.

    Returns:
        One row per completion: `condition` (steered, zero, random, prompt), `layer` and `coefficient` (NaN for zero and
        prompt), `prompt`, `sample`, `completion`, `n_tokens`, `seed`, `count` (of topic words), `hit`.

    Raises:
        ValueError: a layer is out of range, or what `actadd` and `lm.generate` refuse.
    """
    chosen = range(lm.n_layers) if layers is None else list(layers)
    vectors = {layer: actadd(lm, plus, minus, layer=layer) for layer in chosen}
    noise = {layer: random_like(vector, seed=seed + layer) for layer, vector in vectors.items()}
    place = lay(lm, prompt, next(iter(vectors.values())), room) if vectors else prompt
    nowhere = {"layer": float("nan"), "coefficient": float("nan")}
    settings = [
        Setting({"condition": "zero", **nowhere}, place),
        Setting({"condition": "prompt", **nowhere}, plus + join(plus, prompt)),
    ]
    for point in grid(layer=chosen, coefficient=[float(c) for c in coefficients]):
        for condition, kind in (("steered", vectors), ("random", noise)):
            steer = point["coefficient"] * kind[point["layer"]]
            settings.append(Setting({"condition": condition, **point}, place, steer))
    return counted(lm, settings, n=n, seed=seed, **options)


def topic_control(
    lm: SteerableModel,
    *,
    layer: int,
    coefficient: float,
    room: bool = False,
    topics: Sequence[str] | None = None,
    prompt: str = PROMPT,
    n: int = 200,
    **options: Any,
) -> pd.DataFrame:
    """Steering towards many topics by their names: words on the topic with and without (the paper's topic experiment).

    All of `data.topics` by default. The paper has c = 2, 1,000 completions of each, and asks a language model for their
    relevance; here the topic's words are counted.

    Returns:
        One row per completion: `topic`, `condition` (zero, steered), and as in `layer_sweep`.
    """
    settings = []
    for topic in list(data.topics()) if topics is None else topics:
        vector = actadd(lm, f" {topic}", " ", layer=layer, coefficient=coefficient)
        place = lay(lm, prompt, vector, room)
        settings += [
            Setting({"topic": topic, "condition": name}, place, steer)
            for name, steer in (("zero", None), ("steered", vector))
        ]
    frame = counted(lm, settings, (), n=n, **options)
    parts = [count_topic_words(rows, data.topics()[str(topic)]) for topic, rows in frame.groupby("topic", sort=False)]
    return pd.concat(parts, ignore_index=True)


def counted(
    lm: SteerableModel, settings: Sequence[Setting], words: Iterable[str] = WEDDING, *, n: int = 100, **options: Any
) -> pd.DataFrame:
    """Completions of settings, by default with the paper's sampling, and their topic words."""
    return count_topic_words(completions(lm, settings, n=n, **{**PAPER_SAMPLING, **options}), words)


def count_topic_words(frame: pd.DataFrame, words: Iterable[str] = WEDDING) -> pd.DataFrame:
    """A frame of completions with two more columns: `count`, of words on the topic, and `hit`, at least one."""
    wanted = tuple(words)
    counts = [topic_word_count(text, wanted) for text in frame["completion"]]
    return frame.assign(count=counts, hit=[count > 0 for count in counts])


def summarise(
    frame: pd.DataFrame,
    by: Sequence[str] = ("condition", "layer", "coefficient"),
    *,
    baseline: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Share of completions with a `hit` in each setting, which the columns `by` make, with its 95 % interval.

    Wilson's, over completions where a setting has a single prompt, else over prompts (see `metrics.share`): told by
    `bare_prompt` where the prompt was laid out for a vector, and in a sweep over contrast pairs by `minus` too.

    Args:
        frame: of completions, with `hit`.
        by: columns that make a setting.
        baseline: the unsteered setting, such as {"condition": "zero"}, with which the others are compared pair by pair:
            the same topic, pair and bare prompt, and the same number of sample.

    Returns:
        One row per setting: its columns, `share`, `low`, `high`, `n`, `units`, `interval`, and where words were counted
        `mean_count`. With a baseline also `gain` (of the share), `gain_low`, `gain_high` (see `metrics.gain`), and `p`
        (McNemar's exact test, of these prompts); NaN for the baseline itself.
    """
    over = [name for name in ("minus", "bare_prompt") if name in frame] or ["prompt"]
    shares = means(frame, "hit", by, over, dropna=False).rename(columns={"value": "share"})
    if "count" in frame:
        shares["mean_count"] = means(frame, "count", by, dropna=False)["value"]
    if baseline is None:
        return shares
    return shares.merge(_gains(frame, list(by), baseline, over), on=list(by), how="left")


def _gains(frame: pd.DataFrame, by: list[str], baseline: Mapping[str, Any], over: list[str]) -> pd.DataFrame:
    """Change of the share of hits from the baseline to each other setting."""
    pair = [name for name in ("topic", "minus", "bare_prompt", "sample") if name in frame]
    plain = (frame[list(baseline)] == pd.Series(baseline)).all(axis=1)
    before, rows = frame[plain].set_index(pair)["hit"], []
    for values, cell in frame[~plain].groupby(by, sort=False, dropna=False):
        twins = before.loc[pd.MultiIndex.from_frame(cell[pair]) if len(pair) > 1 else cell[pair[0]]]
        units = cell.groupby(over, sort=False).ngroup()
        change = gain(cell["hit"], twins, units)
        rows.append((*values, *change[:3], mcnemar(cell["hit"], twins)))
    return pd.DataFrame(rows, columns=[*by, "gain", "gain_low", "gain_high", "p"])


def lay(lm: SteerableModel, prompt: Prompt, steer: Intervention, room: bool) -> Prompt:
    """The prompt as a vector is laid over it: as it is, or with spaces put in for the vector."""
    return make_room(lm, prompt, steer)[0] if room else prompt


def join(plus: str, prompt: str) -> str:
    """The prompt as it follows another text: a space between them unless there is white space already."""
    return prompt if plus[-1:].isspace() or prompt[:1].isspace() else " " + prompt


def front_positions(steer: Intervention) -> int:
    """T_s: how many positions at the front of a prompt an intervention is tied to, BOS included."""
    return max((edit.start + edit.length for _, edit in steer.edits if edit.anchor == "front"), default=0)
