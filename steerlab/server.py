"""One NDIF server over HTTP, whatever it answers: bounded in time and in bytes, and the key goes where it is needed.

The key is sent with a request and with the question whose it is; the state of a job, its result, and what runs on the
server are asked without it. No redirect is followed.
"""

import json
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from tqdm.auto import tqdm

from .faults import DamagedError, OverdueError, RefusedError, explain
from .jobs import Job

T = TypeVar("T")

WAITS = (0.5, 1.0, 2.0)
"""Seconds before each further try of what may be tried again."""

TICK = 0.1
"""Seconds between looks at the clock during an exchange, so that progress moves and a wait can be stopped."""

PATIENCE = 600.0
"""Seconds for an exchange that has no other limit, and that moves no result."""

STATUS_BYTES = 2**25
"""The most that is read of an answer that is no result."""

KEYS = {
    "none": "none is set",
    "ordinary": "ordinary, its code runs in a sandbox (fits by SPSA)",
    "trusted": "trusted, its code runs beside the model",
}
"""What a key may do, by its kind."""


@dataclass(frozen=True)
class Limit:
    """Until when something may take.

    Args:
        until: on the clock of `time.monotonic`; infinity for no limit.
        tick: called about every `TICK` seconds while something is waited for.
    """

    until: float = float("inf")
    tick: Callable[[], None] = lambda: None

    def left(self) -> float:
        """Seconds that are left.

        Raises:
            OverdueError: none are.
        """
        left = self.until - time.monotonic()
        if left <= 0:
            raise OverdueError
        return left

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until the limit, and keep ticking."""
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            self.tick()
            time.sleep(min(TICK, rest, self.left()))


def within(limit: Limit, seconds: float, work: Callable[[], T]) -> T:
    """The result of work in a thread of its own, which is left to itself when the time is over.

    Raises:
        OverdueError: the limit, or so many seconds, have passed.
    """
    box: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def run() -> None:
        try:
            box.put((True, work()))
        except BaseException as error:
            box.put((False, error))

    threading.Thread(target=run, daemon=True).start()
    end = time.monotonic() + min(seconds, limit.left())
    while time.monotonic() < end:
        try:
            done, outcome = box.get(timeout=min(TICK, max(0.0, end - time.monotonic())))
        except queue.Empty:
            limit.tick()
            continue
        if done:
            return outcome
        raise outcome
    raise OverdueError


def again(limit: Limit, attempt: Callable[[], T], safe: Callable[[BaseException], bool]) -> T:
    """Try, and try again after each of `WAITS` where it is safe to."""
    for wait in WAITS:
        try:
            return attempt()
        except Exception as error:
            if not safe(error):
                raise
        limit.sleep(wait)
    return attempt()


def not_begun(error: BaseException) -> bool:
    """Whether the server has surely not begun: there was no connection, or it said that it is too busy."""
    busy = isinstance(error, RefusedError) and error.status in (429, 503)
    return busy or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def passing(error: BaseException) -> bool:
    """Whether what was asked for was cut off or delayed, so that asking again may help."""
    return isinstance(error, httpx.TransportError) or (isinstance(error, RefusedError) and error.status >= 500)


@dataclass(frozen=True)
class State:
    """What a server says of a job; `data` is the address of its result, and `meta` what it cost."""

    status: str
    description: str = ""
    data: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> int | None:
        """The job's place in the queue, where it stands in one."""
        said = re.search(r"position (\d+)", self.description) if self.status == "QUEUED" else None
        return int(said[1]) if said else None

    @classmethod
    def of(cls, answer: Any) -> "State":
        """Read an answer.

        Raises:
            DamagedError: it is no state of a job.
        """
        if not isinstance(answer, dict) or not isinstance(answer.get("status"), str):
            raise DamagedError("it is no status of a job")
        data, meta = answer.get("data"), answer.get("meta")
        if data is not None and not (isinstance(data, str) and urlsplit(data).scheme in ("http", "https")):
            raise DamagedError("it names no web address as that of the result")
        said = str(answer.get("description") or "")
        return cls(answer["status"], said, data, meta if isinstance(meta, dict) else {})


