"""A stand-in for the Hub on the loopback: `python tools/ndif/hub.py PORT FOLDER` serves FOLDER/NAME as tiny/NAME."""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """What a server that loads models asks the Hub for."""

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path = self.path.partition("?")[0].strip("/").split("/")
        if path[:2] == ["api", "models"] and len(path) >= 4:
            folder = FOLDER / path[3]
            names = sorted(file.name for file in folder.glob("*")) if path[2] == "tiny" else []
            if not names:
                return self.missing("RepoNotFound", body)
            answer: Any = self.tree(folder, names) if "tree" in path else self.model(path[3], names)
            return self.say(json.dumps(answer), body)
        if len(path) == 5 and path[0] == "tiny" and path[2] == "resolve":
            file = FOLDER / path[1] / path[4]
            return self.say(file.read_bytes(), body) if file.is_file() else self.missing("EntryNotFound", body)
        return self.missing("RepoNotFound", body)

    def model(self, name: str, names: list[str]) -> dict[str, Any]:
        files = [{"rfilename": own} for own in names]
        return {"id": f"tiny/{name}", "sha": COMMIT, "siblings": files, "pipeline_tag": "text-generation", "tags": []}

    def tree(self, folder: Path, names: list[str]) -> list[dict[str, Any]]:
        return [{"type": "file", "path": own, "size": (folder / own).stat().st_size, "oid": own} for own in names]

    def say(self, content: str | bytes, body: bool) -> None:
        data = content.encode() if isinstance(content, str) else content
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def missing(self, code: str, body: bool) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", PORT), Hub).serve_forever()
