"""How each method makes its interventions from a task, and what the making takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...fit import fit
from ...intervention import Intervention
from ...methods.actadd import actadd, random_like
from ...methods.learned import ActivScalar, DynScalar, Learned, SteerVec
from ...methods.sara import sara
from ...model import SteerableModel
from ...objective import Objective
from .contests import Contest

SUM = "ActAdd + ActivScalar"
"""The interventions that are combined."""

RANDOM = "random vector"
TYPED = "typed in front"

Steers = Callable[[Sequence[str]], list[Intervention]]
"""From prompts to an intervention for each, at strength 1."""


@dataclass(frozen=True)
class Dose:
    """What is done to a prompt: an intervention at a strength, or words in front."""

    steers: Steers | None = None
    strength: float = 1.0
    typed: str = ""

    def __call__(self, prompts: Sequence[str]) -> tuple[list[str], list[Intervention] | None]:
        """What the model reads, and what steers it."""
        steers = self.steer(prompts)
        return [f"{self.typed} {prompt}" if self.typed else prompt for prompt in prompts], steers

    def steer(self, prompts: Sequence[str]) -> list[Intervention] | None:
        """What steers the model on each prompt."""
        return None if self.steers is None else [self.strength * steer for steer in self.steers(prompts)]


@dataclass(frozen=True)
class Made:
    """A method's interventions for a task.

    Args:
        steers: from prompts to an intervention for each.
        forwards: prompts that were read to make them.
        backwards: those of them through which a gradient went back.
        seconds: that the making took.
    """

    steers: Steers
    forwards: int
    backwards: int = 0
    seconds: float = 0.0


def makers(lm: SteerableModel, contest: Contest, layer: int, steps: int, seed: int) -> Mapping[str, Callable[[], Made]]:
    """How each method makes its interventions: functions, so that the making can be timed."""

    def vector() -> Intervention:
        return actadd(lm, *contest.pair, layer=layer)

    def mean_difference() -> Intervention:
        return actadd(lm, *contest.many, layer=layer, vector="last")

    @cache
    def gains(prompts: tuple[str, ...]) -> list[Intervention]:
        near, far = contest.stances
        return list(sara(lm, list(prompts), attract=near, repel=far, layer=layer))

    def learned(method: Learned, minimality: float) -> Callable[[], Made]:
        def make() -> Made:
            objective = Objective(margin=10, faithfulness=1, minimality=minimality)
            options: dict[str, Any] = {"steps": steps, "lr": 0.03, "batch_size": 8, "seed": seed, "progress": False}
            fitted = fit(lm, contest.train, method, objective, **options)
            read = int(fitted.history["forwards"].iloc[-1])
            return Made(_same(fitted.intervention), forwards=read, backwards=read)

        return make

    return {
        "ActAdd": lambda: Made(_same(vector()), forwards=2),
        "mean difference": lambda: Made(_same(mean_difference()), forwards=2 * len(contest.train)),
        "SARA": lambda: Made(lambda prompts: gains(tuple(prompts)), forwards=2 + len(contest.test)),
        "ActivScalar": learned(ActivScalar(), 1.0),
        "SteerVec": learned(SteerVec(), 0.0),
        "DynScalar": learned(DynScalar(), 0.01),
        RANDOM: lambda: Made(_same(random_like(vector(), seed=seed)), forwards=2),
    }


def combined(first: Made, second: Made, strengths: tuple[float, float]) -> Made:
    """The sum of two methods, each at a strength of its own: one more method, with a strength for both."""
    a, b = strengths

    def steers(prompts: Sequence[str]) -> list[Intervention]:
        return [a * left + b * right for left, right in zip(first.steers(prompts), second.steers(prompts), strict=True)]

    forwards, backwards = first.forwards + second.forwards, first.backwards + second.backwards
    return Made(steers, forwards, backwards, first.seconds + second.seconds)


def _same(steer: Intervention) -> Steers:
    """One intervention for all prompts."""
    return lambda prompts: [steer] * len(prompts)
