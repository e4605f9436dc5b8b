"""P@K of clozes: does a vector that steers leave alone what the model knows?"""

from collections.abc import Sequence

import pandas as pd
from tqdm.auto import tqdm

from ... import data
from ...intervention import Intervention
from ...metrics import KS, answer_rank, p_at_k
from ...model import SteerableModel
from .topics import front_positions, lay

BATCH = 64
"""Prompts in one forward pass."""


def knowledge(
    lm: SteerableModel,
    steer: Intervention,
    clozes: pd.DataFrame | None = None,
    *,
    room: bool = False,
    ks: Sequence[int] = KS,
    progress: bool = True,
) -> pd.DataFrame:
    """P@K of clozes with and without steering (the paper's ConceptNet figure).

    The clozes have `prompt` and `answer`; by default they are facts in phrasings that the bundled model has not read
    (`data.clozes` has LAMA). Answers of several tokens, and prompts shorter than the vector, are left out. The
    unsteered model reads the bare prompt, also with `room`.

    Returns:
        One row per condition (plain, steered) and K: `condition`, `k`, `share`, `low`, `high`, `n`.

    Raises:
        ValueError: no cloze is left.
    """
    frame = data.facts("test") if clozes is None else clozes
    pairs = [(str(row["prompt"]), lm.encode(f" {row['answer']}")) for _, row in frame.iterrows()]
    least = 0 if room else front_positions(steer)
    kept = [(prompt, ids[0]) for prompt, ids in pairs if len(ids) == 1 and len(lm.tokens(prompt)) >= least]
    if not kept:
        raise ValueError(f"none of {len(frame)} clozes has an answer of one token and a prompt as long as the vector")
    ranks: dict[str, list[int]] = {"plain": [], "steered": []}
    for start in tqdm(range(0, len(kept), BATCH), disable=not progress, unit="batch"):
        prompts, answers = zip(*kept[start : start + BATCH], strict=True)
        laid = [lay(lm, prompt, steer, room) for prompt in prompts]
        for name, texts, one in (("plain", list(prompts), None), ("steered", laid, steer)):
            ranks[name] += answer_rank(lm.logits(texts, one), answers).tolist()
    return pd.concat([p_at_k(own, ks).assign(condition=name) for name, own in ranks.items()], ignore_index=True)
