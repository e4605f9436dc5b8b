"""From a question to one page: see where a model listens, choose on some prompts, test on others, count the price."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..intervention import Intervention
from ..methods.actadd import actadd, random_like
from ..metrics import bootstrap_interval, token_shifts
from ..model import SteerableModel
from ..prompts import Prompts
from ..sweep import Setting, grid, next_tokens
from .actadd.topics import counted, join, summarise


def listening(
    lm: SteerableModel, plus: Prompts, minus: Prompts, prompts: Sequence[str], strength: float = 2
) -> pd.DataFrame:
    """How far each layer's vector moves the next token: KL(steered ‖ unsteered) in nats, one row per layer and prompt.

    It says where an edit is *noticed*, which is not yet where it does what is wanted.

    Raises:
        ValueError: what `actadd` and the model refuse.
    """
    vectors = {layer: actadd(lm, plus, minus, layer=layer) for layer in range(lm.n_layers)}
    settings = [
        Setting({"layer": layer, "text": prompt}, prompt, strength * vector)
        for layer, vector in vectors.items()
        for prompt in prompts
    ]
    return next_tokens(lm, settings, progress=False)[["layer", "text", "kl"]]


def choose(
    lm: SteerableModel,
    plus: Prompts,
    minus: Prompts,
    prompts: Sequence[str],
    words: Iterable[str],
    *,
    layers: Iterable[int],
    strengths: Sequence[float],
    n: int = 4,
    **options: Any,
) -> pd.DataFrame:
    """Completions with one of the words, n for each prompt, at each layer and strength; the best setting first.

    Returns:
        One row per setting, as `experiments.actadd.summarise` gives: `layer`, `strength`, `share`, `low`, `high`, `n`.

    Raises:
        ValueError: what `actadd` and `lm.generate` refuse.
    """
    vectors = {layer: actadd(lm, plus, minus, layer=layer) for layer in layers}
    settings = [
        Setting({**point, "bare_prompt": prompt}, prompt, point["strength"] * vectors[point["layer"]])
        for point in grid(layer=vectors, strength=[float(c) for c in strengths])
        for prompt in prompts
    ]
    frame = counted(lm, settings, words, n=n, progress=False, **options)
    return summarise(frame, by=["layer", "strength"]).sort_values("share", ascending=False, ignore_index=True)


def held_out(
    lm: SteerableModel,
    steer: Intervention,
    prompts: Sequence[str],
    words: Iterable[str],
    *,
    prefix: str,
    n: int = 8,
    seed: int = 0,
    **options: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The chosen intervention on prompts that the choice has not seen, beside three controls with the same noise.

    `zero` is the unsteered model, `random` a vector of the same norm, `prompt` the words of `prefix` typed in front.

    Returns:
        All completions, and one row per condition with `share`, its interval, and the paired `gain` over zero.

    Raises:
        ValueError: what `lm.generate` refuses, or an edit without a shift, which has no random twin.
    """
    kinds: Mapping[str, Intervention | None] = {"zero": None, "random": random_like(steer, seed=seed), "steered": steer}
    settings = [
        Setting({"condition": name, "bare_prompt": prompt}, prompt, kind)
        for name, kind in kinds.items()
        for prompt in prompts
    ]
    settings += [Setting({"condition": "prompt", "bare_prompt": p}, prefix + join(prefix, p)) for p in prompts]
    frame = counted(lm, settings, words, n=n, seed=seed, progress=False, **options)
    return frame, summarise(frame, by=["condition"], baseline={"condition": "zero"})


def price(lm: SteerableModel, steer: Intervention, texts: Sequence[str], skip: int = 2, seed: int = 0) -> pd.Series:
    """Perplexity ratio exp(-mean shift) of unrelated texts, with a bootstrap interval over texts; 1 is untouched.

    Raises:
        ValueError: what `lm.logprobs` refuses.
    """
    shifts = token_shifts(lm.logprobs(list(texts)), lm.logprobs(list(texts), steer), skip)
    by_text = shifts.groupby("row")["shift"].agg(["sum", "size"]).to_numpy()

    def ratio(rows: np.ndarray) -> float:
        return float(np.exp(-rows[:, 0].sum() / rows[:, 1].sum()))

    estimate = bootstrap_interval(by_text, ratio, seed=seed)
    return pd.Series({"ratio": estimate.value, "low": estimate.low, "high": estimate.high, "texts": len(texts)})


def report(
    question: str,
    lm: SteerableModel,
    steer: Intervention,
    tested: pd.DataFrame,
    cost: pd.Series,
    samples: pd.DataFrame,
    *,
    answer: str = "",
    path: str | Path | None = None,
) -> str:
    """The page that a group shows, in Markdown: question, setting, the table with controls, the price, three samples.

    Args:
        question: in one sentence.
        lm: the model.
        steer: the chosen intervention.
        tested: the second frame of `held_out`.
        cost: of `price`.
        samples: the first frame of `held_out`; the first three steered completions are shown, unselected.
        answer: in your own words.
        path: where the page is written as well.
    """
    rows = [
        f"| {row.condition} | {row.share:.0%} [{row.low:.0%}, {row.high:.0%}] | {row.n} | {_gain(row)} |"
        for row in tested.itertuples()
    ]
    shown = samples[samples["condition"] == "steered"].head(3)
    texts = [f"> {row.prompt}**{str(row.completion).strip()}**".replace("\n", " ") for row in shown.itertuples()]
    page = "\n".join(
        [
            f"# {question}\n",
            f"**Model** {lm.name}, {lm.n_layers} layers × {lm.d_model}. **Setting** `{steer}`\n",
            "| held-out prompts | completions with a word [95 %] | n | gain over zero, paired |\n|---|---|---|---|",
            *rows,
            f"\n**Price.** Perplexity of {cost.texts:.0f} unrelated texts × {cost.ratio:.3f} "
            f"[{cost.low:.3f}, {cost.high:.3f}].\n",
            "**Three samples, unselected.**\n",
            "\n>\n".join(texts),
            f"\n**Answer.** {answer or '...'}\n",
        ]
    )
    if path is not None:
        Path(path).write_text(page, encoding="utf-8")
    return page


def _gain(row: Any) -> str:
    """The gain of a condition in words, nothing for the baseline itself."""
    return "–" if pd.isna(row.gain) else f"{row.gain:+.0%} [{row.gain_low:+.0%}, {row.gain_high:+.0%}]"
