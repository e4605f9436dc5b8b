"""The loop behind `steerlab.fit`: many settings side by side in one batch, each with its own optimiser and seed.

Settings do not touch each other, so that one comes out of a grid as it would alone. One that has stopped improving
leaves the batch, and the next takes its place.

The loop runs beside the model, as `passes.py` says, and so on a server too: `learn` and what it calls are given
nnsight's model, and all else as dicts of tensors, numbers and text.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .methods.learned import Learned
from .metrics import kl
from .model import SteerableModel
from .objective import Objective, difference, effectiveness, faithfulness, flips
from .passes import Call, Tap, activations, like, logits, pick
from .tasks import answer_tokens

THRESHOLD = 1e-2
"""From which size on a number, or the norm of a location, counts."""

CPU_TOKENS = 4096
"""Tokens of one pass on a CPU; more only spill out of its caches."""

REMOTE_TOKENS = 2**16
"""Tokens of one pass on a server, whose memory is not known here."""

NOISE = 0.05
"""Below which cosine with the exact gradient an estimate by "spsa" is warned of."""

LOG = ("loss", "effectiveness", "faithfulness", "minimality", "kl", "flip_rate", "locations")

Seeded = tuple[Objective, int]
"""What a fit minimises, and the seed of everything random in it."""

Learnt = tuple[Float[Tensor, "site pos width"], Float[Tensor, "step number"], Float[Tensor, ""]]
"""Tensors, log and seconds of a setting."""

Tick = Callable[[dict[int, Learnt]], None]
"""Told after every step what has ended there, by the number of the setting."""


@dataclass(frozen=True)
class FitOptions:
    """The keyword options of `fit` and `fit_grid`. The paper's are not known to us.

    Args:
        steps: of the optimiser, Adam, at most.
        lr: about the largest relative change of an activation by one step, whatever the method, site or model.
        batch_size: prompts of one step, each with both signs.
        patience: steps of a window. The fit stops when the mean loss of two windows in a row is no smaller than that of
            the best before, and returns the mean of the tensors over the last one, which takes out jitter. A loss may
            rest on a plateau for longer than that: with 100 scalars leave one (`experiments.scaling.restarts`).
        tolerance: by which share a loss must be smaller to count as smaller.
        gradient: "exact" by backpropagation, or "spsa", estimated from forward passes alone: the slopes between pairs
            of opposite random perturbations, all in one batch. "auto" is exact but where the model is remote and the
            key is one whose code runs in a sandbox, which no gradient reaches.
        directions: pairs of perturbations in one step of "spsa". A step's estimate has about the cosine
            sqrt(directions / (directions + numbers − 1)) with the exact gradient: 0.2 for 90 numbers, 0.012 for 25,920.
        perturbation: their relative size.

    Raises:
        ValueError: a value is out of range.
    """

    steps: int = 400
    lr: float = 0.02
    batch_size: int = 16
    patience: int = 20
    tolerance: float = 0.01
    gradient: Literal["auto", "exact", "spsa"] = "auto"
    directions: int = 4
    perturbation: float = 0.02

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.gradient not in ("auto", "exact", "spsa"):
            raise ValueError(f"gradient={self.gradient!r} is unknown: choose auto, exact or spsa")
        for name in ("steps", "lr", "batch_size", "patience", "directions", "perturbation"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} is out of range: it is larger than 0")

    def settled(self, lm: SteerableModel) -> "FitOptions":
        """The same with "auto" decided; that it is SPSA is said, for its results are noisier."""
        if self.gradient != "auto":
            return self
        exact = lm.runner.gradients()
        if not exact:
            warnings.warn(
                "your key's code runs in a sandbox, which no gradient reaches: fitting by gradient='spsa', from "
                "forward passes alone, which takes more steps and gives noisier results",
                stacklevel=3,
            )
        return replace(self, gradient="exact" if exact else "spsa")

    def cosine(self, numbers: int) -> float:
        """About the cosine of a step's estimate with the exact gradient, for so many numbers; 1 for "exact".

        An estimate is the mean of n = `directions` terms (g·δ)δ with entries δ = ±1. Its product with g has the mean
        |g|², its squared length |g|² (n + numbers − 1) / n; so the cosine is about sqrt(n / (n + numbers − 1)).
        """
        return 1.0 if self.gradient != "spsa" else math.sqrt(self.directions / (self.directions + numbers - 1))

    @property
    def members(self) -> int:
        """Copies of the tensors that run in one step."""
        return 2 * self.directions if self.gradient == "spsa" else 1


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be learned on which prompts, checked; `plain` is all that the loop is given."""

    lm: SteerableModel
    method: Learned
    shape: tuple[int, int, int]
    plain: dict[str, Any]

    @classmethod
    def of(cls, lm: SteerableModel, frame: pd.DataFrame, method: Learned) -> "Problem":
        """Check everything, before the model runs.

        Raises:
            ValueError: what `steerlab.fit` refuses.
        """
        if torch.is_inference_mode_enabled():
            raise ValueError("nothing can be learned in torch.inference_mode(): leave it, or use torch.no_grad()")
        correct, wrong = answer_tokens(lm, frame)
        sites, batch = method.sites(lm), lm.batch(list(frame["prompt"]))
        shortest, longest = min(batch.lengths), max(batch.lengths)
        if method.tied and shortest < longest:
            raise ValueError(
                f"{method.name} is tied to positions, but the prompts have {shortest} to {longest} tokens: "
                "take prompts of one length, or DynScalar"
            )
        shape = (len(sites), *method.shape(longest, lm.d_model))
        plain = {
            "batch": batch.plain,
            "correct": correct,
            "wrong": wrong,
            "taps": [(envoy, is_input) for envoy, is_input, _, _ in lm.taps({}, sites)],
            "tensor": method.tensor,
            "stack": method.stack(torch.empty(1, *shape[1:])) | {method.tensor: None},
            "unit": type(method).unit,
            "shape": shape,
            "init": method.init,
        }
        return cls(lm, method, shape, plain)

    def call(self, settings: Sequence[Seeded], options: FitOptions, side_by_side: int, tick: Tick | None) -> Call:
        """Fit all settings; gives what was learnt of each, in their order."""
        numbers = math.prod(self.shape)
        if (cosine := options.cosine(numbers)) < NOISE:
            warnings.warn(
                f"directions={options.directions} of spsa are mostly noise for {numbers:,} numbers (cosine with the "
                f"gradient about {cosine:.2g}): learn fewer, as ActivScalar does, or take gradient='exact'",
                stacklevel=3,
            )
        listed = [(i, asdict(objective), seed) for i, (objective, seed) in enumerate(settings)]
        chosen = asdict(options) | {"members": options.members}
        log = like(options.steps, len(LOG), dtype=torch.float64, shorter=0)
        gives = [(like(*self.shape), log, like(dtype=torch.float64))] * len(listed)
        return Call(learn, (self.plain, listed, chosen, side_by_side, tick), gives)


