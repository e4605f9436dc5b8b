"""Steer language models by their activations: one equation, five ways to choose its tensors, one call to run it."""

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
from .remote import Remote, RemoteError
from .site import PLACES, Place, Site

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
