"""How calls travel: in this process or to a server, one by one or together, now or later.

A runner is what a model gives its calls to. What differs between them is said by a few attributes, so that nothing
else asks whether a model is remote. The runner for servers lies in `remote.py`, which only a remote model imports.
"""

import copy
import itertools
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import nnsight
import pandas as pd
import torch
from greenlet import getcurrent, greenlet

from .passes import Call, every

T = TypeVar("T")

REMOTE_BYTES = 2**35
"""Bytes that a server is taken to have free for one batch, since it does not tell."""


class Runner:
    """What a model's calls are given to.

    `at_once` says whether all calls of a study go in one request, of which only results come back: no progress on the
    way, and no gradient. `made_up` says whether the results are made up, and not to be kept.
    """

    at_once: ClassVar[bool] = True
    made_up: ClassVar[bool] = False

    @property
    def weights(self) -> bool:
        """Whether the model's weights are needed in this process."""
        return False

    def free_bytes(self) -> int:
        """Memory that one batch may be planned for."""
        return REMOTE_BYTES

    def run(self, model: Any, calls: Iterable[Call]) -> list[Any]:
        """The results of all calls, run beside nnsight's model."""
        raise NotImplementedError

    def noting(self, file: str | Path, wait: bool = True) -> "Runner":
        """This runner, keeping the ids of its jobs in a file where it has any; without `wait` it only begins them."""
        return self


@dataclass(frozen=True)
class Local(Runner):
    """Runs calls in this process, each when its turn comes."""

    device: torch.device
    at_once: ClassVar[bool] = False

    def __str__(self) -> str:
        """The device's name."""
        return str(self.device)

    @property
    def weights(self) -> bool:
        """They are needed."""
        return True

    def free_bytes(self) -> int:
        """What is free on the device; 2 GiB where the system does not tell."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
        except (AttributeError, OSError, ValueError):  # not on every system
            return 2 * 2**30

    def run(self, model: Any, calls: Iterable[Call]) -> list[Any]:
        """Results from one nnsight session, in which values need no saving."""
        with model.session():
            results = nnsight.save(every(model, ((call.work, call.args) for call in calls)))
        return results  # type: ignore[no-any-return]  # nnsight has no types

    def noting(self, file: str | Path, wait: bool = True) -> Runner:
        """This runner, which has no jobs.

        Raises:
            ValueError: jobs were only to be begun.
        """
        if not wait:
            raise ValueError("the model runs in this process, not on a server: load it with remote=True")
        return self


class Gathering(Runner):
    """Hands its calls to whoever drives the greenlet that it runs in; see `Jobs.together`."""

    def run(self, model: Any, calls: Iterable[Call]) -> list[Any]:
        """What the driver answers."""
        return getcurrent().parent.switch(list(calls))  # type: ignore[no-any-return]


class Waiting(Exception):
    """A job, whose id it holds, is not finished yet."""


class Jobs:
    """The verbs of a model that say how its calls travel."""

    name: str
    runner: Runner
    lock: threading.RLock
    _traced: Any

    def run(self, calls: Iterable[Call]) -> list[Any]:
        """Run functions beside the model: here in one nnsight session, or with a remote model in one request.

        Args:
            calls: what to run; here each is made when its turn comes.

        Raises:
            RemoteError: the server could not be reached, refused the request, or failed.
        """
        with self.lock:
            return self.runner.run(self._traced, calls)

    def together(self, works: Iterable[Callable[[Self], T]]) -> list[T]:
        """Results of several calls; with a remote model they share their requests.

        What each asks the model first goes into one request, what each asks next into the next, and so on: a study
        whose parts do not wait for each other is one job.

        Args:
            works: such as `[lambda lm, c=c: lm.generate(prompts, c * vector, seed=c) for c in range(4)]`.

        Raises:
            RemoteError: see `run`; whatever a call itself raises.
        """
        if not self.runner.at_once:
            return [work(self) for work in works]
        results: dict[int, T] = {}
        asking: dict[int, tuple[greenlet, list[Call]]] = {}

        def advance(i: int, fiber: greenlet, *answer: Any) -> None:
            outcome = fiber.switch(*answer)
            if fiber.dead:
                results[i] = outcome
            else:
                asking[i] = (fiber, outcome)

        twin = self._with(Gathering())
        twin.lock = threading.RLock()  # who waits for an answer does not hold the model's
        for i, work in enumerate(works):
            advance(i, greenlet(work), twin)
        while asking:
            round_ = dict(asking)
            asking.clear()
            answers = iter(self.run([call for _, calls in round_.values() for call in calls]))
            for i, (fiber, calls) in round_.items():
                advance(i, fiber, list(itertools.islice(answers, len(calls))))
        return [results[i] for i in sorted(results)]

    def dry_run(self, call: Callable[[Self], Any]) -> pd.DataFrame:
        """What a call would send to a server, and what would come back; nothing is sent, and no weights are needed.

        Args:
            call: such as `lambda lm: lm.generate(prompts, n=5)`. The checks of its arguments are the real ones; the
                model's answers are made up (noise, token 0), and no `file=` keeps them.

        Returns:
            One row per request: `request`, `calls` (functions run beside the model) and what each `runs`,
            `payload_bytes` (compressed), `result_bytes` (at most, before compression), the `largest` shape of a result,
            and the `problem`, if there is one.

        Raises:
            ValueError: what the call itself refuses.
        """
        from .remote import Meter  # which needs more of nnsight than a local user does

        meter = Meter.of(self.runner)
        try:
            call(self._with(meter))
        except Exception as error:
            if not meter.rows:
                raise
            meter.rows[-1]["problem"] = f"how it goes on depends on the model's answer ({error})"
        return pd.DataFrame(meter.rows)

    def submit(self, call: Callable[[Self], Any], file: str | Path) -> str | None:
        """Begin a call on the server and do not wait; `collect` fetches its result, from any kernel.

        Args:
            call: such as `lambda lm: sl.fit(lm, ...)`. One that makes several requests, each depending on the last,
                begins the first that has no answer yet.
            file: where the ids of its jobs are kept. A second `submit` with it begins nothing anew.

        Returns:
            The id of the job that runs; None where all is finished.

        Raises:
            ValueError: the model is not remote, the file is none of jobs, or what the call itself refuses.
            RemoteError: see `run`.
        """
        try:
            call(self._with(self.runner.noting(file, wait=False)))
        except Waiting as waiting:
            return str(waiting)
        return None

    def collect(self, call: Callable[[Self], T], file: str | Path) -> T:
        """The result of a call that was begun by `submit`; waits for what is not finished.

        Args:
            call: the same as then, with the same arguments.
            file: the same. It stays, so that the result can be fetched again while the server keeps it.

        Raises:
            ValueError: the file is none of jobs, or what the call itself refuses.
            RemoteError: see `run`.
        """
        return call(self.noting(file))

    def noting(self, file: str | Path) -> Self:
        """This model; where it is remote, it notes the id of each job in a file, and begins none that stands there."""
        return self._with(self.runner.noting(file))

    def _with(self, runner: Runner) -> Self:
        """This model with another runner."""
        twin = copy.copy(self)
        twin.runner = runner
        return twin
