"""What steering through steerlab costs, against the same edit by a bare PyTorch hook.

    python benchmarks/overhead.py                   at GPT-2-small's shape (random weights): some minutes on a CPU
    python benchmarks/overhead.py --model bundled   the model that ships with the package
    python benchmarks/overhead.py --model tiny      a smoke test, in seconds

All variants run in one process on the same weights. A round runs each of them once, in random order; a ratio is the
median over rounds of the time of a variant divided by the time of the hooked model in the same round.

The bare model is a copy that nnsight has never touched, and that shares its tensors with the one that steerlab wraps.
So is the one that is traced by hand, which shows the least that nnsight allows. The hook adds in place, which is the
cheapest edit there is. Before anything is timed, all must give the same numbers.
"""

import argparse
import copy
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import nnsight
import pandas as pd
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

import steerlab as sl
from steerlab.loading import BUNDLED
from steerlab.sampling import Draw, row_keys

CONFIGS = {
    "gpt2-small": GPT2Config(),
    "tiny": GPT2Config(n_layer=2, n_embd=64, n_head=2, vocab_size=8192, eos_token_id=0, bos_token_id=0),
}
FORWARD_SHAPES = ((32, 64), (1, 16))
SAMPLES, NEW_TOKENS = 50, 40
SAMPLING = {"temperature": 1.0, "top_p": 0.3, "frequency_penalty": 1.0}  # of the ActAdd paper
TARGETS = {"forward 32 x 64": 1.03, "generate": 1.05}
HOOK = "bare hook"


@dataclass
class Bench:
    """One set of weights, behind steerlab, behind nnsight and bare, and one edit of it."""

    lm: sl.SteerableModel
    traced: nnsight.TransformersModel
    bare: PreTrainedModel
    layer: int
    vector: Tensor  # [2, d_model], on the first two positions
    steer: sl.Intervention

    @property
    def bare_block(self) -> torch.nn.Module:
        return self.bare.get_submodule(self.lm.layout.blocks)[self.layer]


def make_bench(name: str, device: str | None) -> Bench:
    """The model `name`, wrapped and bare."""
    hf, tokenizer = _weights(name)
    hf = hf.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval().requires_grad_(False)
    shared = {id(tensor): tensor for tensor in (*hf.parameters(), *hf.buffers())}
    bare, by_hand = (copy.deepcopy(hf, dict(shared)) for _ in range(2))
    lm = sl.load(hf, tokenizer=tokenizer)
    traced = nnsight.TransformersModel(by_hand, tokenizer=tokenizer)
    layer = lm.n_layers // 2
    vector = torch.randn(2, lm.d_model, generator=torch.Generator().manual_seed(0)).to(lm.device, lm.dtype)
    steer = sl.add(vector, layer=layer, place="resid_pre", anchor="front")
    return Bench(lm, traced, bare, layer, vector, steer)


