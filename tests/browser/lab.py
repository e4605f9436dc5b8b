"""Notebooks in JupyterLab and Notebook 7, and the panels in them, handled as a person does: by what is seen."""

import contextlib
import hashlib
import os
import re
import signal
import time
from pathlib import Path

import pytest
from chromium import SIZE, screenshot
from nbformat import NotebookNode
from playwright.sync_api import Browser, Locator, Page, expect

import notebooks as tool  # tools/notebooks.py

TOKEN = "a-token-for-the-tests"
SECONDS = 1000  # Playwright counts milliseconds
PATIENCE = 60 * SECONDS  # for what takes a moment on a quiet computer
CELL_PATIENCE = 300 * SECONDS
expect.set_options(timeout=PATIENCE)

ERROR = '[data-mime-type="application/vnd.jupyter.stderr"]:has(.ansi-red-fg)'  # a traceback; warnings have no colours
DONE = """([error, cells]) => {
    const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].map(prompt => prompt.textContent);
    const done = prompts.filter(text => /^\\[\\d+\\]:/.test(text)).length;
    return document.querySelector(error) !== null || done >= cells;
}"""
WAITING = """error => {
    const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].map(prompt => prompt.textContent);
    return document.querySelector(error) !== null || !prompts.some(text => text.includes("*"));
}"""

FADED = "() => !document.getAnimations().some(animation => animation instanceof CSSTransition)"

# Notes when a key goes down and when a picture has loaded, in milliseconds, and how often a long run began.
WATCH = """root => {
    const seen = window.seen = {keys: [], pictures: [], runs: 0};
    const stop = root.querySelector(".steerlab-stop");  // can be pressed during a run; some panels have none
    let before = false;
    document.addEventListener("keydown", () => seen.keys.push(performance.now()), true);
    root.querySelector(".steerlab-picture")?.addEventListener("load", () => seen.pictures.push(performance.now()));
    if (stop) new MutationObserver(() => {
        const running = !stop.disabled;
        seen.runs += running && !before;
        before = running;
    }).observe(stop, {attributes: true});
}"""

# Where in the panel the focus is, in pixels from its corner: the left edge, and the middle from above; and whether a
# control has it. Null where it is elsewhere.
CONTROL = "select, input, textarea, button, .noUi-handle"
FOCUS = """(root, control) => {
    const at = document.activeElement, box = at.getBoundingClientRect(), whole = root.getBoundingClientRect();
    if (!root.contains(at)) return null;
    return [box.left - whole.left, (box.top + box.bottom) / 2 - whole.top, at.matches(control)];
}"""
FOCUSABLE = """(root, control) => [...root.querySelectorAll(control)]
    .filter(at => !at.disabled && at.checkVisibility()).length"""

# The least contrast of the panel's texts with what is behind them, as WCAG 2 defines it, and the text that has it.
# What is translucent is mixed with what shows through; what is disabled or disappearing is left out, as there.
CONTRAST = """root => {
    const parse = colour => (colour.match(/[\\d.]+/g) ?? []).map(Number);
    const light = colour => {
        const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const over = ([r, g, b, alpha = 1], under) => [r, g, b].map((v, i) => alpha * v + (1 - alpha) * under[i]);
    const back = at => parse(getComputedStyle(at).backgroundColor);
    const behind = at => at ? over(back(at), behind(at.parentElement)) : [255, 255, 255];
    const opacity = at => at ? getComputedStyle(at).opacity * opacity(at.parentElement) : 1;
    let worst = [21, ""];
    for (const element of root.querySelectorAll("*")) {
        const own = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE);
        const text = (element.value || own.map(node => node.data).join("")).toString().trim();
        if (!text || element.disabled || element.tagName === "OPTION" || !element.checkVisibility()) continue;
        const [r, g, b, alpha = 1] = parse(getComputedStyle(element).color), under = behind(element);
        const pair = [light(over([r, g, b, alpha * opacity(element)], under)), light(under)];
        const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        if (ratio < worst[0]) worst = [ratio, `${element.tagName} ${element.className}: ${text.slice(0, 60)}`];
    }
    return worst;
}"""


class Lab:
    """A running Jupyter server, whose pages are opened in one browser."""

    def __init__(self, browser: Browser, folder: Path, address: str) -> None:
        self.context = browser.new_context(viewport=SIZE)
        self.context.set_default_timeout(PATIENCE)
        self.folder, self.address = folder, address

    def open(self, notebook: NotebookNode, name: str, app: str = "lab/tree") -> "NotebookPage":
        """Open a notebook without outputs, in JupyterLab or Notebook 7: what the page shows comes from its kernel."""
        tool.write(notebook, self.folder / f"{name}.ipynb")
        cells = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)
        page = self.context.new_page()
        page.goto(f"{self.address}/{app}/{name}.ipynb?reset&token={TOKEN}")
        return NotebookPage(page, cells, self.folder.parent / "stacks")

    def open_source(self, name: str, app: str = "lab/tree") -> "NotebookPage":
        """Open one of the course's notebooks, with a file and a kernel of its own in each app."""
        notebook = tool.read_source(tool.source_of(tool.NOTEBOOKS / f"{name}.ipynb"))
        return self.open(notebook, name if app == "lab/tree" else f"{name}_again", app)


