"""The same calls on NDIF, or on a lab's own server: one request for all that a call wants to know.

What travels is the source of the functions that run beside the model (`passes.py`, `edit.py`, and the loops of a sweep
and a fit), with plain tensors and numbers; the model is named, not sent. nnsight speaks the protocol. Here is what it
leaves open: where the key may go, what may be tried again, and one clear line for each thing that can go wrong.
"""

import hashlib
import inspect
import io
import ipaddress
import json
import math
import operator
import os
import pickle
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import greenlet
import httpx
import torch
import websocket
import zstandard
from nnsight import CONFIG, Envoy, register, save
from nnsight.intervention.backends import remote as nnsight_remote
from nnsight.intervention.serialization import CustomCloudPickler, reduce_block
from nnsight.modeling.huggingface import _ID_CACHE
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel, Status
from nnsight.tracing.backend import Backend
from nnsight.tracing.tracer import _saves
from nnsight.util import apply
from torch import Tensor

from .passes import Call, every

T = TypeVar("T")

WAITS = (0.5, 1.0, 2.0)
"""Seconds before each further try of what may be tried again."""

LOST = 10.0
"""Seconds without a word about a job, after which it counts as lost."""

TICK = 0.1
"""Seconds between looks at the connection, so that progress moves and a wait can be stopped."""


class RemoteError(RuntimeError):
    """What went wrong between here and the server, and what to do, in one line.

    `detail` is all that the server said, a traceback where the job failed, and `job` the job's id, if there is one.
    """

    def __init__(self, line: str, detail: str = "", job: str | None = None) -> None:
        """One line, and the rest as attributes."""
        super().__init__(line)
        self.detail = detail
        self.job = job


class Runner(Protocol):
    """What a model's calls are given to, in place of this process."""

    def run(self, model: Any, calls: Sequence[Call]) -> list[Any]:
        """The results of all calls."""


@dataclass(frozen=True)
class Remote:
    """Where a model runs, and how long to wait for it.

    A server is sent prompts, interventions and the source of a few functions, under your key; what comes back is read
    as tensors and plain values only. So name a host that you trust.

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

    def address(self) -> str:
        """The address of the server, checked.

        Raises:
            ValueError: it is none, or would send the key unencrypted.
        """
        found = (self.host or str(CONFIG.API.HOST)).rstrip("/")
        parts = urlsplit(found)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError(f"remote={_shown(found)!r} is no address: give True, 'local', or https://host")
        if parts.scheme == "http" and not self.plain_http and not _loopback(parts.hostname):
            raise ValueError(
                f"{found} would send your key unencrypted: use https://, or Remote({found!r}, plain_http=True) to force"
            )
        return found

    def run(self, model: Any, calls: Sequence[Call]) -> list[Any]:
        """The results of all calls: one request, or a few where the results would pass the limit.

        Raises:
            RemoteError: the server could not be reached, refused the request, or failed.
        """
        few = parts(calls, self.limit)
        return [result for part in few for result in self.request(model, part, self.backend(model))]

    def backend(self, model: Any, job: str | None = None, blocking: bool = True) -> Backend:
        """What nnsight hands a traced block to.

        Raises:
            RemoteError: there is no key for a server that is not on this computer.
        """
        if self.host == "local":
            return Here(model)
        address, key = self.address(), os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY
        if not key and not _loopback(urlsplit(address).hostname or ""):
            raise RemoteError(f"{address} wants a key: set the variable NDIF_API_KEY, or run `nnsight login` once")
        env = model._remoteable_get_env()
        client = Client(model_key(model), host=address, api_key=key, env=env, blocking=blocking, job_id=job)
        client.deadline = None if self.timeout is None else time.monotonic() + self.timeout
        client.display.enabled = self.progress and bool(CONFIG.APP.REMOTE_LOGGING)
        client.compress = True  # both ways
        return client

    def request(self, model: Any, calls: Sequence[Call], backend: Any) -> list[Any]:
        """One request: its results, held against what the calls say they give.

        Raises:
            RemoteError: see `run`.
        """
        problem = None
        try:
            send(model, calls, backend)
        except Exception as error:
            problem = explain(error, backend)
        if problem is not None:  # outside of `except`, so that no frame with the key in it hangs on the error
            raise problem
        return checked(backend.saved, calls, backend)


def to_remote(remote: "bool | str | Remote") -> Remote | None:
    """What `load(remote=...)` takes, as settings."""
    if isinstance(remote, str):
        return Remote(remote)
    return Remote() if remote is True else remote or None


def send(model: Any, calls: Sequence[Call], backend: Any) -> None:
    """Give the calls to a backend, as one nnsight session."""
    work, sent = every, [(call.work, shipped(call.args)) for call in calls]
    with model.session(backend=backend):
        found = save(work(model, sent))  # noqa: F841  # the backend keeps it


def shipped(args: Any) -> Any:
    """Arguments as they travel: tensors on the CPU, without the graph or the storage that they are part of."""
    return apply(args, lambda tensor: tensor.detach().cpu().clone(memory_format=torch.contiguous_format), Tensor)


def parts(calls: Sequence[Call], limit: int) -> Iterator[list[Call]]:
    """Calls in their order, in as few requests as the limit of result bytes allows; one at least in each."""
    part: list[Call] = []
    size = 0
    for call in calls:
        more = size_of(call.gives)
        if part and size + more > limit:
            yield part
            part, size = [], 0
        part.append(call)
        size += more
    if part:
        yield part


def size_of(gives: Any) -> int:
    """Bytes of all tensors in a structure."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _leaves(gives))


