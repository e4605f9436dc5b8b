"""Calls in a row leave nothing behind."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import D_MODEL
from trials import edit, random, trial

import steerlab as sl

pytestmark = pytest.mark.slow

PROMPTS = ["The wedding was very fine", "He said no"]


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())


def generate(lm: sl.SteerableModel) -> None:
    lm.generate(PROMPTS, trial("resid_pre", 1, "shift", when="all")[0], max_new_tokens=2)


def prompt_alone(lm: sl.SteerableModel) -> None:
    lm.generate(PROMPTS, [trial("mlp_out", 1, "gain")[0], None], max_new_tokens=2)


def fit(lm: sl.SteerableModel) -> None:
    shift = torch.zeros(1, D_MODEL, requires_grad=True)
    optimiser = torch.optim.SGD([shift], 0.1)
    for _ in range(2):
        optimiser.zero_grad()
        torch.autograd.backward(lm.logits(PROMPTS, edit("resid_pre", 1, shift=shift))[:, 5].sum())
        optimiser.step()
    assert shift.any()


def read(lm: sl.SteerableModel) -> None:
    learned = edit("attn_out", 0, shift=random(1, D_MODEL).requires_grad_())
    lm.activations(PROMPTS, [sl.Site("resid_post", 1), sl.Site("attn_out", 1)], learned)


def score(lm: sl.SteerableModel) -> None:
    lm.logprobs(PROMPTS, trial("resid_pre", 1, "probe")[0])


def refuse(lm: sl.SteerableModel) -> None:
    with pytest.raises(ValueError, match="out of range"):
        lm.logits(PROMPTS, trial("resid_pre", 99, "shift")[0])


@pytest.mark.parametrize("work", [generate, prompt_alone, fit, read, score, refuse])
def test_thirty_calls_in_a_row_leave_memory_flat(gpt2: sl.SteerableModel, work: Callable[[Any], None]) -> None:
    for _ in range(3):
        work(gpt2)
    before = live_tensors()
    for _ in range(30):
        work(gpt2)
    assert live_tensors() <= before


def test_the_count_sees_what_is_kept() -> None:
    before = live_tensors()
    kept = [torch.zeros(1) for _ in range(5)]
    assert live_tensors() == before + len(kept)
