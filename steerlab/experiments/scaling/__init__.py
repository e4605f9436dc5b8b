"""The experiments of Stoehr et al., Activation Scaling for Steering and Interpreting Language Models, arXiv 2410.04962.

Each takes a model and a task or an intervention and returns a tidy frame. Figures have the paper's numbers. What it
leaves open (templates, form of the loss, optimiser) is our reconstruction, so results compare in kind, not in size.
`python -m steerlab.experiments.scaling all` runs them.
"""

from .choices import choices, gradients
from .lengths import by_length, lengths, strongest, task_of_lengths
from .maps import (
    beta_sweep,
    by_role,
    example_maps,
    map_agreement,
    mean_answers,
    patching,
    run_agreement,
    scalar_map,
    vector_changes,
)
from .pareto import at_equal_effectiveness, pareto
from .settings import CHEAP, SOFT, STREAM, SUBLAYERS, TASKS
from .table import shuffled_locations, table

__all__ = [
    "CHEAP",
    "SOFT",
    "STREAM",
    "SUBLAYERS",
    "TASKS",
    "at_equal_effectiveness",
    "beta_sweep",
    "by_length",
    "by_role",
    "choices",
    "example_maps",
    "gradients",
    "lengths",
    "map_agreement",
    "mean_answers",
    "pareto",
    "patching",
    "run_agreement",
    "scalar_map",
    "shuffled_locations",
    "strongest",
    "table",
    "task_of_lengths",
    "vector_changes",
]
