"""What a batch of completions asks of the model: how to sample, and the call that `generate` and the sweeps make."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from . import passes
from .edit import applies
from .intervention import Intervention, Steer, per_row
from .passes import Call, like
from .prompts import Batch, Prompt, Prompts
from .sampling import SHIFTING, check_options, neutral_options, row_keys

if TYPE_CHECKING:
    from .model import SteerableModel


@dataclass(frozen=True)
class Sampling:
    """How completions are sampled.

    Args:
        max_new_tokens: length at which a completion is cut; it may end earlier.
        temperature: of the softmax; 0 is greedy.
        top_p: nucleus.
        frequency_penalty: subtracted from a token's logit for each time it stands in prompt or completion.
        seed: of the noise, see `steerlab.sampling`.
        options: others of `transformers.generate` (`sampling.ALLOWED`).

    Raises:
        ValueError: a value is out of range, or an option is not open.
    """

    max_new_tokens: int = 40
    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        check_options(self.options, max_new_tokens=self.max_new_tokens)
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative: seeds count from 0")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature} is out of range: 0 is greedy, 1 the model's distribution")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} is out of range: it is a share, above 0 and at most 1")
        if not math.isfinite(self.frequency_penalty):
            raise ValueError(f"frequency_penalty {self.frequency_penalty} is not a finite number")

    @property
    def settings(self) -> dict[str, float]:
        """What `sampling.next_token` is given."""
        return {name: getattr(self, name) for name in ("temperature", "top_p", "frequency_penalty")}


def ends(lm: "SteerableModel", sampling: Sampling) -> list[int]:
    """Ids that end a completion: those asked for, else those of the checkpoint and of the tokenizer."""
    usual = [lm.hf.generation_config.eos_token_id, lm.tokenizer.eos_token_id]
    listed = [sampling.options["eos_token_id"]] if "eos_token_id" in sampling.options else usual
    flat = [end for some in listed for end in (some if isinstance(some, Iterable) else [some])]
    return sorted({int(end) for end in flat if end is not None})


def completion_call(
    lm: "SteerableModel",
    rows: Sequence[Sequence[int]],
    steer: Sequence[Intervention | None],
    samples: Sequence[int],
    sampling: Sampling,
) -> Call:
    """One batch of completions, whose new ids [batch, at most max_new_tokens] `completed` reads.

    Rows that share prompt and intervention read the prompt once, unless an option of transformers acts on its pass, or
    the model is remote.

    Args:
        lm: the model.
        rows: token ids of each row's prompt, checked.
        steer: what edits each row.
        samples: the number of each row's sample, which chooses its noise together with the prompt and the seed.
        sampling: how to sample.
    """
    batch = Batch.of(rows, lm.filler, lm.device)
    stacks = lm.check(steer, batch)
    every_step = any(applies(stack["when"], 1) for site in stacks.values() for stack in site)
    draw = {"keys": row_keys(sampling.seed, rows, samples).to(lm.device), "settings": sampling.settings}
    options = _transformers_options(lm, sampling)
    gives = like(len(rows), sampling.max_new_tokens, dtype=torch.long, shorter=1)
    if lm.runner.at_once and lm.top and not SHIFTING & set(sampling.options):
        taps = lm.taps(stacks, cached=True)
        return Call(passes.generate_beside, (batch.plain, taps, every_step, options, _scaled(lm, draw), lm.top), gives)
    same = {(tuple(row), id(edit)): i for i, (row, edit) in enumerate(zip(rows, steer, strict=True))}
    if sampling.options or sampling.max_new_tokens == 1 or len(same) == len(rows) or lm.runner.at_once:
        return Call(passes.generate, (batch.plain, lm.taps(stacks), every_step, options, draw), gives)
    number = {kind: i for i, kind in enumerate(same)}
    index = torch.tensor([number[tuple(row), id(edit)] for row, edit in zip(rows, steer, strict=True)])
    prompts = Batch.of([rows[i] for i in same.values()], lm.filler, lm.device)
    taps = lm.taps(lm.check([steer[i] for i in same.values()], prompts))
    later = lm.taps(stacks) if every_step else []
    return Call(passes.generate_shared, (prompts.plain, index.to(lm.device), taps, later, options, draw), gives)


def completed(lm: "SteerableModel", ids: Tensor, sampling: Sampling) -> list[list[int]]:
    """New ids of each row before the first that ends the completion; what comes after it is padding."""
    stop = set(ends(lm, sampling))
    cut = (next((i for i, token in enumerate(row) if token in stop), len(row)) for row in ids.tolist())
    return [row[:length] for row, length in zip(ids.tolist(), cut, strict=True)]


def as_frame(
    lm: "SteerableModel",
    prompts: Sequence[Prompt],
    samples: Sequence[tuple[int, int]],
    new: Sequence[list[int]],
    seed: int,
) -> pd.DataFrame:
    """New ids as a tidy frame, a row for each (prompt's row, sample)."""
    return pd.DataFrame(
        {
            "row": [row for row, _ in samples],
            "prompt": [lm.text(prompts[row]) for row, _ in samples],
            "sample": [sample for _, sample in samples],
            "completion": [lm.tokenizer.decode(ids, skip_special_tokens=True) for ids in new],
            "n_tokens": [len(ids) for ids in new],
            "seed": seed,
        }
    )


def complete(
    lm: "SteerableModel", prompts: Prompts, steer: Steer, samples: Sequence[int], sampling: Sampling
) -> list[list[int]]:
    """New token ids of one completion for each prompt, in one batch; `lm.generate` gives them as text.

    Raises:
        ValueError: what `lm.batch` and `lm.check` refuse.
    """
    rows = lm.batch(prompts, sampling.max_new_tokens).rows
    (ids,) = lm.run([completion_call(lm, rows, per_row(steer, len(rows)), samples, sampling)])
    return completed(lm, ids, sampling)


def _scaled(lm: "SteerableModel", draw: Mapping[str, Any]) -> dict[str, Any]:
    """What is drawn from a head's output as from logits that a model scales afterwards (Cohere, Granite)."""
    config, settings = lm.hf.config.get_text_config(), draw["settings"]
    scale = (getattr(config, "logit_scale", None) or 1) / (getattr(config, "logits_scaling", None) or 1)
    return {**draw, "settings": {**settings, "temperature": settings["temperature"] / scale}}


def _transformers_options(lm: "SteerableModel", sampling: Sampling) -> dict[str, Any]:
    """Options of `transformers.generate`, over a checkpoint's config of which the special tokens alone hold."""
    stop = ends(lm, sampling)
    tokens: dict[str, Any] = {"eos_token_id": stop or None, "pad_token_id": stop[0] if stop else lm.filler}
    if "stop_strings" in sampling.options:
        tokens["tokenizer"] = lm.tokenizer
    checkpoint = neutral_options(lm.hf.generation_config.to_dict())
    return checkpoint | dict(sampling.options) | tokens | {"max_new_tokens": sampling.max_new_tokens}
