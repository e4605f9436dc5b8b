"""Draw the next token: temperature, the ActAdd release's frequency penalty, nucleus, and noise that is a function.

The noise is counter-based, as in Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): a hash of
(seed, prompt, sample, step, token), instead of the next number of a generator. So the draws of different prompts are
independent; a prompt keeps its noise in every batch and order, with and without steering; and no noise is made for
tokens that cannot win. All of it is integer arithmetic on tensors, the same on every device.

Like `passes.py`, `next_token` and what it calls run beside the model: they name torch and each other.
"""

import difflib
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

CANDIDATES = 128
"""How many of a row's most probable tokens take part in the draw one by one."""

REST, PLACE = -1, -2
"""Numbers that stand for no token: the noise of all that are no candidates together, and which of them it is."""


# --- noise -------------------------------------------------------------------------------------------------------


def hashed(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """SplitMix64's output function (Steele, Lea and Flood 2014): a bijection of 64 bits in which every bit counts."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9 as a signed number
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def uniform(keys: Int[Tensor, "*#shape"], step: int, tokens: Int[Tensor, "*#shape"]) -> Float[Tensor, "*shape"]:
    """Numbers in (0, 1), float64, each a function of its row's key, the step and the token."""
    golden = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15, SplitMix64's increment
    state = hashed(keys + torch.full_like(keys, step + 1) * golden)  # products wrap around in a tensor
    bits = hashed(state + (tokens + 3) * golden)
    return (((bits >> 11) & 0x1FFFFFFFFFFFFF).double() + 0.5) * 2.0**-53


def gumbel(keys: Int[Tensor, "*#shape"], step: int, tokens: Int[Tensor, "*#shape"]) -> Float[Tensor, "*shape"]:
    """Standard Gumbel noise, -log(-log u): the largest of logits + noise is a draw from their softmax."""
    return -(-uniform(keys, step, tokens).log()).log()


def row_keys(seed: int, rows: Sequence[Sequence[int]], samples: Sequence[int]) -> Int[Tensor, " batch"]:
    """64 bits for each row, from the seed, the ids of its prompt (without padding), and the number of its sample."""
    contents = (np.array([sample, *row], dtype="<i8").tobytes() for row, sample in zip(rows, samples, strict=True))
    digests = [hashlib.blake2b(content, digest_size=8, key=str(seed).encode()).digest() for content in contents]
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.long)


# --- the draw ----------------------------------------------------------------------------------------------------


def next_token(
    scores: Float[Tensor, "batch vocab"],
    ids: Int[Tensor, "batch pos"],
    pad: Int[Tensor, " batch"] | None,
    keys: Int[Tensor, " batch"],
    step: int,
    settings: Mapping[str, float],
) -> Int[Tensor, " batch"]:
    """The next token of each row from its logits, in the order of the ActAdd release.

    Logits are divided by the temperature, then each token's loses `frequency_penalty` for every time that it stands in
    prompt or completion (BOS included, padding not), then a token of the nucleus is drawn; at temperature 0 the best is
    taken.

    Args:
        scores: logits, float32.
        ids: prompt and completion so far, left-padded.
        pad: how much of each row is padding.
        keys: of `row_keys`.
        step: the number of the token in its completion.
        settings: `temperature`, `top_p`, `frequency_penalty`.

    Raises:
        ValueError: a logit is NaN or infinite.
    """
    if settings["temperature"] not in (0, 1):
        scores = scores / settings["temperature"]
    if settings["frequency_penalty"]:
        scores = penalised(scores, ids, pad, settings["frequency_penalty"])
    if settings["temperature"] > 0:
        return drawn(scores, keys.to(scores.device), step, settings["top_p"])
    best, token = scores.max(-1)
    require_finite(best)
    return token


def penalised(
    scores: Float[Tensor, "batch vocab"],
    ids: Int[Tensor, "batch pos"],
    pad: Int[Tensor, " batch"] | None,
    penalty: float,
) -> Float[Tensor, "batch vocab"]:
    """Scores less `penalty * count` for each token, the count over all ids that are no padding.

    So the ActAdd experiments sample (their `freq_penalty=1.0`, after the temperature); transformers' repetition penalty
    divides instead, once, however often a token has come.
    """
    real = torch.ones_like(ids, dtype=scores.dtype)
    if pad is not None:
        real = (torch.arange(ids.shape[1], device=ids.device) >= pad.to(ids.device)[:, None]).to(scores)
    return scores.scatter_add(1, ids, -penalty * real)


def drawn(
    scores: Float[Tensor, "batch vocab"], keys: Int[Tensor, " batch"], step: int, top_p: float
) -> Int[Tensor, " batch"]:
    """A token of each row's nucleus, with its probability there: exactly, though noise is made for few tokens.

    The nucleus holds a token where those above it have less than `top_p` of the mass together, as in transformers. The
    most probable tokens race, each with its own noise, and so do all the others as one, whose noisy maximum is Gumbel
    noise on the logarithm of their mass. Where the others win, a uniform number says which of them it is.
    """
    total = scores.logsumexp(-1, keepdim=True)
    require_finite(total)
    best, tokens = scores.topk(min(CANDIDATES, scores.shape[-1]))
    logp = (best - total).double()
    mass = logp.exp()
    inside = mass.cumsum(-1) - mass < top_p
    race = (logp + gumbel(keys[:, None], step, tokens)).masked_fill(~inside, -math.inf)
    highest, winner = race.max(-1)
    token = tokens.gather(1, winner[:, None])[:, 0]
    # The others' share of the nucleus is known to within its last token; rows in which it may win are looked at whole.
    others = (min(1.0, top_p) + (mass[:, -1] if top_p < 1 else 0) - mass.sum(-1)).clamp(min=0, max=1)
    open_ = inside[:, -1] & (others.log() + gumbel(keys, step, torch.full_like(keys, REST)) > highest)
    for row in open_.nonzero()[:, 0].tolist() if scores.shape[-1] > CANDIDATES else []:
        token[row] = drawn_whole(scores[row], tokens[row], keys[row], step, top_p, highest[row], token[row])
    return token


