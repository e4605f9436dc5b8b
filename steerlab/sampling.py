"""Logits processors for `transformers.generate`: the frequency penalty of the ActAdd release, and noise by row."""

from collections.abc import Sequence
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


class RowNoise(LogitsProcessor):
    """Add Gumbel noise from one generator per row, so that the largest score is a sample of the softmax.

    argmax(logits + Gumbel) is distributed as softmax(logits). Unlike a draw from one generator for the whole batch, a
    row's sample then does not depend on which rows stand beside it.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        """One generator for each row."""
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(
        self, input_ids: Int[Tensor, "batch pos"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Scores with fresh noise."""
        noise = torch.empty(scores.shape, device=self.generators[0].device)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores - noise.log_().to(scores.device)


def row_seeds(seed: int, samples: Sequence[int]) -> list[int]:
    """A seed for each row from the seed of the call and the number of the row's sample."""
    return [int(np.random.SeedSequence([seed, sample]).generate_state(1)[0]) for sample in samples]


def logits_processors(
    pad: Int[Tensor, " batch"] | None,
    seeds: Sequence[int],
    temperature: float,
    top_p: float,
    frequency_penalty: float,
) -> dict[str, Any]:
    """The `logits_processor` argument of `transformers.generate`, in the order of the ActAdd release.

    Raises:
        ValueError: the temperature is negative, or top_p is not in (0, 1].
    """
    if not temperature >= 0:
        raise ValueError(f"temperature {temperature} is negative: 0 is greedy, 1 samples the model's own distribution")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p {top_p} is out of range: it is a share, above 0 and at most 1")
    chain: list[LogitsProcessor] = []
    if temperature not in (0, 1):
        chain.append(TemperatureLogitsWarper(float(temperature)))
    if frequency_penalty:
        chain.append(FrequencyPenalty(frequency_penalty, pad))
    if temperature > 0:
        if top_p < 1:
            chain.append(TopPLogitsWarper(top_p))
        chain.append(RowNoise(seeds))
    return {"logits_processor": LogitsProcessorList(chain)}
