"""What steering costs in time, against the size of the model."""

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm
from transformers import GPT2Config, GPT2LMHeadModel

from ...intervention import Intervention
from ...loading import load
from ...methods.own import add
from ...metrics import bootstrap_interval
from ...model import SteerableModel

SHAPES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {  # blocks, width, heads
        "1M": (4, 128, 4),
        "10M": (8, 320, 5),
        "gpt2": (12, 768, 12),
        "gpt2-medium": (24, 1024, 16),
        "gpt2-large": (36, 1280, 20),
        "gpt2-xl": (48, 1600, 25),
    }
)
"""Shapes of GPT-2 for `overhead_by_size`."""


def overhead(
    lm: SteerableModel,
    *,
    rows: int = 32,
    width: int = 64,
    repeats: int = 10,
    warmup: int = 2,
    seconds: float = float("inf"),
) -> pd.DataFrame:
    """Time of a steered forward pass against an unsteered one (the paper's overhead figure).

    Random tokens, steered at the middle layer, as in the release (the paper's text says 6); both warmed up, the device
    waited for, and the order turned round at every repeat. The paper has 100 repeats (pairs of passes) of 32 rows of 64
    tokens. No new pair is begun after `seconds`, once three have been counted.

    Returns:
        One row per repeat: `model`, `n_params`, `layer`, `rows`, `width`, `repeat`, `plain` and `steered` (seconds),
        `premium` (steered / plain − 1).
    """
    generator, layer = torch.Generator().manual_seed(0), lm.n_layers // 2
    ids = torch.randint(lm.n_vocab, (rows, width), generator=generator)
    shift = torch.randn(2, lm.d_model, generator=generator)
    steer = add(shift, layer=layer, place="resid_pre", anchor="front")
    about = {"model": lm.name, "n_params": lm.n_params, "layer": layer, "rows": rows, "width": width}
    made: list[dict[str, Any]] = []
    started = time.perf_counter()
    for repeat in range(-warmup, repeats):
        if repeat >= 3 and time.perf_counter() - started > seconds:
            break
        order = [("plain", None), ("steered", steer)]
        taken = {name: _seconds(lm, ids, edit) for name, edit in (order if repeat % 2 else order[::-1])}
        made.append({**about, "repeat": repeat, **taken, "premium": taken["steered"] / taken["plain"] - 1})
    return pd.DataFrame(made[warmup:])


def overhead_by_size(
    shapes: Sequence[str] = tuple(SHAPES), *, device: str | None = None, **options: Any
) -> pd.DataFrame:
    """`overhead` of random-weight models of GPT-2's shapes, one after the other: does the premium fall with size?

    On CUDA where there is one, else the CPU; the largest needs 7 GB of memory in float32. The smallest keeps its name
    by having 1,000 tokens only.

    Raises:
        ValueError: a shape is unknown.
    """
    unknown = [name for name in shapes if name not in SHAPES]
    if unknown:
        raise ValueError(f"shape {unknown[0]!r} is unknown: choose one of {', '.join(SHAPES)}")
    tokenizer, place = load(device="cpu").tokenizer, device or ("cuda" if torch.cuda.is_available() else "cpu")
    frames = []
    for name in tqdm(shapes, unit="model"):
        blocks, width, heads = SHAPES[name]
        ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": 1000 if name == "1M" else 50257}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = GPT2LMHeadModel(GPT2Config(n_layer=blocks, n_embd=width, n_head=heads, **ends))
        frames.append(overhead(load(model, tokenizer=tokenizer, device=place), **options).assign(model=name))
    return pd.concat(frames, ignore_index=True)


def summarise_overhead(frame: pd.DataFrame) -> pd.DataFrame:
    """Median premium of each model with its bootstrap interval over repeats.

    Returns:
        One row per model: `model`, `n_params`, `layer`, `rows`, `width`, `plain` (median seconds), `premium`, `low`,
        `high`, `n`.
    """
    groups = frame.groupby("model", sort=False)
    about = groups[["n_params", "layer", "rows", "width"]].first().assign(plain=groups["plain"].median())
    medians = [bootstrap_interval(own["premium"], np.median) for _, own in groups]
    premium = pd.DataFrame(medians, index=about.index).rename(columns={"value": "premium"})
    return about.join(premium).reset_index()


def _seconds(lm: SteerableModel, ids: Int[Tensor, "batch pos"], steer: Intervention | None) -> float:
    """Seconds of one forward pass, the device's queue empty before and after."""
    batch = lm.batch(ids)
    _wait(lm)
    started = time.perf_counter()
    lm.forward(batch, lm.check(steer, batch), "last")
    _wait(lm)
    return time.perf_counter() - started


def _wait(lm: SteerableModel) -> None:
    if lm.device.type == "cuda":
        torch.cuda.synchronize(lm.device)
