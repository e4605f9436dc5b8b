"""The committed notebooks are those of their scripts, and run from top to bottom."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest
from double import KEY, ORDINARY, Double
from families import fresh, tokenizer
from matplotlib.figure import Figure
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

import notebooks as tool  # tools/notebooks.py

NOTEBOOKS = sorted(tool.NOTEBOOKS.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

SCRIPT = """\
# %% [markdown]
# # A notebook

# %% tags=["parameters"]
SEED = 0

# %% tags=["tour"]
print("seed", SEED)
"""


@each_notebook
def test_committed_notebook_is_whole_and_not_stale(path: Path) -> None:
    assert tool.problems(path) == []


def test_every_script_has_its_notebook() -> None:
    assert [path.name for path in tool.find([]) if not path.exists()] == []


@pytest.mark.slow
@each_notebook
def test_notebook_runs_from_top_to_bottom(path: Path, kernels: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HF_HUB_OFFLINE": "1", **kernels}.items():
        monkeypatch.setenv(name, value)
    committed = shown_in(tool.read(path))
    assert shown_in(tool.execute(tool.read(path))) == committed


def shown_in(notebook: NotebookNode) -> list[list[list[str]]]:
    """Of each cell, of each output: in which forms it is, such as text and image."""
    cells = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return [[sorted(output.get("data", [output.get("name", "")])) for output in outputs] for outputs in cells]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Double]:
    """A stand-in for NDIF on the loopback, with one tiny model."""
    fresh("llama").save_pretrained(tmp_path / "served")
    tokenizer().save_pretrained(tmp_path / "served")
    double = Double(tmp_path, {"tiny/llama": tmp_path / "served"})
    yield double
    double.stop()


@pytest.mark.slow
@pytest.mark.parametrize("key", [KEY, ORDINARY], ids=["trusted", "ordinary"])
def test_notebook_08_runs_on_a_server(
    key: str, server: Double, kernels: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key == ORDINARY:
        pytest.importorskip("ndif.common", reason="NDIF's sandbox is not installed: see tools/ndif/requirements.txt")
    variables = {"HF_HUB_OFFLINE": "1", "NDIF_API_KEY": key, "STEERLAB_CACHE": str(tmp_path / "cache")}
    for name, value in (variables | kernels).items():
        monkeypatch.setenv(name, value)
    notebook = tool.read_source(tool.NOTEBOOKS / "source" / "08_remote.py")
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    # The kernel has imported huggingface_hub, so that HF_HOME would come too late.
    hub = f"import huggingface_hub\n\nhuggingface_hub.constants.HF_HUB_CACHE = {str(tmp_path / 'home' / 'hub')!r}\n"
    notebook.cells.insert(place + 1, new_code_cell(f"{hub}MODEL, REMOTE = 'tiny/llama', {server.url!r}"))
    text = "\n".join(text for cell in tool.execute(notebook).cells for text in tool.output_texts(cell))
    assert f"remote at {server.url}" in text
    assert "HOT" in text and "tiny/llama" in text  # the models that the server says it runs
    assert f"its kind: {'trusted' if key == KEY else 'ordinary'}" in text
    assert " rows\n" in text and key not in nbformat.writes(notebook)
    refused = "exact: the job failed on the server" in text and 'fit with gradient="spsa"' in text
    assert refused is (key == ORDINARY)
    requests = server.seen()
    assert requests and not any(request["leaks"] for request in requests)


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A sound notebook beside its script."""
    path = tmp_path / "00_trial.ipynb"
    script = tool.source_of(path)
    script.parent.mkdir()
    script.write_text(SCRIPT)
    notebook = tool.read_source(script)
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
    notebook.cells[-1].outputs = [stream("seed 0\n")]
    tool.write(notebook, path)
    return path


def stream(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def shown(**data: str) -> NotebookNode:
    return new_output("display_data", {kind.replace("_", "/"): text for kind, text in data.items()})


def put_error(notebook: NotebookNode) -> None:
    notebook.cells[-1].outputs = [new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])]


def put_path(notebook: NotebookNode) -> None:
    notebook.cells[-1].outputs = [stream("saved to /somewhere/else/vector.safetensors")]


def put_windows_path(notebook: NotebookNode) -> None:
    notebook.cells[-1].outputs = [shown(text_html=r"<b>read</b> C:\Users\someone\vector.safetensors")]


def put_size(notebook: NotebookNode) -> None:
    notebook.cells[-1].outputs = [stream("x" * tool.MAX_BYTES)]


def edit_cell(notebook: NotebookNode) -> None:
    notebook.cells[1].source = "SEED = 1"


def drop_cell(notebook: NotebookNode) -> None:
    del notebook.cells[0]


def drop_count(notebook: NotebookNode) -> None:
    notebook.cells[-1].execution_count = None


