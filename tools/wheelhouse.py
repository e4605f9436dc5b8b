"""A folder for a USB stick from which the course installs without a network: `python tools/wheelhouse.py FOLDER`.

    FOLDER/wheels     every package that is needed, for this operating system and this Python
    FOLDER/steerlab   the repository as it is committed, with the learner's notebooks
    FOLDER/README.txt the line that installs from it

Run it on the kind of computer that the room has: wheels are of one operating system, processor and Python version. The
bundled model is in the repository, so nothing else is needed.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILDERS = ("setuptools>=77", "wheel")  # to install a folder, pip first installs these

INSTALL = """\
No network is needed. Python {version} is ({system}). In a terminal, from this folder:

  Linux, macOS          python3 -m venv course && course/bin/{line}
                        cd steerlab/notebooks && ../../course/bin/jupyter lab
  Windows (PowerShell)  py -{version} -m venv course; course\\Scripts\\{line}
                        cd steerlab\\notebooks; ..\\..\\course\\Scripts\\jupyter lab

Does it work? (a line each)   course/bin/python -m steerlab.check
Notebooks with exercises, without solutions, are in steerlab/notebooks/learner.
"""
LINE = "python -m pip install --no-index --find-links wheels --editable 'steerlab[lab]'"


def commands(folder: Path, extras: list[str], pip: list[str]) -> list[list[str]]:
    """What fills the folder, in order."""
    wanted = f"{ROOT}[{','.join(['lab', *extras])}]"
    constraints = ["--constraint", str(ROOT / "tools" / "constraints.txt")]
    download = [sys.executable, "-m", "pip", "download", "--dest", str(folder / "wheels")]
    archive = folder / "steerlab.tar"
    return [
        [*download, *pip, *constraints, wanted],
        [*download, *pip, *BUILDERS],
        ["git", "-C", str(ROOT), "archive", "--prefix", "steerlab/", "--output", str(archive), "HEAD"],
        ["tar", "--extract", "--file", str(archive), "--directory", str(folder)],
        [sys.executable, str(ROOT / "tools" / "notebooks.py"), "learner"],
        ["cp", "--recursive", str(ROOT / "build" / "learner"), str(folder / "steerlab" / "notebooks" / "learner")],
    ]


def readme() -> str:
    """How to install from the folder."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return INSTALL.format(version=version, system=sys.platform, line=LINE)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status. Options it does not know go to pip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--extra", action="append", default=[], help='of pyproject.toml, such as "gemma": a real model')
    parser.add_argument("--dry-run", action="store_true", help="print what would be run, and the README")
    options, pip = parser.parse_known_args(arguments)
    folder = options.folder.resolve()
    for command in commands(folder, options.extra, pip):
        print(shlex.join(command), flush=True)
        if not options.dry_run:
            (folder / "wheels").mkdir(parents=True, exist_ok=True)
            if status := subprocess.run(command, check=False).returncode:
                print(f"stopped: {command[0]} ended with {status}", file=sys.stderr)
                return status
    if options.dry_run:
        print(readme())
        return 0
    (folder / "steerlab.tar").unlink()
    (folder / "README.txt").write_text(readme(), encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{len(list((folder / 'wheels').iterdir()))} packages, {size / 1e9:.1f} GB in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
