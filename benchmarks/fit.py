"""What a step of `fit` costs beside plain hooks, and what a setting costs in a grid beside one fit after another.

    python benchmarks/fit.py [--model NAME] [--device cuda] [--batch-size 16] [--rounds 5] [--settings 8]

Both sides take turns, so that a busy computer is busy for both; the medians over the rounds are compared. On a CPU the
time is that of the process itself, which with one thread (OMP_NUM_THREADS=1) does not depend on what else is running;
on a GPU it is that of the clock on the wall.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import pandas as pd
import torch
from torch import Tensor

import steerlab as sl

LIMITS = {"step": 1.15, "grid": 1.0}


def by_hand(lm: sl.SteerableModel, frame: pd.DataFrame, steps: int, batch_size: int) -> Tensor:
    """ActivScalar on attention and MLP with plain hooks: both signs in a batch, logits at the last position only."""
    hf, ids = lm.hf, lm.batch(list(frame["prompt"])).ids
    count, length = ids.shape
    correct, wrong = sl.tasks.answer_tokens(lm, frame)
    alpha = torch.zeros(2, lm.n_layers, length, 1, device=lm.device, requires_grad=True)
    beta = torch.tensor([1.0, -1.0], device=lm.device).repeat_interleave(batch_size)[:, None, None]
    adam = torch.optim.Adam([alpha], lr=0.02)

    def scale(place: int, layer: int) -> Callable[..., Tensor | tuple[Tensor, ...]]:
        def run(module: object, args: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
            factor = 1 + beta * alpha[place, layer]
            return (output[0] * factor, *output[1:]) if isinstance(output, tuple) else output * factor

        return run

    def last(rows: Tensor) -> Tensor:
        return hf(rows, use_cache=False, logits_to_keep=1).logits[:, -1].float()

    def others(logits: Tensor, index: Tensor) -> Tensor:
        return logits.scatter(1, torch.stack([correct[index], wrong[index]], 1), -1e9).log_softmax(1)

    with torch.no_grad():
        base = torch.cat([last(part) for part in ids.split(64)])
    handles = []
    for layer, block in enumerate(hf.get_submodule(lm.layout.blocks)):
        for place, path in enumerate((lm.layout.attn, lm.layout.mlp)):
            handles.append(block.get_submodule(path).register_forward_hook(scale(place, layer)))
    for _ in range(steps):
        index = torch.randperm(count, device=lm.device)[:batch_size]
        twice = index.repeat(2)
        logits = last(ids[twice])
        delta = logits.gather(1, correct[twice][:, None]) - logits.gather(1, wrong[twice][:, None])
        log_p, log_q = others(base[twice], twice), others(logits, twice)
        effect = 2 * (10 - beta[:, 0] * delta).relu().mean()
        loss = effect + (log_p.exp() * (log_p - log_q)).sum(1).mean() + alpha.abs().sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    for handle in handles:
        handle.remove()
    return alpha


def timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of one call."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = clock()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def compare(
    name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int, per: int, cpu: bool
) -> dict[str, object]:
    """Medians of both, taken in turns after a warm-up."""
    clock = time.process_time if cpu else time.perf_counter
    ours(), theirs()
    pairs = [(timed(ours, clock), timed(theirs, clock)) for _ in range(rounds)]
    mine, other = (median(side) / per for side in zip(*pairs, strict=True))
    return {"what": name, "ours_s": mine, "theirs_s": other, "ratio": mine / other, "limit": LIMITS[name]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--device")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="of each fit")
    parser.add_argument("--settings", type=int, default=8, help="of the grid")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    lm = sl.load(args.model, device=args.device)
    frame = sl.tasks.ioi(lm, 200).train
    # no setting stops early, so that both sides take the same steps
    options = {"steps": args.steps, "patience": args.steps, "batch_size": args.batch_size, "progress": False}
    objectives = [sl.Objective(margin=10, faithfulness=i) for i in range(args.settings)]

    def fit() -> None:
        sl.fit(lm, frame, sl.ActivScalar(), **options)

    def hand() -> None:
        by_hand(lm, frame, args.steps, args.batch_size)

    def grid() -> None:
        sl.fit_grid(lm, frame, sl.ActivScalar(), objectives, **options)

    def separately() -> None:
        for objective in objectives:
            sl.fit(lm, frame, sl.ActivScalar(), objective, **options)

    cpu = lm.device.type == "cpu"
    rows = [compare("step", fit, hand, args.rounds, args.steps, cpu)]
    rows.append(compare("grid", grid, separately, args.rounds, args.steps * args.settings, cpu))
    print(lm, f"{torch.get_num_threads()} threads", f"batch of {args.batch_size} prompts", sep=", ")
    print(pd.DataFrame(rows).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
