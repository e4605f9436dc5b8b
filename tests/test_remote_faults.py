"""What can go wrong between here and a server, and a server that means no good: one line each, in bounds."""

import io
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nnsight
import pytest
import torch
import zstandard
from double import KEY, PROMPTS, Double, distant
from families import tokenizer
from hostile import Hostile, two
from test_remote import assert_same
from tiers import few

import steerlab as sl
from steerlab import server as http
from steerlab.faults import LINE, DamagedError, informative
from steerlab.jobs import JobFile
from steerlab.passes import Call
from steerlab.received import unpacked
from steerlab.remote import Remote, RemoteError, ndif_models

pytest_plugins = ("remote_fixtures",)
pytestmark = pytest.mark.usefixtures("well_behaved")

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "401": (
        {"refused": "Missing API key.", "status": 401},
        r"wants a key \(401: Missing API key\.\): set the variable",
    ),
    "403": (
        {"refused": "Unknown API key.", "status": 403},
        r"refuses your key \(403: Unknown API key\.\): see whether",
    ),
    "500": ({"refused": "Oh dear.", "status": 500}, r"cannot take the job now \(500: Oh dear\.\): nothing was begun"),
    "503": ({"busy": True}, r"cannot take the job now \(503: The queue is full\.\): nothing was begun; try again"),
    "version": (
        {"refused": "Client nnsight version 0.8.1 is below the minimum supported 0.9."},
        r"refuses the request \(400: Client nnsight .*\): python -m steerlab\.check shows which packages differ",
    ),
    "timeout": (
        {"rejected": "Your job exceeded the execution timeout of 60.0s."},
        "rejected the job: Your job exceeded .*: ask for fewer rows or steps",
    ),
    "memory": (
        {"rejected": "Traceback (most recent call last):\n  ...\ntorch.OutOfMemoryError: CUDA out of memory."},
        r"the job failed on the server: torch\.OutOfMemoryError: .*: take fewer rows at a time",
    ),
    "no room": (
        {"rejected": "Could not deploy this model. CANT_ACCOMMODATE: placed 0 of 1 new replicas."},
        r"rejected the job: Could not deploy .* new replicas: its GPUs are taken: try again later",
    ),
    "malformed": ({"malformed": True}, r"came back for job .* is damaged \(it is not what was asked for\): run"),
    "damaged": ({"damaged": True}, "came back for job .* is damaged .*: run the call again"),
    "cut for good": ({"cut": True}, r"the result of job .* could not be fetched \(RemoteProtocolError.*the same call"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_clear_line(fault: str, there: sl.SteerableModel, server: Double) -> None:
    switches, line = FAULTS[fault]
    server.switch(**switches)
    with pytest.raises(RemoteError, match=line) as caught:
        there.logits(PROMPTS)
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None  # nothing on which a frame with the key hangs
    assert len(server.seen()) == {"503": 3}.get(fault, 1)  # only a server that has not begun is asked again
    assert len(JobFile().all()) == (fault == "cut for good")


@pytest.mark.parametrize("switches", [{"busy": 2}, {"cut": 2}])
def test_what_passes_is_tried_again(switches: Any, here: Any, there: Any, server: Double) -> None:
    server.switch(**switches)
    assert_same(there.logits(PROMPTS), here.logits(PROMPTS))
    assert len(server.seen()) == (3 if "busy" in switches else 1)


def test_a_job_error_shows_the_traceback(there: sl.SteerableModel) -> None:
    def work(model: Any) -> Any:
        raise ValueError("line one\nline two")

    with pytest.raises(RemoteError, match=r"the job failed on the server: ValueError: line one\n") as caught:
        there.run([Call(work, (), None)])
    assert "raise ValueError" in caught.value.detail and "line two" in caught.value.detail
    assert "raise ValueError" in "".join(caught.value.__notes__)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(
        RemoteError, match=r"cannot reach http://127\.0\.0\.1:1 \(.*refused.*\): is the address right\?"
    ):
        distant("llama", "http://127.0.0.1:1").logits(PROMPTS)


def test_a_model_that_is_not_served(server: Double) -> None:
    lm = distant("mistral", server.url)
    line = r"rejected the job: Could not deploy this model\. tiny/mistral is not a local folder.*ndif_models\(\)"
    with pytest.raises(RemoteError, match=line):
        lm.logits(PROMPTS)


def test_other_modules_on_the_server_are_said(server: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ndif.common")
    lm = distant("gpt2", server.url)
    monkeypatch.setattr(lm._traced, "repo_id", "tiny/llama")
    with pytest.raises(RemoteError, match=r"rejected the job: The model archi.*no module at .*: python -m"):
        lm.logits(PROMPTS)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("\n\nOne.\nTwo.", "One."),
        ("Could not deploy. Traceback (most recent call last):\n  File \"a\", line 1\n    x\nKeyError: 'y'", None),
        ('Traceback (most recent call last):\n  File "a", line 1, in b\n    c\nd.E: f\n  g\n', "d.E: f"),
        ("x" * 1000, "x" * LINE),
        ("", ""),
    ],
)
def test_the_line_that_informs_is_shown(said: str, line: str | None) -> None:
    assert informative(said) == (line if line is not None else "Could not deploy. KeyError: 'y'")