# --- beside the model ----------------------------------------------------------------------------------------------


def learn(
    model: Any,
    problem: dict[str, Any],
    settings: list[tuple[int, dict[str, Any], int]],
    options: dict[str, Any],
    side_by_side: int,
    tick: Tick | None = None,
) -> list[Learnt]:
    """Fit all settings, `side_by_side` at a time, and tell `tick` after every step."""
    problem = prepared(model, problem)
    results = {}
    with torch.enable_grad():  # whatever the caller has switched off
        for stopped in search(model, problem, list(settings), options, side_by_side):
            ended = {run["number"]: learnt(run, problem["units"]) for run in stopped}
            results.update(ended)
            if tick is not None:
                tick(ended)
    return [results[number] for number, _, _ in settings]


def learnt(run: dict[str, Any], units: Tensor) -> Learnt:
    """What is kept of a run that has stopped."""
    numbers = (run["log"], time.perf_counter() - run["began"])
    log, seconds = (torch.tensor(number, dtype=torch.float64) for number in numbers)
    return run["mean"] * units, log, seconds


def prepared(model: Any, problem: dict[str, Any]) -> dict[str, Any]:
    """The problem with what is computed once: the bare model's logits, and the unit of each site."""
    batch = problem["batch"]
    count = len(batch[0])
    every = torch.arange(count, device=batch[0].device)
    base = torch.cat(
        [logits(model, pick(batch, part), [], True, False)[:, -1].float() for part in torch.split(every, 64)]
    )
    some = pick(batch, every[:16])
    taps: list[Tap] = [(envoy, is_input, [], True) for envoy, is_input in problem["taps"]]
    seen = [h[some[1].bool().to(h.device)].float() for h in activations(model, some, taps, False)]
    units = [problem["unit"](None, real) for real in seen]
    moved = {name: problem[name].to(base.device) for name in ("correct", "wrong")}
    placed = tuple(None if part is None else part.to(base.device) for part in batch)
    once = {"batch": placed, "base": base, "units": torch.tensor(units, device=base.device)[:, None, None]}
    return {**problem, **moved, **once}


