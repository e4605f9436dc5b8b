"""What stands around the notebooks, the learner's version, and the folder for a room without a network."""

from pathlib import Path

import pytest

import course  # tools/course.py
import notebooks as tool  # tools/notebooks.py
import wheelhouse  # tools/wheelhouse.py

SCRIPTS = sorted((tool.NOTEBOOKS / "source").glob("[0-9][0-9]_*.py"))
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


@each_script
def test_a_notebook_says_its_times_and_where_it_is(script: Path) -> None:
    cells = tool.read_source(script).cells
    assert cells[0].source.startswith(f"# {script.stem[:2]} · ") and cells[0].source.splitlines()[0].endswith("?")
    assert cells[1].source.startswith("**Time.** reading: about ")
    assert cells[-1].source.startswith(course.END)
    for other in SCRIPTS:
        assert (f"({other.stem}.ipynb)" in cells[-1].source) is (other != script)
    assert "**Next:**" not in course.prose(tool.read_source(script)).replace("**Next:** 01", "")


@each_script
def test_the_learners_version_lacks_only_the_solutions(script: Path) -> None:
    whole, learner = tool.read_source(script), course.without_solutions(tool.read_source(script))
    text = course.prose(learner)
    assert "Solution</summary>" not in text
    assert text.count(course.STUB.strip()) == course.prose(whole).count("<summary>Solution</summary>")
    assert [cell.source for cell in learner.cells if cell.cell_type == "code"] == [
        cell.source for cell in whole.cells if cell.cell_type == "code"
    ]
    assert text.count("<details>") == text.count("</details>")


def test_minutes_of_exercises_are_added() -> None:
    text = "**1.1 · Read.** ●○○ about 5 minutes. Do.\n\nabout 90 minutes\n\n**1.2 · Two.** ●●○ about 10 minutes."
    assert "exercises: 15 minutes (2)" in course.times("01_tracing", text)
    assert "exercises" not in course.times("01_tracing", "no exercise")


def test_the_first_and_the_last_have_one_neighbour() -> None:
    questions = {"00_a": "A?", "01_b_c": "B?", "02_d": "D?"}
    assert "← " not in course.course_map("00_a", questions)
    assert "[01 · b c](01_b_c.ipynb) →" in course.course_map("00_a", questions)
    assert "→" not in course.course_map("02_d", questions)


def test_a_dry_run_of_the_wheelhouse_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "stick"
    assert (
        wheelhouse.main([str(folder), "--extra", "gemma", "--dry-run", "--extra-index-url", "https://example.org"]) == 0
    )
    out = capsys.readouterr().out
    assert not folder.exists()
    assert "pip download" in out and "[lab,gemma]" in out and "--extra-index-url https://example.org" in out
    assert "setuptools>=77" in out
    assert "--no-index --find-links wheels" in out and "PowerShell" in out


def test_a_step_that_fails_stops_the_wheelhouse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wheelhouse, "commands", lambda *args: [["false"], ["touch", str(tmp_path / "later")]])
    assert wheelhouse.main([str(tmp_path / "stick")]) == 1
    assert "stopped: false ended with 1" in capsys.readouterr().err
    assert not (tmp_path / "later").exists()
