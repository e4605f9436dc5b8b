"""What is fitted on which tasks, and with which options."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from ...methods.learned import ActivScalar, SteerVec
from ...model import SteerableModel
from ...objective import Objective
from ...tasks import Task, ccc, ioi

Folder = str | Path | None

SUBLAYERS = (ActivScalar(), SteerVec())
"""The two methods of Figure 2, on `attn_out` and `mlp_out` of all layers."""

STREAM = (ActivScalar(("resid_post",)), SteerVec(("resid_post",)))
"""The same on `resid_post`, as in Figures 3 and 4."""

LOCATION = ["place", "layer", "position"]

TASKS: Mapping[str, Callable[[SteerableModel, int], Task]] = MappingProxyType(
    {
        "ioi": lambda lm, n: ioi(lm, n, orders=["ABBA"]),
        "conflict": lambda lm, n: ccc(lm, n, conflict=True),
        "ccc": lambda lm, n: ccc(lm, min(n, 100)),
    }
)
"""The tasks of n prompts; words stand at the same position in all prompts, as methods tied to positions need it."""

USUAL = Objective()

SOFT = Objective(margin=10, faithfulness=0.1, minimality=0.01)
"""Of the table, and of capitals: they don't flip where faithfulness weighs as much as effectiveness."""

DYNAMIC = Objective(margin=10, faithfulness=1, minimality=0.01)
"""Of DynScalar: the components of w all count, so that minimality must weigh less than for scalars."""

FREE = Objective(margin=10, faithfulness=1, minimality=0)
"""Of vectors that are compared with each other: the l1 norm of so many components would keep them where they began."""

CHECKED = (Objective(1, 0, 0), Objective(10, 1, 0), Objective(10, 1, 1), Objective(100, 10, 0))
"""Settings of the grid that are fitted once more with thorough options."""

THOROUGH = {"batch_size": 16, "steps": 400, "patience": 30, "lr": 0.02}
CHEAP = {"batch_size": 4, "steps": 120, "patience": 15, "lr": 0.05}
