"""Logits processors for `transformers.generate`: the frequency penalty of the ActAdd release, and noise by row."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper


class FrequencyPenalty(LogitsProcessor):
    """Subtract `penalty * count` from each token's logit, over prompt and completion, BOS included, padding not.

    This is the penalty that the ActAdd experiments sample with (their `freq_penalty=1.0`, applied after the
    temperature); transformers' repetition penalty divides instead, once, however often a token has come.
    """

    def __init__(self, penalty: float, pad: Int[Tensor, " batch"] | None) -> None:
        """Keep the penalty, and the left padding of each row."""
        self.penalty = penalty
        self.pad = pad

    def __call__(
        self, input_ids: Int[Tensor, "batch pos"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Penalised scores."""
        real = torch.ones_like(input_ids, dtype=scores.dtype)
        if self.pad is not None:
            real = (torch.arange(input_ids.shape[1], device=input_ids.device) >= self.pad[:, None]).to(scores)
        return scores - self.penalty * torch.zeros_like(scores).scatter_add(1, input_ids, real)


class TopP(TopPLogitsWarper):
    """transformers' nucleus, looked for among each row's best tokens first: sorting a whole vocabulary takes longer.

    A token stays where the tokens above it have less than `top_p` of the mass together, as in transformers. Rows whose
    nucleus is wider than `CANDIDATES` are left to transformers.
    """

    CANDIDATES = 64

    def __call__(
        self, input_ids: Int[Tensor, "batch pos"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Scores, −inf outside of the nucleus."""
        best = scores.topk(min(self.CANDIDATES, scores.shape[-1])).values
        mass = (best - scores.logsumexp(-1, keepdim=True)).exp()
        above = mass.cumsum(-1) - mass
        last = (above < self.top_p).sum(-1, keepdim=True) - 1
        out = scores.masked_fill(scores < best.gather(-1, last), self.filter_value)
        wide = last[:, 0] == best.shape[-1] - 1
        if bool(wide.any()):
            # not super(), whose cell does not travel with the source of a method
            out[wide] = TopPLogitsWarper(self.top_p)(input_ids[wide], scores[wide])
        return out


class RowNoise(LogitsProcessor):
    """Add Gumbel noise from one generator per row, so that the largest score is a sample of the softmax.

    argmax(logits + Gumbel) is distributed as softmax(logits). Unlike a draw from one generator for the whole batch, a
    row's sample then does not depend on which rows stand beside it.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        """One generator for each row, made where it is needed: seeds travel, generators do not."""
        self.seeds = list(seeds)
        self.device = device
        self.generators: list[torch.Generator] = []

    def __call__(
        self, input_ids: Int[Tensor, "batch pos"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Scores with fresh noise."""
        if not self.generators:
            self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in self.seeds]
        noise = torch.empty(scores.shape, device=self.device)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores - noise.log_().to(scores.device)


def row_seeds(seed: int, samples: Sequence[int]) -> list[int]:
    """A seed for each row from the seed of the call and the number of the row's sample.

    Raises:
        ValueError: the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: seeds count from 0")
    return [int(np.random.SeedSequence([seed, sample]).generate_state(1)[0]) for sample in samples]


SETTLED = {"do_sample", "min_p", "num_beams", "num_return_sequences", "top_k", "typical_p", "use_cache"} | {
    *("attention_mask", "input_ids", "inputs", "logits_processor", "max_length", "return_dict_in_generate")
}
"""Options of `transformers.generate` that would undo what `SteerableModel.generate` promises about rows and passes."""


def check_options(options: Mapping[str, Any], **counts: int) -> None:
    """Refuse options that are settled already, and counts below 1.

    Raises:
        ValueError: an option is one of `SETTLED`, or a count is below 1.
    """
    for name in sorted(SETTLED & set(options)):
        raise ValueError(
            f"{name}={options[name]!r} is not open here: sampling is set by n, seed, temperature (0 is greedy), top_p "
            "and frequency_penalty, and every sequence is a row of its own"
        )
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}={count} is out of range: it counts from 1")


def logits_processors(
    pad: Int[Tensor, " batch"] | None,
    seeds: Sequence[int],
    temperature: float,
    top_p: float,
    frequency_penalty: float,
) -> dict[str, Any]:
    """The `logits_processor` argument of `transformers.generate`, in the order of the ActAdd release.

    Raises:
        ValueError: the temperature is negative, top_p is not in (0, 1], or the penalty is not finite.
    """
    if not temperature >= 0:
        raise ValueError(f"temperature {temperature} is negative: 0 is greedy, 1 samples the model's own distribution")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p {top_p} is out of range: it is a share, above 0 and at most 1")
    if not math.isfinite(frequency_penalty):
        raise ValueError(f"frequency_penalty {frequency_penalty} is not a finite number")
    chain: list[LogitsProcessor] = []
    if temperature not in (0, 1):
        chain.append(TemperatureLogitsWarper(float(temperature)))
    if frequency_penalty:
        chain.append(FrequencyPenalty(frequency_penalty, pad))
    if temperature > 0:
        if top_p < 1:
            chain.append(TopP(top_p))
        chain.append(RowNoise(seeds))
    return {"logits_processor": LogitsProcessorList(chain)}
