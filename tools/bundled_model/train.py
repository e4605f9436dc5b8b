"""Train the bundled model: `python -m tools.bundled_model.train --corpus CORPUS --run RUN`.

Resumable: the run folder keeps the tokenizer, a log and the last checkpoint; the same command continues from there, and
a larger `--tokens` trains on. Uses a GPU where there is one, two CPU cores otherwise. The learning rate is constant and
falls linearly over the last `--decay` tokens, so that a run can be prolonged by continuing from before its decay.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from .mixture import Mixture
from .tokenizer import train_tokenizer

SHARD_TOKENS = 2**19
BATCH_TOKENS = 4096
WARMUP_STEPS = 40

Optimizers = list[torch.optim.Optimizer]


@dataclass(frozen=True)
class Plan:
    """How far to train: tokens in all, those over which the learning rate falls, tokens per row, learning rate."""

    tokens: float
    decay: float
    length: int
    rate: float


@dataclass
class Progress:
    """What a run has done; saved in its checkpoint."""

    step: int = 0
    tokens: int = 0
    shard: int = 0


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A decoder of ten million parameters: 8 blocks, width 288, rotary positions, tied embeddings.

    Queries and keys are normalised (transformers' Qwen3 architecture). Without that, the attention of the upper blocks
    collapsed onto single tokens within 500 steps of Muon, and the model did not learn to copy a name from its context.
    """
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=288,
            intermediate_size=768,
            num_hidden_layers=8,
            num_attention_heads=6,
            num_key_value_heads=6,
            head_dim=48,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_optimizers(model: Qwen3ForCausalLM, rate: float) -> Optimizers:
    """Muon for the matrices of the blocks, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = torch.optim.Muon(matrices, lr=rate, momentum=0.95, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.97), weight_decay=0.0)
    return [muon, adamw]


def rate_factor(progress: Progress, plan: Plan) -> float:
    """Warm-up, constant, linear decay to a twentieth."""
    warm = min(1.0, (progress.step + 1) / WARMUP_STEPS)
    return warm * max(0.05, min(1.0, (plan.tokens - progress.tokens) / plan.decay))


def save_checkpoint(run: Path, model: Qwen3ForCausalLM, optimizers: Optimizers, done: Progress) -> None:
    """Write beside the last checkpoint, then swap, so that a kill at any moment leaves a whole one."""
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "progress": vars(done)}
    torch.save(state, run / "checkpoint.new")
    (run / "checkpoint.new").replace(run / "checkpoint.pt")


def load_checkpoint(run: Path, model: Qwen3ForCausalLM, optimizers: Optimizers, start: Path | None) -> Progress:
    """The state of the last checkpoint, put into model and optimizers; without one, the weights to start from."""
    if not (run / "checkpoint.pt").exists():
        if start:
            load_model(model, start / "model.safetensors")
        return Progress()
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return Progress(**state["progress"])


def prepare(
    run: Path, corpus: Path, emphasis: dict[str, float], start: Path | None
) -> tuple[Mixture, PreTrainedTokenizerFast]:
    """The mixture, and the run's tokenizer: that of the weights to start from, or trained on first use."""
    run.mkdir(parents=True, exist_ok=True)
    mixture = Mixture(corpus, emphasis=emphasis)
    if not (run / "tokenizer.json").exists():
        first = PreTrainedTokenizerFast.from_pretrained(start) if start else train_tokenizer(mixture)
        first.save_pretrained(run)
    return mixture, PreTrainedTokenizerFast.from_pretrained(run)


def train(run: Path, corpus: Path, start: Path | None, emphasis: dict[str, float], plan: Plan) -> None:
    """Train until the plan's tokens are seen, saving after each shard."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mixture, tokenizer = prepare(run, corpus, emphasis, start)
    model = build_model(tokenizer).to(device)
    optimizers = build_optimizers(model, plan.rate)
    done = load_checkpoint(run, model, optimizers, start)
    compiled = torch.compile(model)
    while done.tokens < plan.tokens:
        rows = mixture.rows(tokenizer, plan.length, SHARD_TOKENS // plan.length, seed=done.shard + 1)
        for batch in torch.from_numpy(rows.astype("int64")).split(BATCH_TOKENS // plan.length):
            if done.tokens >= plan.tokens:
                break
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = plan.rate * rate_factor(done, plan)
            began = time.perf_counter()
            loss = step(compiled, optimizers, batch.to(device))
            done.step, done.tokens = done.step + 1, done.tokens + batch.numel()
            log(run, done, loss, batch.numel() / (time.perf_counter() - began))
        done.shard += 1
        save_checkpoint(run, model, optimizers, done)


def step(model: torch.nn.Module, optimizers: Optimizers, ids: Tensor) -> float:
    """One forward, backward and update in bfloat16 autocast; returns the loss in nats per token."""
    with torch.autocast(ids.device.type, dtype=torch.bfloat16):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def log(run: Path, done: Progress, loss: float, speed: float) -> None:
    """One JSON line per step."""
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps({**vars(done), "loss": round(loss, 4), "tokens_per_second": round(speed)}) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the *.txt.xz files")
    parser.add_argument("--run", type=Path, default=Path("tools/bundled_model/runs/main"))
    parser.add_argument("--start", type=Path, help="exported weights to begin a new run with")
    parser.add_argument("--tokens", type=float, default=12e6, help="tokens in all, those before a resume included")
    parser.add_argument("--decay", type=float, default=4e6, help="tokens over which the learning rate falls")
    parser.add_argument("--length", type=int, default=128, help="tokens per row")
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument("--emphasis", type=json.loads, default={}, help="factors of the mixture's shares, as JSON")
    args = parser.parse_args()
    plan = Plan(args.tokens, args.decay, args.length, args.rate)
    train(args.run, args.corpus, args.start, args.emphasis, plan)


if __name__ == "__main__":
    main()
