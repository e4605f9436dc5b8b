"""The course, for those who installed the package: `python -m steerlab.course FOLDER` copies it.

A wheel holds the notebooks in `steerlab/notebooks`; in a checkout of the repository they lie beside the package.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
PLACES = (PACKAGE / "notebooks", PACKAGE.parent / "notebooks")
"""Where the course may lie: in a wheel, in a checkout."""


def source() -> Path:
    """Where the notebooks, their scripts and the kept results lie.

    Raises:
        FileNotFoundError: the package was installed without them.
    """
    for place in PLACES:
        if (place / "00_start_here.ipynb").is_file():
            return place
    raise FileNotFoundError(f"there are no notebooks in {' or '.join(map(str, PLACES))}: install a wheel, or clone it")


def copy(folder: str | Path) -> Path:
    """Copy notebooks, scripts, pictures and kept results into a new folder.

    Args:
        folder: where to; made where it is not there yet.

    Returns:
        The folder.

    Raises:
        FileExistsError: it holds something already, which is never written over.
        FileNotFoundError: the package was installed without the notebooks.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty: name a new folder, so that nothing of yours is written over")
    left_out = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.sqlite*", "*.jobs")
    shutil.copytree(source(), folder, ignore=left_out, dirs_exist_ok=True)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m steerlab.course", description="Copy the course's notebooks.")
    parser.add_argument("folder", type=Path, help="a new or empty folder")
    try:
        folder = copy(parser.parse_args(arguments).folder)
    except OSError as error:
        parser.error(str(error))
    print(f"{len(list(folder.glob('*.ipynb')))} notebooks are in {folder}; open them with: jupyter lab {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
