"""The fast tests with the oldest, or the newest, torch, transformers and nnsight that pyproject.toml allows.

    python tools/matrix.py oldest [ARGUMENT OF PIP ...]
    python tools/matrix.py newest --extra-index-url https://download.pytorch.org/whl/cpu

Each has an environment of its own, build/matrix/NAME. The last lines name the versions and the first tests that failed.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "nnsight")
LOWEST = re.compile(r">=\s*([\d.]+)")


def requirements(which: str) -> list[str]:
    """What pip is asked for beside the package: for the oldest, each package at the least version allowed.

    Raises:
        ValueError: a package has no least version in pyproject.toml.
    """
    if which == "newest":
        return list(PACKAGES)
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    pins = []
    for package in PACKAGES:
        line = next(line for line in listed if re.match(rf"{package}\b", line))
        least = LOWEST.search(line)
        if least is None:
            raise ValueError(f"{line!r} has no least version: write {package}>=...")
        whole = least[1].count(".") == 2
        minor = ".".join([*least[1].split("."), "0"][:2])  # of ">=5" the series 5.0, not the newest 5
        pins.append(f"{package}=={least[1]}" if whole else f"{package}=={minor}.*")
    return pins


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, test, and say with what; returns the exit status of the tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["oldest", "newest"])
    given, pip = parser.parse_known_args(arguments)
    folder = ROOT / "build" / "matrix" / given.which
    venv.create(folder, with_pip=True)
    python = str(python_of(folder))
    asked = [python, "-m", "pip", "install", "--quiet", "--upgrade", *pip]
    subprocess.run([*asked, *requirements(given.which), "--editable", f"{ROOT}[lab,dev]"], check=True)
    tests = [python, "-m", "pytest", "--numprocesses", "2", "-m", "not slow", "--maxfail", "10"]
    status = subprocess.run(tests, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}).returncode
    shown = f"import importlib.metadata as m; print(*(f'{{p}} {{m.version(p)}}' for p in {PACKAGES}), sep=', ')"
    subprocess.run([python, "-c", shown], check=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
