"""Sentiment and toxicity of completions, and what it costs in fluency."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ... import data
from ...intervention import Intervention
from ...metrics import Scorer, disfluency, means, word_scorer
from ...model import SteerableModel
from ...sweep import Setting, completions
from .topics import join, lay, summarise


def tone(
    lm: SteerableModel,
    steer: Intervention,
    prompts: Sequence[str],
    scorer: Scorer | None = None,
    *,
    prefix: str,
    room: bool = False,
    threshold: float = 0.0,
    judge: SteerableModel | None = None,
    n: int = 10,
    **options: Any,
) -> pd.DataFrame:
    """Sentiment or toxicity of completions and what it costs in fluency: unsteered, prompted, steered.

    The paper's sentiment and toxicity tables, with one decoding for all three conditions (its v5 mixed two): by default
    temperature 1 and nothing cut, as in its final tables.

    Args:
        lm: the model.
        steer: what to test.
        prompts: to complete.
        scorer: of texts; by default pleasant against unpleasant words. Any classifier by `metrics.classifier_scorer`,
            VADER's lexicon by `metrics.lexicon_scorer`.
        prefix: what the prompted baseline puts in front of each prompt.
        room: whether the vector lies over spaces of its own instead of the prompt's first tokens.
        threshold: a completion is a hit where its score is above.
        judge: the model whose perplexity is the disfluency; by default the model itself, unsteered.
        n: completions of each prompt.
        options: of `sweep.completions`.

    Returns:
        One row per completion: `condition` (zero, prompted, steered), `bare_prompt`, `prompt` (as it was read),
        `sample`, `completion`, `score`, `hit`, `disfluency` (of the completion after the bare prompt), `judge`.
    """
    score = scorer or word_scorer(data.words("pleasant"), data.words("unpleasant"))
    settings = [
        Setting({"condition": condition, "bare_prompt": bare}, prompt, edit)
        for bare in prompts
        for condition, prompt, edit in (
            ("zero", bare, None),
            ("prompted", prefix + join(prefix, bare), None),
            ("steered", lay(lm, bare, steer, room), steer),
        )
    ]
    frame = completions(lm, settings, n=n, **options)
    scores = np.asarray(score(frame["completion"].tolist()), dtype=float)
    critic = judge or lm
    cost = disfluency(critic, frame["completion"].tolist(), frame["bare_prompt"].tolist())
    return frame.assign(score=scores, hit=scores > threshold, disfluency=cost, judge=critic.name)


def summarise_tone(frame: pd.DataFrame) -> pd.DataFrame:
    """Share of hits and disfluency by condition.

    Returns:
        One row per condition: what `summarise` finds of the hits, with "zero" for a baseline; `score` (mean);
        `disfluency` with `disfluency_low` and `disfluency_high`, the geometric mean over completions, since single
        perplexities run away, with Student's interval over prompts.
    """
    shares = summarise(frame, by=["condition"], baseline={"condition": "zero"})
    logs = means(frame.assign(logs=np.log(frame["disfluency"])), "logs", ["condition"], "bare_prompt")
    costs = logs.set_index("condition")[["value", "low", "high"]].apply(np.exp)
    costs.columns = pd.Index(["disfluency", "disfluency_low", "disfluency_high"])
    scores = frame.groupby("condition")["score"].mean()
    return shares.merge(scores.reset_index(), on="condition").merge(costs.reset_index(), on="condition", how="left")
