"""The same calls on NDIF, or on a lab's own server: one request for all that a call wants to know.

What travels is the source of the functions that run beside the model (`passes.py`, `edit.py`, and the loops of a sweep
and a fit), with plain tensors and numbers; the model is named, not sent. nnsight speaks the protocol. Here is what it
leaves open: where the key may go, what may be tried again, and one clear line for each thing that can go wrong.
"""

import contextlib
import hashlib
import inspect
import io
import ipaddress
import json
import math
import operator
import os
import pickle
import re
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import nnsight
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

from .jobs import Runner, Waiting
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


@dataclass(frozen=True)
class Remote(Runner):
    """Where a model runs, and how long to wait for it.

    A server is sent prompts, interventions and the source of a few functions, under your key; what comes back is read
    as tensors and plain values only. So name a host that you trust. nnsight cannot take a job back: a wait that is
    stopped leaves it running, and the same call in this kernel collects it.

    Args:
        host: its address; by default nnsight's own setting, which is NDIF or the variable NDIF_HOST. "local" goes the
            whole way of a request, from source to source, in this process.
        timeout: seconds to wait for a job before giving up the wait (not the job); forever by default.
        limit: bytes of results in one request; what would be more is asked for in several.
        plain_http: allow http:// to another computer, over which anyone between can read the key.
        progress: whether to show the job's way: queued, dispatched, running.
        jobs: ids of those whose results are still to come, by the digest of what was asked; clear it to begin anew.

    Raises:
        ValueError: the address is none, or would send the key unencrypted.
    """

    host: str | None = None
    timeout: float | None = None
    limit: int = 2**28
    plain_http: bool = False
    progress: bool = True
    jobs: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

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
            shown = found.split("@")[-1].split("?")[0]  # without what may be secret in it
            raise ValueError(f"remote={shown!r} is no address: give True, 'local', or https://host")
        if parts.scheme == "http" and not self.plain_http and not _loopback(parts.hostname):
            raise ValueError(
                f"{found} would send your key unencrypted: use https://, or Remote({found!r}, plain_http=True) to force"
            )
        return found

    @property
    def weights(self) -> bool:
        """Only where "local" stands in for a server."""
        return self.host == "local"

    def noting(self, file: str | Path, wait: bool = True) -> Runner:
        """A runner that keeps the ids of its jobs in a file."""
        return Requests(self, file, wait)

    def run(self, model: Any, calls: Iterable[Call]) -> list[Any]:
        """The results of all calls: one request, or a few where the results would pass the limit.

        Raises:
            RemoteError: the server could not be reached, refused the request, or failed.
        """
        return Requests(self).run(model, calls)

    def client(self, model: Any) -> "Client":
        """What nnsight hands a traced block to.

        Raises:
            RemoteError: there is no key for a server that is not on this computer.
        """
        address, key = self.address(), os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY
        if not key and not _loopback(urlsplit(address).hostname or ""):
            raise RemoteError(f"{address} wants a key: {KEY_HINT}")
        client = Client(model_key(model), host=address, api_key=key, env=model._remoteable_get_env())
        client.deadline = math.inf if self.timeout is None else time.monotonic() + self.timeout
        client.display.enabled = self.progress and bool(CONFIG.APP.REMOTE_LOGGING)
        client.compress = True  # both ways
        return client