def model_key(model: Any) -> str:
    """How nnsight names the model to a server; a name that the Hub cannot be asked about is taken as it is given."""
    if model.repo_id not in _ID_CACHE:
        try:
            return str(model.to_model_key())
        except Exception:  # no network, or a folder
            _ID_CACHE[model.repo_id] = model.repo_id
    return str(model.to_model_key())


# --- what travels ------------------------------------------------------------------------------------------------


class Pickler(CustomCloudPickler):  # type: ignore[misc]  # nnsight has no types
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


class Here(Backend):  # type: ignore[misc]
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


class Client(nnsight_remote.RemoteBackend):  # type: ignore[misc]
    """nnsight's backend, that waits with a deadline, tries again what is safe to, and reads tensors without pickle."""

    deadline: float | None = None
    saved: Any = None

    def _serialize(self, tracer: Any) -> bytes:
        return serialized(tracer)

    def _push(self, result: Any, tracer: Any) -> None:
        self.saved = result

    def _post(self, request: RequestModel, blob: bytes) -> ResponseModel:
        """Send; again after a pause only where the server has surely not begun."""
        response = again(lambda: super(Client, self)._post(request, blob), refused)
        self.job_id = response.id
        return response

    def request(self, request: RequestModel, tracer: Any) -> Any:
        """Subscribe, send, and follow the job to its result; where the connection drops, go on by asking."""
        blob = self._serialize(tracer)
        header = {"ndif-api-key": self.api_key} if self.api_key else None
        connection = again(
            lambda: websocket.create_connection(f"{self.ws_host}/subscribe", header=header, timeout=10), refused
        )
        try:
            request.session_id = json.loads(connection.recv())["session_id"]
            self.send(request, blob)
            connection.settimeout(TICK)
            while True:
                self.still()
                try:
                    message = connection.recv()
                except websocket.WebSocketTimeoutException:
                    continue
                except (websocket.WebSocketException, OSError):
                    message = ""
                if not message:  # the server has hung up
                    return self.wait()
                response = self.parse(message)
                if self.note(response):
                    return again(lambda: self.download_result(response.data), passing)  # noqa: B023  # called at once
        finally:
            connection.close()

    def wait(self) -> Any:
        """Ask for a job until it is there."""
        pause, silent = TICK, time.monotonic()
        while True:
            found = again(self.poll, passing)
            if found is not None:
                return found
            if self.status == Status.COMPLETED:
                raise ValueError("nothing came back")
            if self.status is not None:
                silent = time.monotonic()
            if time.monotonic() - silent > LOST:
                raise LostError
            self.still()
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def still(self) -> None:
        """Move the progress line, and stop waiting at the deadline."""
        self.display.refresh()
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise OverdueError

    @staticmethod
    def parse(message: str | bytes) -> ResponseModel:
        """A status, from text or from a frame of tensors and plain values."""
        if isinstance(message, str):
            return ResponseModel.model_validate_json(message)
        plain = types.SimpleNamespace(__name__="plain", Unpickler=StatusUnpickler)
        return ResponseModel(**torch.load(io.BytesIO(message), pickle_module=plain, weights_only=False))

    def finalize(self, content: bytes) -> Any:
        """Tensors and plain values; anything else is refused, not run."""
        plain = zstandard.ZstdDecompressor().decompress(content)
        return torch.load(io.BytesIO(plain), map_location="cpu", weights_only=True)


