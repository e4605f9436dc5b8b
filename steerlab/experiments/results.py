"""Full-size results: small CSV files in notebooks/results, each with a line beside it that says how it was made."""

import argparse
import json
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ..model import SteerableModel
from ..sweep import identity

FOLDER = Path(__file__).resolve().parents[2] / "notebooks" / "results"
"""Where the notebooks look; there is none where the package is installed without its notebooks."""

_VERSIONS = ("steerlab", "torch", "transformers", "nnsight")


def command_line(paper: str, about: str, experiments: Iterable[str] = ()) -> argparse.ArgumentParser:
    """What the command lines of all papers take: one of the experiments or "all", --out and --model."""
    parser = argparse.ArgumentParser(prog=f"python -m {_module(paper)}", description=about)
    if experiments:
        parser.add_argument("experiment", choices=["all", *experiments])
    parser.add_argument("--out", type=Path, default=Path("notebooks/results"), help="folder of the CSV files")
    parser.add_argument("--model", default=None, help="folder or Hub name; the bundled model by default")
    return parser


def record(
    paper: str,
    experiment: str,
    run: Callable[[], Mapping[str, pd.DataFrame]],
    folder: str | Path,
    lm: SteerableModel,
    arguments: Sequence[str],
    **settings: Any,
) -> None:
    """Run an experiment, write each frame to PAPER_NAME.csv, and beside it one line of what it takes to make it again.

    The line, PAPER_NAME.json, names the command, the settings, such as seed and n, the seconds that the run took (of
    one that goes on where it was stopped, the rest), the versions, and the model with the hash of its weights. The
    folder is made where it is missing.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    frames = run()
    seconds = round(time.perf_counter() - started)
    given = [experiment if one == "all" else one for one in arguments]
    line = {
        "command": shlex.join(["python", "-m", _module(paper), *given]),
        **settings,
        "seconds": seconds,
        "model": lm.name,
        "identity": identity(lm),
        "versions": {name: version(name) for name in _VERSIONS},
    }
    for name, frame in frames.items():
        path = Path(folder) / f"{paper}_{name}"
        frame.to_csv(path.with_suffix(".csv"), index=False, float_format="%.6g")
        path.with_suffix(".json").write_text(json.dumps(line) + "\n", encoding="utf-8")
    print(f"{experiment}: {seconds} s", flush=True)


def _module(paper: str) -> str:
    """The module that is the command line of a paper's experiments."""
    return f"{__package__}.{paper}"


def find(name: str, folder: str | Path = FOLDER) -> pd.DataFrame | None:
    """The frame that `record` wrote under a name; nothing where there is none."""
    path = Path(folder) / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else None


def runs(paper: str, folder: str | Path = FOLDER) -> pd.DataFrame:
    """How the kept tables of a paper ("actadd") were made, one row per command: `command`, `n`, `seconds`."""
    lines = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob(f"{paper}_*.json"))]
    return pd.DataFrame(lines, columns=["command", "n", "seconds"]).drop_duplicates(ignore_index=True)
