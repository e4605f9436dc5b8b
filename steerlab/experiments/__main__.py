"""What makes a model's kept tables, in the order in which they build on each other; --run makes them again.

`python -m steerlab.experiments --sampled` lists those whose numbers are counts of completions.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pandas as pd

from . import ledger, results

PAPERS = ("actadd", "sara", "foundations", "scaling", "side_by_side")


def commands(folder: Path) -> pd.DataFrame:
    """The commands of a folder's tables, a row each: `paper`, `experiment`, `sampled`, `seconds`, `command`."""
    rows = []
    for name in PAPERS:
        lines = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"{name}_*.json"))]
        known = {line["command"]: line for line in lines}
        experiments = import_module(
            f"{__package__}.{name}" + (".__main__" if name != "foundations" else "")
        ).EXPERIMENTS
        for experiment in experiments:
            for command, line in known.items():
                if experiment in shlex.split(command) or len(experiments) == 1:
                    rows.append((name, experiment, line["sampled"], line.get("seconds"), command))
    return pd.DataFrame(rows, columns=["paper", "experiment", "sampled", "seconds", "command"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    parser.add_argument("--folder", type=Path, default=results.FOLDER / "bundled", help="of the tables")
    parser.add_argument("--sampled", action="store_true", help="those that were sampled alone")
    parser.add_argument("--run", action="store_true", help="run them, from here")
    parser.add_argument("--ledger", action="store_true", help="write the page of what the tables say, and no more")
    ask = parser.parse_args(arguments)
    if ask.ledger:
        print(ledger.write())
        return 0
    listed = commands(ask.folder)
    listed = listed[listed["sampled"] | (not ask.sampled)]
    for row in listed.to_dict("records"):
        took = "time not kept" if pd.isna(row["seconds"]) else f"{row['seconds']:.0f} s"
        print(f"# {'sampled' if row['sampled'] else 'not sampled'}, {took}\n{row['command']}", flush=True)
        if ask.run:
            words = [word for word in shlex.split(row["command"]) if not word.startswith("STEERLAB_DATA=")]
            subprocess.run([sys.executable, *words[1:]], check=True)
    print(f"# {len(listed)} commands, {listed['seconds'].sum() / 60:.0f} minutes where the time was kept")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
