"""What others install: a wheel and an sdist with everything in them, the course included, that work elsewhere."""

import os
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from steerlab import course
from steerlab.experiments import results

ROOT = Path(__file__).resolve().parents[1]


def tracked(folder: str) -> set[str]:
    """The course's files below a folder of the repository, as the wheel is to hold them."""
    kinds = {".ipynb", ".py", ".md", ".png", ".csv", ".json"}
    files = (path for path in (ROOT / folder).rglob("*") if path.suffix in kinds)
    return {path.relative_to(ROOT).as_posix() for path in files if ".ipynb_checkpoints" not in path.parts}


def test_the_course_is_copied_into_a_new_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "my course"
    assert course.main([str(target)]) == 0
    assert f"notebooks are in {target}" in capsys.readouterr().out
    copied = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert {f"notebooks/{name}" for name in copied} >= tracked("notebooks")
    (target / "00_start_here.ipynb").write_text("mine")
    with pytest.raises(SystemExit):
        course.main([str(target)])
    assert "is not empty: name a new folder" in capsys.readouterr().err
    assert (target / "00_start_here.ipynb").read_text() == "mine"


def test_a_file_is_no_folder_to_copy_into(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty: name a new folder"):
        course.copy(tmp_path / "file")


def test_without_notebooks_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = (tmp_path / "steerlab" / "notebooks", tmp_path / "notebooks")
    monkeypatch.setattr(course, "PLACES", places)
    with pytest.raises(FileNotFoundError, match="there are no notebooks in"):
        course.copy(tmp_path / "new")
    places[0].mkdir(parents=True)
    (places[0] / "00_start_here.ipynb").write_text("{}")
    assert [path.name for path in course.copy(tmp_path / "new").iterdir()] == ["00_start_here.ipynb"]


def test_results_lie_where_the_course_does() -> None:
    assert course.source() / "results" == results.FOLDER


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, made from the repository, and a wheel, made from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    build = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
    copy = folder / "repository"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    subprocess.run([sys.executable, "-c", build, "build_sdist", str(folder)], cwd=copy, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        file.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    subprocess.run(
        [sys.executable, "-c", build, "build_wheel", str(folder)], cwd=unpacked, check=True, capture_output=True
    )
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository, whose files are those that are built")
def test_a_wheel_that_is_installed_elsewhere_works(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = set(file.namelist())
    assert {f"steerlab/{name}" for name in tracked("notebooks")} <= held
    assert {name for name in tracked("steerlab") if not name.startswith("steerlab/notebooks/")} <= held
    assert not {name for name in held if name.startswith(("tests/", "tools/", "notebooks/", "benchmarks/"))}

    venv.create(tmp_path / "new", with_pip=False)
    python = next(path for path in (tmp_path / "new").glob("*/python*") if path.stem == "python")
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    with zipfile.ZipFile(wheel) as file:
        file.extractall(own)  # what pip does with a wheel without scripts, in a second
    (own / "others.pth").write_text("\n".join(site.getsitepackages()))  # what it depends on, from here

    def run(*arguments: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([python, *arguments], cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    lines = run("-m", "steerlab.check").splitlines()
    assert not [line for line in lines if line.startswith("BAD")]
    assert any(line.startswith("ok  steering") for line in lines)
    run("-m", "steerlab.course", "course")
    assert (tmp_path / "course" / "00_start_here.ipynb").is_file()
    kept = "from steerlab.experiments import results; print(results.__file__, (results.FOLDER / 'bundled').is_dir())"
    assert run("-c", kept).split() == [str(own / "steerlab" / "experiments" / "results.py"), "True"]
