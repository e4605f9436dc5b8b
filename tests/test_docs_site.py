"""The documentation site builds without a warning, and every link in the project leads somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import docs_links  # tools/docs_links.py

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]+)")
PAGES = [ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MADE = ("assets/", "notebooks/")
"""What docs_pages.py adds to the site; the build refuses links into it that lead nowhere."""


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_links_to_files_lead_to_files(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8"))]
    if page.is_relative_to(ROOT / "docs"):
        links = [link for link in links if not link.removeprefix("../").startswith(MADE)]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    links = ["", "#top", "#none", "page/", "page/#there", "page/#none", "none.png", "https://example.org"]
    (tmp_path / "index.html").write_text('<h1 id="top">' + "".join(f'<a href="{link}">' for link in links if link))
    (tmp_path / "page" / "index.html").write_text('<a id="there"><img src="../index.html">')
    broken = list(docs_links.broken_within(tmp_path, docs_links.read(tmp_path)))
    assert broken == ["index.html: #none", "index.html: none.png", "index.html: page/#none"]


@pytest.mark.slow
def test_the_site_builds_and_its_links_hold(tmp_path: Path) -> None:
    for needed in ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter"):
        pytest.importorskip(needed, reason="the site's tools are not installed: pip install -e '.[docs]'")
    build = ["-m", "mkdocs", "build", "--quiet", "--strict", "-f", str(ROOT / "tools/mkdocs.yml"), "-d", str(tmp_path)]
    run = subprocess.run([sys.executable, *build], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    pages = docs_links.read(tmp_path)
    assert len(pages) > 30
    assert list(docs_links.broken_within(tmp_path, pages)) == []
    for script in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert tmp_path / "notebooks" / script.stem / "index.html" in pages