@dataclass(frozen=True)
class Server:
    """A server and the key to it.

    Args:
        address: of its API, checked by `Remote.address`.
        key: sent with requests and `whoami` alone.
    """

    address: str
    key: str | None = field(default=None, repr=False)

    def post(self, envelope: str, blob: bytes, limit: Limit) -> str:
        """Send a request that nobody need stay connected for; gives the job's id.

        Raises:
            DamagedError: there is no id in the answer.
            OverdueError, RefusedError, httpx.HTTPError: see `exchange`.
        """
        headers = {"ndif-timestamp": repr(time.time()), "python-version": sys.version}
        headers |= {"nnsight-version": version("nnsight")} | self._own()
        sent: dict[str, Any] = {"data": {"data": envelope}}
        sent["files"] = {"blob": ("request", blob, "application/octet-stream")}
        url = f"{self.address}/request"
        answer = again(limit, lambda: exchange("POST", url, limit, headers=headers, **sent), not_begun)
        job = _json(answer).get("id")
        if not isinstance(job, str) or not re.fullmatch(r"[\w.-]{1,100}", job):
            raise DamagedError("it names no job")
        return job

    def state(self, job: str, limit: Limit) -> State | None:
        """How far a job is; None where the server knows nothing of it, or not yet.

        Raises:
            DamagedError, OverdueError, RefusedError, httpx.HTTPError: see `exchange`.
        """
        try:
            url = f"{self.address}/response/{job}"
            return State.of(_json(again(limit, lambda: exchange("GET", url, limit), passing)))
        except RefusedError as error:
            if error.status != 404:
                raise
        return None

    def result(self, url: str, most: int, limit: Limit) -> bytes:
        """What a job has left at an address, of at most so many bytes.

        Raises:
            DamagedError, OverdueError, RefusedError, httpx.HTTPError: see `exchange`.
        """
        return again(limit, lambda: exchange("GET", url, limit, most, float("inf")), passing)

    def ask(self, path: str, seconds: float = 10.0) -> dict[str, Any]:
        """What the server says of itself (/status, /env) or of the key (/whoami).

        Raises:
            RemoteError: it cannot be reached, or gives no sensible answer.
        """
        headers = self._own() if path == "/whoami" else {}
        try:
            return _json(exchange("GET", self.address + path, Limit(), seconds=seconds, headers=headers))
        except (httpx.HTTPError, httpx.InvalidURL, DamagedError, OverdueError, RefusedError) as error:
            problem = explain(error, self.address, self.key)
        raise problem  # outside of `except`, so that no frame with the key hangs on the error

    def key_kind(self) -> str | None:
        """Where the key's code runs: "trusted" beside the model, "ordinary" in a sandbox; None where it is not said.

        Raises:
            RemoteError: see `ask`.
        """
        identity = self.ask("/whoami")
        tags = identity.get("tags")
        if not identity.get("email") or not isinstance(tags, list):
            return None
        return "trusted" if "trusted" in tags else "ordinary"

    def key_said(self) -> str:
        """What the key may do, in words; nothing where the server does not say.

        Raises:
            RemoteError: see `ask`.
        """
        kind = self.key_kind() if self.key else "none"
        return f"key: {KEYS[kind]}" if kind else ""

    def served(self) -> list[dict[str, Any]]:
        """What the server says of each model that it runs, or has at hand.

        Raises:
            RemoteError: see `ask`.
        """
        deployments = self.ask("/status").get("deployments")
        entries = deployments.values() if isinstance(deployments, dict) else ()
        return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("repo_id"), str)]

    def differences(self) -> dict[str, tuple[str, str]]:
        """Versions here and there of the packages that should agree, where their first two numbers do not.

        Raises:
            RemoteError: see `ask`.
        """
        packages = self.ask("/env").get("packages")
        theirs = packages if isinstance(packages, dict) else {}
        named = [name for name in ("nnsight", "transformers") if name in theirs]
        pairs = {name: (version(name), str(theirs[name])[:40]) for name in named}
        return {name: pair for name, pair in pairs.items() if len({tuple(own.split(".")[:2]) for own in pair}) > 1}

    def _own(self) -> dict[str, str]:
        return {"ndif-api-key": self.key} if self.key else {}


def exchange(
    method: str,
    url: str,
    limit: Limit,
    most: int = STATUS_BYTES,
    seconds: float = PATIENCE,
    headers: Mapping[str, str] | None = None,
    **content: Any,
) -> bytes:
    """One request and the body of its answer, ended after so many seconds and bytes whatever the server does.

    Raises:
        DamagedError: the answer is longer.
        OverdueError: it took longer.
        RefusedError: its HTTP status is not 200.
        httpx.HTTPError: there is no answer, or half of one.
    """
    direct = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    plain = {"accept-encoding": "identity", **(headers or {})}  # a compressed answer may be of any size

    def work() -> tuple[int, bytes]:
        body = bytearray()
        with (
            httpx.Client(timeout=httpx.Timeout(60.0, connect=10.0), trust_env=not direct) as client,
            client.stream(method, url, headers=plain, **content) as response,
        ):
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > most:
                    raise DamagedError(f"it is longer than the {most:,} bytes that it could have")
        return response.status_code, bytes(body)

    status, body = within(limit, seconds, work)
    if status != 200:
        raise RefusedError(status, _detail(body))
    return body


def _json(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DamagedError: it is none.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise DamagedError("it is not JSON") from None
    if not isinstance(answer, dict):
        raise DamagedError("it is no JSON object")
    return answer


def _detail(body: bytes) -> str:
    """The sentence of a refusal: `detail` of a JSON object, else the text."""
    text = body[:100_000].decode(errors="replace")
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return str(answer.get("detail", text)) if isinstance(answer, dict) else text


class Progress:
    """The line that says how far a job is."""

    def __init__(self, job: Job, shown: bool) -> None:
        self.began, self.job, self.said = time.monotonic(), job, "sent"
        self.bar = tqdm(bar_format="{desc}", leave=False, disable=not shown)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Take the line away."""
        self.bar.close()

    def show(self, state: State | None) -> None:
        """Say a new state."""
        if state is not None:
            self.said = state.status + (f", place {state.place}" if state.place else "")
        self.refresh()

    def refresh(self) -> None:
        """Move the seconds."""
        seconds = time.monotonic() - self.began
        self.bar.set_description_str(f"job {self.job.id} ({self.job.what}): {self.said}, {seconds:.0f} s")
