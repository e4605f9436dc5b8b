"""Full-size results: small CSV files in notebooks/results, each with a line beside it that says how it was made."""

import json
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ..model import SteerableModel
from ..sweep import identity

FOLDER = Path(__file__).resolve().parents[2] / "notebooks" / "results"
"""Where the notebooks look; there is none where the package is installed without its notebooks."""

_VERSIONS = ("steerlab", "torch", "transformers", "nnsight")


def save(
    frames: Mapping[str, pd.DataFrame],
    folder: str | Path,
    lm: SteerableModel,
    module: str,
    arguments: Sequence[str],
    **settings: Any,
) -> None:
    """Write each frame to NAME.csv, and to NAME.json one line of what it takes to make it again.

    The line names the command (`module` and its arguments), the settings, such as seed and n, the versions, and the
    model with the hash of its weights. The folder is made where it is missing.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    line = {
        "command": shlex.join(["python", "-m", module, *arguments]),
        **settings,
        "model": lm.name,
        "identity": identity(lm),
        "versions": {name: version(name) for name in _VERSIONS},
    }
    for name, frame in frames.items():
        frame.to_csv(Path(folder) / f"{name}.csv", index=False, float_format="%.6g")
        (Path(folder) / f"{name}.json").write_text(json.dumps(line) + "\n", encoding="utf-8")


def find(name: str, folder: str | Path = FOLDER) -> pd.DataFrame | None:
    """The frame that `save` wrote under a name; nothing where there is none."""
    path = Path(folder) / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else None


def runs(paper: str, folder: str | Path = FOLDER) -> pd.DataFrame:
    """How the kept tables of a paper ("actadd") were made, one row per command: `command`, `n`, `seconds`."""
    lines = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob(f"{paper}_*.json"))]
    return pd.DataFrame(lines, columns=["command", "n", "seconds"]).drop_duplicates(ignore_index=True)
