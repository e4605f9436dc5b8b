"""What the released algorithm does while a model writes: γ at each cached decode step, and the text."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch

from ...completions import Sampling, complete
from ...edit import components, contrast
from ...intervention import Intervention
from ...judges import Judge, word_judge
from ...methods.sara import sara
from ...metrics import disfluency, means
from ...model import SteerableModel
from ...site import Site
from .dilemmas import CONSEQUENCES, DUTY
from .study import judge_answers


def decode_gains(
    lm: SteerableModel,
    prompts: Sequence[str],
    *,
    layer: int,
    attract: str = DUTY,
    repel: str = CONSEQUENCES,
    max_new_tokens: int = 20,
    temperature: float = 0.8,
    top_p: float = 0.3,
    seed: int = 0,
) -> pd.DataFrame:
    """The γ that the released algorithm applies at each cached decode step, where it sees a single token.

    What enters a block does not depend on the edit of that very input, only on the tokens; so these γ are read off one
    unsteered pass over what the steered model wrote.

    Returns:
        One row per prompt, step and value of γ: `row`, `step` (1 is the first token written), `gamma` (−2, 0 or 2),
        `share` (of the neurons; they are multiplied by −1, 1 or 3 at coefficient 1). Step 0 is the prompt pass, with γ
        rounded to the nearest of the three.
    """
    site = Site("resid_pre", layer)
    near, far = (components(lm.activations(text, site).row(0, site)) for text in (attract, repel))
    sampling = Sampling(max_new_tokens, temperature, top_p, seed=seed)
    rows = []
    for row, prompt in enumerate(prompts):
        steer = sara(lm, prompt, attract=attract, repel=repel, layer=layer, variant="released")
        ids = lm.batch(prompt).ids[0].cpu()
        written = torch.tensor(complete(lm, prompt, steer, [0], sampling)[0], dtype=ids.dtype)
        a = lm.activations(torch.cat([ids, written]), site).row(0, site)
        passes = [a[: len(ids)], *a[len(ids) :, None]]
        for step, seen in enumerate(passes):
            nearest = (contrast(seen, near, far) / 2).round() * 2
            rows += [(row, step, value, float((nearest == value).float().mean())) for value in (-2, 0, 2)]
    return pd.DataFrame(rows, columns=["row", "step", "gamma", "share"])


def decode_texts(
    lm: SteerableModel,
    prompts: Sequence[str],
    judge: Judge | None = None,
    *,
    layer: int,
    attract: str = DUTY,
    repel: str = CONSEQUENCES,
    repeats: int = 5,
    max_new_tokens: int = 40,
    temperature: float = 0.8,
    top_p: float = 0.3,
    seed: int = 0,
) -> pd.DataFrame:
    """What recomputing γ at every decode step does to the text; the judge is as in `dilemma_study`.

    Returns:
        One row per answer: `condition` ("unsteered", "anchored", "released", and "released, prompt only"), `row`,
        `prompt`, `sample`, `completion`, `label`, `group`, `confidence`, `perplexity` (under the unsteered model) and
        `distinct` (share of the words that are not repeats).
    """
    judge = judge or word_judge(lm)
    options: dict[str, Any] = {"attract": attract, "repel": repel, "layer": layer}
    made: dict[str, Callable[[str], Intervention | None]] = {
        "unsteered": lambda prompt: None,
        "anchored": lambda prompt: sara(lm, prompt, **options),
        "released": lambda prompt: sara(lm, prompt, variant="released", **options),
        "released, prompt only": lambda prompt: sara(lm, prompt, variant="released", when="prompt", **options),
    }
    sampling: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
    frames = []
    for condition, make in made.items():
        steer = [make(prompt) for prompt in prompts]
        size = 1 if condition.startswith("released") else 64
        frame = lm.generate(prompts, steer, n=repeats, seed=seed, batch_size=size, **sampling)
        frames.append(frame.assign(condition=condition))
    frame = judge_answers(pd.concat(frames, ignore_index=True), judge)
    words = frame["completion"].str.lower().str.split()
    frame["distinct"] = [len(set(each)) / max(1, len(each)) for each in words]
    return frame.assign(perplexity=disfluency(lm, list(frame["completion"]), list(frame["prompt"])))


def texts_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of `decode_texts`, a row per condition.

    Returns:
        `condition`, `distinct` (mean, with Student's 95 % interval over prompts `low`, `high`), `n`, `units`,
        `interval`, `perplexity` (median), `duty` and `consequence` (shares).
    """
    flagged = frame.assign(**{group: frame["group"] == group for group in ("duty", "consequence")})
    rest = flagged.groupby("condition", sort=False).agg(
        perplexity=("perplexity", "median"), duty=("duty", "mean"), consequence=("consequence", "mean")
    )
    new = means(frame, "distinct", ["condition"]).rename(columns={"value": "distinct"})
    return new.merge(rest.reset_index(), on="condition")
