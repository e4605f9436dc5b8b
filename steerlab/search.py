"""The loop behind `steerlab.fit`: many settings side by side in one batch, each with its own optimiser and seed.

Settings do not touch each other, so that one comes out of a grid as it would alone. One that has stopped improving
leaves the batch, and the next takes its place.
"""

import math
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .methods.learned import Learned
from .metrics import kl
from .model import Batch, SteerableModel
from .objective import Objective, difference, effectiveness, faithfulness, flips
from .tasks import answer_tokens

THRESHOLD = 1e-2
"""From which size on a number, or the norm of a location, counts."""

CPU_TOKENS = 4096
"""Tokens of one pass on a CPU; more only spill out of its caches."""

LOG = ("loss", "effectiveness", "faithfulness", "minimality", "kl", "flip_rate", "locations")

Setting = tuple[Objective, int]


@dataclass(frozen=True)
class FitOptions:
    """The keyword options of `fit` and `fit_grid`. The paper's are not known to us.

    Args:
        steps: of the optimiser, Adam, at most.
        lr: about the largest relative change of an activation by one step, whatever the method, site or model.
        batch_size: prompts of one step, each with both signs.
        patience: steps of a window. The fit stops when the mean loss of two windows in a row is no smaller than that of
            the best before, and returns the mean of the tensors over the last one, which takes out jitter.
        tolerance: by which share a loss must be smaller to count as smaller.
        gradient: "exact" by backpropagation, or "spsa", estimated from forward passes alone: the slopes between pairs
            of opposite random perturbations, all in one batch.
        directions: pairs of perturbations in one step of "spsa".
        perturbation: their relative size.

    Raises:
        ValueError: a value is out of range.
    """

    steps: int = 400
    lr: float = 0.02
    batch_size: int = 16
    patience: int = 20
    tolerance: float = 0.01
    gradient: Literal["exact", "spsa"] = "exact"
    directions: int = 4
    perturbation: float = 0.02

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.gradient not in ("exact", "spsa"):
            raise ValueError(f"gradient={self.gradient!r} is unknown: choose exact or spsa")
        for name in ("steps", "lr", "batch_size", "patience", "directions", "perturbation"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} is out of range: it is larger than 0")

    @property
    def members(self) -> int:
        """Copies of the tensors that run in one step."""
        return 2 * self.directions if self.gradient == "spsa" else 1