# --- a hostile server ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Hostile, Hostile]]:
    yield from two(len(tokenizer()))


@pytest.fixture
def hostile(servers: tuple[Hostile, Hostile]) -> Hostile:
    for each in servers:
        each.log.clear()
    return servers[0]


def ask(hostile: Hostile, mode: str, timeout: float = 20.0) -> Any:
    url = f"{hostile.url}/{mode.replace(' ', '%20')}"
    return distant("llama", Remote(url, timeout=timeout, progress=False)).logits(PROMPTS)


def test_a_plain_answer_is_taken(hostile: Hostile) -> None:
    assert ask(hostile, "plain").shape == (2, len(tokenizer()))
    keys = {path.split("/")[0]: key for _, path, key in hostile.log}
    assert keys == {"env": None, "status": None, "request": KEY, "response": None, "result": None}


@pytest.mark.parametrize("route", ["request", "response", "result"])
def test_no_redirect_is_followed_and_the_key_stays(
    route: str, servers: tuple[Hostile, Hostile], hostile: Hostile
) -> None:
    with pytest.raises(RemoteError, match=r"elsewhere \(307\), where the key does not go|could not be fetched \(307\)"):
        ask(hostile, f"moved {route}")
    assert servers[1].log == []


@pytest.mark.parametrize("how", ["silent", "dripping"])
@pytest.mark.parametrize("route", few(["request", "response", "result"], "response"))
def test_the_deadline_holds_whatever_the_server_does(how: str, route: str, hostile: Hostile) -> None:
    lm = distant("llama", Remote(f"{hostile.url}/{how}%20{route}", timeout=1.5, progress=False))
    began = time.monotonic()
    with pytest.raises(RemoteError, match="in time"):
        lm.logits(PROMPTS)
    assert time.monotonic() - began < 10  # on a busy computer; the server takes a minute, or for ever


OTHERWISE: dict[str, str] = {
    "page request": r"does not answer as NDIF does \(it is not JSON\)",
    "list request": "does not answer as NDIF does",
    "deep request": "does not answer as NDIF does",
    "compressed request": "does not answer as NDIF does",
    "no job": r"does not answer as NDIF does \(it names no job\)",
    "odd job": r"does not answer as NDIF does \(it names no job\)",
    "old": r"speaks an older NDIF protocol than nnsight 0\.8 \(400: Client version",
    "new": r"speaks a newer NDIF protocol than nnsight 0\.8",
    "other": r"has no API of NDIF 0\.8 \(404: Not Found\)",
    "long refusal": "refuses the request",
    "page response": "is damaged",
    "list response": "is damaged",
    "endless response": r"is damaged \(it is longer than",
    "endless result": r"is damaged \(it is longer than",
    "long error": "rejected the job: yyy",
    "no reason": "gave no reason",
    "operator": "rejected the job: Request cancelled by operator: the call itself is not at fault",
    "timeout": "ask for fewer rows or steps",
    "two lines": r"the job failed on the server: ValueError: line one\n",
    "mismatch": r"it has no module at 'model\.layers\.9': python -m steerlab\.check",
    "nothing": r"is damaged \(it is finished, but left nothing\)",
    "file": "is damaged",
    "number": "is damaged",
    "bomb": r"is damaged \(it unpacks to more than",
    "inflating": r"is damaged \(it is no plain file|is damaged \(it unpacks",
    "junk": r"is damaged \(it is longer than",
    "small junk": r"is damaged \(it is not what was asked for\)",
    "script": r"is damaged \(it is no plain file of tensors\)",
    "few rows": r"is damaged \(it is not what was asked for\)",
    "more rows": r"is damaged \(it is not what was asked for\)",
    "small vocabulary": r"is damaged \(it is not what was asked for\)",
    "integers": r"is damaged \(it is not what was asked for\)",
    "float8": r"is damaged \(it is not what was asked for\)",
    "sparse": "is damaged",
    "text": r"is damaged \(it cannot be read",
}


