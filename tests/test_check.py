"""A line for each part of an installation, whatever is missing, and no secret among them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import nnsight
import pytest
import torch

from steerlab import check, loading, passes

CONFIG = nnsight.CONFIG.API


class Status(BaseHTTPRequestHandler):
    """A service that answers every request with what `Status.answers` holds for its path."""

    answers: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answers.get(self.path, b"{}"))

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Status]]:
    """A service on the loopback, to which nnsight speaks."""
    server = HTTPServer(("127.0.0.1", 0), Status)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(CONFIG, "HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(CONFIG, "APIKEY", None)
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    Status.answers.clear()
    yield Status
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONFIG, "HOST", "http://127.0.0.1:1")


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """Mark and text of each printed line, by name."""
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(check.CHECKS)
    return {
        name: (line[:4].strip(), line[18:])
        for name, line in zip(check.CHECKS, printed, strict=True)
        if line[4:18].strip() == name
    }


@pytest.mark.usefixtures("no_network")
def test_without_a_network_all_that_is_needed_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main() == 0
    report = lines(capsys)
    assert report["NDIF"][0] == "--"
    assert report["NDIF"][1].startswith("only remote models need it: cannot reach http://127.0.0.1:1 (")
    needed = report.keys() - {"NDIF", "notebooks", "memory"}
    assert len(needed) == 8
    assert {report[name][0] for name in needed} == {"ok"}
    assert "parameters" in report["bundled model"][1]


@pytest.mark.usefixtures("no_network")
def test_a_key_is_not_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(CONFIG, "APIKEY", "a-key-of-mine")
    monkeypatch.setenv("NDIF_API_KEY", "a-key-of-mine")
    check.main()
    captured = capsys.readouterr()
    assert "a-key-of-mine" not in captured.out + captured.err


@pytest.mark.usefixtures("no_network")
def test_a_broken_model_is_one_bad_line_among_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "BUNDLED", tmp_path)
    assert check.main() == 1
    report = lines(capsys)
    assert report["bundled model"][0] == report["steering"][0] == "BAD"
    assert report["torch"][0] == "ok"


@pytest.mark.usefixtures("no_network")
def test_an_edit_that_does_nothing_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(passes, "edit", lambda h, *rest: h)
    assert check.main() == 1
    assert lines(capsys)["steering"][0] == "BAD"


@pytest.mark.parametrize(
    ("taken", "advice"), [(1, None), (2, "beside other models"), (64, "more threads than cores are slow")]
)
def test_threads_that_crowd_the_cores_are_advised_against(
    monkeypatch: pytest.MonkeyPatch, taken: int, advice: str | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: taken)
    line = check.threads()
    assert line.startswith(f"{taken} for 4 cores") and (advice or "") in line
    assert ("OMP_NUM_THREADS=" in line) == bool(advice)


def test_what_tests_start_takes_the_threads_of_the_tests() -> None:
    program = "import torch; print(torch.get_num_threads())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(run.stdout) == torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])


@pytest.mark.parametrize(
    ("of", "installed", "said"),
    [(check.nnsight, "0.7.0", "but 0.8 is needed"), (check.transformers, "5.1.0", "padded batches wrongly")],
)
def test_another_version_is_refused(
    of: Callable[[], str], installed: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check.run(of)[0] == "ok"
    monkeypatch.setattr(check, "version", lambda name: installed)
    mark, line = check.run(of)
    assert mark == "BAD" and line.startswith(installed) and said in line


DEPLOYMENTS = {
    "a": {"repo_id": "org/one", "application_state": "RUNNING", "deployment_level": "HOT", "dtype": "bfloat16"},
    "b": {"repo_id": "org/two", "application_state": "DEPLOYING", "deployment_level": "WARM"},
}


def test_models_are_counted_by_their_level(service: type[Status]) -> None:
    service.answers["/status"] = json.dumps({"deployments": DEPLOYMENTS}).encode()
    assert check.run(check.ndif) == ("ok", "up; models: 1 HOT, 1 WARM; key: none is set")


@pytest.mark.parametrize(
    ("tags", "line"), [(["trusted"], "trusted, its code"), ([], "ordinary, its code runs in a sandbox")]
)
def test_what_the_key_may_do_is_said_and_which_versions_differ(
    tags: list[str], line: str, service: type[Status], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDIF_API_KEY", "a-key-of-mine")
    service.answers["/whoami"] = json.dumps({"email": "a@example.org", "tags": tags}).encode()
    service.answers["/env"] = b'{"packages": {"nnsight": "0.7.1", "torch": "2.1"}}'
    mark, said = check.run(check.ndif)
    assert mark == "ok" and line in said and "; nnsight 0.7.1 there, 0.8." in said and "torch" not in said


def test_a_host_of_ones_own_lists_its_models(service: type[Status], capsys: pytest.CaptureFixture[str]) -> None:
    service.answers["/status"] = json.dumps({"deployments": DEPLOYMENTS}).encode()
    host, CONFIG.HOST = CONFIG.HOST, "http://127.0.0.1:1"
    assert check.main(host) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("ok  NDIF"))
    assert lines[first + 2].split()[:4] == ["org/one", "HOT", "RUNNING", "bfloat16"]


@pytest.mark.parametrize("answer", [b"<html>log in to this network</html>", b"[1, 2]", b"["])
def test_a_strange_answer_is_no_crash(service: type[Status], answer: bytes) -> None:
    service.answers["/status"] = answer
    assert check.run(check.ndif)[0] == "--"


@pytest.mark.parametrize("answer", [b'{"deployments": [3]}', b'{"deployments": {"a": 3}}', b"{}"])
def test_a_server_without_models_is_up(service: type[Status], answer: bytes) -> None:
    service.answers["/status"] = answer
    assert check.run(check.ndif)[1].startswith("up; models: none")