class StatusUnpickler(pickle.Unpickler):
    """Reads plain values and a job's status; torch's own strict reader does not know the protocol of these frames."""

    def find_class(self, module: str, name: str) -> Any:
        """Nothing but the status is looked up."""
        if (module, name) != (Status.__module__, Status.__name__):
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a status")
        return Status


class LostError(Exception):
    """The server knows nothing of a job that it had taken."""


class OverdueError(Exception):
    """The deadline of a wait has passed."""


# --- faults ------------------------------------------------------------------------------------------------------


def again(attempt: Callable[[], T], safe: Callable[[BaseException], bool]) -> T:
    """Try, and try again after each of `WAITS` where it is safe to."""
    for wait in WAITS:
        try:
            return attempt()
        except Exception as error:
            if not safe(error):
                raise
        time.sleep(wait)
    return attempt()


def refused(error: BaseException) -> bool:
    """Whether the server has surely not begun: there was no connection, or it said that it is too busy."""
    cause = error.__cause__ if isinstance(error, nnsight_remote.RemoteError) else error
    return isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | OSError) or _status(cause) in (429, 503)


def passing(error: BaseException) -> bool:
    """Whether what was fetched was cut off or delayed, so that fetching it again may help."""
    kinds = (httpx.TransportError, zstandard.ZstdError, EOFError)
    return isinstance(error, kinds) or (_status(error) or 0) >= 500 or "PytorchStreamReader" in str(error)


def explain(error: Exception, backend: Any) -> Exception:
    """A fault as one line that says what to do; what is no fault of the way there is left as it is."""
    host, job = getattr(backend, "host", "local"), getattr(backend, "job_id", None)
    key = getattr(backend, "api_key", None)

    def told(line: str, detail: str = "") -> RemoteError:
        clean = [text.replace(key, "***") if key else text for text in (line, detail)]
        return RemoteError(clean[0], clean[1], job)

    cause = error.__cause__ if isinstance(error, nnsight_remote.RemoteError) and error.__cause__ else error
    if isinstance(error, OverdueError):
        return told(
            f"no result of job {job} in time, but it goes on: use lm.submit, or Remote(timeout=...) to wait longer"
        )
    if isinstance(error, LostError):
        return told(f"the connection to {host} dropped, and it has no record of job {job}: run the call again")
    status = _status(cause)
    if status is not None and (job is None or status < 500):
        return told(_refusal(host, status, _detail(error, cause)), str(error))
    if isinstance(cause, nnsight_remote.RemoteError):
        failed = told(_failure(str(cause), host), str(cause))
        if "\n" in failed.detail:
            failed.add_note(failed.detail)
        return failed
    if status is not None or isinstance(cause, httpx.TransportError | websocket.WebSocketException | OSError):
        if job is None:
            return told(f"cannot reach {host} ({_last(str(cause)) or type(cause).__name__}): is the address right?")
        return told(
            f"the result of job {job} could not be fetched ({status or type(cause).__name__}): run the call again"
        )
    if isinstance(backend, Client) and job is not None:
        return told(f"what came back for job {job} is damaged ({_last(str(error))}): run the call again", str(error))
    return error


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that an error stands for."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code
    return error.status_code if isinstance(error, websocket.WebSocketBadStatusException) else None


