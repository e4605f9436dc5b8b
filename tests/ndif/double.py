"""Starting the stand-in for NDIF, telling it how to misbehave, and models that it has."""

import copy
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import torch
from families import fresh, tokenizer

import steerlab as sl

SERVER = Path(__file__).with_name("server.py")
PROMPTS = ["Once upon a time there was a", "He said"]
KEY, ORDINARY = (f"{digit * 8}-2222-3333-4444-555555555555" for digit in "19")


def hub_cache(home: Path, models: dict[str, Path]) -> Path:
    """A cache of the Hub in which these names lie, so that every process finds them without a network."""
    for name, folder in models.items():
        own = home / "hub" / f"models--{name.replace('/', '--')}"
        (own / "refs").mkdir(parents=True)
        (own / "refs" / "main").write_text("0" * 40)
        (own / "snapshots").mkdir()
        (own / "snapshots" / ("0" * 40)).symlink_to(folder)
    return home


def distant(family: str, remote: Any, dtype: torch.dtype = torch.float32) -> sl.SteerableModel:
    """A model of a family without weights, which a server has under the name tiny/FAMILY."""
    hf = fresh(family, dtype)
    config = copy.deepcopy(hf.config)
    config._name_or_path = f"tiny/{family}"
    with torch.device("meta"):
        bare = type(hf)(config).to(dtype)  # type: ignore[arg-type]  # transformers types it wrongly
    return sl.load(bare, tokenizer=tokenizer(), remote=remote)


class Double:
    """A server in another process, on the loopback."""

    def __init__(self, folder: Path, models: dict[str, Path]) -> None:
        port = folder / "port"
        named = [f"{name}={path}" for name, path in models.items()]
        env = {**os.environ, "HF_HOME": str(hub_cache(folder / "home", models)), "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen([sys.executable, str(SERVER), str(port), *named], cwd=folder, env=env)
        while not port.exists():
            if self.process.poll() is not None:
                raise RuntimeError("the server has not started")
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{port.read_text()}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self.switch()

    def switch(self, **faults: Any) -> None:
        """Misbehave so from now on, and forget what was seen."""
        self.client.post("/switch", json=faults).raise_for_status()

    def seen(self) -> list[dict[str, Any]]:
        """What came since the last switch: a dict for each request."""
        requests: list[dict[str, Any]] = self.client.get("/seen").json()
        return requests

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)  # for a runner that is being started
