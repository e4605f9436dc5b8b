"""Panels for notebooks: ipywidgets controls in front of the functions of the package, nothing else."""

from .playground import Playground, playground

__all__ = ["Playground", "playground"]
