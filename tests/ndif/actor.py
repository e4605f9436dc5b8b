"""NDIF's own execution of a request, without Ray, Redis or an object store: the pinned package `ndif` does the work.

A trusted key's block runs in this process, an ordinary key's in a fresh runner process that holds no weights, and gets
copies of the activations over a socket. That process is a fork of one that has imported what a runner needs.
"""

import functools
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from ndif.common.schema.request import BackendRequestModel
from ndif.services.ray.deployments.modeling.nns import block_scope, execute_traced_block, prepare_traced_block
from ndif.services.ray.deployments.modeling.util import cpu_pickle_module
from ndif.services.ray.sandbox import host
from ndif.services.ray.sandbox.driver import RunnerError, SandboxDriver

HERE = Path(__file__).parent


class Forked:
    """A runner, as `host.spawn` starts and stops it, forked by runners.py."""

    source: ClassVar[Any] = None
    lock = threading.Lock()

    def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
        with Forked.lock:
            if Forked.source is None:
                source = [sys.executable, str(HERE / "runners.py")]
                pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
                Forked.source = subprocess.Popen(source, env=env, **pipes)
            print(json.dumps(command[3:]), file=Forked.source.stdin, flush=True)
            self.pid = int(Forked.source.stdout.readline())

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return 0
        return None

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    kill = terminate

    def wait(self, timeout: float | None = None) -> None:
        while self.poll() is None:
            time.sleep(0.01)


host.subprocess = SimpleNamespace(Popen=Forked, DEVNULL=None, TimeoutExpired=subprocess.TimeoutExpired)
host.RUNNER_ENV += ("HF_HUB_OFFLINE", "PYTHONPATH")
host.spawn = functools.partial(host.spawn, timeout=300)  # a runner starts slowly on a busy computer
os.environ["PYTHONPATH"] = str(HERE / "away")


class Actor:
    """What serves one model."""

    def __init__(self, model: Any, key: str) -> None:
        self.model, self.key = model, key
        self.dtype = model._module.dtype
        self.pool: Any = None

    def run(self, blob: bytes, trusted: bool) -> bytes:
        """The saved values of a block, as torch writes them.

        Raises:
            RuntimeError: the block failed; its text is what a client is told.
        """
        return self._beside(blob) if trusted else self._away(blob)

    def _beside(self, blob: bytes) -> bytes:
        with block_scope(), io.BytesIO() as file:
            tracer, _ = prepare_traced_block(self.model, blob, True, BackendRequestModel.deserialize)
            try:
                torch.save(execute_traced_block(tracer, self.dtype), file, pickle_module=cpu_pickle_module())
            except Exception:  # while its source lines are still known
                raise RuntimeError(traceback.format_exc()) from None
            return file.getvalue()

    def _away(self, blob: bytes) -> bytes:
        self.pool = self.pool or host.Pool(size=1, model_key=self.key)
        sandbox = self.pool.acquire(timeout=120)
        connection = sandbox.connection()
        try:
            connection.send((blob, True, str(self.dtype), None, {}))
            content, _ = SandboxDriver(self.model, self.dtype).pump(connection)
        except RunnerError as error:
            raise RuntimeError(str(error)) from None
        finally:
            connection.close()
            sandbox.stop()
        return bytes(content)

    def close(self) -> None:
        """Stop all runners; one that is being started would not see that this process ends."""
        while self.pool is not None and self.pool.spawning:
            time.sleep(0.05)
        if self.pool is not None:
            self.pool.close()
