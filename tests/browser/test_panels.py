"""The panels in a real JupyterLab, and once in Notebook 7, used as a person uses them: by what the page shows.

Screenshots go to build/browser.
"""

import re
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import jupytext
import pytest
from chromium import screenshot
from lab import Lab, NotebookPage, PanelOnPage
from playwright.sync_api import expect

import notebooks as tool  # tools/notebooks.py

pytestmark = pytest.mark.slow

MOVES = 15  # of a slider by its keys
DRAG = 60  # steps of one drag
READABLE = 4.5  # the contrast of text that WCAG 2 asks for at level AA
NOTEBOOK_7 = "notebooks"  # where the server has it
PANEL_CELL = "panel = playground("  # of notebook 02

# All the others.
WORKBENCH = """\
# %%
import pandas as pd
import steerlab as sl
from steerlab import judges, widgets

lm = sl.load()

# %%
frame = pd.DataFrame([
    {"layer": layer, "strength": strength, "hit": sample < layer * strength // 8, "sample": sample,
     "completion": f"Completion {sample} of layer {layer} at strength {strength}."}
    for layer in range(6) for strength in (1, 2, 4, 8) for sample in range(3)
])
widgets.sweep_browser(frame)

# %%
both = {"weddings": sl.actadd(lm, " weddings", " ", layer=0), "ships": sl.actadd(lm, " ships", " ", layer=0)}
widgets.compare(lm, both, n=2, max_new_tokens=12)

# %%
widgets.mixer(lm, both)

# %%
widgets.starter(lm)

# %%
widgets.trace_viewer(lm)

# %%
widgets.sara_panel(lm, judge=judges.word_judge(), layer=2)

# %%
task = sl.tasks.ioi(lm, 40, orders=["ABBA"])
fit = sl.fit(lm, task.train, sl.ActivScalar(("resid_post",)), steps=20, batch_size=4, lr=0.05)
widgets.scalar_panel(lm, fit, task.test)

# %%
jobs = pd.DataFrame({"id": ["a1", "b2"], "model": "m", "what": ["generate", "logits"], "state": ["QUEUED", "COMPLETED"],
                     "place": [3, None], "age": 130.0, "seconds": [None, 2.34], "gpu_gib": [None, 1.5]})
panel = widgets.job_panel(sl.load(remote="local"), lambda lm: lm.logits("He said"), "study.jobs")
panel.show(jobs)
panel
"""
BENCH = ("sweep_browser", "compare", "mixer", "starter", "trace_viewer", "sara_panel", "scalar_panel", "jobs")
FOCUSED = "element => element === document.activeElement"
SAME_LINE = 8  # pixels between the middles of what stands on one line, at most

SLOW = """\
# %%
import time
import steerlab as sl
from steerlab import widgets

panel = widgets.starter(sl.load(), prompt="I went to the")
panel

# %%
panel.draw = lambda figure: [time.sleep(0.05) for _ in range(1200)]
"""
Tell = Callable[[str], None]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Prints a line that is seen when tests pass, too."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", file=sys.stderr, flush=True)  # a process beside others has no other way out

    return line


@pytest.fixture(scope="module")
def actadd(lab: Lab) -> NotebookPage:
    """Notebook 02, run down to its panel."""
    page = lab.open_source("02_actadd")
    page.run_to(PANEL_CELL)
    return page


@pytest.fixture(scope="module")
def playground(actadd: NotebookPage) -> PanelOnPage:
    """Its panel."""
    panel = actadd.panel("playground")
    panel.expect_another_picture()
    return panel


@pytest.fixture(scope="module")
def workbench(lab: Lab) -> NotebookPage:
    """The panels of `WORKBENCH`, beneath each other."""
    page = lab.open(tool.tidy(jupytext.reads(WORKBENCH, fmt="py:percent")), "workbench")
    page.run_all()
    return page


@pytest.fixture
def pages(actadd: NotebookPage, workbench: NotebookPage) -> dict[str, NotebookPage]:
    """Where each panel is."""
    return {"playground": actadd, **dict.fromkeys(BENCH, workbench)}


