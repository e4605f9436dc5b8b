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


def first_picture(notebook: Path) -> bytes | None:
    """The first PNG among a notebook's outputs."""
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = (output.get("data", {}) for cell in cells for output in cell.get("outputs", []))
    picture = next((data["image/png"] for data in outputs if "image/png" in data), None)
    return None if picture is None else b64decode(picture)


@event_priority(100)  # before mkdocs-jupyter, which makes pages of the notebooks that it finds
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks, a picture of each, and the drawing of the README."""
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File(f"notebooks/{notebook.name}", str(ROOT), config.site_dir, config.use_directory_urls))
        if picture := first_picture(notebook):
            files.append(File.generated(config, f"assets/{notebook.stem}.png", content=picture))
    drawing = (ROOT / "notebooks" / "images" / "steering.png").read_bytes()
    files.append(File.generated(config, "assets/steering.png", content=drawing))
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let a notebook's links to its neighbours lead to their pages."""
    return NOTEBOOK_LINK.sub(r'href="../\1/', html) if page.file.src_uri.startswith("notebooks/") else html
