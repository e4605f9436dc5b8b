"""Steer language models by their activations: one equation, five ways to choose its tensors, one call to run it."""

from typing import TYPE_CHECKING, Any

from . import tasks
from .fit import Fit, evaluate, fit, fit_grid, score
from .intervention import Edit, Intervention, read_intervention
from .layout import Layout
from .loading import load, load_intervention
from .loop import FitOptions
from .methods.actadd import actadd, make_room, random_like
from .methods.learned import ActivScalar, DynScalar, SteerVec, keep, locations
from .methods.sara import sara, sara_gain, shuffled
from .model import Activations, SteerableModel
from .objective import Objective
from .prompts import Batch
from .site import PLACES, Place, Site

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
    "score",
    "shuffled",
    "tasks",
]


def __getattr__(name: str) -> Any:
    """What only remote models need, and what it needs of nnsight, is imported when it is asked for."""
    if name not in ("Remote", "RemoteError"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import remote

    return getattr(remote, name)
