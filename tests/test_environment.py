"""pip, conda, Binder and make install the same: pyproject.toml's list, with the same extras."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]


def listed(project: dict[str, Any], extras: set[str]) -> set[Requirement]:
    """The requirements of the package with some of its extras."""
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return {Requirement(line) for line in lines}


def expand(line: str, project: dict[str, Any]) -> set[Requirement]:
    """The requirements that one line for pip stands for; `-e .[lab]` stands for pyproject.toml's own."""
    if line.startswith(("--extra-index-url ", "--index-url ", "--find-links ")):
        return set()
    if own := re.fullmatch(r"(?:-e|--editable) \.(?:\[([\w,-]+)\])?", line):
        return listed(project, set((own[1] or "").split(",")) - {""})
    return {Requirement(line)}


def conda(environment: dict[str, Any], project: dict[str, Any]) -> tuple[str, set[Requirement]]:
    """The Python version and the requirements that environment.yml installs."""
    conda_lines = [line for line in environment["dependencies"] if isinstance(line, str)]
    pip_lines = [line for part in environment["dependencies"] if isinstance(part, dict) for line in part["pip"]]
    python = next(line.partition("=")[2].lstrip("=") for line in conda_lines if line.startswith("python="))
    ours = {Requirement(re.sub(r"(?<![=<>!~])=(?!=)", "==", line)) for line in conda_lines}
    ours = {requirement for requirement in ours if requirement.name not in {"python", "pip"}}
    return python, ours.union(*(expand(line, project) for line in pip_lines))


def make(makefile: str, project: dict[str, Any]) -> tuple[str, set[Requirement]]:
    """The same of the Makefile."""
    variables = dict(re.findall(r"^(\w+) *[:?]?= *(.*)$", makefile, flags=re.MULTILINE))
    installed = re.search(r"pip install .*(--editable) '(.*)'", makefile)
    assert installed, "the Makefile installs nothing"
    line = f"{installed[1]} {installed[2].replace('$(EXTRAS)', variables['EXTRAS'])}"
    return variables["PYTHON"].removeprefix("python"), expand(line, project)


@pytest.fixture
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def environment() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def test_conda_and_make_install_what_pyproject_lists(project: dict[str, Any], environment: dict[str, Any]) -> None:
    expected = listed(project, {"lab", "dev"})
    assert len(expected) > 20
    python, requirements = conda(environment, project)
    assert requirements == expected
    assert make((ROOT / "Makefile").read_text(), project) == (python, expected)


def test_python_is_the_oldest_that_pyproject_allows(project: dict[str, Any], environment: dict[str, Any]) -> None:
    python, _ = conda(environment, project)
    allowed = SpecifierSet(project["requires-python"])
    major, minor = map(int, python.split("."))
    assert f"{major}.{minor}" in allowed
    assert f"{major}.{minor - 1}" not in allowed


def test_torch_is_pinned(project: dict[str, Any]) -> None:
    torch = next(requirement for requirement in listed(project, set()) if requirement.name == "torch")
    assert [specifier.operator for specifier in torch.specifier] == ["=="]


@pytest.mark.parametrize(
    "lines",
    [
        ["-e ."],
        ["-e .[lab]"],
        ["-e .[lab,dev,data]"],
        ["-e .[lab,dev]", "numpy<2"],
        ["-e .[lab,dev]", "nnterp"],
        ["torch==2.13.0", "nnsight"],
    ],
)
def test_drift_is_seen(project: dict[str, Any], environment: dict[str, Any], lines: list[str]) -> None:
    environment["dependencies"][-1]["pip"] = lines
    assert conda(environment, project)[1] != listed(project, {"lab", "dev"})


def test_drift_in_condas_own_list_is_seen(project: dict[str, Any], environment: dict[str, Any]) -> None:
    environment["dependencies"].insert(0, "numpy=1.26")
    assert conda(environment, project)[1] - listed(project, {"lab", "dev"}) == {Requirement("numpy==1.26")}
