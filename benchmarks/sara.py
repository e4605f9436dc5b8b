"""What a SARA study costs against the same generations unsteered, and why the anchored rule is what it is.

    python benchmarks/sara.py                    one dilemma, all layers x 5 repeats x 2 directions x 2 methods
    python benchmarks/sara.py --model FOLDER     the same with another model
    python benchmarks/sara.py --rules            the anchored rule beside six others

The time of the study counts everything: gains and vectors, generation, judging. The unsteered generations are as many
rows of the same prompt in the same batches with the same noise. A round runs both, in random order; the ratio is the
median over rounds. The two write different texts, so the ratio also holds the chance that one ends its texts sooner.
The CPU time is beside the wall clock for machines that also do other work; on a GPU it says nothing.

For the rules, γ comes from held-out stances on the test dilemmas, several layers, without BOS:

    flip      largest change of a neuron's γ when the SVD's signs are drawn anew
    float32   largest change from float32 to float64 activations, γ computed in float64
    bfloat16  relative change of γ (Euclidean norm) from rounding the activations to bfloat16; mean, and the worst
    prompts   correlation of γ between two dilemmas that are steered by the same pair
    pairs     correlation of γ between two pairs of stances of the same meaning, on the same dilemma
    duty      shift of the preference for duty, nats per token, by attraction to duty at root mean square gain 0.3
    results   the same by attraction to consequences: it should be below 0
"""

import argparse
import random
import time
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import steerlab as sl
from steerlab.completions import Sampling, complete
from steerlab.experiments.sara import dilemma_study, load_dilemmas, validation_texts
from steerlab.judges import preference
from steerlab.site import Site

TARGET = 1.1
CLOCKS: dict[str, Callable[[], float]] = {"wall clock": time.perf_counter, "CPU time": time.process_time}
REPEATS = 5
METHODS = ("sara", "actadd")
SIZE = 0.3


# --- cost ----------------------------------------------------------------------------------------------------------


def study(lm: sl.SteerableModel, dilemma: pd.DataFrame, new: int) -> pd.DataFrame:
    return dilemma_study(lm, dilemma, repeats=REPEATS, methods=METHODS, max_new_tokens=new, progress=False)


def unsteered(lm: sl.SteerableModel, dilemma: pd.DataFrame, steps: list[int]) -> None:
    """As many answers, in batches that go on as long as the study's: steered answers end later, or earlier."""
    rows = 1 + 2 * len(METHODS)
    prompts, samples = [dilemma["prompt"][0]] * (rows * REPEATS), list(range(REPEATS)) * rows
    for layer, new in enumerate(steps):
        sampling = Sampling(new, 0.8, 0.3, seed=layer, options={"min_new_tokens": new})
        complete(lm, prompts, None, samples, sampling)


def cost(lm: sl.SteerableModel, rounds: int, new: int) -> None:
    dilemma = load_dilemmas("test").head(1)
    longest = study(lm, dilemma, new).groupby("layer")["n_tokens"].max()  # a warm-up, too
    steps = (longest + 1).clip(upper=new).tolist()  # the end of an answer is a token as well
    unsteered(lm, dilemma, steps)
    runs: dict[str, Callable[[], object]] = {
        "study": lambda: study(lm, dilemma, new),
        "unsteered": lambda: unsteered(lm, dilemma, steps),
    }
    times: dict[tuple[str, str], list[float]] = {(clock, name): [] for clock in CLOCKS for name in runs}
    for _ in range(rounds):
        for name in random.sample(sorted(runs), 2):
            began = {clock: read() for clock, read in CLOCKS.items()}
            runs[name]()
            for clock, read in CLOCKS.items():
                times[clock, name].append(read() - began[clock])
    answers = lm.n_layers * REPEATS * (1 + 2 * len(METHODS))
    print(f"{lm!r}: {answers} answers of {new} tokens, {rounds} rounds")
    for clock in CLOCKS:
        steered, plain = (times[clock, name] for name in runs)
        ratio = np.median(np.divide(steered, plain))
        medians = f"study {np.median(steered):.1f} s, unsteered {np.median(plain):.1f} s"
        print(f"{clock}: {medians}, ratio {ratio:.3f} (at most {TARGET}: {'met' if ratio <= TARGET else 'MISSED'})")


# --- rules ---------------------------------------------------------------------------------------------------------