def test_notebook_00_runs_from_the_menu(lab: Lab) -> None:
    page = lab.open_source("00_start_here")
    page.run_all()
    widths = page.figures()
    assert len(widths) >= 3 and min(widths) > 300
    screenshot(page.page, "00_start_here")
    page.shut_down()


# --- the playground, in notebook 02 ------------------------------------------------------------------------------


def test_panel_opens_and_fits_the_page(actadd: NotebookPage, tell: Tell) -> None:
    started = time.monotonic()
    actadd.run_cells(PANEL_CELL)
    panel = actadd.panel("playground")
    panel.expect_another_picture()
    tell(f"running the cell until the playground shows its picture: {time.monotonic() - started:.2f} s")
    assert panel.overflow() <= 0
    panel.screenshot("playground")


def test_keyboard_moves_a_slider(playground: PanelOnPage) -> None:
    before, numbers = playground.source(), playground.numbers.inner_text()
    playground.press("strength", "Home", "ArrowRight", "ArrowRight")
    assert float(playground.readout("strength")) < 0
    expect(playground.copy).to_have_value(re.compile(r"-[\d.]+ \* vector"))
    playground.expect_another_picture(before)
    expect(playground.numbers).not_to_have_text(numbers)


def test_mouse_drags_a_slider_without_a_queue(playground: PanelOnPage) -> None:
    handle, mouse = playground.handle("strength"), playground.page.mouse
    handle.hover()
    track = playground.control("strength").locator(".noUi-base").bounding_box()
    assert track is not None
    mouse.down()
    for step in range(DRAG + 1):
        mouse.move(track["x"] + track["width"] * step / DRAG, track["y"])
    released = len(playground.seen("pictures"))
    mouse.up()
    assert float(playground.readout("strength")) > 0
    expect(playground.copy).to_have_value(re.compile(r"[^-\d.][\d.]+ \* vector"))
    playground.page.wait_for_timeout(1000)  # in which a queue would go on
    assert len(playground.seen("pictures")) - released <= 3  # one runs, one waits, one is on its way


def test_tab_reaches_every_kind_of_control(playground: PanelOnPage) -> None:
    playground.control("method").locator("select").focus()
    reached = set()
    for _ in range(60):
        playground.page.keyboard.press("Tab")
        reached.add(playground.page.evaluate("document.activeElement.className.split(' ').at(-1)"))
        if playground.button.evaluate(FOCUSED):
            break
    else:
        pytest.fail(f"the button is out of the keyboard's reach; it came to {sorted(reached)}")
    assert "noUi-handle-lower" in reached


def test_bad_prompt_is_one_line_and_the_panel_lives_on(playground: PanelOnPage) -> None:
    before = playground.settled()
    playground.write("prompt", "")
    expect(playground.alert).to_contain_text("prompt 0 is empty")
    assert "\n" not in playground.alert.inner_text().strip()
    assert playground.shown() == before
    playground.screenshot("playground_bad_prompt")
    playground.write("prompt", "We went to see the")
    expect(playground.alert).to_have_count(0)
    playground.expect_to_show_another(before)


def test_button_pressed_twice_runs_once(playground: PanelOnPage) -> None:
    runs = playground.seen("runs")[0]
    playground.button.dblclick()
    playground.expect_completions()
    expect(playground.stop).to_be_disabled()
    assert playground.button.evaluate(FOCUSED)
    playground.page.wait_for_timeout(1000)  # in which a second run would begin
    assert playground.seen("runs")[0] - runs == 1
    assert playground.overflow() <= 0
    playground.screenshot("playground_completions")


def test_time_from_slider_to_picture_is_told(playground: PanelOnPage, tell: Tell) -> None:
    playground.press("strength", "Home")
    expect(playground.copy).to_have_value(re.compile(r"-[\d.]+ \* vector"))
    playground.page.wait_for_timeout(500)
    taken = []
    for _ in range(MOVES):
        count = len(playground.seen("pictures"))
        playground.press("strength", "ArrowRight")
        playground.expect_pictures(count + 1)
        taken.append(playground.seen("pictures")[count] - playground.seen("keys")[-1])
    assert min(taken) > 0
    tell(f"slider move to updated picture: median {median(taken):.0f} ms, worst {max(taken):.0f} ms, n = {len(taken)}")