class Requests(Runner):
    """A runner that notes the id of each job as soon as there is one, so that the same call later only collects it."""

    def __init__(self, remote: Remote, file: str | Path | None = None, wait: bool = True) -> None:
        """Go on with what the file says: a JSON object of ids, as in `Remote.jobs`, which stands for it without one."""
        self.remote, self.file, self.wait = remote, None if file is None else Path(file), wait

    def run(self, model: Any, calls: Iterable[Call]) -> list[Any]:
        """Results, of jobs that were begun earlier where there are such.

        Raises:
            ValueError: the file is no such object.
            RemoteError: see `Remote.run`.
            Waiting: a job is not finished, and was not to be waited for.
            KeyboardInterrupt: the wait was stopped; it names the job that goes on.
        """
        calls = list(calls)
        if self.remote.host == "local":
            here = Here(model)
            send(model, calls, here)
            return checked(here.saved, calls)
        where = [str(self.remote), model_key(model)]
        few = [(digest([*where, [(c.work, c.args) for c in part]]), part) for part in parts(calls, self.remote.limit)]
        found = [result for own, part in few for result in self._request(model, part, own)]
        if self.file is None:
            for own, _ in few:
                self._note(own, None)
        return found

    def _request(self, model: Any, calls: Sequence[Call], own: str) -> list[Any]:
        """One request: its results, held against what the calls say they give."""
        client, problem = self.remote.client(model), None
        client.job_id, client.noted, client.blocking = self._known().get(own), partial(self._note, own), not self.file
        self._note(own, client.job_id)  # a file that cannot be written is found before anything is sent
        try:
            if client.job_id is None:
                send(model, calls, client)
            if client.saved is None:
                client.saved = client.wait() if self.wait else again(client.poll, passing)
            if client.saved is not None:
                return checked(client.saved, calls)
        except (Exception, KeyboardInterrupt) as error:
            problem = explain(error, client)
            if not isinstance(error, STOPPED | httpx.HTTPError | OSError):  # nothing will come
                self._note(own, None)
        raise problem or Waiting(client.job_id)  # outside of `except`, so that no frame with the key hangs on the error

    def _known(self) -> dict[str, str]:
        try:
            if self.file is None:
                return self.remote.jobs
            return dict(json.loads(self.file.read_text())["jobs"]) if self.file.exists() else {}
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{self.file} is no file of jobs: give a new name") from None

    def _note(self, own: str, job: str | None) -> None:
        jobs = self._known()
        jobs.pop(own, None)
        if job is not None:
            jobs[own] = job
        if self.file is not None:
            part = self.file.with_name(self.file.name + ".part")
            part.write_text(json.dumps({"jobs": jobs}))
            part.replace(self.file)


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
    with contextlib.suppress(Exception):  # no network, or a folder
        return str(model.to_model_key())
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

    deadline = math.inf
    saved: Any = None
    noted: Callable[[str], None]

    def _serialize(self, tracer: Any) -> bytes:
        return serialized(tracer)

    def _post(self, request: RequestModel, blob: bytes) -> ResponseModel:
        """Send; again after a pause only where the server has surely not begun."""
        response = again(lambda: super(Client, self)._post(request, blob), refused)
        self.job_id = response.id
        self.noted(response.id)
        return response

    def request(self, request: RequestModel, tracer: Any) -> None:
        """Subscribe, send, and follow the job to its result; a connection that drops leaves it to `wait`."""
        blob = self._serialize(tracer)
        header = {"ndif-api-key": self.api_key} if self.api_key else None
        connection = again(
            lambda: websocket.create_connection(f"{self.ws_host}/subscribe", header=header, timeout=10), refused
        )
        with contextlib.closing(connection):
            request.session_id = json.loads(connection.recv())["session_id"]
            self.send(request, blob)
            connection.settimeout(TICK)
            while self.saved is None:
                self.still()
                try:
                    message = connection.recv()
                except websocket.WebSocketTimeoutException:
                    continue
                except (websocket.WebSocketException, OSError):
                    message = ""
                if not message:  # the server has hung up
                    return
                response = self.parse(message)
                if self.note(response):
                    self.saved = again(partial(self.download_result, response.data), passing)

    def wait(self) -> Any:
        """Ask for a job until it is there."""
        pause, heard = TICK, time.monotonic()
        while True:
            self.status = None  # stays so where the server knows nothing of the job
            if (found := again(self.poll, passing)) is not None:
                return found
            if self.status == Status.COMPLETED:
                raise ValueError("nothing came back")
            heard = heard if self.status is None else time.monotonic()
            if time.monotonic() - heard > LOST:
                raise LostError
            self.still()
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def still(self) -> None:
        """Move the progress line, and stop waiting at the deadline."""
        self.display.refresh()
        if time.monotonic() > self.deadline:
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


STOPPED = KeyboardInterrupt | OverdueError

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


KEY_HINT = "set the variable NDIF_API_KEY, or run `nnsight login` once"
HINTS = {
    "version|no module at": "python -c 'import nnsight; print(nnsight.compare())' shows which packages differ",
    "gradient|require grad": 'fit with gradient="spsa", which needs forward passes alone',
    "out of memory": "take fewer rows at a time (batch_size=, rows=)",
    "deployed": "steerlab.remote.ndif_models() names the models that run",
    "time limit|timed out": "ask for fewer rows or steps in one request",
}
"""What to do, by what the server says."""