@pytest.mark.parametrize("mode", OTHERWISE)
def test_what_is_no_answer_is_one_line_in_bounds(mode: str, hostile: Hostile) -> None:
    if mode in ("bomb", "inflating", "junk"):
        hostile.results[mode] = (lambda made: lambda: made)(hostile.results[mode]())  # made before memory is looked at
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RemoteError, match=OTHERWISE[mode]) as caught:
        ask(hostile, mode)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # kB
    assert len(str(caught.value)) < 700 and "\n" not in str(caught.value)
    assert len(caught.value.detail) <= 10_000
    assert caught.value.__context__ is None


def test_a_status_of_tomorrow_is_waited_out(hostile: Hostile) -> None:
    assert ask(hostile, "new status").shape == (2, len(tokenizer()))


@pytest.mark.parametrize("how", ["page", "list", "deep", "endless", "silent", "moved"])
def test_what_a_server_says_of_itself_is_in_bounds_too(
    how: str, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http.Server.ask, "__defaults__", (1.0,))
    with pytest.raises(RemoteError):
        ndif_models(f"{hostile.url}/{how}%20status")
    with pytest.raises(RemoteError):
        Remote(f"{hostile.url}/{how}%20whoami").server().key_kind()


def test_a_result_is_data_and_never_code(tmp_path: Path) -> None:
    class Spring:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    with io.BytesIO() as file:
        torch.save({"results": [Spring()]}, file)
        content = zstandard.ZstdCompressor().compress(file.getvalue())
    with pytest.raises(DamagedError, match="UnpicklingError"):
        unpacked(content, 10_000)
    assert not (tmp_path / "sprung").exists()


# --- the key -------------------------------------------------------------------------------------------------------


def test_the_key_is_nowhere_but_in_the_header(
    there: sl.SteerableModel, server: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nnsight.CONFIG.APP, "REMOTE_LOGGING", True)
    there.logits(PROMPTS)
    errors = []
    for switches in ({"refused": f"Bad key {KEY}", "status": 403}, {"rejected": f"{KEY} may not"}, {"cut": True}):
        server.switch(**switches)
        with pytest.raises(RemoteError) as caught:
            there.logits(PROMPTS)
        error = caught.value
        errors += [str(error), repr(error), error.detail, str(error.args), str(getattr(error, "__notes__", ""))]
    captured = capsys.readouterr()
    assert "(logits): " in captured.err  # how far the job is
    assert "***" in errors[0]
    shown = [repr(there), repr(there.runner), str(vars(there)), captured.out, captured.err, *errors]
    assert not [text for text in shown if KEY in text]


def test_the_key_comes_from_nnsight_too(there: Any, server: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NDIF_API_KEY")
    with pytest.raises(RemoteError, match=r"wants a key \(401: Missing API key\.\)"):
        there.logits(PROMPTS)
    monkeypatch.setattr(nnsight.CONFIG.API, "APIKEY", KEY)
    there.logits(PROMPTS)
    assert server.seen()[-1]["key"]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("http://ndif.example.org", "would send your key unencrypted: use https://, or Remote"),
        ("http://10.0.0.7:5001", "would send your key unencrypted"),
        ("ndif.example.org", "is no address: give True, 'local', or https://host"),
        ("https://me:secret@example.org", "is no address"),
        ("ftp://example.org", "is no address"),
    ],
)
def test_an_address_is_checked_before_anything_is_sent(address: str, line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        Remote(address)
    assert "secret" not in str(caught.value)


def test_plain_http_goes_to_this_computer_or_by_force() -> None:
    for address in ("http://127.0.0.1:5001", "http://localhost:5001", "http://[::1]:5001", "https://example.org"):
        assert Remote(address).address() == address
    assert Remote("http://10.0.0.7", plain_http=True).address() == "http://10.0.0.7"


def test_no_key_is_said_before_a_far_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NDIF_API_KEY")
    monkeypatch.setattr(nnsight.CONFIG.API, "APIKEY", None)
    lm = distant("llama", "https://nowhere.invalid")
    with pytest.raises(RemoteError, match=r"https://nowhere\.invalid wants a key: set the variable NDIF_API_KEY"):
        lm.logits(PROMPTS)
