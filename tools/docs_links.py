"""Does every link of a built site lead somewhere?

python tools/docs_links.py build/site             files and anchors within the site
python tools/docs_links.py build/site --outside   and the addresses outside of it, which takes a network
"""

import argparse
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

LEAVE_OUT = ("cdn.jsdelivr.net", "ndif.example.org", "127.0.0.1")
DENIED = (401, 403, 405, 429)  # a page that is there, and does not answer programs


class Links(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what a tag leads to, and what it can be reached by."""
        given = {name: value for name, value in attributes if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag in ("a", "link", "img", "script"):
            self.links |= {given[name] for name in ("href", "src") if name in given}


def read(site: Path) -> dict[Path, Links]:
    """All pages of a site but the one for addresses that are not there."""
    pages = (path for path in site.rglob("*.html") if path.name != "404.html")
    return {path.resolve(): Links(path.read_text(encoding="utf-8")) for path in pages}


def broken_within(site: Path, pages: dict[Path, Links]) -> Iterator[str]:
    """Links to files and anchors that the site does not have."""
    for page, page_links in pages.items():
        for link in sorted(page_links.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            reached = pages.get(target)
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and reached is not None and anchor not in reached.anchors):
                yield f"{page.relative_to(site.resolve())}: {link}"


def broken_outside(pages: dict[Path, Links]) -> Iterator[str]:
    """Addresses outside of the site that do not answer, or not well."""
    addresses = {
        link.partition("#")[0] for page_links in pages.values() for link in page_links.links if link.startswith("http")
    }
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        for address in sorted(addresses):
            if urlsplit(address).hostname in LEAVE_OUT:
                continue
            try:
                status = client.get(address).status_code
            except httpx.HTTPError as error:
                yield f"{address}: {type(error).__name__}"
                continue
            if status >= 400 and status not in DENIED:
                yield f"{address}: {status}"


def main() -> int:
    """Print what is broken; the exit status says whether anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--outside", action="store_true", help="ask for addresses outside of the site too")
    given = parser.parse_args()
    pages = read(given.site)
    if not pages:
        parser.error(f"there are no pages in {given.site}: build the site first")
    broken = [*broken_within(given.site, pages), *(broken_outside(pages) if given.outside else [])]
    print(*broken, f"{len(pages)} pages, {len(broken)} broken links", sep="\n")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
