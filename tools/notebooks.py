"""Make, check and show the course's notebooks.

People edit `notebooks/source/NN_name.py`, a percent script. `notebooks/NN_name.ipynb` holds the same cells with their
outputs; it is made here and committed, so that it can be read without being run.

    python tools/notebooks.py build [NAME ...]   scripts to executed notebooks
    python tools/notebooks.py text  [NAME ...]   new texts for notebooks whose code is as it was; outputs stay
    python tools/notebooks.py check [NAME ...]   are the committed notebooks whole, and those of their scripts?
    python tools/notebooks.py tour  [NAME ...]   run into build/tour as HTML, print the outputs of cells tagged `tour`
    python tools/notebooks.py learner [NAME ...] for a class: build/learner, without solutions and outputs

Each gets a line of its times after the title, and the map of the course at its end (tools/course.py).

A NAME is a notebook's name or its beginning (`02`, `02_actadd`). None means all; for the tour, the first and ActAdd's.
"""

import argparse
import functools
import hashlib
import os
import re
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from PIL import Image

import course

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
TOUR = ["00_start_here", "02_actadd"]
TOUR_FOLDER = ROOT / "build" / "tour"
LEARNER_FOLDER = ROOT / "build" / "learner"
MAX_BYTES = 1_000_000
CELL_SECONDS = 900
PANEL = "An interactive panel: run this cell to use it."

PROGRESS = re.compile(r"\d%\||(it/s|s/it)[\],]")  # a tqdm bar, of which nothing is worth keeping
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
ABSOLUTE_PATH = re.compile(r"(?<![^\s\"'`(=\[,])(/[A-Za-z_~][\w.@+-]*(/[\w.@+-]+)+|[A-Z]:\\Users\\)")


class NotebookError(Exception):
    """What is wrong, in words for the command line."""


# --- reading and writing -----------------------------------------------------------------------------------------


def source_of(notebook: Path) -> Path:
    """The percent script that a notebook is made from."""
    return notebook.parent / "source" / f"{notebook.stem}.py"


def find(names: list[str]) -> list[Path]:
    """The notebooks, made or still to be made, whose names begin with one of `names`; all when there are none."""
    stems = {path.stem for pattern in ("*.ipynb", "source/*.py") for path in NOTEBOOKS.glob(pattern)}
    chosen = set()
    for name in names or [""]:
        matches = {stem for stem in stems if stem.startswith(Path(name).stem)}
        if name and not matches:
            raise NotebookError(f"no notebook {name!r}; there are: {', '.join(sorted(stems)) or 'none'}")
        chosen |= matches
    return [NOTEBOOKS / f"{stem}.ipynb" for stem in sorted(chosen)]


def read_source(script: Path) -> NotebookNode:
    """The notebook that a percent script stands for, with its times and the map, without outputs."""
    notebook: NotebookNode = jupytext.read(script, fmt="py:percent")
    return tidy(course.frame(notebook, script.stem, questions(script.parent)))


@functools.cache
def questions(folder: Path) -> dict[str, str]:
    """The question of each notebook whose script is in a folder."""
    scripts = {path.stem: path for path in folder.glob("[0-9][0-9]_*.py")}
    return {stem: course.question(jupytext.read(path, fmt="py:percent")) for stem, path in scripts.items()}


