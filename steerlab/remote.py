"""The same calls on NDIF, or on a lab's own server: one request for all that a call wants to know.

What travels is the source of the functions that run beside the model (`passes.py`, `edit.py`, and the loops of a sweep
and a fit), with plain tensors and numbers; the model is named, not sent. No connection is held while a job runs: its id
is noted as soon as there is one, and whoever asks the same again only collects. `server.py` speaks HTTP, `received.py`
reads what comes back, and `faults.py` says what went wrong.
"""

import contextlib
import hashlib
import inspect
import io
import ipaddress
import math
import os
import pickle
import sys
import threading
import time
import types
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import httpx
import pandas as pd
import torch
import zstandard
from nnsight import CONFIG, Envoy, register, save
from nnsight.intervention.serialization import CustomCloudPickler, reduce_block
from nnsight.modeling.huggingface import _ID_CACHE
from nnsight.schema.request import RequestModel
from nnsight.tracing.backend import Backend
from nnsight.tracing.tracer import _saves
from nnsight.util import apply
from torch import Tensor

from .faults import (
    KEY_HINT,
    LASTING,
    DamagedError,
    ExpiredError,
    JobError,
    OverdueError,
    RefusedError,
    RemoteError,
    UnknownError,
    explain,
)
from .jobs import Job, JobFile, Runner, Waiting
from .passes import Call, Form, alone, every
from .received import checked, leaves, most_bytes, names, parts, size_of, unpacked
from .server import Limit, Progress, Server, State

__all__ = ["Remote", "RemoteError", "ndif_models"]

UNHEARD = 600.0
"""Seconds for which a server may know nothing of a job that it has taken: it waits to be put into the queue."""

KEPT = 3600.0
"""Seconds for which a server keeps a result."""

POLLS = (0.1, 2.0)
"""Seconds between the first two questions how far a job is, and the most between two: they double in between."""

TRACING = threading.Lock()
"""nnsight takes down one block at a time."""


