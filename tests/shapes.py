"""The shapes in the annotations, checked while the tests run.

Annotations without a shape are left alone: mypy reads them, and a wrong value shall get the package's own line.
"""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def says_a_shape(hint: Any) -> bool:
    """Whether a hint is a jaxtyping one, such as Float[Tensor, "batch pos"], or such or None."""
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    return all(isinstance(kind, type) and issubclass(kind, AbstractArray) for kind in kinds)


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """beartype, on the shapes alone; a dataclass says itself what is wrong with its own."""
    if function.__name__ == "__init__":
        return function
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if says_a_shape(hint)}
    return beartype(function)