def factors(x: Tensor, flip: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """U and Σ of activations [tokens, neurons], with signs drawn anew on demand."""
    u, s, _ = torch.linalg.svd(x.T, full_matrices=False)
    return (u if flip is None else u * (torch.randint(0, 2, s.shape, generator=flip) * 2 - 1)), s


def likeness(rule: str, own: Tensor, other: Tensor, k: int, flip: torch.Generator | None) -> Tensor:
    """s[d] by one of the rules."""
    (u, s), (v, t) = factors(own, flip), factors(other, flip)
    if rule in ("root (anchored)", "gram"):
        power = 1 if rule == "root (anchored)" else 2
        return torch.cosine_similarity((u * s**power) @ u.T, (v * t**power) @ v.T, dim=1)
    u, s, v, t = u[:, :k], s[:k], v[:, :k], t[:k]
    if rule == "largest entry":
        u, v = (each * each.gather(0, each.abs().argmax(0)[None]).sign() for each in (u, v))
    if rule == "aligned":
        v = v * (u * v).sum(0).sign()
    a, b = u * s, v * t
    if rule == "absolute":
        a, b = a.abs(), b.abs()
    if rule == "rotated":  # orthogonal Procrustes
        p, _, q = torch.linalg.svd(b.T @ a)
        b = b @ p @ q
    return torch.cosine_similarity(a, b, dim=1)


RULES = ("released", "largest entry", "aligned", "absolute", "rotated", "gram", "root (anchored)")


def gamma(rule: str, own: Tensor, near: Tensor, far: Tensor, flip: torch.Generator | None = None) -> Tensor:
    k = min(map(len, (own, near, far)))
    return likeness(rule, own, near, k, flip) - likeness(rule, own, far, k, flip)


def all_gains(rule: str, texts: list[Tensor], dilemmas: int, seed: int | None = None) -> Tensor:
    """γ [dilemma, pair, neuron] from activations of the dilemmas, then duty and consequence in turn."""
    flip = None if seed is None else torch.Generator().manual_seed(seed)
    own, near, far = texts[:dilemmas], texts[dilemmas::2], texts[dilemmas + 1 :: 2]
    return torch.stack([torch.stack([gamma(rule, o, a, r, flip) for a, r in zip(near, far, strict=True)]) for o in own])


def agreement(gains: Tensor) -> float:
    """Mean correlation between the rows of each [row, neuron] matrix."""
    return float(np.mean([np.corrcoef(a, b)[0, 1] for each in gains for a, b in combinations(each, 2)]))


def measure(rule: str, exact: list[Tensor], rough: list[Tensor], dilemmas: int) -> tuple[dict[str, float], Tensor]:
    """What can be said of a rule without running the model, and its γ."""
    base = all_gains(rule, exact, dilemmas)
    rounded = all_gains(rule, [x.bfloat16().double() for x in exact], dilemmas) - base
    relative = rounded.norm(dim=-1) / base.norm(dim=-1)
    row = {
        "flip": float((all_gains(rule, exact, dilemmas, seed=1) - base).abs().max()),
        "float32": float((all_gains(rule, rough, dilemmas) - base).abs().max()),
        "bfloat16": float(relative.mean()),
        "worst": float(relative.max()),
        "prompts": agreement(base.transpose(0, 1)),
        "pairs": agreement(base),
    }
    return row, base


def rules(lm: sl.SteerableModel, layers: list[int]) -> None:
    fine = sl.load(type(lm.hf)(lm.hf.config).double(), tokenizer=lm.tokenizer)
    fine.hf.load_state_dict(lm.hf.state_dict())
    dilemmas = load_dilemmas("test")
    stances = validation_texts().query("source == 'stance'").groupby("group")["text"].apply(list)
    pairs = zip(stances["duty"], stances["consequence"], strict=True)
    texts = [*dilemmas["prompt"], *(text for pair in pairs for text in pair)]
    plain = preference(lm, dilemmas)["preference"]
    rows = []
    for layer in layers:
        site = Site("resid_pre", layer)
        exact, rough = ([m.activations(t, site)[site][0, 1:].double() for t in texts] for m in (fine, lm))
        for rule in RULES:
            row, gains = measure(rule, exact, rough, len(dilemmas))
            unit = SIZE / gains.square().mean().sqrt()
            for name, sign in (("duty", 1), ("results", -1)):
                own = [(sign * unit * each[0])[None].float() for each in gains]
                steer = [sl.Intervention({site: sl.Edit(gain=gain, when="all")}) for gain in own]
                row[name] = float((preference(lm, dilemmas, steer)["preference"] - plain).mean())
            rows.append({"layer": layer, "rule": rule, **row})
    frame = pd.DataFrame(rows)
    print(frame.to_string(index=False, float_format="{:.3g}".format))
    groups = frame.groupby("rule", sort=False)
    worst = dict.fromkeys(["flip", "float32", "worst"], "max")
    means = dict.fromkeys(["bfloat16", "prompts", "pairs", "duty", "results"], "mean")
    print(groups.agg(worst | means).to_string(float_format="{:.3g}".format))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or a Hub name; the bundled model by default")
    parser.add_argument("--rules", action="store_true", help="compare the rules for γ instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=40, help="of an answer")
    args = parser.parse_args()
    lm = sl.load(args.model)
    if args.rules:
        rules(lm, sorted({1, lm.n_layers // 2, lm.n_layers - 1}))
    else:
        cost(lm, args.rounds, args.tokens)


if __name__ == "__main__":
    main()