def losses(
    model: Any,
    problem: dict[str, Any],
    theta: Float[Tensor, "member site pos width"],
    index: Int[Tensor, "member prompt"],
    objectives: list[dict[str, Any]],
) -> tuple[Float[Tensor, " member"], Float[Tensor, "member term"]]:
    """Each member's loss on its prompts, less minimality; and effectiveness, faithfulness, total KL and flip rate.

    All in one pass: rows are members × signs × prompts.
    """
    shape = (len(theta), 2, index.shape[1])
    beta = torch.tensor([1.0, -1.0], device=theta.device).view(1, 2, 1, 1, 1)
    taps: list[Tap] = []
    for (envoy, is_input), part in zip(problem["taps"], theta.unbind(1), strict=True):
        rows = (beta * part[:, None, None]).expand(*shape, -1, -1).flatten(0, 2)
        stack = {**problem["stack"], problem["tensor"]: rows}
        taps.append((envoy, is_input, [stack], False))
    wanted = torch.is_grad_enabled() and theta.requires_grad
    scores = logits(model, pick(problem["batch"], index[:, None].expand(shape).flatten()), taps, True, wanted)
    if wanted and scores.grad_fn is None:  # a copy from another process says that it requires one, but has no graph
        raise RuntimeError("no gradient comes back from the model here")
    steered = scores[:, -1].float().view(*shape, -1)
    base = problem["base"][index][:, None].expand_as(steered)
    correct, wrong = (problem[name][index][:, None].expand(shape) for name in ("correct", "wrong"))
    plus, minus = difference(steered, correct, wrong).unbind(1)
    margin = torch.tensor([objective["margin"] for objective in objectives], device=theta.device)[:, None]
    effect = effectiveness(plus, minus, margin).mean(1)
    moved = faithfulness(steered, base, correct, wrong, reverse=objectives[0]["reverse"]).mean((1, 2))
    with torch.no_grad():
        terms = [effect, moved, kl(base, steered).mean((1, 2)), flips(plus, minus).float().mean(1)]
    weight = torch.tensor([objective["faithfulness"] for objective in objectives], device=theta.device)
    return effect + weight * moved, torch.stack(terms, 1).detach()