def explain(error: BaseException, client: "Client") -> BaseException:
    """A fault as one line that says what to do; what is no fault of the way there is left as it is."""
    job, said = client.job_id, str(error)
    cause = (error.__cause__ or error) if isinstance(error, nnsight_remote.RemoteError) else error
    status = _status(cause)
    if isinstance(error, STOPPED):
        how = f"the same call {'in this kernel' if client.blocking else 'with the same file'} collects it"
        if isinstance(error, KeyboardInterrupt):
            return KeyboardInterrupt(*[f"stopped waiting, but job {job} goes on at {client.host}: {how}"] * bool(job))
        line = f"no result of job {job} in time, but it goes on: {how}, with Remote(timeout=...) to wait longer"
    elif isinstance(error, LostError):
        line = f"the connection to {client.host} dropped, and it has no record of job {job}: run the call again"
    elif status is not None and (job is None or status < 500):
        line = _refusal(client.host, status, error, cause)
    elif isinstance(cause, nnsight_remote.RemoteError):  # a sentence is a rejection, a traceback a failure of what ran
        whose = "the job failed on the server" if "Traceback" in said else f"{client.host} rejected the job"
        line = f"{whose}: {_last(said)}{_hint(_last(said))}"
    elif status is not None or isinstance(cause, httpx.TransportError | websocket.WebSocketException | OSError):
        line = f"cannot reach {client.host} ({_last(str(cause)) or type(cause).__name__}): is the address right?"
        if job is not None:
            why = status or type(cause).__name__
            line = f"the result of job {job} could not be fetched ({why}): run the call again, which begins no new job"
    elif job is not None:
        line = f"what came back for job {job} is damaged ({_last(said)}): run the call again"
    else:
        return error
    clean = [text.replace(client.api_key or "***", "***") for text in (line, said)]
    told = RemoteError(clean[0], clean[1], job)
    if "Traceback" in said:
        told.add_note(told.detail)
    return told


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that an error stands for."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code
    return error.status_code if isinstance(error, websocket.WebSocketBadStatusException) else None


def _refusal(host: str, status: int, error: BaseException, cause: BaseException) -> str:
    """What a status means, and what to do."""
    body = getattr(cause, "resp_body", None) or b""  # of a refused websocket
    said = body.decode(errors="replace") if cause is error else str(error).removeprefix("Failed to send request: ")
    told = f"{status}: {_last(said)[:200]}" if said.strip() else str(status)
    if status == 401:
        return f"{host} wants a key ({told}): {KEY_HINT}"
    if status == 403:
        return f"{host} refuses your key ({told}): see whether it is still valid, and meant for this host"
    if status >= 500 or status == 429:
        return f"{host} cannot take the job now ({told}): nothing was begun; try again in a few minutes"
    return f"{host} refuses the request ({told}){_hint(said)}"


def _hint(said: str) -> str:
    return next((f": {hint}" for words, hint in HINTS.items() if re.search(words, said, re.IGNORECASE)), "")


def _last(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def checked(saved: Any, calls: Sequence[Call]) -> list[Any]:
    """Results that are what the calls give.

    Raises:
        ValueError: they are not.
    """
    found = saved.get("found") if isinstance(saved, dict) else None
    if not isinstance(found, list) or not fits([call.gives for call in calls], found):
        raise ValueError("it is not what was asked for")
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


# --- dry runs -------------------------------------------------------------------------------------------------------


class Meter(Runner, Backend):  # type: ignore[misc]
    """Counts what would be sent, and makes up the answers; a runner and its backend in one."""

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

    def __call__(self, tracer: Any) -> None:
        """Serialise a block, and drop it."""
        self.payload = len(serialized(tracer))

    def run(self, model: Any, calls: Iterable[Call]) -> list[Any]:
        """Noise in the largest shapes that could come back: sent on, it compresses as badly as a model's numbers."""
        calls = list(calls)
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

        def noise(one: Tensor) -> Tensor:
            return torch.rand(one.shape, generator=self.generator).to(one.dtype)

        return [apply(call.gives, noise, Tensor) for call in calls]


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


def _leaves(gives: Any) -> list[Tensor]:
    """All tensors of a structure."""
    found: list[Tensor] = []
    apply(gives, found.append, Tensor)
    return found


def ndif_models() -> list[str] | None:
    """Hub names of the models that NDIF runs at the moment; None where it cannot be reached. Needs no key."""
    with contextlib.redirect_stderr(io.StringIO()):  # nnsight prints that it is down
        answer = nnsight.status(raw=True)
    if not answer:
        return None
    deployed = answer.get("deployments", {}).items()
    return sorted(
        {entry.get("repo_id", name) for name, entry in deployed if entry.get("application_state") == "RUNNING"}
    )