class NotebookPage:
    """An open notebook.

    Args:
        page: where it is.
        code_cells: how many it has.
        stacks: folder of a file for each kernel, named by its process: it writes its threads' stacks there on SIGUSR1.
    """

    def __init__(self, page: Page, code_cells: int, stacks: Path) -> None:
        self.page, self.code_cells, self.stacks = page, code_cells, stacks
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        self.wait_for_kernel()

    def menu(self, *path: str) -> None:
        """Choose an item of a menu."""
        bar, *items = path
        self.page.locator(".lm-MenuBar-itemLabel").get_by_text(bar, exact=True).click()
        for item in items:
            self.page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()

    def wait_for_kernel(self) -> None:
        """Until the page has a kernel, which has nothing to do."""
        self.page.locator(".jp-Toolbar-kernelName").get_by_text("Python 3").first.wait_for(timeout=CELL_PATIENCE)
        idle = self.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
        idle.first.wait_for(state="attached", timeout=CELL_PATIENCE)

    def run_all(self) -> None:
        """Run all cells, and wait for the last."""
        self.menu("Run", "Run All Cells")
        self.page.wait_for_function(DONE, arg=[ERROR, self.code_cells], timeout=CELL_PATIENCE)
        assert self.error() is None

    def run_to(self, text: str) -> None:
        """Run all cells above the one that holds a text, then that one."""
        self.select(text)
        self.menu("Run", "Run All Above Selected Cell")
        self.page.wait_for_function(WAITING, arg=ERROR, timeout=CELL_PATIENCE)  # outputs push the cell about
        self.run_cells(text)

    def run_cells(self, *texts: str) -> None:
        """Run the cells that hold these texts, one after the other, and wait for each."""
        for text in texts:
            prompt = self.select(text).locator(".jp-InputPrompt")
            prompt.evaluate("prompt => prompt.textContent = 'before'")  # a new kernel may give it the same number
            self.page.keyboard.press("Control+Enter")
            expect(prompt).not_to_have_text("before")
            done = prompt.get_by_text(re.compile(r"\[\d+\]:"))
            done.or_(self.page.locator(ERROR)).first.wait_for(timeout=CELL_PATIENCE)
            self.wait_for_kernel()  # the number may come before the outputs
            assert self.error() is None

    def cell(self, text: str) -> Locator:
        """The code cell that holds a text, or is nothing else."""
        whole = re.compile(rf"^{text}$") if text.isidentifier() else text
        cell = self.page.locator(".jp-CodeCell").filter(has=self.page.locator(".cm-content", has_text=whole))
        cell.scroll_into_view_if_needed()
        return cell

    def select(self, text: str) -> Locator:
        """Click into a cell, again where the page has moved under the pointer meanwhile."""
        cell = self.cell(text)
        for _ in range(10):
            cell.locator(".cm-content").click()
            if "jp-mod-active" in (cell.get_attribute("class") or ""):
                break
        expect(cell).to_have_class(re.compile("jp-mod-active"))
        return cell

    def panel(self, name: str) -> "PanelOnPage":
        """The panel of this name."""
        return PanelOnPage(self.page.locator(f".steerlab-{name}"), self.stacks)

    def figures(self) -> list[int]:
        """The widths of the figures that the page shows, in pixels of their own."""
        widths = "pictures => pictures.map(picture => picture.naturalWidth)"
        return list(self.page.locator(".jp-OutputArea-output img").evaluate_all(widths))

    def error(self) -> str | None:
        """The end of the first error that a cell shows."""
        errors = self.page.locator(ERROR)
        return errors.first.inner_text()[-600:] if errors.count() else None

    def use_theme(self, name: str) -> None:
        """Choose a theme."""
        self.menu("Settings", "Theme", name)
        light = "true" if name.endswith("Light") else "false"
        self.page.locator(f'body[data-jp-theme-light="{light}"]').wait_for(state="attached")  # it has no height
        self.page.wait_for_function(FADED)

    def show_files(self, shown: bool) -> None:
        """Open or close the file browser, which takes a fifth of the page."""
        files = self.page.locator(".jp-FileBrowser")
        if files.is_visible() != shown:
            self.menu("View", "Appearance", "Show Left Sidebar")
        expect(files).to_be_visible(visible=shown)

    def restart(self) -> None:
        """Restart the kernel, and say yes when asked whether to."""
        self.menu("Kernel", "Restart Kernel…")
        self.page.locator(".jp-Dialog").get_by_role("button", name="Confirm Kernel Restart").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")
        self.wait_for_kernel()

    def shut_down(self) -> None:
        """Shut the kernel down, and close the page."""
        self.menu("Kernel", "Shut Down Kernel")
        self.page.close()


