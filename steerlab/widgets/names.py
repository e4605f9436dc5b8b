"""Names for code that a reader can run: those that the notebook has for the objects that a panel was given."""

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from IPython.core.getipython import get_ipython

import steerlab


def called(value: Any, default: str) -> str:
    """The expression by which a cell gets at an object: a variable, or a part of one; the default where none has it."""
    return next((name for name, known in _named() if known is value), default)


def prelude(lm: Any) -> str:
    """The lines that give code the names `sl` and `lm`, where the notebook has others."""
    variables = _variables()
    lines = ["import steerlab as sl"] if variables and variables.get("sl") is not steerlab else []
    if lm is not None and (name := called(lm, "lm")) != "lm":
        lines.append(f"lm = {name}")
    return "".join(f"{line}\n" for line in lines)


def _variables() -> Mapping[str, Any]:
    """The notebook's variables, none outside of one."""
    shell = get_ipython()  # type: ignore[no-untyped-call, unused-ignore]  # IPython has no types
    return {} if shell is None else {name: value for name, value in shell.user_ns.items() if not name.startswith("_")}


def _named() -> Iterator[tuple[str, Any]]:
    """Every variable with its expression, then the parts of each."""
    variables = _variables()
    yield from variables.items()
    for name, value in variables.items():
        if isinstance(value, dict):
            yield from ((f"{name}[{key!r}]", part) for key, part in value.items() if isinstance(key, str))
        elif not isinstance(value, ModuleType | type) and hasattr(value, "__dict__"):
            yield from ((f"{name}.{part}", inner) for part, inner in vars(value).items() if not part.startswith("_"))