def test_notebook_7_has_the_same_panel(lab: Lab) -> None:
    """There the arrow keys walk from heading to heading before a slider sees them; other keys and numbers reach it."""
    page = lab.open_source("02_actadd", NOTEBOOK_7)
    page.run_to(PANEL_CELL)
    panel = page.panel("playground")
    panel.expect_another_picture()
    before = panel.source()
    panel.write_number("layer", "5")
    expect(panel.copy).to_have_value(re.compile("layer=5"))
    panel.expect_another_picture(before)
    before = panel.source()
    panel.press("strength", "End")
    expect(panel.copy).to_have_value(re.compile(r"[^-\d.][\d.]+ \* vector"))
    panel.expect_another_picture(before)
    assert panel.overflow() <= 0
    panel.screenshot("playground_notebook_7")
    page.shut_down()


def test_kernel_is_restarted_and_the_panel_comes_back(actadd: NotebookPage) -> None:
    actadd.restart()
    panel = actadd.panel("playground")
    expect(panel.root).to_have_class(re.compile("disconnected"))  # it says that it no longer works
    panel.screenshot("playground_after_restart")
    actadd.run_to(PANEL_CELL)
    panel = actadd.panel("playground")
    panel.expect_another_picture()
    before = panel.source()
    panel.press("strength", "ArrowLeft")
    panel.expect_another_picture(before)


def test_stop_ends_what_a_slider_began(lab: Lab) -> None:
    page = lab.open(tool.tidy(jupytext.reads(SLOW, fmt="py:percent")), "slow")
    page.run_all()
    panel = page.panel("playground")
    for _ in range(2):  # a message of the second may come to another thread than that of the first
        panel.press("strength", "ArrowRight")
        panel.stop.click()  # once it can be pressed
        expect(panel.message).to_contain_text("stopped")
        expect(panel.stop).to_be_disabled()
    page.shut_down()


# --- the other panels --------------------------------------------------------------------------------------------


def test_sweep_browser_shows_the_cell_that_is_clicked(workbench: NotebookPage) -> None:
    panel = workbench.panel("sweep_browser")
    for layer, strength in ((2, 4), (5, 1)):
        panel.root.get_by_title(re.compile(f"^layer {layer}, strength {strength}:")).click()
        expect(panel.completions).to_contain_text(f"Completion 0 of layer {layer} at strength {strength}.")
    panel.screenshot("sweep_browser")
    panel.control("view").locator("select").select_option("curves")
    panel.expect_another_picture()
    expect(panel.picture).to_be_visible()
    panel.screenshot("sweep_browser_curves")


def test_sweep_browser_tells_of_a_bad_query(workbench: NotebookPage) -> None:
    panel = workbench.panel("sweep_browser")
    panel.write("only rows", "layer > 99")
    expect(panel.alert).to_contain_text("no row of the frame matches")
    panel.write("only rows", "layer > 2")
    expect(panel.alert).to_have_count(0)


def test_scalar_map_switches_a_location_off_and_on(workbench: NotebookPage) -> None:
    panel = workbench.panel("scalar_panel")
    panel.expect_another_picture()
    cell = panel.cells.first
    number = cell.inner_text()
    cell.click()
    expect(cell).to_have_text("×")
    expect(panel.numbers).to_contain_text("that are on")
    panel.screenshot("scalar_map_one_off")
    cell.click()
    expect(cell).to_have_text(number)
    expect(panel.numbers).not_to_contain_text("that are on")


def test_scalar_map_follows_its_sliders(workbench: NotebookPage) -> None:
    panel = workbench.panel("scalar_panel")
    before = panel.source()
    panel.press("strength β", "End")  # it opens at the other
    panel.expect_another_picture(before)
    panel.press("threshold", "End")
    expect(panel.numbers).to_contain_text("that are on (1 of")
    panel.screenshot("scalar_map_threshold")
    panel.root.get_by_role("button", name="All on").click()
    expect(panel.numbers).not_to_contain_text("that are on")


