"""P@K of clozes: does a vector that steers leave alone what the model knows?"""

from collections.abc import Sequence

import pandas as pd
from tqdm.auto import tqdm

from ... import data
from ...intervention import Intervention
from ...metrics import KS, answer_rank, p_at_k
from ...model import SteerableModel
from .topics import front_positions, lay


def knowledge(
    lm: SteerableModel,
    steer: Intervention,
    clozes: pd.DataFrame | None = None,
    *,
    room: bool = False,
    ks: Sequence[int] = KS,
    batch_size: int = 64,
    progress: bool = True,
) -> pd.DataFrame:
    """P@K of clozes with and without steering (the paper's ConceptNet figure).

    Args:
        lm: the model.
        steer: what to test.
        clozes: `prompt` and `answer`; by default facts in phrasings that the bundled model has not read. See
            `data.clozes` for LAMA. Answers of several tokens, and prompts shorter than the vector, are left out.
        room: whether the vector lies over spaces of its own instead of the prompt's first tokens. The unsteered model
            reads the bare prompt.
        ks: the grid of K, by default the release's.
        batch_size: prompts in one forward pass.
        progress: whether to show a bar.

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
    for start in tqdm(range(0, len(kept), batch_size), disable=not progress, unit="batch"):
        prompts, answers = zip(*kept[start : start + batch_size], strict=True)
        laid = [lay(lm, prompt, steer, room) for prompt in prompts]
        for name, texts, one in (("plain", list(prompts), None), ("steered", laid, steer)):
            ranks[name] += answer_rank(lm.logits(texts, one), answers).tolist()
    return pd.concat([p_at_k(own, ks).assign(condition=name) for name, own in ranks.items()], ignore_index=True)