def drawn_whole(
    scores: Float[Tensor, " vocab"],
    candidates: Int[Tensor, " candidate"],
    key: Int[Tensor, ""],
    step: int,
    top_p: float,
    highest: Float[Tensor, ""],
    winner: Int[Tensor, ""],
) -> Int[Tensor, ""]:
    """`drawn` for a row in which a token that is no candidate may win; `highest` is the noisy maximum of the others."""
    mass = scores.double().softmax(-1)
    tokens = torch.arange(len(mass), device=mass.device)
    if top_p < 1:  # a token of the nucleus has, with all below it, more than 1 - top_p: so much for each at least
        tokens = tokens[mass > (1 - top_p) / len(mass)]
        tokens = tokens[mass[tokens].argsort(descending=True)]
    shares = mass[tokens]
    shares = shares * (shares.cumsum(-1) - shares < top_p)
    reached = shares.masked_fill(torch.isin(tokens, candidates), 0).cumsum(-1)
    if reached[-1].log() + gumbel(key, step, torch.full_like(key, REST)) <= highest:
        return winner
    place = uniform(key, step, torch.full_like(key, PLACE)) * reached[-1]
    return tokens[torch.searchsorted(reached, place, right=True).clamp(max=len(tokens) - 1)]


def require_finite(largest: Float[Tensor, "*shape"]) -> None:
    """Refuse logits that are not numbers, by the maximum or the sum of each row.

    Raises:
        ValueError: one is NaN or infinite.
    """
    if not bool(torch.isfinite(largest).all()):
        raise ValueError(NOT_FINITE)


NOT_FINITE = (
    "the model's numbers are not finite (NaN or infinite): take a smaller strength, or load the model in bfloat16 or "
    "float32, since float16 overflows beyond 65,504"
)


def finite(scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Logits or log-probabilities as they are, or one line where they are no numbers; -inf may stand for impossible.

    Raises:
        ValueError: one is NaN or plus infinity.
    """
    if not bool(torch.isfinite(scores.sum())) and not bool((scores < math.inf).all()):
        raise ValueError(NOT_FINITE)
    return scores


class Draw(LogitsProcessor):
    """`next_token` as a logits processor: the drawn token's score becomes infinite, so that the best is the drawn."""

    def __init__(
        self,
        keys: Int[Tensor, " batch"],
        pad: Int[Tensor, " batch"] | None,
        prompt: int,
        settings: Mapping[str, float],
    ) -> None:
        """Keep what the draws depend on; `prompt` is the width of the prompts, from which steps count."""
        self.keys, self.pad, self.prompt, self.settings = keys, pad, prompt, settings

    def __call__(
        self, input_ids: Int[Tensor, "batch pos"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Scores with the drawn token on top; changed in place, since transformers has copied them for this."""
        token = next_token(scores, input_ids, self.pad, self.keys, input_ids.shape[1] - self.prompt, self.settings)
        return scores.scatter_(1, token[:, None], math.inf)


# --- options -----------------------------------------------------------------------------------------------------

SHIFTING = {
    *("bad_words_ids", "begin_suppress_tokens", "exponential_decay_length_penalty", "forced_eos_token_id"),
    *("min_length", "min_new_tokens", "no_repeat_ngram_size", "repetition_penalty", "sequence_bias", "suppress_tokens"),
}
"""Options of `transformers.generate` that shift logits before a token is drawn."""

ALLOWED = SHIFTING | {
    *("eos_token_id", "stop_strings", "tokenizer", "stopping_criteria", "max_time", "streamer"),
    *("cache_implementation", "cache_config", "max_cache_len", "compile_config", "disable_compile"),
}
"""Options of `transformers.generate` that leave a pass a pass and a row a row: they shift logits, or end a row."""

OURS = ("n", "max_new_tokens", "temperature", "top_p", "frequency_penalty", "seed", "batch_size")
NEUTRAL: dict[str, Any] = {"num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1.0, "use_cache": True} | (
    dict.fromkeys(("do_sample", "is_assistant", "return_dict_in_generate"), False)
)
KEPT = {"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version", "max_length"}


def neutral_options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Options that undo what a checkpoint's generation config asks for beyond the ids of its special tokens."""
    settings = {name for name, value in checkpoint.items() if value is not None and not name.startswith("_")}
    return dict.fromkeys(settings - KEPT - set(NEUTRAL)) | NEUTRAL


def check_options(options: Mapping[str, Any], **counts: int) -> None:
    """Refuse options that change what a pass or a sample is, that do nothing or are unknown, and counts below 1.

    Raises:
        ValueError: an option is none of `ALLOWED`, or a count is below 1.
    """
    for name in sorted(set(options) - ALLOWED):
        shown = repr(options[name]).splitlines()[0][:60]
        near = difflib.get_close_matches(name, [*OURS, *ALLOWED], 1)
        raise ValueError(
            f"{name}={shown} is not open here: sampling is set by n, seed, temperature (0 is greedy), top_p "
            "and frequency_penalty, every sequence is a row of its own, and every pass reads all of its tokens"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}={count} is out of range: it counts from 1")
