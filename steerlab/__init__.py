"""Steer language models by their activations: one equation, five ways to choose its tensors, one call to run it."""

from .intervention import Edit, Intervention, read_intervention
from .layout import Layout
from .methods.actadd import actadd, make_room, random_like
from .model import Activations, Batch, SteerableModel, load, load_intervention
from .site import PLACES, Place, Site

__all__ = [
    "PLACES",
    "Activations",
    "Batch",
    "Edit",
    "Intervention",
    "Layout",
    "Place",
    "Site",
    "SteerableModel",
    "actadd",
    "load",
    "load_intervention",
    "make_room",
    "random_like",
    "read_intervention",
]
