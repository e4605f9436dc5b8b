"""P@K of clozes: does a vector that steers leave alone what the model knows?"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Int
from tqdm.auto import tqdm

from ... import data
from ...intervention import Intervention
from ...metrics import KS, answer_rank, mcnemar, p_at_k, signed_rank
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
    """P@K of clozes with and without steering (the paper's ConceptNet figure), and whether the same clozes changed.

    The clozes have `prompt` and `answer`; by default they are facts in phrasings that the bundled model has not read
    (`data.clozes` has LAMA). Left out are answers of several tokens, gaps with nothing in front, and prompts shorter
    than the vector.

    Returns:
        One row per condition and K: `condition` (plain; with `room` also padded: the same spaces, no vector; steered),
        `k`, `share`, `low`, `high`, `n`, `left_out`. All but the plain rows have paired comparisons with the condition
        before: what the spaces change, and what the vector changes. `lost` and `won` clozes and McNemar's exact `p` at
        that K; and of all ranks, the same at every K, how many are `worse` and `better`, and `p_ranks`, Wilcoxon's
        signed-rank test of log(rank + 1). The latter is the one question that does not depend on K.

    Raises:
        ValueError: no cloze is left.
    """
    frame = data.facts("test") if clozes is None else clozes
    pairs = [(str(row["prompt"]), lm.encode(f" {row['answer']}")) for _, row in frame.iterrows()]
    least = 0 if room else front_positions(steer)
    single = [(prompt, ids[0]) for prompt, ids in pairs if len(ids) == 1 and prompt.strip()]
    kept = [(prompt, answer) for prompt, answer in single if len(lm.tokens(prompt)) >= least]
    if not kept:
        raise ValueError(f"none of {len(frame)} clozes has an answer of one token and a prompt as long as the vector")
    conditions = ["plain", "padded", "steered"] if room else ["plain", "steered"]
    ranks: dict[str, list[int]] = {condition: [] for condition in conditions}
    for start in tqdm(range(0, len(kept), BATCH), disable=not progress, unit="batch"):
        prompts, answers = zip(*kept[start : start + BATCH], strict=True)
        laid = [lay(lm, prompt, steer, room) for prompt in prompts]
        read = {"plain": (list(prompts), None), "padded": (laid, None), "steered": (laid, steer)}
        for condition in conditions:
            ranks[condition] += answer_rank(lm.logits(*read[condition]), answers).tolist()
    arrays = [np.array(own) for own in ranks.values()]
    tables = [p_at_k(arrays[0], ks)]
    tables += [p_at_k(after, ks).assign(**_compare(before, after, ks)) for before, after in pairwise(arrays)]
    table = pd.concat([own.assign(condition=name) for name, own in zip(conditions, tables, strict=True)])
    return table.assign(left_out=len(frame) - len(kept)).reset_index(drop=True)


def _compare(
    before: Int[np.ndarray, " cloze"], after: Int[np.ndarray, " cloze"], ks: Sequence[int]
) -> dict[str, Sequence[float] | float]:
    """The paired columns of `knowledge`."""
    return {
        "lost": [int(((before < k) & (after >= k)).sum()) for k in ks],
        "won": [int(((before >= k) & (after < k)).sum()) for k in ks],
        "p": [mcnemar(after < k, before < k) for k in ks],
        "worse": int((after > before).sum()),
        "better": int((after < before).sum()),
        "p_ranks": signed_rank(np.log1p(after), np.log1p(before)),
    }