@dataclass(frozen=True, eq=False)
class Problem:
    """Training prompts on the device, and what is computed once: the bare model's logits and the unit of each site."""

    lm: SteerableModel
    method: Learned
    batch: Batch
    correct: Int[Tensor, " prompt"]
    wrong: Int[Tensor, " prompt"]
    base: Float[Tensor, "prompt vocab"]
    units: Float[Tensor, "site 1 1"]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, lm: SteerableModel, frame: pd.DataFrame, method: Learned) -> "Problem":
        """Check everything, then run the bare model over the prompts.

        Raises:
            ValueError: what `steerlab.fit` refuses.
        """
        correct, wrong = answer_tokens(lm, frame)
        sites, batch = method.sites(lm), lm.batch(list(frame["prompt"]))
        shortest, longest = min(batch.lengths), max(batch.lengths)
        if method.tied and shortest < longest:
            raise ValueError(
                f"{method.name} is tied to positions, but the prompts have {shortest} to {longest} tokens: "
                "take prompts of one length, or DynScalar"
            )
        shape = (len(sites), *method.shape(longest, lm.d_model))
        parts = torch.split(torch.arange(len(frame), device=lm.device), 64)
        with torch.no_grad():
            base = torch.cat([lm.forward(pick(batch, part), {}, "last")[:, -1] for part in parts])
        seen = lm.activations(list(frame["prompt"].head(16)), sites)
        units = [method.unit(h[seen.mask.to(h.device).bool()].float()) for h in seen.values()]
        return cls(lm, method, batch, correct, wrong, base, torch.tensor(units, device=lm.device)[:, None, None], shape)

    def losses(
        self,
        theta: Float[Tensor, "member site pos width"],
        index: Int[Tensor, "member prompt"],
        objectives: list[Objective],
    ) -> tuple[Float[Tensor, " member"], Float[Tensor, "member term"]]:
        """Each member's loss on its prompts, less minimality; and effectiveness, faithfulness, total KL and flip rate.

        All in one pass: rows are members × signs × prompts.
        """
        shape = (len(theta), 2, index.shape[1])
        beta = torch.tensor([1.0, -1.0], device=theta.device).view(1, 2, 1, 1, 1)
        stacks = {
            site: [self.method.stack((beta * part[:, None, None]).expand(*shape, -1, -1).flatten(0, 2))]
            for site, part in zip(self.method.sites(self.lm), theta.unbind(1), strict=True)
        }
        rows = pick(self.batch, index[:, None].expand(shape).flatten())
        logits = self.lm.forward(rows, stacks, "last").view(*shape, -1)
        base = self.base[index][:, None].expand_as(logits)
        correct, wrong = (answer[index][:, None].expand(shape) for answer in (self.correct, self.wrong))
        plus, minus = difference(logits, correct, wrong).unbind(1)
        margin = torch.tensor([objective.margin for objective in objectives], device=theta.device)[:, None]
        effect = effectiveness(plus, minus, margin).mean(1)
        moved = faithfulness(logits, base, correct, wrong, reverse=objectives[0].reverse).mean((1, 2))
        with torch.no_grad():
            terms = [effect, moved, kl(base, logits).mean((1, 2)), flips(plus, minus).float().mean(1)]
        weight = torch.tensor([objective.faithfulness for objective in objectives], device=theta.device)
        return effect + weight * moved, torch.stack(terms, 1).detach()


def pick(batch: Batch, index: Int[Tensor, " row"]) -> Batch:
    """Rows of a batch, each as often as it is named."""
    return Batch(batch.ids[index], batch.mask[index], None if batch.pad is None else batch.pad[index])


@dataclass(eq=False)
class Run:
    """One setting on its way; `theta` is in units of each site."""

    number: int
    objective: Objective
    seed: int
    generator: torch.Generator
    theta: Float[Tensor, "site pos width"]
    adam: torch.optim.Adam
    total: Float[Tensor, "site pos width"]  # of theta over the steps of this window
    mean: Float[Tensor, "site pos width"]  # over those of the last
    log: list[list[float]] = field(default_factory=list)

    @classmethod
    def start(cls, number: int, setting: Setting, problem: Problem, lr: float) -> "Run":
        """Initial values; drawn on the CPU, so that a seed means the same on every device."""
        generator = torch.Generator().manual_seed(setting[1])
        drawn = problem.method.init * torch.randn(problem.shape, generator=generator)
        theta = (drawn.to(problem.units) / problem.units).requires_grad_()
        adam = torch.optim.Adam([theta], lr=lr)
        return cls(number, *setting, generator, theta, adam, torch.zeros_like(theta), theta.detach().clone())

    def stops(self, options: FitOptions) -> bool:
        """After a step: count it in, and at the end of a window see whether the loss still falls."""
        losses, taken = [entry[0] for entry in self.log], len(self.log)
        if not math.isfinite(losses[-1]):
            warnings.warn(f"the loss became {losses[-1]} ({self.objective}): use a smaller lr", stacklevel=2)
            return True
        self.total += self.theta.detach()
        rest = taken % options.patience
        if rest and taken < options.steps:
            return False
        self.mean, self.total = self.total / (rest or options.patience), torch.zeros_like(self.total)
        windows = [sum(losses[i : i + options.patience]) for i in range(0, taken - rest, options.patience)]
        best = min(windows[:-2], default=math.inf)
        flat = len(windows) > 2 and min(windows[-2:]) >= best - options.tolerance * abs(best)
        return flat or taken >= options.steps