def test_sara_panel_writes_three_answers(workbench: NotebookPage) -> None:
    panel = workbench.panel("sara_panel")
    panel.expect_another_picture()
    before = panel.source()
    panel.press("coefficient", "ArrowRight")
    panel.expect_another_picture(before)
    panel.button.click()
    expect(panel.completions).to_contain_text("steered the other way round")
    panel.screenshot("sara_panel")


def test_sara_panel_lives_on_after_an_empty_dilemma(workbench: NotebookPage) -> None:
    panel = workbench.panel("sara_panel")
    panel.write("prompt", "")
    expect(panel.alert).to_be_visible()
    assert "\n" not in panel.alert.inner_text().strip()
    panel.control("dilemma").locator("select").select_option(index=1)
    expect(panel.alert).to_have_count(0)
    expect(panel.control("prompt").locator("textarea")).not_to_have_value("")


def test_compare_puts_interventions_side_by_side(workbench: NotebookPage) -> None:
    panel = workbench.panel("compare")
    panel.expect_another_picture()
    before = panel.source()
    panel.press("of", "ArrowRight")
    panel.expect_another_picture(before)
    panel.button.click()
    for name in ("unsteered", "weddings", "ships"):
        expect(panel.completions.get_by_role("columnheader").filter(has_text=name)).to_be_visible()
    panel.screenshot("compare")


def test_mixer_moves_one_of_its_strengths(workbench: NotebookPage) -> None:
    panel = workbench.panel("mixer")
    panel.expect_another_picture()
    before, code = panel.source(), panel.copy.input_value()
    panel.press("ships", "ArrowRight")
    panel.expect_another_picture(before)
    weddings, _, ships = code.partition(" + ")
    expect(panel.copy).to_have_value(re.compile(f"^{re.escape(weddings)} "))
    assert ships not in panel.copy.input_value()


def test_viewer_reads_the_cell_that_is_clicked(workbench: NotebookPage) -> None:
    panel = workbench.panel("trace_viewer")
    panel.expect_another_picture()
    before = panel.source()
    panel.cells.first.click()  # the last layer stands on top
    panel.expect_another_picture(before)
    assert (panel.readout("layer"), panel.readout("token")) == ("7", "0")
    expect(panel.numbers).to_contain_text("At token 0")


# --- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", ["narrow", "wide"])
def test_panels_fit_their_pages(pages: dict[str, NotebookPage], width: str) -> None:
    out = {}
    for name, page in pages.items():
        page.show_files(width == "narrow")
        out[name] = page.panel(name).overflow()
        page.panel(name).screenshot(f"{name}_{width}")
    assert {name: pixels for name, pixels in out.items() if pixels > 0} == {}


def test_tab_goes_through_the_controls_as_they_are_read(pages: dict[str, NotebookPage]) -> None:
    for name in pages.keys() - {"sweep_browser"}:  # whose map stands beside its controls
        panel = pages[name].panel(name)
        stops = panel.tab_stops()
        assert sum(control for *_, control in stops) == panel.focusable(), name
        for (left, middle, _), (next_left, next_middle, _) in pairwise(stops):
            same_line = abs(next_middle - middle) <= SAME_LINE
            assert next_left > left if same_line else next_middle > middle, (name, stops)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_panels_can_be_read(pages: dict[str, NotebookPage], theme: str) -> None:
    worst = {}
    pages["sweep_browser"].panel("sweep_browser").write("only rows", "layer > 99")  # an error to be read, too
    panel = pages["playground"].panel("playground")
    panel.button.click()  # completions, with their prompt and the words of the topic
    panel.expect_completions()
    for page in dict.fromkeys(pages.values()):
        page.use_theme(theme)
    for name, page in pages.items():
        panel = page.panel(name)
        worst[name] = panel.worst_contrast()
        panel.screenshot(f"{name}_{theme.split()[1].lower()}")
    assert {name: seen for name, seen in worst.items() if seen[0] < READABLE} == {}
