"""One Jupyter server and one browser for the tests of this folder."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from chromium import chromium
from lab import TOKEN, Lab
from playwright.sync_api import Browser

STARTUP = 120
STACKS = """\
import faulthandler, os, pathlib, signal
faulthandler.register(signal.SIGUSR1, open(pathlib.Path(os.environ["STACKS"]) / str(os.getpid()), "w"))
"""
"""What each kernel runs first, so that one that hangs can be asked where."""
QUIET = {  # JupyterLab asks no questions, writes nothing back, hides nothing
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    "docmanager-extension/plugin": '{"autosave": false}',
    "notebook-extension/tracker": '{"windowingMode": "none"}',  # all cells are on the page
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, or a skip."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def lab(browser: Browser, kernels: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server that serves JupyterLab and Notebook 7 from an empty folder, with no settings but the tests' own."""
    home = tmp_path_factory.mktemp("jupyter")
    folder = home / "work"
    folder.mkdir()
    startup = home / "ipythondir" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "stacks.py").write_text(STACKS)
    (home / "stacks").mkdir()
    for name, text in QUIET.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"]
    options += [
        f"--IdentityProvider.token={TOKEN}",
        "--allow-root",
        "--no-browser",
        "--LabApp.extension_manager=readonly",
    ]
    with (home / "server.log").open("w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        environment = os.environ | surroundings(home) | kernels
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, server, home / "server.log")
        yield Lab(browser, folder, address)
    finally:
        server.terminate()  # and with it its kernels
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def surroundings(home: Path) -> dict[str, str]:
    """The environment that keeps a server away from the user's own settings."""
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_WORKSPACES_DIR")
    ours = {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "STACKS": str(home / "stacks")}
    return {name: str(home / name.lower()) for name in own} | ours


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers."""
    end = time.monotonic() + STARTUP
    while time.monotonic() < end and server.poll() is None:
        try:
            urlopen(f"{address}/api?token={TOKEN}", timeout=5).close()
            return
        except (URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the Jupyter server did not start:\n{log.read_text()[-2000:]}")
