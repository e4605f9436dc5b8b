"""Starting the stand-in for NDIF, and telling it how to misbehave."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

SERVER = Path(__file__).with_name("server.py")
KEY = "11111111-2222-3333-4444-555555555555"


class Double:
    """A server in another process, on the loopback."""

    def __init__(self, folder: Path, models: dict[str, Path]) -> None:
        told = folder / "port"
        named = [f"{name}={path}" for name, path in models.items()]
        self.process = subprocess.Popen([sys.executable, str(SERVER), str(told), *named])
        while not told.exists():
            if self.process.poll() is not None:
                raise RuntimeError("the server has not started")
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{told.read_text()}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self.switch()

    def switch(self, **faults: Any) -> None:
        """Misbehave so from now on, and forget what was seen."""
        self.client.post("/switch", json=faults).raise_for_status()

    def seen(self) -> list[dict[str, Any]]:
        """What came since the last switch: a dict for each request."""
        found: list[dict[str, Any]] = self.client.get("/seen").json()
        return found

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
