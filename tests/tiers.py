"""Which cases of a matrix `make fast` runs: a few of each; `make test` runs all of them."""

from collections.abc import Iterable
from typing import Any

import pytest


def few(names: Iterable[str], *fast: str) -> list[Any]:
    """The names as cases for `parametrize`, all marked slow but the `fast` ones.

    Raises:
        ValueError: a fast one is none of the names.
    """
    names = list(names)
    if unknown := set(fast) - set(names):
        raise ValueError(f"{sorted(unknown)} are none of {names}")
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]