@dataclass(frozen=True)
class Remote(Runner):
    """Where a model runs, and how long to wait for it.

    A server is sent prompts, interventions and the source of a few functions, under your key; what comes back is read
    as tensors and plain values only. So name a host that you trust. A wait that is stopped leaves its job running, and
    the same call collects it, from any kernel, for an hour after it has ended; `lm.jobs` lists what there is.

    Args:
        host: its address; by default nnsight's own setting, which is NDIF or the variable NDIF_HOST. "local" goes the
            whole way of a request, from source to source, in this process.
        timeout: seconds to wait for a job before giving up the wait (not the job); forever by default.
        limit: bytes of results in one request; what would be more is asked for in several.
        plain_http: allow http:// to another computer, over which anyone between can read the key.
        progress: whether to show the job's way: queued, dispatched, running.

    Raises:
        ValueError: the address is none, or would send the key unencrypted.
    """

    host: str | None = None
    timeout: float | None = None
    limit: int = 2**28
    plain_http: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse an address before anything is sent."""
        if self.host != "local":
            self.address()

    def __str__(self) -> str:
        """As in the name of a device."""
        return f"remote at {self.host if self.host == 'local' else self.address()}"

    @property
    def weights(self) -> bool:
        """Only where "local" stands in for a server."""
        return self.host == "local"

    def address(self) -> str:
        """The address of the server, checked.

        Raises:
            ValueError: it is none, or would send the key unencrypted.
        """
        given = (self.host or str(CONFIG.API.HOST)).rstrip("/")
        parts = urlsplit(given)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            shown = given.split("@")[-1].split("?")[0]  # without what may be secret in it
            raise ValueError(f"remote={shown!r} is no address: give True, 'local', or https://host")
        if parts.scheme == "http" and not self.plain_http and not _loopback(parts.hostname):
            raise ValueError(
                f"{given} would send your key unencrypted: use https://, or Remote({given!r}, plain_http=True) to force"
            )
        return given

    def server(self) -> Server:
        """The server, with the key of the variable NDIF_API_KEY, or that `nnsight login` has kept."""
        return Server(self.address(), os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY or None)

    def run(self, model: Any, calls: Iterable[Call]) -> list[Any]:
        """The results of all calls: one request, or a few where the results would pass the limit.

        Raises:
            RemoteError: the server could not be reached, refused the request, or failed.
        """
        return Requests(self).run(model, calls)

    def noting(self, file: str | Path, wait: bool = True) -> Runner:
        """A runner that keeps the ids of its jobs in a file."""
        return Requests(self, file, wait)

    def jobs(self, file: str | Path | None = None) -> list[dict[str, Any]]:
        """A row of `lm.jobs` for each."""
        return [_job_row(job) for job in JobFile(file).all()]

    def gradients(self) -> bool:
        """Whether the key is one whose code runs beside the model; yes where the server does not say."""
        with contextlib.suppress(RemoteError):
            return self.weights or self.server().key_kind() != "ordinary"
        return True


class Requests(Runner):
    """A runner that notes the id of each job as soon as there is one, so that the same call later only collects it.

    Args:
        remote: where to.
        file: of the ids; by default one for all calls, from which what has been collected is taken out.
        wait: for the results; otherwise all is begun, and `Waiting` raised.
    """

    def __init__(self, remote: Remote, file: str | Path | None = None, wait: bool = True) -> None:
        self.remote, self.file, self.wait = remote, file, wait

    def __str__(self) -> str:
        """As in the name of a device."""
        return str(self.remote)

    def gradients(self) -> bool:
        """See `Remote`."""
        return self.remote.gradients()

    def run(self, model: Any, calls: Iterable[Call]) -> list[Any]:
        """Results, of jobs that were begun earlier where there are such; all are begun before the first is waited for.

        Raises:
            ValueError: the file is none of jobs.
            RemoteError: see `Remote.run`.
            Waiting: a job is not finished, and was not to be waited for.
            KeyboardInterrupt: the wait was stopped; it names the job that goes on.
        """
        listed = list(calls)
        if self.remote.weights:
            return Here(model).run(listed)
        kept, limit = JobFile(self.file), self._limit()
        begun = [self._begin(model, part, kept, limit) for part in parts(listed, self.remote.limit)]
        results = [result for job, part in begun for result in self._collect(model, job, part, kept, limit)]
        for job, _ in begun if self.file is None else []:
            kept.forget(job.digest)
        return results

    def _limit(self) -> Limit:
        return Limit(math.inf if self.remote.timeout is None else time.monotonic() + self.remote.timeout)

    def _begin(self, model: Any, part: list[Call], kept: JobFile, limit: Limit) -> tuple[Job, list[Call]]:
        """The job of some calls: the one that was begun earlier, or a new one."""
        server, key = self.remote.server(), model_key(model)
        own = digest([server.address, key, [(call.work, call.args) for call in part]])
        job = kept.get(own)
        if job is not None and (self.file is not None or time.time() - job.sent < KEPT):
            return job, part
        if not server.key and not _loopback(urlsplit(server.address).hostname or ""):
            raise RemoteError(f"{server.address} wants a key: {KEY_HINT}")
        envelope = RequestModel(model_key=key, compress=True, env=model._remoteable_get_env()).metadata()
        blob = written(model, part)
        try:
            job = Job(own, server.post(envelope, blob, limit), server.address, model.repo_id, names(part))
            kept.note(job)
            return job, part
        except (Exception, KeyboardInterrupt) as error:
            problem = explain(error, server.address, server.key)
        raise problem  # outside of `except`, so that no frame with the key hangs on the error

    def _collect(self, model: Any, job: Job, part: list[Call], kept: JobFile, limit: Limit) -> list[Any]:
        """The results of a job; what has expired is begun anew where no file says that it was once begun."""
        server, problem = self.remote.server(), None
        try:
            with Progress(job, self.remote.progress and bool(CONFIG.APP.REMOTE_LOGGING)) as progress:
                limit = Limit(limit.until, progress.refresh)
                state = self._finished(server, job, limit, progress)
                if state is not None:
                    return checked(fetched(server, state, job, most_bytes(part), limit), part)
        except (Exception, KeyboardInterrupt) as error:
            problem = explain(error, server.address, server.key, job.id)
            if not isinstance(error, LASTING):
                kept.forget(job.digest)
        if isinstance(problem, RemoteError) and "has expired" in str(problem) and self.file is None:
            return self._collect(model, *self._begin(model, part, kept, limit), kept, limit)
        raise problem or Waiting(job.id)

    def _finished(self, server: Server, job: Job, limit: Limit, progress: "Progress") -> State | None:
        """The last state of a job; None where it is not to be waited for.

        Raises:
            ExpiredError, UnknownError: the server knows nothing of it, for as long.
            JobError: it failed.
        """
        pause, heard = POLLS[0], max(job.sent, time.time() - UNHEARD / 2)
        while True:
            state = server.state(job.id, limit)
            if state is None and time.time() - job.sent > KEPT:
                raise ExpiredError
            if state is None and time.time() - heard > UNHEARD:
                raise UnknownError
            heard = heard if state is None else time.time()
            progress.show(state)
            if state is not None and state.status == "ERROR":
                raise JobError(state.description)
            if state is not None and state.status == "COMPLETED":
                return state
            if not self.wait:
                return None
            limit.sleep(pause)
            pause = min(2 * pause, POLLS[1])


def fetched(server: Server, state: State, job: Job, most: int, limit: Limit) -> Any:
    """What a finished job has left.

    Raises:
        DamagedError: it is not what it should be.
        ExpiredError: its address no longer holds.
    """
    if state.data is None:
        raise DamagedError("it is finished, but left nothing")
    try:
        content = server.result(state.data, most, limit)
    except RefusedError as error:
        if 400 <= error.status < 500:
            raise ExpiredError from None
        raise
    return unpacked(content, most)


def _job_row(job: Job) -> dict[str, Any]:
    """What is known of a job, as `lm.jobs` shows it."""
    state = None
    with contextlib.suppress(httpx.HTTPError, DamagedError, OverdueError, RefusedError):
        state = Server(job.host).state(job.id, Limit(time.monotonic() + 10))
    reported = State("UNKNOWN") if state is None else state
    memory = reported.meta.get("max_memory_usage")
    return {
        **{"id": job.id, "model": job.model, "what": job.what, "state": reported.status, "place": reported.place},
        **{"age": time.time() - job.sent, "seconds": reported.meta.get("runtime")},
        "gpu_gib": memory / 2**30 if isinstance(memory, int | float) else None,
    }


def model_key(model: Any) -> str:
    """How nnsight names the model to a server; a name that the Hub cannot be asked about is taken as it is given."""
    with contextlib.suppress(Exception):  # no network
        return str(model.to_model_key())
    _ID_CACHE[model.repo_id] = model.repo_id
    return str(model.to_model_key())


# --- what travels ------------------------------------------------------------------------------------------------


class Pickler(CustomCloudPickler):
    """nnsight's own, by source, without annotations: a server need not know our types."""

    def _dynamic_function_reduce(self, func: types.FunctionType) -> Any:
        bare = inspect.unwrap(func)
        copy = types.FunctionType(bare.__code__, bare.__globals__, bare.__name__, bare.__defaults__, bare.__closure__)
        copy.__kwdefaults__ = bare.__kwdefaults__
        return super()._dynamic_function_reduce(copy)


