"""What went wrong between here and a server, as one line that says what to do."""

import re

import httpx

KEY_HINT = "set the variable NDIF_API_KEY, or run `nnsight login` once"

LINE, DETAIL = 300, 10_000
"""Characters that are shown and kept of what a server says."""

HINTS = {
    "no module at|packages differ": "python -m steerlab.check shows which packages differ there",
    "no gradient|require grad": 'fit with gradient="spsa", which needs forward passes alone',
    "out of memory": "take fewer rows at a time (batch_size=, rows=)",
    "accommodate": "its GPUs are taken: try again later, or a model that runs, as steerlab.remote.ndif_models() says",
    "could not deploy|not deployed": "is the name right, and open to you? steerlab.remote.ndif_models() says what runs",
    "execution timeout": "ask for fewer rows or steps in one request",
    "can't pickle|cannot pickle|picklingerror": "an ordinary key's code runs in a sandbox, which takes no options of "
    "transformers that shift logits, such as repetition_penalty: take frequency_penalty",
    "operator|evicted|cancelled|runner socket": "the call itself is not at fault: run it again",
}
"""What to do, by what the server says."""


class RemoteError(RuntimeError):
    """What went wrong between here and the server, and what to do, in one line.

    `detail` is what the server said, a traceback where the job failed, and `job` the job's id, if there is one.
    """

    def __init__(self, line: str, detail: str = "", job: str | None = None) -> None:
        """One line, and the rest as attributes."""
        super().__init__(line)
        self.detail = detail
        self.job = job


class OverdueError(Exception):
    """The deadline has passed."""


class DamagedError(Exception):
    """What came back is not what was asked for."""


class RefusedError(Exception):
    """The server answered with another HTTP status than 200, and said something."""

    def __init__(self, status: int, said: str) -> None:
        """Keep both."""
        super().__init__(said)
        self.status = status


class JobError(Exception):
    """The job ended with an error; holds what the server said."""


class ExpiredError(Exception):
    """The server has the job's result no longer."""


class UnknownError(Exception):
    """The server has known nothing of a job for minutes."""


LASTING = KeyboardInterrupt | OverdueError | UnknownError | httpx.HTTPError | OSError
"""After these a job may still give its result."""


def explain(error: BaseException, host: str, key: str | None, job: str | None = None) -> BaseException:
    """A fault as one line that says what to do; what is no fault of the way there is left as it is."""
    line = _line(error, host, job)
    if line is None:
        return error
    said = str(error) if isinstance(error, JobError | RefusedError) else ""
    line, detail = (text.replace(key or "***", "***") for text in (" ".join(line.split()), said[:DETAIL]))
    if isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt(line)
    fault = RemoteError(line, detail, job)
    if "Traceback" in detail:
        fault.add_note(detail)
    return fault


def _line(error: BaseException, host: str, job: str | None) -> str | None:
    """What happened, by the kind of fault."""
    collects = "the same call collects it, within an hour of its end"
    cause = f"{type(error).__name__}{f': {first(str(error))}' if str(error) else ''}"[:LINE]
    match error:
        case KeyboardInterrupt():
            return job and f"stopped waiting, but job {job} goes on at {host}: {collects}"
        case OverdueError() if job:
            return f"no result of job {job} in time, but it goes on: {collects} (Remote(timeout=...) waits longer)"
        case OverdueError():
            return f"{host} has not answered in time: try again, or wait longer with Remote(timeout=...)"
        case UnknownError():
            return f"{host} has known nothing of job {job} for minutes: it may wait still; the same call asks again"
        case ExpiredError():
            return f"the result of job {job} has expired, since a server keeps it for an hour: run the call again"
        case JobError():
            return _job_line(str(error), host)
        case RefusedError() if job is None:
            return _refusal(error, host)
        case RefusedError():
            return f"the result of job {job} could not be fetched ({error.status}): the same call tries again"
        case DamagedError() if job:
            return f"what came back for job {job} is damaged ({error}): run the call again"
        case DamagedError():
            return f"{host} does not answer as NDIF does ({error}): is the address right?"
        case httpx.HTTPError() | httpx.InvalidURL() if job:
            return f"the result of job {job} could not be fetched ({cause}): the same call tries again"
        case httpx.HTTPError() | httpx.InvalidURL():
            return f"cannot reach {host} ({cause}): is the address right?"
    return None


def _job_line(said: str, host: str) -> str:
    """A sentence is a rejection, a traceback a failure of what ran."""
    if not said.strip():
        return f"{host} ended the job and gave no reason, as where an operator stops it: run the call again"
    line = informative(said)
    whose = "the job failed on the server" if said.lstrip().startswith("Traceback") else f"{host} rejected the job"
    todo = hint(said[:DETAIL])
    return f"{whose}: {line.rstrip('.') if todo else line}{todo}"


def _refusal(error: RefusedError, host: str) -> str:
    """What an HTTP status means, and what to do."""
    said, status = str(error), error.status
    line = f"{status}: {informative(said)[:200]}" if said.strip() else str(status)
    if 300 <= status < 400:
        return f"{host} sends the request elsewhere ({status}), where the key does not go: name that address instead"
    if status == 401:
        return f"{host} wants a key ({line}): {KEY_HINT}"
    if status == 403:
        return f"{host} refuses your key ({line}): see whether it is still valid, and meant for this host"
    if status >= 500 or status == 429:
        return f"{host} cannot take the job now ({line}): nothing was begun; try again in a few minutes"
    if theirs := re.search(r"incompatible with the server version (\d+)\.(\d+)", said):
        age = "an older" if (int(theirs[1]), int(theirs[2])) < (0, 8) else "a newer"
        return f"{host} speaks {age} NDIF protocol than nnsight 0.8 ({line}): ask its operator for an update, or us"
    if status in (404, 405, 422):
        return f"{host} has no API of NDIF 0.8 ({line}): is the address right, and the server neither older nor newer?"
    if "version" in said.lower():
        return f"{host} refuses the request ({line}): python -m steerlab.check shows which packages differ there"
    return f"{host} refuses the request ({line}){hint(said)}"


def hint(said: str) -> str:
    """What to do about what the server says, after a colon."""
    return next((f": {todo}" for words, todo in HINTS.items() if re.search(words, said, re.IGNORECASE)), "")


def informative(said: str) -> str:
    """The line that says most: the first of a sentence, and of a traceback the one that names the error."""
    before, trace, after = said.strip().partition("Traceback (most recent call last):")
    line = first(before)
    if trace:
        _, _, tail = after.rpartition('\n  File "')
        raised = [own for own in tail.splitlines()[1:] if own.strip() and not own[0].isspace()]
        line = " ".join([line, *raised[:1]]).strip() or "no more than a traceback came back"
    return line[:LINE]


def first(text: str) -> str:
    """The first line that says something, cut."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:LINE]
