"""Ten lines about an installation, whatever is missing, and no secret among them."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import nnsight
import pytest

from steerlab import check, loading, passes, remote

CONFIG = nnsight.CONFIG.API


class Status(BaseHTTPRequestHandler):
    """A service that answers every request with `Status.answer`."""

    answer: bytes = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Status]]:
    """A service on the loopback, to which nnsight speaks."""
    server = HTTPServer(("127.0.0.1", 0), Status)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(CONFIG, "HOST", f"http://127.0.0.1:{server.server_port}")
    yield Status
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONFIG, "HOST", "http://127.0.0.1:1")


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """Mark and text of each printed line, by name."""
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(check.CHECKS) == 10
    return {
        name: (line[:4].strip(), line[18:])
        for name, line in zip(check.CHECKS, printed, strict=True)
        if line[4:18].strip() == name
    }


@pytest.mark.usefixtures("no_network")
def test_without_a_network_all_that_is_needed_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main() == 0
    found = lines(capsys)
    assert found["NDIF"] == ("--", "cannot be reached; only remote models need it")
    needed = found.keys() - {"NDIF", "notebooks", "memory"}
    assert len(needed) == 7
    assert {found[name][0] for name in needed} == {"ok"}
    assert "parameters" in found["bundled model"][1]


@pytest.mark.usefixtures("no_network")
def test_a_key_is_not_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(CONFIG, "APIKEY", "a-key-of-mine")
    monkeypatch.setenv("NDIF_API_KEY", "a-key-of-mine")
    check.main()
    captured = capsys.readouterr()
    assert "a-key-of-mine" not in captured.out + captured.err


@pytest.mark.usefixtures("no_network")
def test_a_broken_model_is_one_bad_line_among_ten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "BUNDLED", tmp_path)
    assert check.main() == 1
    found = lines(capsys)
    assert found["bundled model"][0] == found["steering"][0] == "BAD"
    assert found["torch"][0] == "ok"


@pytest.mark.usefixtures("no_network")
def test_an_edit_that_does_nothing_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(passes, "edit", lambda h, *rest: h)
    assert check.main() == 1
    assert lines(capsys)["steering"][0] == "BAD"


def test_another_nnsight_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "version", lambda name: "0.7.0")
    mark, line = check.run(check.nnsight)
    assert mark == "BAD"
    assert line.startswith("0.7.0, but 0.8 is needed")


def test_running_models_are_counted(service: type[Status]) -> None:
    deployments = {
        "a": {"repo_id": "org/one", "application_state": "RUNNING", "deployment_level": "HOT"},
        "b": {"repo_id": "org/one", "application_state": "RUNNING", "deployment_level": "HOT"},
        "c": {"repo_id": "org/two", "application_state": "DEPLOYING", "deployment_level": "WARM"},
    }
    service.answer = json.dumps({"deployments": deployments}).encode()
    assert remote.ndif_models() == ["org/one"]
    assert check.run(check.ndif) == ("ok", "up; models running: 1")


@pytest.mark.parametrize("answer", [b"<html>log in to this network</html>", b"[1, 2]", b'{"deployments": [3]}'])
def test_a_strange_answer_is_no_crash(service: type[Status], answer: bytes) -> None:
    service.answer = answer
    assert check.run(check.ndif)[0] == "--"