def serialized(tracer: Any) -> bytes:
    """A traced block as it travels, after `RequestModel.serialize`."""
    register("steerlab")  # by value, since no server has it
    frame = tracer.info.frame
    with io.BytesIO() as file:
        Pickler(file, protocol=4).dump((tracer, reduce_block(tracer.node, frame.f_globals, dict(frame.f_locals))))
        return zstandard.ZstdCompressor(level=6).compress(file.getvalue())


def shipped(args: Any) -> Any:
    """Arguments as they travel: tensors on the CPU, without the graph or the storage that they are part of."""
    return apply(args, lambda tensor: tensor.detach().cpu().clone(memory_format=torch.contiguous_format), Tensor)


def send(model: Any, calls: Sequence[Call], backend: Any) -> None:
    """Give the calls to a backend, as one nnsight session."""
    work, own, sent = every, alone, [(call.work, shipped(call.args)) for call in calls]
    with model.session(backend=backend):
        results = save(own(work(model, sent)))  # noqa: F841  # the backend keeps it


def written(model: Any, calls: Sequence[Call]) -> bytes:
    """The calls as they travel."""
    envelope = Envelope()
    with TRACING:
        send(model, calls, envelope)
    return envelope.blob


class Envelope(Backend):
    """Takes a block down, and runs nothing."""

    blob: bytes

    def __call__(self, tracer: Any) -> None:
        """Serialise a block."""
        self.blob = serialized(tracer)


