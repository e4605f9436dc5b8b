"""Panels for notebooks: ipywidgets controls in front of the functions of the package, nothing else."""

from .comparison import compare
from .dilemma import sara_panel
from .panel import Panel
from .playground import playground
from .scalars import scalar_map
from .sweeps import sweep_browser

__all__ = ["Panel", "compare", "playground", "sara_panel", "scalar_map", "sweep_browser"]