def _weights(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if name in CONFIGS:
        torch.manual_seed(0)
        return GPT2LMHeadModel(CONFIGS[name]), AutoTokenizer.from_pretrained(BUNDLED)
    source = BUNDLED if name == "bundled" else name
    hf = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    return hf, AutoTokenizer.from_pretrained(source)


@contextmanager
def hooked(bench: Bench) -> Iterator[None]:
    """Add the vector in the pass over the prompt, by a bare hook on the block's input."""

    def add(_module: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
        if args[0].shape[1] > 1:
            args[0][:, : len(bench.vector)] += bench.vector

    handle = bench.bare_block.register_forward_pre_hook(add)
    try:
        yield
    finally:
        handle.remove()


def forward_variants(bench: Bench, batch: int, length: int) -> dict[str, Callable[[], Tensor]]:
    """Last-position logits of the same ids, by each way to get them."""
    lm = bench.lm
    ids = torch.randint(1, 8000, (batch, length), generator=torch.Generator().manual_seed(1))
    on_device = ids.to(lm.device)
    inputs = {"attention_mask": torch.ones_like(on_device), "use_cache": False, "logits_to_keep": 1}
    traced = bench.traced
    block = traced.get(lm.layout.blocks)[bench.layer]
    ready = lm.batch(ids)
    stacks = lm.check(bench.steer, ready)

    def bare() -> Tensor:
        return bench.bare(on_device, **inputs).logits[:, -1]

    def with_hook() -> Tensor:
        with hooked(bench):
            return bare()

    def raw_nnsight() -> Tensor:
        with traced.trace(on_device, **inputs):
            h = block.input
            h[:, : len(bench.vector)] += bench.vector
            logits = nnsight.save(traced.output.logits)
        return logits[:, -1]

    return {
        "bare model": bare,
        HOOK: with_hook,
        "nnsight by hand": raw_nnsight,
        "steerlab, unsteered": lambda: lm.logits(ids),
        "steerlab, steered": lambda: lm.logits(ids, bench.steer),
        "steerlab, steered, batch ready": lambda: lm.forward(ready, stacks, "last")[:, -1],
    }


def generate_variants(bench: Bench, prompt_length: int = 16) -> dict[str, Callable[[], list[str]]]:
    """Completions of one prompt with the same noise, by each way to get them."""
    lm = bench.lm
    prompt = torch.randint(1, 8000, (prompt_length,), generator=torch.Generator().manual_seed(2))
    batch = lm.batch(prompt.expand(SAMPLES, -1))

    def bare() -> list[str]:
        keys = row_keys(0, prompt.expand(SAMPLES, -1).tolist(), range(SAMPLES)).to(lm.device)
        chain = LogitsProcessorList([Draw(keys, None, prompt_length, SAMPLING)])
        options = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
        ids = bench.bare.generate(batch.ids, attention_mask=batch.mask, **options, logits_processor=chain)
        return lm.tokenizer.batch_decode(ids[:, prompt_length:], skip_special_tokens=True)

    def with_hook() -> list[str]:
        with hooked(bench):
            return bare()

    def ours(steer: sl.Intervention | None) -> list[str]:
        options = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
        frame = lm.generate(prompt, steer, n=SAMPLES, batch_size=SAMPLES, **options, **SAMPLING)
        return frame["completion"].tolist()

    return {
        "bare model": bare,
        HOOK: with_hook,
        "steerlab, unsteered": lambda: ours(None),
        "steerlab, steered": lambda: ours(bench.steer),
    }


def check_equal(variants: dict[str, Callable[[], Tensor | list[str]]]) -> None:
    """The steered variants must agree, and differ from the unsteered ones, or the timings would mean nothing."""
    results = {name: call() for name, call in variants.items()}
    for name, result in results.items():
        expected = "bare model" if "unsteered" in name or name == "bare model" else HOOK
        assert _same(result, results[expected]), f"{name} does not agree with {expected}"
    assert not _same(results["bare model"], results[HOOK]), "the edit changes nothing"


def _same(a: Tensor | list[str], b: Tensor | list[str]) -> bool:
    return torch.allclose(a.float(), b.float(), atol=1e-3) if isinstance(a, Tensor) else a == b


def time_rounds(variants: dict[str, Callable[[], object]], rounds: int, cuda: bool) -> pd.DataFrame:
    """Milliseconds, one row per round and one column per variant."""
    order = random.Random(0)
    rows = []
    for _ in range(rounds):
        names = list(variants)
        order.shuffle(names)
        row = {}
        for name in names:
            started = time.perf_counter()
            variants[name]()
            if cuda:
                torch.cuda.synchronize()
            row[name] = 1000 * (time.perf_counter() - started)
        rows.append(row)
    return pd.DataFrame(rows)[list(variants)]


def summary(times: pd.DataFrame) -> pd.DataFrame:
    """Medians of time, of the ratio to the hooked model and of the difference from it, with the ratio's quartiles."""
    ratios = times.div(times[HOOK], axis=0)
    return pd.DataFrame(
        {
            "ms": times.median(),
            "ratio": ratios.median(),
            "25 %": ratios.quantile(0.25),
            "75 %": ratios.quantile(0.75),
            "ms more": times.sub(times[HOOK], axis=0).median(),
        }
    )


def report(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(float_format=lambda value: f'{value:.3f}')}")
    for name, target in TARGETS.items():
        if title.startswith(name):
            ratio = float(table["ratio"]["steerlab, steered"])
            print(f"steered / hooked: {ratio:.3f}; at most {target} is wanted: {'yes' if ratio <= target else 'NO'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gpt2-small", help="gpt2-small, tiny, bundled, a folder or a Hub name")
    parser.add_argument("--rounds", type=int, default=15, help="of the large forward pass; the small one gets 20 times")
    parser.add_argument("--generate-rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of PyTorch")
    parser.add_argument("--device")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    bench = make_bench(options.model, options.device)
    cuda = bench.lm.device.type == "cuda"
    print(f"{bench.lm}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    with torch.no_grad():
        for batch, length in FORWARD_SHAPES:
            variants = forward_variants(bench, batch, length)
            check_equal(variants)
            times = time_rounds(variants, options.rounds * (20 if batch == 1 else 1), cuda)
            report(f"forward {batch} x {length}", summary(times))
        variants = generate_variants(bench)
        check_equal(variants)
        times = time_rounds(variants, options.generate_rounds, cuda)
        report(f"generate {NEW_TOKENS} tokens x {SAMPLES} samples", summary(times))


if __name__ == "__main__":
    main()
