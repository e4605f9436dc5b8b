"""Log-probabilities of given texts: what `lm.logprobs` computes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from . import passes
from .intervention import Intervention, Steer
from .passes import Call, like
from .prompts import Batch, Prompt, Prompts, as_list, leading
from .sampling import check_options, finite

if TYPE_CHECKING:
    from .model import SteerableModel

LOGITS_BYTES = 2**26
"""Bytes of logits that are formed at a time."""


def logprobs(
    lm: "SteerableModel", texts: Prompts, steer: Steer, given: Prompts | None, batch_size: int
) -> pd.DataFrame:
    """What `lm.logprobs` says."""
    check_options({}, batch_size=batch_size)
    listed = as_list(texts)
    prefixes: list[list[int]] = [[]] * len(listed)
    if given is not None:
        prefixes = [lm.ids(prompt) for prompt in as_list(given)]
    if len(prefixes) != len(listed):
        raise ValueError(f"{len(prefixes)} prompts for {len(listed)} texts: give one for each")
    lm.check_prompts(listed, [lm.ids(text) for text in listed])  # refuses an empty text, which its prompt would hide
    rows = [continued(lm, prefix, text) for prefix, text in zip(prefixes, listed, strict=True)]
    lm.check_prompts(listed, rows)
    interventions = lm.check_steer(steer, rows)
    firsts = [max(1, len(prefix)) for prefix in prefixes]  # nothing says how likely the first token of all is
    if short := [i for i, row in enumerate(rows) if len(row) <= firsts[i]]:
        raise ValueError(
            f"text {short[0]} is a single token with nothing before it to say how likely it is: give a prompt (given=)"
        )
    chunks = [range(start, min(start + batch_size, len(rows))) for start in range(0, len(rows), batch_size)]
    counts = [len(row) - first for row, first in zip(rows, firsts, strict=True)]
    calls = (
        _call(lm, [rows[i] for i in chunk], [interventions[i] for i in chunk], [counts[i] for i in chunk])
        for chunk in chunks
    )
    scores = [row for batch in lm.run(calls) for row in finite(batch)]
    frames = [_frame(lm, i, row, scores[i], firsts[i]) for i, row in enumerate(rows)]
    return pd.concat(frames, ignore_index=True)


def continued(lm: "SteerableModel", prefix: list[int], text: Prompt) -> list[int]:
    """Ids of a text after a prefix, and then without a BOS of its own, or on its own."""
    ids = lm.ids(text)
    return prefix + (ids[leading(ids, lm.prefix) :] or ids) if prefix else ids


def _call(
    lm: "SteerableModel",
    rows: Sequence[Sequence[int]],
    steer: Sequence[Intervention | None],
    counts: Sequence[int],
) -> Call:
    """Log-probabilities of each row's last tokens, as many as `counts` says, at the end of [batch, max(counts)]."""
    batch = Batch.of(rows, lm.filler, lm.device)
    taps = lm.taps(lm.check(steer, batch))
    wanted = torch.arange(max(counts)) >= max(counts) - torch.tensor(counts)[:, None]
    chunk = max(1, LOGITS_BYTES // (lm.n_vocab * 4))
    return Call(passes.logprobs, (batch.plain, taps, wanted, lm.top, chunk), like(*wanted.shape))


def _frame(
    lm: "SteerableModel", number: int, ids: list[int], scores: Float[Tensor, " pos"], first: int
) -> pd.DataFrame:
    """The tokens of one text from position `first` on, with their scores."""
    positions = range(first, len(ids))
    values = scores[len(scores) - len(positions) :].tolist()
    tokens = [lm.tokenizer.decode([ids[i]]) for i in positions]
    return pd.DataFrame({"row": number, "position": list(positions), "token": tokens, "logprob": values})