class Here(Backend):
    """The way of a request without a server: serialise, restore, execute what was restored."""

    def __init__(self, model: Any) -> None:
        """The model that stands in for the server's."""
        self.model = model
        self.saved: Any = None

    def __call__(self, tracer: Any) -> None:
        """Run a block."""
        restored = RequestModel.deserialize(serialized(tracer), self.model._remoteable_persistent_objects(), True)
        restored.execute(restored.info.code)
        self.saved = {name: value for name, value in restored.info.frame.f_locals.items() if id(value) in _saves()}

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Results, held against what the calls say they give."""
        with TRACING:
            send(self.model, calls, self)
        return checked(self.saved, calls)


class Content(pickle.Pickler):
    """Writes a value the same way in every kernel: what stands for something else by what it stands for."""

    def persistent_id(self, value: Any) -> Any:
        """A tensor by its numbers, what travels by source by its name, and a module by its path."""
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().flatten()
            return str(value.dtype), tuple(value.shape), flat.view(torch.uint8).numpy().tobytes()
        if isinstance(value, types.FunctionType):
            return value.__qualname__
        return value.path if isinstance(value, Envoy) else None


def digest(value: Any) -> str:
    """SHA-256 of all that a request depends on, in hex."""
    with io.BytesIO() as file:
        content = Content(file, protocol=4)
        content.fast = True  # nothing is written as "the same object as before"
        content.dump(value)
        return hashlib.sha256(file.getvalue()).hexdigest()


# --- dry runs ----------------------------------------------------------------------------------------------------


class Meter(Runner):
    """Counts what would be sent, and makes up the answers."""

    made_up: ClassVar[bool] = True

    def __init__(self, limit: int) -> None:
        """Requests are parted as `Remote.limit` parts them."""
        self.limit = limit
        self.rows: list[dict[str, Any]] = []
        self.generator = torch.Generator().manual_seed(0)

    @classmethod
    def of(cls, runner: Runner) -> Self:
        """A meter that parts requests as this runner would, or as a server's would by default."""
        return cls((runner if isinstance(runner, Remote) else Remote()).limit)

    def run(self, model: Any, calls: Iterable[Call]) -> list[Any]:
        """Noise in the largest shapes that could come back: sent on, it compresses as badly as a model's numbers."""
        listed = list(calls)
        for part in parts(listed, self.limit):
            gives = [call.gives for call in part]
            problem = "" if size_of(gives) <= self.limit else "the result passes the limit of one request"
            self.rows.append(
                {"request": len(self.rows), "calls": len(part), "runs": names(part)}
                | {"payload_bytes": len(written(model, part)), "result_bytes": size_of(gives)}
                | {"largest": max((form.shape for form in leaves(gives)), key=math.prod, default=())}
                | {"problem": problem}
            )

        def noise(form: Form) -> Tensor:
            return torch.rand(form.shape, generator=self.generator).to(form.dtype)

        return [apply(call.gives, noise, Form) for call in listed]


# --- what a server is ----------------------------------------------------------------------------------------------


def introduced(remote: Runner, name: str) -> dict[str, Any]:
    """What the server says of a model that is being loaded, if it says anything; other versions there are warned of.

    Where progress is shown, a line says how the model is served, and what the key may do.

    Raises:
        ValueError: the name is that of a folder on this computer.
    """
    if name and Path(name).is_dir():
        raise ValueError(f"{name!r} is a folder on this computer, which no server sees: give the model's Hub name")
    if not isinstance(remote, Remote):  # whoever made it knows what it runs
        return {}
    server, shown = remote.server(), remote.progress and bool(CONFIG.APP.REMOTE_LOGGING)
    try:
        differences, served = server.differences(), server.served()
        key = server.key_said() if shown else ""
    except RemoteError:  # the first call says what is wrong, with all that there is to say of it
        return {}
    if differences:
        listed = ", ".join(f"{name} {here} here and {there} there" for name, (here, there) in differences.items())
        warnings.warn(f"{server.address} runs other versions ({listed}), and may build other modules", stacklevel=4)
    entry = next((entry for entry in served if entry["repo_id"].lower() == name.lower()), {})
    if shown:
        known = [str(entry[part]) for part in ("deployment_level", "dtype", "revision") if entry.get(part)]
        state = ", ".join(known) or "not deployed, which the first request may do, in minutes"
        print("; ".join([f"{server.address}: {name} {state}", *([key] if key else [])]), file=sys.stderr)
    return entry


def ndif_models(remote: Remote | str | None = None) -> pd.DataFrame:
    """The models that a server runs, or has at hand; asking needs no key.

    Args:
        remote: by default nnsight's own setting, which is NDIF or the variable NDIF_HOST.

    Returns:
        One row per model: `model`, `level` (HOT runs, WARM waits in memory, COLD on disk), `state`, `dtype`,
        `revision`, and the `seconds` that one job may take.

    Raises:
        RemoteError: the server cannot be reached, or gives no sensible answer.
    """
    server = remote if isinstance(remote, Remote) else Remote(remote)
    names = {"model": "repo_id", "level": "deployment_level", "state": "application_state", "dtype": "dtype"}
    names |= {"revision": "revision", "seconds": "execution_timeout_seconds"}
    rows = [{name: entry.get(key) for name, key in names.items()} for entry in server.server().served()]
    return pd.DataFrame(rows, columns=list(names)).drop_duplicates(ignore_index=True)


def _loopback(host: str) -> bool:
    """Whether a host is this computer."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
