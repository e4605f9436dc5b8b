"""A browser for the tests that look at pages: the Chromium that the system has, driven by Playwright.

Playwright's own browsers are not needed, and never downloaded. Where there is no Chromium, these tests are skipped:
`apt-get install chromium` on Debian, or `STEERLAB_CHROMIUM` names the program (Chrome and Edge do as well).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SCREENSHOTS = Path(__file__).resolve().parents[1] / "build" / "browser"
SIZE = {"width": 1280, "height": 900}


def program() -> str | None:
    """The path of Chromium, if there is one."""
    named = os.environ.get("STEERLAB_CHROMIUM")
    return named or next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser without a window; skips where Chromium is not installed.

    To be closed within a module: while it runs, Playwright's event loop stands in the way of others.
    """
    path = program()
    if path is None:
        pytest.skip(f"no Chromium is installed: none of {', '.join(PROGRAMS)} is on the PATH")
    # Root, as in a container, has no sandbox; and a container's /dev/shm may be too small for pages.
    root = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=[*root, "--disable-dev-shm-usage"])
        yield running
        running.close()


def screenshot(page: Page, name: str) -> None:
    """What the page shows, into build/browser, for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
