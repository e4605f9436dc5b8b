"""pip, conda, Binder and make install the same: pyproject.toml's list, with the same extras; and it is complete."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = "tools/constraints.txt"


def listed(project: dict[str, Any], extras: set[str]) -> set[Requirement]:
    """The requirements of the package with some of its extras."""
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return {Requirement(line) for line in lines}


def expand(line: str, project: dict[str, Any]) -> set[Requirement]:
    """The requirements that one line for pip stands for; `-e .[lab]` stands for pyproject.toml's own."""
    if line.startswith(("--extra-index-url ", "--index-url ", "--find-links ", "-c ")):
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


def make(folder: Path, project: dict[str, Any]) -> tuple[str, set[Requirement], str]:
    """The Python version, the requirements and the constraints that `make setup` installs, as it says itself."""
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("bundled_model", "__pycache__"))
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    asked = ["make", "--dry-run", "--directory", str(folder), "setup"]
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "PYTHON")}
    commands = subprocess.run(asked, capture_output=True, text=True, check=True, env=clean).stdout
    python = re.search(r"python(\d+\.\d+) -m venv", commands)
    install = next(shlex.split(line) for line in commands.splitlines() if "pip install" in line)
    assert python, commands
    own = f"-e {install[install.index('--editable') + 1]}"
    return python[1], expand(own, project), install[install.index("--constraint") + 1]


def imported(folder: Path) -> dict[str, set[str]]:
    """The packages that the modules of a folder import, and where."""
    places: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for package in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {folder.name}:
                places.setdefault(package, set()).add(path.relative_to(folder).as_posix())
    return places


def undeclared(folder: Path, requirements: set[Requirement]) -> dict[str, set[str]]:
    """What is imported, and where, that no requirement brings by name."""
    declared = {canonicalize_name(requirement.name) for requirement in requirements}
    known = packages_distributions()
    return {
        package: places
        for package, places in imported(folder).items()
        if not declared & {canonicalize_name(name) for name in known.get(package, [package])}
    }


@pytest.fixture
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def environment() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def test_conda_and_make_install_what_pyproject_lists(
    project: dict[str, Any], environment: dict[str, Any], tmp_path: Path
) -> None:
    expected = listed(project, {"lab", "dev"})
    assert len(expected) > 20
    python, requirements = conda(environment, project)
    assert requirements == expected
    assert make(tmp_path, project) == (python, expected, CONSTRAINTS)
    assert f"-c {CONSTRAINTS}" in environment["dependencies"][-1]["pip"]


def test_all_that_the_package_imports_is_declared(project: dict[str, Any]) -> None:
    core = listed(project, set())
    assert undeclared(ROOT / "steerlab", core | listed(project, {"gguf", "peft", "data"})) == {}
    assert undeclared(ROOT / "steerlab", core) == {"gguf": {"sharing.py"}}


def test_an_import_that_is_not_declared_is_seen(project: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import json\n\ndef later():\n    from yaml.nodes import Node\n")
    assert undeclared(tmp_path, listed(project, set())) == {"yaml": {"module.py"}}


def test_python_is_the_oldest_that_pyproject_allows(project: dict[str, Any], environment: dict[str, Any]) -> None:
    python, _ = conda(environment, project)
    allowed = SpecifierSet(project["requires-python"])
    major, minor = map(int, python.split("."))
    assert f"{major}.{minor}" in allowed
    assert f"{major}.{minor - 1}" not in allowed


def test_torch_is_a_range_and_one_version_of_it_is_tested(project: dict[str, Any]) -> None:
    torch = next(requirement for requirement in listed(project, set()) if requirement.name == "torch")
    lines = [line for line in (ROOT / CONSTRAINTS).read_text().splitlines() if not line.startswith("#")]
    pins = {pin.name: pin.specifier for pin in map(Requirement, lines)}
    (pin,) = pins["torch"]
    assert "==" not in {specifier.operator for specifier in torch.specifier}
    assert pin.operator == "==" and pin.version in torch.specifier


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