def start(number: int, objective: dict[str, Any], seed: int, problem: dict[str, Any], lr: float) -> dict[str, Any]:
    """A setting on its way, at its initial values; `theta` is in units of each site.

    Drawn on the CPU, so that a seed means the same on every device. `total` is the sum of theta over the steps of this
    window, `mean` its mean over those of the last.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = problem["init"] * torch.randn(problem["shape"], generator=generator)
    theta = (drawn.to(problem["units"]) / problem["units"]).requires_grad_()
    means = {"total": torch.zeros_like(theta), "mean": theta.detach().clone()}
    run = {"number": number, "objective": objective, "generator": generator, "theta": theta, "log": []}
    return {**run, **means, "adam": torch.optim.Adam([theta], lr=lr), "began": time.perf_counter()}


def stops(run: dict[str, Any], options: dict[str, Any]) -> bool:
    """After a step: count it in, and at the end of a window see whether the loss still falls."""
    fallen, taken, patience = [entry[0] for entry in run["log"]], len(run["log"]), options["patience"]
    if not math.isfinite(fallen[-1]):
        return True
    run["total"] += run["theta"].detach()
    rest = taken % patience
    if rest and taken < options["steps"]:
        return False
    run["mean"], run["total"] = run["total"] / (rest or patience), torch.zeros_like(run["total"])
    windows = [sum(fallen[i : i + patience]) for i in range(0, taken - rest, patience)]
    best = min(windows[:-2], default=math.inf)
    flat = len(windows) > 2 and min(windows[-2:]) >= best - options["tolerance"] * abs(best)
    return bool(flat or taken >= options["steps"])


def search(
    model: Any, problem: dict[str, Any], waiting: list[Any], options: dict[str, Any], side_by_side: int
) -> Iterator[list[dict[str, Any]]]:
    """Fit what waits, `side_by_side` settings at a time; yields after every step the runs that have stopped there."""
    active: list[dict[str, Any]] = []
    while waiting or active:
        while waiting and len(active) < side_by_side:
            number, objective, seed = waiting.pop(0)
            active.append(start(number, objective, seed, problem, options["lr"]))
        step(model, problem, active, options)
        stopped = [run for run in active if stops(run, options)]
        gone = [run["number"] for run in stopped]
        active = [run for run in active if run["number"] not in gone]
        yield stopped


def step(model: Any, problem: dict[str, Any], runs: list[dict[str, Any]], options: dict[str, Any]) -> None:
    """One step of every run, in one batch."""
    theta = torch.stack([run["theta"] for run in runs])
    count = len(problem["base"])
    drawn = [torch.randperm(count, generator=run["generator"])[: options["batch_size"]] for run in runs]
    index, real = torch.stack(drawn).to(theta.device), theta * problem["units"]
    if options["gradient"] == "spsa":
        target, loss, terms = spsa(model, problem, runs, theta, index, options)
    else:
        loss, terms = losses(model, problem, real, index, [run["objective"] for run in runs])
        target = loss.sum()
    size = real.abs().sum((1, 2, 3))
    penalty = torch.tensor([run["objective"]["minimality"] for run in runs], device=theta.device) * size
    torch.autograd.backward(target + penalty.sum(), inputs=[run["theta"] for run in runs])  # the weights have none
    places = real.detach().norm(dim=-1).gt(THRESHOLD).sum((1, 2))
    effect, moved, total, flipped = terms.unbind(1)
    log = torch.stack([(loss + penalty).detach(), effect, moved, size.detach(), total, flipped, places], 1).tolist()
    for run, entry in zip(runs, log, strict=True):
        run["log"].append(entry)
        run["adam"].step()
        run["adam"].zero_grad()


def spsa(
    model: Any,
    problem: dict[str, Any],
    runs: list[dict[str, Any]],
    theta: Tensor,
    index: Tensor,
    options: dict[str, Any],
) -> tuple[Float[Tensor, ""], Float[Tensor, " run"], Float[Tensor, "run term"]]:
    """The mean over directions of slope · δ, slope = (L(θ + cδ) - L(θ - cδ)) / 2c, entries of δ = ±1 (Spall 1992).

    Minimality needs no model, so its gradient stays exact. Gives something whose gradient in theta is that mean, the
    loss of each run, and its terms.
    """
    n, c = options["directions"], options["perturbation"]
    signs = [torch.randint(2, (n, *problem["shape"]), generator=run["generator"]) for run in runs]
    delta = 2 * torch.stack(signs).to(theta) - 1
    with torch.no_grad():
        pairs = torch.stack([theta[:, None] + c * delta, theta[:, None] - c * delta], 2)
        objectives = [run["objective"] for run in runs for _ in range(2 * n)]
        members = pairs.flatten(0, 2) * problem["units"]
        both = losses(model, problem, members, index.repeat_interleave(2 * n, 0), objectives)
        loss, terms = (part.view(len(runs), n, 2, *part.shape[1:]) for part in both)
        slope = (loss[:, :, 0] - loss[:, :, 1]) / (2 * c)
        gradient = (slope[..., None, None, None] * delta).mean(1)
    return (gradient * theta).sum(), loss.mean((1, 2)), terms.mean((1, 2))


# --------------------------------------------------------------------------------------------------------------------


def capacity(problem: Problem, options: FitOptions, memory: float) -> int:
    """How many settings one pass takes, by a rough count of what a row keeps for its gradient."""
    lm, ids = problem.lm, problem.plain["batch"][0]
    count, tokens = int(ids.shape[0]), int(ids.shape[1])
    rows = 2 * options.members * min(options.batch_size, count)
    if lm.device.type != "cuda":
        return max(1, (REMOTE_TOKENS if lm.runner.at_once else CPU_TOKENS) // (rows * tokens))
    hidden = 40 * tokens * lm.n_layers * lm.d_model * torch.finfo(lm.dtype).bits // 8
    vocabulary = 12 * lm.n_vocab * 4
    free, _ = torch.cuda.mem_get_info(lm.device)
    return max(1, int(memory * free) // (rows * (hidden + vocabulary)))
