"""What all checkers share: they print one line, and never raise."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


class NotYet(Exception):
    """What is still missing, as the end of a line."""


def checker(judge: Callable[P, str]) -> Callable[P, None]:
    """Prints the line that `judge` returns, or what is missing where it raises."""

    @wraps(judge)
    def check(*args: P.args, **options: P.kwargs) -> None:
        try:
            line = f"✓ right: {judge(*args, **options)}"
        except NotYet as missing:
            line = f"not yet: {missing}"
        except NotImplementedError:
            line = "not yet: nothing is written here so far"
        except Exception as error:  # of the reader's code: a lesson goes on
            line = f"not yet: {type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
        print(line)

    return check


def equal(answer: object, wanted: Tensor, near: Mapping[str, Tensor]) -> str:
    """A line when both agree; else `NotYet` says what was found instead, if it is one of `near`."""
    if answer is None or answer is ...:
        raise NotYet("nothing is returned so far")
    if not isinstance(answer, Tensor):
        raise NotYet(f"a tensor is wanted, not {type(answer).__name__}")
    for mistake, tensor in near.items():
        if close(answer, tensor) and not close(tensor, wanted):
            raise NotYet(mistake)
    if answer.shape != wanted.shape:
        raise NotYet(f"the shape is {list(answer.shape)}, and {list(wanted.shape)} is wanted")
    if not close(answer, wanted):
        distance = float((answer.detach().to(wanted) - wanted).abs().max())
        raise NotYet(f"the shape is right, the numbers are not: they differ by up to {distance:.2g}")
    return "your tensor and the package's are the same"


def close(a: Tensor, b: Tensor) -> bool:
    """Whether shape and numbers agree, but for rounding."""
    return a.shape == b.shape and torch.allclose(a.detach().to(b), b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))