def read(path: Path) -> NotebookNode:
    """A notebook from its file."""
    if not path.exists():
        raise NotebookError(f"{path.name} is not there yet: run `python tools/notebooks.py build {path.stem}`")
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """A notebook to its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


# --- running -----------------------------------------------------------------------------------------------------


def execute(notebook: NotebookNode) -> NotebookNode:
    """Run a notebook from top to bottom in an empty folder; raises at the first error."""
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # or the kernel warns about itself
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as fast for a small model, far faster beside other work
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            store_widget_state=True,  # `tidy` drops it; without it nbclient breaks where an Output widget is written to
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # or it warns of TCP, though it stays on this computer
        )
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise NotebookError(str(error)) from error
    return tidy(notebook)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Keep what readers see, drop what differs from run to run."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    seen: set[str] = set()
    for cell in notebook.cells:
        cell.id = cell_id(cell.source, seen)
        cell.metadata = NotebookNode({key: cell.metadata[key] for key in ("jupyter", "tags") if key in cell.metadata})
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(tidy_output, cell.outputs) if output is not None]
    return notebook


def cell_id(source: str, seen: set[str]) -> str:
    """An id from a cell's text, so that a rebuilt notebook differs only where its cells do."""
    count = 0
    while (name := hashlib.sha256(f"{count}{source}".encode()).hexdigest()[:8]) in seen:
        count += 1
    seen.add(name)
    return name


def tidy_output(output: NotebookNode) -> NotebookNode | None:
    """An output without progress bars, live widgets and memory addresses; None when nothing is left."""
    if output.output_type == "stream":
        lines = re.split(r"[\r\n]", output.text)
        if output.name == "stderr" and any(map(PROGRESS.search, lines)):
            output.text = "".join(f"{line}\n" for line in lines if line.strip() and not PROGRESS.search(line))
        output.text = ADDRESS.sub("at 0x0", output.text)
        return output if output.text.strip() else None
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data:
        if PROGRESS.search(data.get("text/plain", "")):
            return None
        output.data = NotebookNode({"text/plain": PANEL})
    for kind in data:
        if kind.startswith("text/"):
            data[kind] = ADDRESS.sub("at 0x0", data[kind])
    if "image/png" in data:
        data["image/png"] = with_palette(data["image/png"])
    return output


def with_palette(png: str) -> str:
    """A figure on white with at most 256 colours, which looks the same in less than half of the bytes."""
    with Image.open(BytesIO(b64decode(png))) as image:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
    small = BytesIO()
    white.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return b64encode(small.getvalue()).decode()


# --- checking ----------------------------------------------------------------------------------------------------


def problems(path: Path) -> list[str]:
    """What is wrong with a committed notebook; nothing is when this is empty."""
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    wrong = list(stale(notebook, source_of(path)))
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        wrong.append("a cell's output is an error")
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        wrong.append("its code cells were not all executed once, from top to bottom")
    if not any("parameters" in cell.metadata.get("tags", []) for cell in code):
        wrong.append("no code cell is tagged `parameters`")
    if path.stat().st_size >= MAX_BYTES:
        wrong.append(f"it has {path.stat().st_size:,} bytes; the limit is {MAX_BYTES:,}")
    for number, cell in enumerate(notebook.cells, 1):
        for text in (cell.source, *output_texts(cell)):
            if match := ABSOLUTE_PATH.search(text):
                wrong.append(f"cell {number} holds an absolute path, {match[0]}")
    return wrong


def stale(notebook: NotebookNode, script: Path) -> Iterator[str]:
    """How a notebook's cells differ from its script's, if they do."""
    if not script.exists():
        yield f"its script source/{script.name} is missing"
        return
    ours, theirs = (
        [(cell.cell_type, cell.source, dict(cell.metadata)) for cell in cells]
        for cells in (notebook.cells, read_source(script).cells)
    )
    if ours != theirs:
        same = [our == their for our, their in zip(ours, theirs, strict=False)]
        number = [*same, False].index(False) + 1
        yield f"it is stale: from cell {number} on it is not source/{script.name}; build it again"


def output_texts(cell: NotebookNode) -> Iterator[str]:
    """The text of a cell's outputs, figures left out."""
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            yield output.text
        elif output.output_type == "error":
            yield "\n".join(output.traceback)
        else:
            yield from (text for kind, text in output.data.items() if kind.startswith("text/"))


# --- showing -----------------------------------------------------------------------------------------------------