def _detail(error: Exception, cause: BaseException) -> str:
    """What a server said besides the status."""
    if cause is not error:
        return _last(str(error).removeprefix("Failed to send request: "))
    body = getattr(cause, "resp_body", None) or b""  # of a refused websocket
    return _last(body.decode(errors="replace"))[:200]


def _refusal(host: str, status: int, detail: str) -> str:
    """What a status means, and what to do."""
    said = f"{status}: {detail}" if detail else str(status)
    if status == 401:
        return f"{host} wants a key ({said}): set the variable NDIF_API_KEY, or run `nnsight login` once"
    if status == 403:
        return f"{host} refuses your key ({said}): see whether it is still valid, and meant for this host"
    if status >= 500 or status == 429:
        return f"{host} cannot take the job now ({said}): nothing was begun; try again in a few minutes"
    return f"{host} refuses the request ({said}){_hint(detail)}"


HINTS = {
    "version": "python -c 'import nnsight; print(nnsight.compare())' shows which packages differ",
    "no module at": "python -c 'import nnsight; print(nnsight.compare())' shows which packages differ",
    "gradient": 'fit with gradient="spsa", which needs forward passes alone',
    "does not require grad": 'fit with gradient="spsa", which needs forward passes alone',
    "out of memory": "take fewer rows at a time (batch_size=, rows=)",
    "deployed": "steerlab.model.ndif_models() names the models that run",
    "time limit": "ask for fewer rows or steps in one request",
    "timed out": "ask for fewer rows or steps in one request",
}
"""What to do, by what the server says."""


def _hint(said: str) -> str:
    return next((f": {hint}" for word, hint in HINTS.items() if word in said.lower()), "")


def _failure(said: str, host: str) -> str:
    """A job's error in one line: a sentence is a rejection, a traceback a failure of what ran."""
    if "Traceback" in said:
        return f"the job failed on the server: {_last(said)}{_hint(_last(said))}"
    return f"{host} rejected the job: {_last(said)}{_hint(said)}"