def search(
    problem: Problem, waiting: deque[tuple[int, Setting]], options: FitOptions, capacity: int
) -> Iterator[list[Run]]:
    """Fit what waits, `capacity` settings at a time; yields after every step the runs that have stopped there."""
    active: list[Run] = []
    while waiting or active:
        while waiting and len(active) < capacity:
            number, setting = waiting.popleft()
            active.append(Run.start(number, setting, problem, options.lr))
        _step(problem, active, options)
        stopped = [run for run in active if run.stops(options)]
        active = [run for run in active if run not in stopped]
        yield stopped


def _step(problem: Problem, runs: list[Run], options: FitOptions) -> None:
    """One step of every run, in one batch."""
    theta = torch.stack([run.theta for run in runs])
    count = len(problem.base)
    index = torch.stack([torch.randperm(count, generator=run.generator)[: options.batch_size] for run in runs])
    estimate = _spsa if options.gradient == "spsa" else _exact
    target, loss, terms = estimate(problem, runs, theta, index.to(theta.device), options)
    real = theta * problem.units
    size = real.abs().sum((1, 2, 3))
    penalty = torch.tensor([run.objective.minimality for run in runs], device=theta.device) * size
    torch.autograd.backward(target + penalty.sum())
    found = real.detach().norm(dim=-1).gt(THRESHOLD).sum((1, 2))
    effect, moved, total, flipped = terms.unbind(1)
    log = torch.stack([loss + penalty.detach(), effect, moved, size.detach(), total, flipped, found], 1).tolist()
    for run, entry in zip(runs, log, strict=True):
        run.log.append(entry)
        run.adam.step()
        run.adam.zero_grad()


Estimate = tuple[Float[Tensor, ""], Float[Tensor, " run"], Float[Tensor, "run term"]]
"""Something whose gradient in theta is the loss's, minimality left out; the loss of each run; its terms."""


def _exact(problem: Problem, runs: list[Run], theta: Tensor, index: Tensor, options: FitOptions) -> Estimate:
    """The losses themselves."""
    loss, terms = problem.losses(theta * problem.units, index, [run.objective for run in runs])
    return loss.sum(), loss.detach(), terms


def _spsa(problem: Problem, runs: list[Run], theta: Tensor, index: Tensor, options: FitOptions) -> Estimate:
    """The mean over directions of slope · δ, slope = (L(θ + cδ) - L(θ - cδ)) / 2c, entries of δ = ±1 (Spall 1992).

    Minimality needs no model, so its gradient stays exact.
    """
    n, c = options.directions, options.perturbation
    signs = [torch.randint(2, (n, *problem.shape), generator=run.generator) for run in runs]
    delta = 2 * torch.stack(signs).to(theta) - 1
    with torch.no_grad():
        pairs = torch.stack([theta[:, None] + c * delta, theta[:, None] - c * delta], 2)
        objectives = [run.objective for run in runs for _ in range(2 * n)]
        found = problem.losses(pairs.flatten(0, 2) * problem.units, index.repeat_interleave(2 * n, 0), objectives)
        loss, terms = (each.view(len(runs), n, 2, *each.shape[1:]) for each in found)
        slope = (loss[:, :, 0] - loss[:, :, 1]) / (2 * c)
        gradient = (slope[..., None, None, None] * delta).mean(1)
    return (gradient * theta).sum(), loss.mean((1, 2)), terms.mean((1, 2))


def capacity(problem: Problem, options: FitOptions, memory: float) -> int:
    """How many settings one pass takes, by a rough count of what a row keeps for its gradient."""
    lm, (count, tokens) = problem.lm, problem.batch.ids.shape
    rows = 2 * options.members * min(options.batch_size, count)
    if lm.device.type != "cuda":
        return max(1, CPU_TOKENS // (rows * tokens))
    hidden = 40 * tokens * lm.n_layers * lm.d_model * torch.finfo(lm.dtype).bits // 8
    vocabulary = 12 * problem.base.shape[1] * 4
    free, _ = torch.cuda.mem_get_info(lm.device)
    return max(1, int(memory * free) // (rows * (hidden + vocabulary)))
