"""A server that lies, hangs, floods and leads astray: the first part of a path says how."""

import contextlib
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
import zstandard

JOB = "0123456789abcdef"


def packed(saved: Any) -> bytes:
    with io.BytesIO() as file:
        torch.save(saved, file)
        return zstandard.ZstdCompressor().compress(file.getvalue())


def logits(*shape: int, **options: Any) -> bytes:
    return packed({"results": [torch.zeros(*shape, **options)]})


def scripted() -> bytes:
    with io.BytesIO() as file:
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
        return zstandard.ZstdCompressor().compress(file.getvalue())


def inflating(size: int) -> bytes:
    """A file of torch whose zip members are compressed once more."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\0" * size)
        return zstandard.ZstdCompressor().compress(file.getvalue())


class Hostile:
    """The server, in threads of this process; `log` holds what it was asked and with which key."""

    def __init__(self, vocabulary: int) -> None:
        self.log: list[tuple[str, str, str | None]] = []
        self.elsewhere = ""
        good = (2, 1, vocabulary)
        self.results = {
            "bomb": lambda: zstandard.ZstdCompressor().compress(b"\0" * 500_000_000),
            "inflating": lambda: inflating(500_000_000),
            "junk": lambda: packed({"results": [torch.zeros(good)], "junk": [torch.randn(20_000_000)]}),
            "small junk": lambda: packed({"results": [torch.zeros(good)], "junk": [torch.zeros(1)]}),
            "script": scripted,
            "few rows": lambda: logits(1, 1, vocabulary),
            "more rows": lambda: logits(3, 1, vocabulary),
            "small vocabulary": lambda: logits(2, 1, 5),
            "integers": lambda: logits(*good, dtype=torch.long),
            "float8": lambda: logits(*good, dtype=torch.float8_e4m3fn),
            "sparse": lambda: packed({"results": [torch.zeros(good).to_sparse()]}),
            "text": lambda: b"hello",
        }
        self.good = logits(*good)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.answer()

            def do_GET(self) -> None:
                self.answer()

            def answer(self) -> None:
                mode, _, path = self.path.strip("/").replace("%20", " ").partition("/")
                outer.log.append((mode, path, self.headers.get("ndif-api-key")))
                with contextlib.suppress(OSError):  # the client has gone
                    outer.say(self, mode, path.split("/")[0])

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def say(self, handler: BaseHTTPRequestHandler, mode: str, route: str) -> None:
        if mode == f"silent {route}":
            time.sleep(60)
        if mode == f"dripping {route}":
            return self.send(handler, 200, (b" " for _ in iter(lambda: time.sleep(0.05), 1)))
        if mode == f"moved {route}":
            return self.send(handler, 307, [], {"location": f"{self.elsewhere}/stolen/{route}"})
        if mode == f"page {route}":
            return self.send(handler, 200, [b"<html>Log in to this network</html>"])
        if mode == f"list {route}":
            return self.send(handler, 200, [b"[1]"])
        if mode == f"deep {route}":
            return self.send(handler, 200, [b"[" * 1_000_000])
        if mode == f"endless {route}":
            return self.send(handler, 200, (b"x" * 2**20 for _ in range(2**12)))
        if mode == f"compressed {route}":
            return self.send(handler, 200, [b"\x1f\x8b\x08"], {"content-encoding": "gzip"})
        body = getattr(self, route)(mode)
        if isinstance(body, tuple):
            return self.send(handler, body[0], [body[1]])
        self.send(handler, 200, [body if isinstance(body, bytes) else json.dumps(body).encode()])

    def send(
        self, handler: BaseHTTPRequestHandler, status: int, body: Any, headers: dict[str, str] | None = None
    ) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        for part in body:
            handler.wfile.write(part)

    def request(self, mode: str) -> Any:
        if mode == "long refusal":
            return 400, json.dumps({"detail": "x" * 5_000_000}).encode()
        if mode == "old":
            return 400, b'{"detail": "Client version 0.8.1 is incompatible with the server version 0.5.15"}'
        if mode == "new":
            return 400, b'{"detail": "Client version 0.8.1 is incompatible with the server version 0.9.2"}'
        if mode == "other":
            return 404, b'{"detail": "Not Found"}'
        named = {"no job": {"status": "RECEIVED"}, "odd job": {"id": "../whoami"}}
        return named.get(mode, {"id": JOB, "status": "RECEIVED"})

    def response(self, mode: str) -> Any:
        base = f"{self.url}/{mode.replace(' ', '%20')}"
        done = {"id": JOB, "status": "COMPLETED", "data": f"{base}/result/{JOB}"}
        if mode == "new status" and len([1 for own in self.log if own[0] == mode]) < 4:
            return {"id": JOB, "status": "PAUSED", "description": "a status of tomorrow"}
        errors = {"long error": "y" * 20_000_000, "no reason": "", "two lines": "Traceback (most recent call last):\n"}
        errors["two lines"] += '  File "cell.py", line 1, in work\n    boom()\nValueError: line one\n  line two'
        errors["operator"] = "Request cancelled by operator."
        errors["timeout"] = "Your job exceeded the execution timeout of 60.0s."
        errors["mismatch"] = (
            "The model architecture on this server doesn't match the one your code was traced against: it has no "
            "module at 'model.layers.9'.\n\nThis usually means the package versions differ.\nthen re-run."
        )
        if mode in errors:
            return {"id": JOB, "status": "ERROR", "description": errors[mode]}
        odd = {"nothing": None, "file": "file:///etc/passwd", "number": 3}
        return {**done, "data": odd[mode]} if mode in odd else done

    def result(self, mode: str) -> Any:
        if mode == "expired":
            return 403, b"<Error><Message>Request has expired</Message></Error>"
        return self.results.get(mode, lambda: self.good)()

    def whoami(self, mode: str) -> Any:
        return {}

    env = status = whoami

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def two(vocabulary: int) -> Iterator[tuple[Hostile, Hostile]]:
    """A server, and the one to which it sends people."""
    first, second = Hostile(vocabulary), Hostile(vocabulary)
    first.elsewhere = second.url
    yield first, second
    first.stop()
    second.stop()
