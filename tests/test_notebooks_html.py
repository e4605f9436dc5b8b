"""Executed notebooks as HTML: every figure is there without a kernel, those of the panels too."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import SIZE, chromium
from nbformat import NotebookNode
from playwright.sync_api import Page

import notebooks as tool  # tools/notebooks.py

NOTEBOOKS = sorted(tool.NOTEBOOKS.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# Of all pictures of a page: how wide the picture itself is, and how wide it is shown.
WIDTHS = "pictures => pictures.map(one => [one.naturalWidth, one.getBoundingClientRect().width])"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page that can reach nothing but files."""
    with chromium() as browser:
        context = browser.new_context(viewport=SIZE)
        context.route("http*://**", lambda route: route.abort())
        yield context.new_page()


def figures(cell: NotebookNode) -> int:
    """How many pictures a cell has put out."""
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def is_panel(cell: NotebookNode) -> bool:
    """Whether a panel stood in the cell's output."""
    return any(output.get("data", {}).get("text/plain") == tool.PANEL for output in cell.get("outputs", []))


@pytest.mark.slow
@each_notebook
def test_every_figure_is_seen_without_a_kernel(path: Path, page: Page, tmp_path: Path) -> None:
    notebook = tool.read(path)
    html = tmp_path / f"{path.stem}.html"
    tool.write_html(notebook, html)
    page.goto(html.as_uri())
    shown = page.locator(".jp-OutputArea-output img").evaluate_all(WIDTHS)
    assert len(shown) == sum(map(figures, notebook.cells)) > 0
    everywhere = page.locator("img").evaluate_all(WIDTHS)  # in the text, too
    assert [widths for widths in everywhere if min(widths) < 50] == []
    assert page.get_by_text(tool.PANEL).count() == sum(map(is_panel, notebook.cells))


def stays(cell: NotebookNode) -> bool:
    """Whether a cell shows a picture or a table, which a reader sees without a kernel."""
    return any({"image/png", "text/html"} & output.get("data", {}).keys() for output in cell.get("outputs", []))


@each_notebook
def test_every_panel_has_a_picture_or_a_table_beside_it(path: Path) -> None:
    code = [cell for cell in tool.read(path).cells if cell.cell_type == "code"]
    alone = [
        cell.source
        for before, cell, after in zip([NotebookNode(), *code], code, [*code[1:], NotebookNode()], strict=False)
        if is_panel(cell) and not any(map(stays, (before, cell, after)))
    ]
    assert alone == []
