"""What a sweep costs, against one setting after another.

    python benchmarks/sweep.py                                next tokens, against a loop of hooked forward passes
    python benchmarks/sweep.py --peer ENV/bin/python          and completions, against the package steering-vectors

steering-vectors 0.12 wants transformers below 5, so it runs in an environment of its own, as a process that waits for
its turn:

    python -m venv ENV && ENV/bin/pip install torch==2.13.0 steering-vectors

Next tokens: one prompt, all layers × 21 strengths. Completions: one prompt, all layers × 5 strengths × 50 samples × 40
tokens, the same vector added at every position of every pass by both, the nucleus 0.3 of the ActAdd paper, no row ends
early; the peer at the batch size, among a few, that is its fastest (a batch has one vector there, so 50 rows at most).

Both sides take turns, and medians are compared. On a CPU the time is that of the process itself:
with one thread (OMP_NUM_THREADS=1) it does not depend on what else is running; `--wall` takes the clock on the wall.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

PROMPT = "I went up to my friend and said"
TOP_P = 0.3


def timed(run: Callable[[], object], wall: bool) -> float:
    """Seconds of one call."""
    clock = time.perf_counter if wall or torch.cuda.is_available() else time.process_time
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = clock()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def peak() -> float:
    """Gigabytes that this process has had at most: on the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def report(what: str, ours: float, theirs: float, wanted: float, *notes: str) -> None:
    """One line for each comparison."""
    print(f"{what}: ours {ours:.2f} s, theirs {theirs:.2f} s, {theirs / ours:.2f} times faster (wanted {wanted:g})")
    for note in notes:
        print(f"  {note}")


# --- next tokens -------------------------------------------------------------------------------------------------


def next_tokens(model: str | None, device: str | None, strengths: int, rounds: int, wall: bool) -> None:
    import steerlab as sl
    from steerlab import sweep

    lm = sl.load(model, device=device)
    print(lm, f"{torch.get_num_threads()} threads", sep=", ")
    vectors = [sl.actadd(lm, " weddings", " ", layer=layer) for layer in range(lm.n_layers)]
    points = sweep.grid(layer=range(lm.n_layers), strength=[10 * i / (strengths - 1) - 5 for i in range(strengths)])
    settings = [sweep.Setting(point, PROMPT, point["strength"] * vectors[point["layer"]]) for point in points]
    blocks = lm.hf.get_submodule(lm.layout.blocks)
    ids = lm.batch(PROMPT).ids
    kept: dict[str, Tensor] = {}

    def ours() -> None:
        frame = sweep.next_tokens(lm, settings, [" wedding"], progress=False)
        kept["ours"] = torch.tensor(frame["logprob"].to_numpy())

    def theirs() -> None:
        scores, token = [], lm.encode(" wedding")[0]
        for point in points:
            shift = point["strength"] * vectors[point["layer"]].edits[0][1].shift.to(lm.device, lm.dtype)

            def add(module: object, args: tuple[Tensor, ...], shift: Tensor = shift) -> None:
                args[0][:, : len(shift)] += shift

            handle = blocks[point["layer"]].register_forward_pre_hook(add)
            with torch.no_grad():
                logits = lm.hf(ids, use_cache=False, logits_to_keep=1).logits[0, -1].float()
            handle.remove()
            scores.append(logits.log_softmax(-1)[token])
        kept["theirs"] = torch.stack(scores).double().cpu()

    ours(), theirs()
    torch.testing.assert_close(kept["ours"], kept["theirs"], atol=1e-3, rtol=1e-3)
    pairs = [(timed(ours, wall), timed(theirs, wall)) for _ in range(rounds)]
    mine, other = (median(side) for side in zip(*pairs, strict=True))
    per_block = sum(p.numel() for p in blocks.parameters()) / lm.n_layers * ids.shape[1]
    head = lm.hf.get_output_embeddings().weight.numel()
    loop = len(points) * (lm.n_layers * per_block + head)
    least = sum(strengths * ((lm.n_layers - layer) * per_block + head) for layer in range(lm.n_layers))
    what = f"next tokens, {lm.n_layers} layers x {strengths} strengths"
    limit = f"by arithmetic alone, without what lies below the edit: {loop / least:.2f}; small passes waste the rest"
    report(what, mine, other, 20 if lm.device.type == "cuda" else 3, limit, f"peak memory {peak():.2f} GB, of both")


# --- completions -------------------------------------------------------------------------------------------------


