"""Panels for notebooks: ipywidgets controls in front of the functions of the package, nothing else.

All can be used with the keyboard. Notebook 7, unlike JupyterLab, takes the arrow keys for itself where a slider has the
focus: there Page Up, Page Down, Home and End move it, or a number typed beside it, with Enter.

What a button has begun is ended by Stop beside it. What a slider, a text or a cell of a map has begun keeps the kernel
from hearing any button: Kernel > Interrupt ends it, as the panel says after a second.
"""

from .comparison import compare
from .dilemma import sara_panel
from .job_panel import job_panel
from .mixer import mixer
from .panel import Panel
from .playground import playground, starter
from .scalars import scalar_panel
from .sweeps import sweep_browser
from .viewer import trace_viewer

__all__ = [
    "Panel",
    "compare",
    "job_panel",
    "mixer",
    "playground",
    "sara_panel",
    "scalar_panel",
    "starter",
    "sweep_browser",
    "trace_viewer",
]
