"""The experiments of Stoehr et al., Activation Scaling for Steering and Interpreting Language Models, arXiv 2410.04962.

Each takes a model and a task or an intervention and returns a tidy frame. Figures have the paper's numbers. What it
leaves open (templates, form of the loss, optimiser) is our reconstruction, so results compare in kind, not in size.
`python -m steerlab.experiments.scaling all` runs them.
"""

from .choices import choices as choices
from .choices import gradients as gradients
from .held_out import faithfulness_at_equal_effectiveness as faithfulness_at_equal_effectiveness
from .held_out import held_out as held_out
from .held_out import summarise_held_out as summarise_held_out
from .lengths import by_length as by_length
from .lengths import largest_by_role as largest_by_role
from .lengths import lengths as lengths
from .lengths import strongest as strongest
from .lengths import task_of_lengths as task_of_lengths
from .maps import beta_sweep as beta_sweep
from .maps import by_role as by_role
from .maps import example_maps as example_maps
from .maps import map_agreement as map_agreement
from .maps import mean_answers as mean_answers
from .maps import patching as patching
from .maps import run_agreement as run_agreement
from .maps import scalars_by_token as scalars_by_token
from .maps import vector_changes as vector_changes
from .pareto import at_equal_effectiveness as at_equal_effectiveness
from .pareto import pareto as pareto
from .restarts import VARIANTS as VARIANTS
from .restarts import restarts as restarts
from .settings import CHEAP as CHEAP
from .settings import SOFT as SOFT
from .settings import STREAM as STREAM
from .settings import SUBLAYERS as SUBLAYERS
from .settings import TASKS as TASKS
from .table import shuffled_locations as shuffled_locations
from .table import table as table
