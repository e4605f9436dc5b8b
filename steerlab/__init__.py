"""Steer language models by their activations: one equation, five ways to choose its tensors, one call to run it.

Importing it sets one option of pandas, `display.html.use_mathjax`, to False: completions hold dollar signs, and Jupyter
would set what stands between two of them as mathematics.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pandas as pd

from . import tasks
from .activations import Activations
from .fit import Fit, evaluate, fit, fit_grid, score
from .intervention import Edit, Intervention, read_intervention
from .layout import Layout
from .loading import load, load_intervention
from .loop import FitOptions
from .methods.actadd import actadd, make_room, random_like
from .methods.learned import ActivScalar, DynScalar, SteerVec, keep, locations
from .methods.own import add, scale
from .methods.sara import sara, sara_gain, shuffled
from .model import SteerableModel
from .objective import Objective
from .prompts import Batch
from .site import PLACES, Place, Site

pd.set_option("display.html.use_mathjax", False)

if TYPE_CHECKING:
    from .remote import Remote, RemoteError

__all__ = [
    "PLACES",
    "ActivScalar",
    "Activations",
    "Batch",
    "DynScalar",
    "Edit",
    "Fit",
    "FitOptions",
    "Intervention",
    "Layout",
    "Objective",
    "Place",
    "Remote",
    "RemoteError",
    "Site",
    "SteerVec",
    "SteerableModel",
    "actadd",
    "add",
    "evaluate",
    "fit",
    "fit_grid",
    "keep",
    "load",
    "load_intervention",
    "locations",
    "make_room",
    "random_like",
    "read_intervention",
    "sara",
    "sara_gain",
    "scale",
    "score",
    "shuffled",
    "tasks",
]

_PARTS = (
    "data",
    "diagrams",
    "exercises",
    "experiments",
    "judges",
    "lens",
    "metrics",
    "plots",
    "strength",
    "sweep",
    "widgets",
)


def __getattr__(name: str) -> Any:
    """Parts that are imported when they are first used, and what only remote models need (and it needs of nnsight)."""
    if name in _PARTS:
        return import_module(f".{name}", __name__)
    if name in ("Remote", "RemoteError"):
        return getattr(import_module(".remote", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What a notebook is to be shown."""
    return sorted([*__all__, *_PARTS])


def _refuse_save(value: object) -> None:
    """The `save` of what has no file form."""
    kind = type(value).__name__
    raise AttributeError(f"a {kind} is not saved to a file: an intervention is, by intervention.save(path)")


# nnsight gives every object a `save`, which marks the values of a trace: here it would only be taken for one to a file.
for _kind in (*globals().copy().values(), tasks.Task):
    if isinstance(_kind, type) and getattr(_kind, "save", None) is getattr(object, "save", None):
        setattr(_kind, "save", property(_refuse_save))  # noqa: B010  # not known to mypy
