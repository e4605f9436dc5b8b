"""Which method when? All of them on the same prompts, at the same KL divergence of the next token.

A task is a frame of prompts of one length with a wanted token and another one. Every method gets the training prompts,
and is measured on others: by how many nats it raises logit(wanted) - logit(other), at strengths at which the mean
KL(steered ‖ unsteered) of the next token is 0.1, 0.3 and 1 nat, and at the strength that is best on the training
prompts; and by what it costs. `python -m steerlab.experiments.side_by_side` runs it.
"""

from .comparison import compare as compare
from .contests import Contest as Contest
from .contests import contests as contests
from .measure import TARGETS as TARGETS
from .measure import Bystanders as Bystanders
from .measure import at_kl as at_kl
from .measure import curve as curve
from .measure import reaches as reaches
from .methods import Dose as Dose
from .methods import makers as makers
from .plots import plot_fronts as plot_fronts
from .plots import plot_matched as plot_matched
from .tables import costs as costs
from .tables import decide as decide
from .tables import differences as differences
from .tables import effects as effects
from .tables import sums as sums
