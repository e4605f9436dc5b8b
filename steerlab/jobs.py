"""How calls travel: in this process or to a server, one by one or together, now or later.

A runner is what a model gives its calls to. What differs between them is said by a few attributes, so that nothing
else asks whether a model is remote. The runner for servers lies in `remote.py`, which only a remote model imports.
"""

import contextlib
import copy
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import nnsight
import pandas as pd
import torch
from greenlet import getcurrent, greenlet

from .passes import Call, every

T = TypeVar("T")

JOB_COLUMNS = ("id", "model", "what", "state", "place", "age", "seconds", "gpu_gib")

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

    def jobs(self, file: str | Path | None = None) -> list[dict[str, Any]]:
        """What is known of the jobs that were begun and not collected."""
        return []

    def gradients(self) -> bool:
        """Whether a gradient comes back through the model, as far as is known before it is tried."""
        return True


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
        return results

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
        return getcurrent().parent.switch(list(calls))


class Waiting(Exception):
    """A job, whose id it holds, is not finished yet."""


@dataclass(frozen=True)
class Job:
    """A request that a server has taken.

    Args:
        digest: of all that the request depends on: the same call has the same.
        id: by which its result can be fetched, by anyone who knows it.
        host: where it was sent.
        model: the name of the model.
        what: the functions that run beside the model.
        sent: when, in seconds since 1970.
    """

    digest: str
    id: str
    host: str
    model: str
    what: str
    sent: float = field(default_factory=time.time)


class JobFile:
    """Jobs whose results are still to come, in an SQLite file that only its owner can read.

    Args:
        path: by default one for all calls, in the cache.

    Raises:
        OSError: it cannot be written.
        ValueError: it is no file of jobs.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        if path is None:
            path = cache_folder() / "jobs.sqlite"
            path.parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(path)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        with contextlib.suppress(PermissionError):  # not ours: whoever owns it has said who may read it
            self.path.chmod(0o600)
        self._do("CREATE TABLE IF NOT EXISTS jobs (digest TEXT PRIMARY KEY, id, host, model, what, sent)")

    def get(self, digest: str) -> Job | None:
        """The job with this digest, if there is one."""
        return next((Job(*row) for row in self._do("SELECT * FROM jobs WHERE digest = ?", digest)), None)

    def all(self) -> list[Job]:
        """All jobs, the oldest first."""
        return [Job(*row) for row in self._do("SELECT * FROM jobs ORDER BY sent")]

    def note(self, job: Job) -> None:
        """Keep a job."""
        self._do("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?)", *astuple(job))

    def forget(self, digest: str) -> None:
        """Keep it no longer."""
        self._do("DELETE FROM jobs WHERE digest = ?", digest)

    def _do(self, statement: str, *values: Any) -> list[Any]:
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as store, store:
                return store.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} is no file of jobs ({error}): give a new name") from None


def cache_folder() -> Path:
    """Where files are kept that can be made anew: STEERLAB_CACHE, or steerlab in the user's cache."""
    own = os.environ.get("STEERLAB_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steerlab"


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
        with contextlib.nullcontext() if self.runner.at_once else self.lock:
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

        A server keeps a result for an hour after it is there. NDIF has no way for users to cancel a job.

        Args:
            call: such as `lambda lm: sl.fit(lm, ...)`. One that makes several requests, each depending on the last,
                begins the first that has no answer yet.
            file: where the ids of its jobs are kept; whoever can read them can fetch the results. A second `submit`
                with it begins nothing anew.

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
            RemoteError: see `run`; also where the result has expired, and then the same call begins it anew.
        """
        return call(self.noting(file))

    def jobs(self, file: str | Path | None = None) -> pd.DataFrame:
        """The jobs of a remote model that were begun and not collected; NDIF has no way for users to cancel one.

        Args:
            file: of `submit` or of a sweep; by default the jobs of all other calls, from any kernel.

        Returns:
            One row per job: `id`, `model`, `what` runs beside it, `state` (as the server says it; "UNKNOWN" where it
            knows nothing yet, or no longer), `place` in the queue, `age` in seconds, and what it cost once it has
            ended: `seconds` and `gpu_gib`.
        """
        return pd.DataFrame(self.runner.jobs(file), columns=list(JOB_COLUMNS))

    def noting(self, file: str | Path) -> Self:
        """This model; where it is remote, it notes the id of each job in a file, and begins none that stands there."""
        return self._with(self.runner.noting(file))

    def _with(self, runner: Runner) -> Self:
        """This model with another runner."""
        twin = copy.copy(self)
        twin.runner = runner
        return twin