class PanelOnPage:
    """A panel of the package, by the labels of its controls."""

    def __init__(self, root: Locator, stacks: Path) -> None:
        self.root, self.page, self.stacks = root, root.page, stacks
        self.picture, self.message = root.locator(".steerlab-picture"), root.locator(".steerlab-message")
        self.button, self.stop = root.locator(".steerlab-run"), root.locator(".steerlab-stop")
        self.completions = root.locator(".steerlab-completions")
        self.numbers, self.copy = root.locator(".steerlab-numbers"), root.locator(".steerlab-copy textarea")
        self.alert, self.cells = self.message.get_by_role("alert"), root.locator(".steerlab-cell")
        root.scroll_into_view_if_needed()
        root.evaluate(WATCH)

    def control(self, label: str) -> Locator:
        """The control with this label."""
        named = self.page.locator(".widget-label", has_text=re.compile(f"^{re.escape(label)}$"))
        return self.root.locator(".widget-inline-hbox", has=named)

    def handle(self, label: str) -> Locator:
        """A slider's handle: found by the label beside it, for ipywidgets gives it no accessible name of its own."""
        return self.control(label).locator(".noUi-handle")

    def readout(self, label: str) -> str:
        """The number beside a slider."""
        return self.control(label).locator(".widget-readout").inner_text().replace("\N{MINUS SIGN}", "-")

    def press(self, label: str, *keys: str) -> None:
        """Press keys on a slider."""
        for key in keys:
            self.handle(label).press(key)

    def write(self, label: str, text: str) -> None:
        """Write a text in place of the old one, and go on to the next control."""
        self.control(label).locator("input, textarea").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.press("Delete")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Tab")

    def write_number(self, label: str, text: str) -> None:
        """Write a slider's number beside it; Enter makes it the value."""
        self.control(label).locator(".widget-readout").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def source(self) -> str:
        """The address of the picture; a new picture has another."""
        return self.picture.get_attribute("src") or ""

    def shown(self) -> str:
        """A digest of the picture itself, whose address is new when it fades, too."""
        data = self.picture.evaluate("async picture => await (await fetch(picture.src)).text()")
        return hashlib.sha256(data.encode()).hexdigest()

    def settled(self) -> str:
        """The same, once nothing runs any more and the picture stays as it is."""
        before, now = "", self.shown()
        while now != before:
            self.page.wait_for_timeout(2000)
            expect(self.stop).to_be_disabled()
            before, now = now, self.shown()
        return now

    def expect_to_show_another(self, than: str) -> None:
        """Until another picture is shown, whatever its address."""
        for _ in range(100):
            if self.shown() != than:
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("the panel still shows the same picture")

    def expect_another_picture(self, than: str = "") -> None:
        """Until the picture is another, and whole."""
        expect(self.picture).not_to_have_attribute("src", than)
        self.page.wait_for_function("picture => picture.naturalWidth > 300", arg=self.picture.element_handle())

    def expect_completions(self) -> None:
        """Until there are completions; else the panel's message, and where its kernel is."""
        try:
            expect(self.completions.locator("table")).to_be_visible()
        except AssertionError:
            pytest.fail(f"no completions; the panel says {self.message.inner_text()!r}\n{stacks_of(self.stacks)}")

    def expect_pictures(self, count: int) -> None:
        """Until so many pictures have loaded since the panel was first looked at."""
        self.page.wait_for_function("count => seen.pictures.length >= count", arg=count)

    def seen(self, what: str) -> list[float]:
        """What was noted so far: see `WATCH`."""
        return list(self.page.evaluate("what => [seen[what]].flat()", what))

    def overflow(self) -> float:
        """How many pixels of the panel stick out of the page's column."""
        column = self.page.locator(".jp-OutputArea-output", has=self.root).first
        reach = "root => Math.max(...[root, ...root.querySelectorAll('*')].map(e => e.getBoundingClientRect().right))"
        edge = column.evaluate("column => column.getBoundingClientRect().right")
        return float(self.root.evaluate(reach)) - float(edge)

    def tab_stops(self) -> list[tuple[float, float, bool]]:
        """What Tab comes to, from the first control to the last: see `FOCUS`."""
        self.root.locator(CONTROL).first.focus()
        stops = []
        while (stop := self.root.evaluate(FOCUS, CONTROL)) is not None:
            stops.append(tuple(stop))
            self.page.keyboard.press("Tab")
        return stops

    def focusable(self) -> int:
        """How many controls can have the focus."""
        return int(self.root.evaluate(FOCUSABLE, CONTROL))

    def worst_contrast(self) -> tuple[float, str]:
        """The least contrast of a text with what is behind it, from 1 to 21, and the text."""
        ratio, text = self.root.evaluate(CONTRAST)
        return float(ratio), str(text)

    def screenshot(self, name: str) -> None:
        """The page with the panel at its top."""
        self.root.evaluate("root => root.scrollIntoView({block: 'start'})")
        screenshot(self.page, name)


def stacks_of(folder: Path) -> str:
    """What the kernels' threads do now, of those that are still there."""
    for file in folder.iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.name), signal.SIGUSR1)
    time.sleep(1)
    return "\n".join(file.read_text() for file in folder.iterdir())
