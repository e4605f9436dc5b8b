"""What the documentation site shows besides docs/*.md: the committed notebooks, and a picture out of each.

MkDocs calls these functions by their names while it builds.
"""

import json
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK_LINK = re.compile(r'href="(\d\d_\w+)\.ipynb')


BESIDE = ("INSTRUCTOR.md", "results/README.md")
"""Pages of the course beside its notebooks: for instructors, and the papers' figures beside the kept tables."""

ROWS = "<!-- notebooks -->"
"""Where the map of the course gets its rows."""


def notebooks() -> list[Path]:
    """The committed notebooks."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    """The cells of a notebook."""
    read: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return read


def first_picture(notebook: Path) -> bytes | None:
    """The first PNG among a notebook's outputs."""
    outputs = (output.get("data", {}) for cell in cells(notebook) for output in cell.get("outputs", []))
    picture = next((data["image/png"] for data in outputs if "image/png" in data), None)
    return None if picture is None else b64decode(picture)


def row(notebook: Path) -> str:
    """A notebook's line in the map: its name, the question that is its title, and its first picture."""
    title = next(cell["source"] for cell in cells(notebook) if cell["cell_type"] == "markdown")
    number, _, question = "".join(title).splitlines()[0].lstrip("# ").partition(" · ")
    picture = f"![The first figure of notebook {number}](assets/{notebook.stem}.png)" if first_picture(notebook) else ""
    return f"| [{number} · {notebook.stem[3:].replace('_', ' ')}](notebooks/{notebook.name}) | {question} | {picture} |"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the notebooks behind the map of the course, and the pages beside them behind these."""
    course = next(section["Course"] for section in config.nav or [] if "Course" in section)
    course += [f"notebooks/{name}" for name in (*(notebook.name for notebook in notebooks()), *BESIDE)]
    return config


@event_priority(100)  # before mkdocs-jupyter, which makes pages of the notebooks that it finds
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks, a picture of each, the pages beside them, and the drawing of the README."""
    for name in (*(notebook.name for notebook in notebooks()), *BESIDE):
        files.append(File(f"notebooks/{name}", str(ROOT), config.site_dir, config.use_directory_urls))
    for notebook in notebooks():
        if picture := first_picture(notebook):
            files.append(File.generated(config, f"assets/{notebook.stem}.png", content=picture))
    drawing = (ROOT / "notebooks" / "images" / "steering.png").read_bytes()
    files.append(File.generated(config, "assets/steering.png", content=drawing))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the rows of the map of the course."""
    return markdown.replace(ROWS, "\n".join(map(row, notebooks())))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let a notebook's links to its neighbours lead to their pages."""
    return NOTEBOOK_LINK.sub(r'href="../\1/', html) if page.file.src_uri.startswith("notebooks/") else html