def swap_counts(notebook: NotebookNode) -> None:
    notebook.cells[1].execution_count, notebook.cells[2].execution_count = 2, 1


def drop_tag(notebook: NotebookNode) -> None:
    notebook.cells[1].metadata.pop("tags")


def test_sound_notebook_has_no_problems(committed: Path) -> None:
    assert tool.problems(committed) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (put_error, "an error"),
        (put_path, "cell 3 holds an absolute path, /somewhere/else/vector.safetensors"),
        (put_windows_path, "absolute path"),
        (put_size, "the limit is"),
        (edit_cell, "stale: from cell 2 on"),
        (drop_cell, "stale: from cell 1 on"),
        (drop_count, "not all executed"),
        (swap_counts, "not all executed"),
        (drop_tag, "no code cell is tagged `parameters`"),
    ],
)
def test_check_finds(committed: Path, spoil: Callable[[NotebookNode], None], words: str) -> None:
    notebook = tool.read(committed)
    spoil(notebook)
    tool.write(notebook, committed)
    assert any(words in problem for problem in tool.problems(committed))


def test_check_finds_a_missing_or_longer_script(committed: Path) -> None:
    script = tool.source_of(committed)
    script.write_text(SCRIPT + "\n# %%\nSEED + 1\n")
    assert "stale: from cell 4 on" in tool.problems(committed)[0]
    script.unlink()
    assert "is missing" in tool.problems(committed)[0]


@pytest.mark.parametrize("text", ["see https://example.org/a/b", "and/or", "attn/mlp/out", "1/2", r"$f:\mathbb{R}$"])
def test_no_absolute_path(text: str) -> None:
    assert tool.ABSOLUTE_PATH.search(text) is None


def test_tidy_drops_what_differs_from_run_to_run() -> None:
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1f"}}
    cell = new_code_cell("1", metadata={"tags": ["tour"], "execution": {"shell.execute_reply": "now"}})
    cell.outputs = [
        stream("\r 10%|#   | 1/10 [00:00<00:09, 1.0it/s]\nUserWarning: kept\n", "stderr"),
        stream("\r100%|####| 10/10 [00:09<00:00, 1.0it/s]\n", "stderr"),
        new_output("display_data", {**widget, "text/plain": "  0%|          | 0/3 [00:00<?, ?it/s]"}),
        new_output("display_data", {**widget, "text/plain": "VBox(children=())"}),
        shown(text_plain="<Axes at 0x7f00aa>"),
    ]
    notebook = tool.tidy(new_notebook(cells=[cell, new_code_cell("1")]))
    first, second = notebook.cells
    assert list(tool.output_texts(first)) == ["UserWarning: kept\n", tool.PANEL, "<Axes at 0x0>"]
    assert first.metadata == {"tags": ["tour"]}
    assert first.id != second.id
    assert tool.tidy(new_notebook(cells=[new_code_cell("1")])).cells[0].id == first.id


def test_a_figure_gets_a_palette_and_looks_the_same() -> None:
    figure, png = Figure(), BytesIO()
    figure.subplots().plot([1, 3, 2], label="a line")
    figure.savefig(png, format="png", transparent=True)
    small = tool.with_palette(b64encode(png.getvalue()).decode())
    assert len(b64decode(small)) < len(png.getvalue()) / 2
    with Image.open(BytesIO(b64decode(small))) as shrunk, Image.open(png) as drawn:
        on_white = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
        assert shrunk.mode == "P" and shrunk.size == drawn.size
        assert np.abs(np.asarray(shrunk.convert("RGB"), int) - np.asarray(on_white, int)).max() <= 16


@pytest.mark.slow
def test_build_check_and_tour(committed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    committed.unlink()
    monkeypatch.setattr(tool, "NOTEBOOKS", committed.parent)
    monkeypatch.setattr(tool, "TOUR_FOLDER", committed.parent / "tour")
    assert tool.main(["check"]) == 1
    assert tool.main(["build", "00"]) == 0
    assert tool.main(["check"]) == 0
    before = committed.read_bytes()
    assert tool.main(["build"]) == 0
    assert committed.read_bytes() == before
    capsys.readouterr()
    assert tool.main(["tour", "00"]) == 0
    assert "seed 0" in capsys.readouterr().out
    assert "seed 0" in (committed.parent / "tour" / "00_trial.html").read_text()
    tool.source_of(committed).write_text(SCRIPT + "\n# %%\n1 / 0\n")
    assert tool.main(["build"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert committed.read_bytes() == before


def test_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["check", "99_nowhere"]) == 1
    assert "no notebook '99_nowhere'" in capsys.readouterr().err


def test_a_page_is_told_in_words() -> None:
    html = "<style>p {color: red}</style><p>two &amp; two</p><table><tr><td>one</td> <td><b>four</b></td></tr></table>"
    assert tool.page_text(html) == "two & two\none | four"