def _last(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def checked(saved: Any, calls: Sequence[Call], backend: Any) -> list[Any]:
    """Results that are what the calls give.

    Raises:
        RemoteError: they are not.
    """
    found = saved.get("found") if isinstance(saved, dict) else None
    if not isinstance(found, list) or not fits([call.gives for call in calls], found):
        job = getattr(backend, "job_id", None)
        raise RemoteError(f"what came back for job {job} is not what was asked for: run the call again", job=job)
    return found


def fits(gives: Any, found: Any) -> bool:
    """Whether a result has the structure, and no larger shapes than announced."""
    if isinstance(gives, Tensor):
        same = isinstance(found, Tensor) and found.dtype.is_floating_point == gives.dtype.is_floating_point
        return same and found.ndim == gives.ndim and all(map(operator.le, found.shape, gives.shape))
    if isinstance(gives, dict):
        return isinstance(found, dict) and gives.keys() == found.keys() and all(fits(gives[k], found[k]) for k in gives)
    return isinstance(found, list | tuple) and len(found) == len(gives) and all(map(fits, gives, found))


def _loopback(host: str) -> bool:
    """Whether a host is this computer."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(address: str) -> str:
    """An address without what may be secret in it."""
    return address.split("@")[-1].split("?")[0]


# --- dry runs, and jobs that outlive the kernel ------------------------------------------------------------------


class Meter(Backend):  # type: ignore[misc]
    """Counts what would be sent, and gives zeros; a runner and its backend in one."""

    def __init__(self, limit: int) -> None:
        """Requests are parted as `Remote.limit` parts them."""
        self.limit = limit
        self.rows: list[dict[str, Any]] = []

    def __call__(self, tracer: Any) -> None:
        """Serialise a block, and drop it."""
        self.payload = len(serialized(tracer))

    def run(self, model: Any, calls: Sequence[Call]) -> list[Any]:
        """Zeros in the largest shapes that could come back."""
        for part in parts(calls, self.limit):
            send(model, part, self)
            gives = [call.gives for call in part]
            self.rows.append(
                {
                    "request": len(self.rows),
                    "calls": len(part),
                    "runs": ", ".join(dict.fromkeys(call.work.__name__ for call in part)),
                    "payload_bytes": self.payload,
                    "result_bytes": size_of(gives),
                    "largest": max((tuple(leaf.shape) for leaf in _leaves(gives)), key=math.prod, default=()),
                    "problem": "" if size_of(gives) <= self.limit else "the result passes the limit of one request",
                }
            )
        return [apply(call.gives, lambda one: torch.zeros(one.shape, dtype=one.dtype), Tensor) for call in calls]


class Gathering:
    """A runner that hands its calls to whoever drives the greenlet that it runs in, see `SteerableModel.together`."""

    def run(self, model: Any, calls: Sequence[Call]) -> list[Any]:
        """What the driver answers."""
        return greenlet.getcurrent().parent.switch(list(calls))  # type: ignore[no-any-return]


class Waiting(Exception):
    """A job is not finished yet; `job` is its id."""

    def __init__(self, job: str) -> None:
        """The id."""
        super().__init__(f"job {job} is not finished")
        self.job = job


class Ledger:
    """A runner that notes the id of each request before it waits, so that any kernel can fetch the result."""

    def __init__(self, remote: Remote, file: str | Path, wait: bool) -> None:
        """Go on with what the file says: a JSON object of job ids, by the digest of what was asked."""
        self.remote, self.file, self.wait = remote, Path(file), wait

    def run(self, model: Any, calls: Sequence[Call]) -> list[Any]:
        """Results, of jobs that were begun earlier where the file has them.

        Raises:
            ValueError: the file is no such object.
            RemoteError: see `Remote.run`.
            Waiting: a job is not finished, and was not to be waited for.
        """
        return [result for part in parts(calls, self.remote.limit) for result in self._request(model, part)]

    def _request(self, model: Any, calls: Sequence[Call]) -> list[Any]:
        if self.remote.host == "local":
            return self.remote.request(model, calls, Here(model))
        own, known = digest([str(self.remote), model_key(model), [(c.work, c.args) for c in calls]]), self._read()
        backend, problem = self.remote.backend(model, known.get(own), blocking=False), None
        try:
            if own not in known:
                send(model, calls, backend)
                self._write(known | {own: backend.job_id})
            backend.saved = backend.wait() if self.wait else again(backend.poll, passing)
        except Exception as error:
            problem = explain(error, backend)
            if backend.status == Status.ERROR or isinstance(
                error, LostError
            ):  # nothing will come: begin anew next time
                self._write({call: job for call, job in self._read().items() if call != own})
        if problem is not None:
            raise problem
        if backend.saved is None:
            raise Waiting(backend.job_id)
        return checked(backend.saved, calls, backend)

    def _read(self) -> dict[str, str]:
        try:
            return dict(json.loads(self.file.read_text())["jobs"]) if self.file.exists() else {}
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{self.file} is no file of jobs: give a new name") from None

    def _write(self, jobs: dict[str, str]) -> None:
        part = self.file.with_name(self.file.name + ".part")
        part.write_text(json.dumps({"jobs": jobs}))
        part.replace(self.file)


def digest(value: Any) -> str:
    """SHA-256 of all that a request depends on, in hex."""
    return hashlib.sha256(repr(_content(value)).encode()).hexdigest()


def _content(value: Any) -> Any:
    """A value as nested tuples of text and numbers."""
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().flatten()
        numbers = hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()
        return str(value.dtype), tuple(value.shape), numbers
    if isinstance(value, dict):
        return tuple((str(name), _content(one)) for name, one in value.items())
    if isinstance(value, list | tuple):
        return tuple(_content(one) for one in value)
    if isinstance(value, types.FunctionType):
        return value.__qualname__
    if isinstance(value, Envoy):
        return value.path
    return (type(value).__name__, _content(vars(value))) if hasattr(value, "__dict__") else repr(value)


def _leaves(gives: Any) -> list[Tensor]:
    """All tensors of a structure."""
    found: list[Tensor] = []
    apply(gives, found.append, Tensor)
    return found
