"""The code in the pages of docs/ runs, from the top of a page to its bottom, on the bundled model."""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pytest
from test_gguf import TEMPLATE, write
from test_sharing import Hub

import steerlab as sl

DOCS = Path(__file__).resolve().parents[1] / "docs"
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```$", re.M | re.S)
NOT_RUN = re.compile(r"<!-- not run: .+ -->\s*\Z")
LOAD = sl.load


class Snippet(NamedTuple):
    """A block of code in a page, the line that it begins at, and whether the tests run it."""

    code: str
    line: int
    runs: bool


def snippets(text: str) -> list[Snippet]:
    """The Python of a page."""
    return [
        Snippet(dedent(fence[2]), text.count("\n", 0, fence.start()) + 2, NOT_RUN.search(text[: fence.start()]) is None)
        for fence in FENCE.finditer(text)
    ]


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if snippets(page.read_text(encoding="utf-8"))]


def load(model: Any = None, *, remote: bool | str = False, **options: Any) -> sl.SteerableModel:
    """`sl.load`, with the bundled model in place of one on the Hub, and this process in place of a server."""
    named = isinstance(model, str) and not Path(model).exists()
    lm = LOAD(None if named else model, remote="local" if remote else False, **options)
    if named:
        lm.tokenizer.chat_template = TEMPLATE
    return lm


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with a GGUF file, in which a page is run, and a Hub that is another folder."""
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", hub.api)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub.download)
    monkeypatch.setattr(sl, "load", load)
    monkeypatch.setenv("STEERLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "model.gguf")
    yield tmp_path
    plt.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(DOCS).as_posix() for page in PAGES])
def test_a_page_runs_from_top_to_bottom(page: Path, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for snippet in snippets(page.read_text(encoding="utf-8")):
        if snippet.runs:
            exec(compile("\n" * (snippet.line - 1) + snippet.code, page, "exec"), names)


def test_snippets_are_found_and_those_that_are_not_run_say_so() -> None:
    fence = "```python\n{}\n```\n"
    text = f"{fence}\n<!-- not run: needs a key -->\n{fence}\n- so\n\n    ```python\n    {{}}\n    ```\n".format(
        "a", "b", "c"
    )
    assert [(s.code, s.line, s.runs) for s in snippets(text)] == [
        ("a\n", 2, True),
        ("b\n", 7, False),
        ("c\n", 13, True),
    ]


def test_every_how_to_has_code_that_runs() -> None:
    for page in (DOCS / "howto").glob("*.md"):
        parts = snippets(page.read_text(encoding="utf-8"))
        assert page.stem == "index" or any(snippet.runs for snippet in parts), page.name


def test_the_table_of_libraries_counts_the_snippets_below_it() -> None:
    page = (DOCS / "peers.md").read_text(encoding="utf-8")
    header, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line[:1] == "|"
    )
    assert len(rows) == page.count("\n## ") - 1
    for row, section in zip(rows, page.split("\n## ")[2:], strict=True):
        assert section.lower().startswith(row[0]), row
        for library, cell in zip(header[1:], row[1:], strict=True):
            name = library.split()[0]
            marks = (f"**{name}**\n\n", f"<!-- not run: needs {name} -->\n", "**by hand**\n\n")
            mark = next(mark for mark in marks if mark in section)
            lines = FENCE.search(section, section.index(mark))[2].strip().splitlines()
            assert int(re.match(r"\d+", cell)[0]) == len(lines), (row[0], library)
            assert max(map(len, lines)) <= 120, (row[0], library)
