"""The experiments of Tlaie, Exploring and steering the moral compass of large language models, arXiv 2405.17345.

The release compared steered answers to one dilemma with unsteered ones to all. Here every steered answer has an
unsteered twin: the same dilemma, the same sampling, the same noise.
`python -m steerlab.experiments.sara all` runs them at full size.
"""

from .decoding import decode_gains as decode_gains
from .decoding import decode_texts as decode_texts
from .decoding import texts_table as texts_table
from .dilemmas import CONSEQUENCES as CONSEQUENCES
from .dilemmas import DUTY as DUTY
from .dilemmas import PARENT as PARENT
from .dilemmas import RELEASED as RELEASED
from .dilemmas import as_chats as as_chats
from .dilemmas import held_out_dilemmas as held_out_dilemmas
from .dilemmas import load_dilemmas as load_dilemmas
from .dilemmas import load_released_dilemmas as load_released_dilemmas
from .dilemmas import persona_statements as persona_statements
from .dilemmas import validation_texts as validation_texts
from .dose import COEFFICIENTS as COEFFICIENTS
from .dose import STEERED as STEERED
from .dose import at_matched_kl as at_matched_kl
from .dose import best_layer as best_layer
from .dose import dose_answers as dose_answers
from .dose import dose_response as dose_response
from .dose import dose_table as dose_table
from .dose import parted as parted
from .plots import plot_decode_gains as plot_decode_gains
from .plots import plot_published as plot_published
from .plots import plot_schools as plot_schools
from .plots import plot_shares as plot_shares
from .published import DEPTHS as DEPTHS
from .published import published as published
from .published import published_models as published_models
from .published import published_schools as published_schools
from .published import swapped as swapped
from .sensitivity import VARIED as VARIED
from .sensitivity import Varied as Varied
from .sensitivity import sensitivity as sensitivity
from .sensitivity import sensitivity_table as sensitivity_table
from .study import ANSWERS as ANSWERS
from .study import DOSES as DOSES
from .study import METHODS as METHODS
from .study import RELEASED_SAMPLING as RELEASED_SAMPLING
from .study import Condition as Condition
from .study import Direction as Direction
from .study import Method as Method
from .study import agreement as agreement
from .study import consistency as consistency
from .study import dilemma_study as dilemma_study
from .study import effects as effects
from .study import judge_answers as judge_answers
from .study import seed_example as seed_example
from .study import shares as shares
from .study import with_depth as with_depth
