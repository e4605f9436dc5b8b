"""The experiments of Tlaie, Exploring and steering the moral compass of large language models, arXiv 2405.17345.

The release compared steered answers to one dilemma with unsteered ones to all. Here every steered answer has an
unsteered twin: the same dilemma, the same sampling, the same noise.
`python -m steerlab.experiments.sara all` runs them at full size.
"""

from .decoding import decode_gains, decode_texts, texts_table
from .dilemmas import (
    CONSEQUENCES,
    DUTY,
    PARENT,
    RELEASED,
    held_out_dilemmas,
    load_dilemmas,
    load_released_dilemmas,
    validation_texts,
)
from .dose import COEFFICIENTS, STEERED, at_matched_kl, best_layer, dose_answers, dose_response, dose_table, parted
from .plots import plot_decode_gains, plot_shares
from .sensitivity import VARIED, Varied, sensitivity, sensitivity_table
from .study import (
    ANSWERS,
    DEPTHS,
    METHODS,
    RELEASED_SAMPLING,
    Condition,
    Direction,
    Method,
    dilemma_study,
    effects,
    judge_answers,
    published,
    seed_example,
    shares,
    with_depth,
)

__all__ = [
    "ANSWERS",
    "COEFFICIENTS",
    "CONSEQUENCES",
    "DEPTHS",
    "DUTY",
    "METHODS",
    "PARENT",
    "RELEASED",
    "RELEASED_SAMPLING",
    "STEERED",
    "VARIED",
    "Condition",
    "Direction",
    "Method",
    "Varied",
    "at_matched_kl",
    "best_layer",
    "decode_gains",
    "decode_texts",
    "dilemma_study",
    "dose_answers",
    "dose_response",
    "dose_table",
    "effects",
    "held_out_dilemmas",
    "judge_answers",
    "load_dilemmas",
    "load_released_dilemmas",
    "parted",
    "plot_decode_gains",
    "plot_shares",
    "published",
    "seed_example",
    "sensitivity",
    "sensitivity_table",
    "shares",
    "texts_table",
    "validation_texts",
    "with_depth",
]
