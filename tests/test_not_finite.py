"""Numbers that overflow are one line wherever they would come out, and never an empty completion or a NaN."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from families import fresh, steerable, tokenizer
from test_bad_input import refused

import steerlab as sl
from steerlab import sweep
from steerlab.strength import mean_kl, strength_for_kl

SAYS = "the model's numbers are not finite (NaN or infinite): take a smaller strength, or load the model in bfloat16"
TEXT = "The wedding was very fine"
FRAME = pd.DataFrame({"prompt": ["I went to", "You went to"], "correct": [" the", " a"], "wrong": [" a", " the"]})
HUGE = sl.add(torch.full((32,), 1e6), layer=1, when="all")
LATER = sl.add(torch.full((32,), 1e6), layer=1, when="decode")
CALLS: dict[str, Callable[[sl.SteerableModel], Any]] = {
    "logits": lambda lm: lm.logits(TEXT, HUGE),
    "one of several": lambda lm: lm.logits([TEXT, "He"], [None, HUGE]),
    "all logits": lambda lm: lm.logits(TEXT, HUGE, position="all"),
    "logprobs": lambda lm: lm.logprobs(TEXT, HUGE),
    "continuation": lambda lm: lm.logprobs(" no", HUGE, given=TEXT),
    "greedy": lambda lm: lm.generate(TEXT, HUGE, temperature=0, max_new_tokens=3),
    "sampled": lambda lm: lm.generate(TEXT, HUGE, max_new_tokens=3),
    "samples": lambda lm: lm.generate(TEXT, HUGE, n=3, max_new_tokens=3),
    "nucleus": lambda lm: lm.generate([TEXT, "He"], [None, HUGE], top_p=0.5, max_new_tokens=3),
    "penalised": lambda lm: lm.generate(TEXT, HUGE, frequency_penalty=1, repetition_penalty=1.5, max_new_tokens=3),
    "while decoding": lambda lm: lm.generate(TEXT, LATER, max_new_tokens=3),
    "sweep": lambda lm: sweep.next_tokens(lm, [sweep.Setting({}, TEXT, HUGE)], progress=False),
    "completions": lambda lm: sweep.completions(lm, [sweep.Setting({}, TEXT, HUGE)], progress=False, max_new_tokens=3),
    "KL": lambda lm: mean_kl(lm, HUGE, [1.0, 2.0], TEXT),
    "strength for a KL": lambda lm: strength_for_kl(lm, HUGE, 0.1, TEXT, bracket=(1e-9, 2)),
    "score": lambda lm: sl.score(lm, FRAME, HUGE),
    "evaluate": lambda lm: sl.evaluate(lm, FRAME, HUGE),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_float16_that_overflows(call: Any) -> None:
    refused(lambda: call(steerable("llama", torch.float16)), ValueError, SAYS)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_same_calls_in_float32(call: Any) -> None:
    call(steerable("llama"))


METHODS: dict[str, Callable[[sl.SteerableModel], Any]] = {
    "actadd": lambda lm: sl.actadd(lm, " love", " hate", layer=2),
    "actadd, single": lambda lm: sl.actadd(lm, " love", " hate", layer=2, vector="mean"),
    "sara": lambda lm: sl.sara(lm, TEXT, attract="a b", repel="c", layer=2),
    "sara as released": lambda lm: sl.sara(lm, TEXT, attract="a b", repel="c", layer=2, variant="released"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", METHODS.values(), ids=METHODS)
def test_methods_on_a_model_whose_activations_are_none(call: Any) -> None:
    model = fresh("llama")
    model.get_submodule("model.layers.0.mlp.down_proj").weight.data[0, 0] = torch.nan  # type: ignore[union-attr, operator]
    lm = sl.load(model, tokenizer=tokenizer())
    refused(lambda: call(lm), ValueError, SAYS)