def tour_text(notebook: NotebookNode) -> str:
    """What the cells tagged `tour` printed or showed as text."""
    texts = []
    for cell in notebook.cells:
        if "tour" not in cell.metadata.get("tags", []):
            continue
        for output in cell.get("outputs", []):
            data: dict[str, Any] = output.get("data", {})
            if output.output_type == "stream" and output.name == "stdout":
                texts.append(output.text)
            elif "image/png" not in data:
                plain = data.get("text/plain", "")
                texts.append(page_text(data["text/html"]) if plain.startswith("<IPython") else plain)
    return "\n".join(text.rstrip() for text in texts if text.strip())


def page_text(html: str) -> str:
    """The words of a page, a line for each row of a table."""
    html = re.sub(r"</t[dh]>(?=\s*<t[dh])", " | ", re.sub(r"</(tr|p|div)>", "\n", html))
    lines = re.sub(r"<style.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL)
    return "\n".join(" ".join(unescape(line).split()) for line in lines.splitlines() if line.strip())


def write_html(notebook: NotebookNode, path: Path) -> None:
    """A notebook as one HTML file."""
    html, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")


# --- the commands ------------------------------------------------------------------------------------------------


def build(paths: list[Path]) -> list[str]:
    """Execute scripts into notebooks; one that fails leaves its notebook as it was."""
    failures = []
    for path in paths:
        started = time.monotonic()
        try:
            write(execute(read_source(source_of(path))), path)
        except (NotebookError, FileNotFoundError) as error:
            failures.append(f"{path.name}: {error}")
            continue
        print(f"{path.name}: {time.monotonic() - started:.0f} s, {path.stat().st_size:,} bytes", flush=True)
    return failures


def text(paths: list[Path]) -> list[str]:
    """Write the scripts' texts into notebooks whose code has not changed, and leave their outputs as they are."""
    failures = []
    for path in paths:
        old, new = read(path), read_source(source_of(path))
        before, after = ([cell for cell in some.cells if cell.cell_type == "code"] for some in (old, new))
        if [cell.source for cell in before] != [cell.source for cell in after]:
            failures.append(f"{path.name}: its code has changed; build it again")
            continue
        for executed, cell in zip(before, after, strict=True):
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
        write(new, path)
    return failures


def check(paths: list[Path]) -> list[str]:
    """The problems of all notebooks."""
    failures = []
    for path in paths:
        try:
            failures += [f"{path.name}: {problem}" for problem in problems(path)]
        except NotebookError as error:
            failures.append(str(error))
    print(f"checked {len(paths)} notebooks: {len(failures)} problems")
    return failures


def tour(paths: list[Path]) -> list[str]:
    """Run notebooks afresh, print what they have to show, and say where to read them."""
    pages = []
    for path in paths:
        print(f"Running {path.name} ...", flush=True)
        started = time.monotonic()
        notebook = execute(read(path))
        pages.append(TOUR_FOLDER / f"{path.stem}.html")
        write_html(notebook, pages[-1])
        print(f"\n{tour_text(notebook) or '(it has no text output tagged `tour`)'}\n")
        print(f"{path.name} ran in {time.monotonic() - started:.0f} s.\n", flush=True)
    print("The executed notebooks, to open in a browser:")
    for page in pages:
        print(f"  {page}")
    return []


def learner(paths: list[Path]) -> list[str]:
    """The notebooks for a class: without solutions and outputs."""
    for path in paths:
        write(course.without_solutions(read_source(source_of(path))), LEARNER_FOLDER / path.name)
    print(f"{len(paths)} notebooks in {LEARNER_FOLDER}")
    return []


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["build", "text", "check", "tour", "learner"])
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args(arguments)
    names = options.names or (TOUR if options.command == "tour" else [])
    command = {"build": build, "text": text, "check": check, "tour": tour, "learner": learner}[options.command]
    try:
        failures = command(find(names))
    except NotebookError as error:
        failures = [str(error)]
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