def completions(args: argparse.Namespace) -> None:
    import steerlab as sl
    from steerlab import sweep

    lm = sl.load(args.model, device=args.device)
    lm.hf.generation_config.eos_token_id = None
    generator = torch.Generator().manual_seed(0)
    shifts = torch.randn(lm.n_layers, lm.d_model, generator=generator)
    points = sweep.grid(layer=range(lm.n_layers), strength=[0.1 * (i + 1) for i in range(args.strengths)])
    settings = [sweep.Setting(point, PROMPT, _steer(shifts, **point)) for point in points]

    def ours() -> None:
        options = {"n": args.samples, "max_new_tokens": args.new_tokens, "top_p": TOP_P, "progress": False}
        sweep.completions(lm, settings, **options)

    with tempfile.TemporaryDirectory() as folder:
        lm.hf.save_pretrained(folder)
        torch.save({"ids": lm.batch(PROMPT).ids.cpu(), "shifts": shifts}, Path(folder) / "sweep.pt")
        task = {"folder": folder, "device": str(lm.device), "points": points, "samples": args.samples}
        command = [
            args.peer,
            __file__,
            "--serve",
            json.dumps(task | {"new_tokens": args.new_tokens, "wall": args.wall}),
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
            assert peer.stdin and peer.stdout
            started = json.loads(peer.stdout.readline())
            pairs = []
            for _ in range(args.peer_rounds):
                mine = timed(ours, args.wall)
                print("run", file=peer.stdin, flush=True)
                pairs.append((mine, json.loads(peer.stdout.readline())))
            peer.stdin.close()
    mine, other = median(seconds for seconds, _ in pairs), median(two["seconds"] for _, two in pairs)
    what = f"completions, {lm.n_layers} layers x {args.strengths} strengths x {args.samples} x {args.new_tokens} tokens"
    memory = f"peak memory {peak():.2f} GB, theirs {pairs[-1][1]['peak']:.2f} GB"
    report(what, mine, other, 1.5, f"steering-vectors at its best batch size, {started['batch']}", memory)


def _steer(shifts: Tensor, layer: int, strength: float) -> "object":
    import steerlab as sl

    return sl.add(strength * shifts[layer], layer=layer, when="all")


def serve(task: dict[str, object]) -> None:
    """The peer's process: finds its best batch size, then runs the sweep once for every line that it is sent."""
    from steering_vectors import SteeringVector
    from transformers import AutoModelForCausalLM

    folder, samples, new = Path(str(task["folder"])), int(str(task["samples"])), int(str(task["new_tokens"]))
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).to(str(task["device"])).eval()
    model.generation_config.eos_token_id = None
    inputs = torch.load(folder / "sweep.pt", weights_only=True)
    ids, points = inputs["ids"].to(model.device), list(task["points"])  # type: ignore[call-overload]
    vectors = [SteeringVector({layer: shift}) for layer, shift in enumerate(inputs["shifts"].to(model.device))]

    def run(point: dict[str, float], batch: int) -> None:
        with torch.no_grad(), vectors[int(point["layer"])].apply(model, multiplier=point["strength"]):
            for start in range(0, samples, batch):
                rows = ids.expand(min(batch, samples - start), -1)
                options = {"do_sample": True, "temperature": 1.0, "top_p": TOP_P, "top_k": 0, "pad_token_id": 0}
                model.generate(rows, attention_mask=torch.ones_like(rows), max_new_tokens=new, **options)

    wall = bool(task["wall"])
    run(points[0], samples)
    sizes = sorted({max(1, samples // 5), max(1, samples // 2), samples})
    best = min(sizes, key=lambda size: timed(lambda: run(points[0], size), wall))
    print(json.dumps({"batch": best}), flush=True)
    for _ in sys.stdin:
        seconds = timed(lambda: [run(point, best) for point in points], wall)
        print(json.dumps({"seconds": seconds, "peak": peak()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or Hub name; the bundled model by default")
    parser.add_argument("--device")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--wall", action="store_true", help="the clock on the wall instead of the process's own")
    parser.add_argument("--peer", help="a Python that has steering-vectors")
    parser.add_argument("--peer-rounds", type=int, default=3)
    parser.add_argument("--strengths", type=int, default=5, help="of the completions")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--new-tokens", type=int, default=40)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(json.loads(args.serve))
        return
    next_tokens(args.model, args.device, 21, args.rounds, args.wall)
    if args.peer:
        completions(args)


if __name__ == "__main__":
    main()
