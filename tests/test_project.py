"""What stands around the code says the same as the code: versions, targets of make, citations, forms."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import matrix  # tools/matrix.py

ROOT = Path(__file__).resolve().parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
PAPERS = ("2308.10248", "2405.17345", "10.18653/v1/2024.findings-emnlp.479")
TOP = {"notebooks", "steerlab", "tests", "environment.yml", "README.md", "docs", "tools", "benchmarks"}
TOP |= {"pyproject.toml", "Makefile", "MANIFEST.in", "LICENSE", "CITATION.cff"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def commands(workflow: dict[str, Any]) -> str:
    """All that a workflow runs."""
    return "\n".join(step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step)


def test_one_version_stands_everywhere(project: dict[str, Any]) -> None:
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "docs/changelog.md").read_text(encoding="utf-8"), re.M)
    assert newest and newest[1] == project["version"] == read(ROOT / "CITATION.cff")["version"]


def test_the_map_of_the_code_has_every_file() -> None:
    chart = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Map of the code")[2].partition("\n## ")[0]
    paths = [path for path in (ROOT / "steerlab").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    names = {path.stem + "/" * path.is_dir() for path in paths} - {"__init__", "check"}
    assert names <= set(re.findall(r"`([\w/]+)`", chart))


def test_the_papers_are_cited_alike() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    references = read(ROOT / "CITATION.cff")["references"]
    for paper, reference in zip(PAPERS, references, strict=True):
        assert paper in str(reference) and paper in readme
        assert all(author["family-names"] in readme for author in reference["authors"])


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository, whose files are those that are meant")
def test_the_top_level_holds_what_is_looked_for_there() -> None:
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {name.partition("/")[0] for name in names if not name.startswith(".")} <= TOP


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_what_make_calls(path: Path) -> None:
    script = commands(read(path))
    called = set(re.findall(r"\bmake ([a-z]+)", script))
    assert called
    subprocess.run(["make", "--dry-run", *sorted(called)], cwd=ROOT, capture_output=True, check=True)
    assert all((ROOT / name).is_file() for name in re.findall(r"\b(?:tools|benchmarks)/[\w./]+\.(?:py|txt)", script))


def test_every_python_that_is_named_is_tested(project: dict[str, Any]) -> None:
    named = {line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert named == set(read(GITHUB / "workflows/ci.yml")["jobs"]["fast"]["strategy"]["matrix"]["python"])


def test_a_release_keeps_no_token() -> None:
    workflow = read(GITHUB / "workflows/release.yml")
    assert workflow["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (GITHUB / "workflows/release.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_are_whole(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    assert all(field["type"] in ("input", "textarea") and field["attributes"]["label"] for field in form["body"])


def test_the_container_and_the_hooks_are_read() -> None:
    assert "make setup" in json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())["postCreateCommand"]
    hooks = read(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert all(hook["language"] == "system" for hook in hooks)


def test_the_oldest_versions_are_the_ends_of_the_ranges(project: dict[str, Any]) -> None:
    ranges = {line.name: line.specifier for line in map(Requirement, project["dependencies"])}
    for pin in map(Requirement, matrix.requirements("oldest")):
        (version,) = (Version(specifier.version.removesuffix(".*")) for specifier in pin.specifier)
        assert [Version(part.version) for part in ranges[pin.name] if part.operator == ">="] == [version]
        assert len(version.release) > 1  # "==5.*" would be the newest
    assert matrix.requirements("newest") == ["torch", "transformers", "nnsight"]
