"""The experiments of Turner et al., Steering Language Models With Activation Engineering, arXiv 2308.10248.

Each takes a model and returns a tidy frame. What is swept takes a contrast pair, the rest any intervention, so that the
other methods can be put to the same tests. What recurs: `plus` and `minus` are the contrast pair, `coefficient` is the
paper's c, `room` says that a vector lies over spaces put in for it ("pad" in the release) instead of over the first
tokens of the text ("front", as in the paper), `n` are completions of each setting, and `options` those of `counted`:
`words` that count (the nine wedding words), `seed`, and others of `sweep.completions`, with the paper's sampling.
`python -m steerlab.experiments.actadd all` runs them at full size.
"""

from .choice import Choice, choose, pick
from .knowledge import knowledge
from .overhead import SHAPES, overhead, overhead_by_size, summarise_overhead
from .perplexity import essay_sweep, essays, perplexity_by_density, sentence_shifts, shifts_by_token
from .price import floor, price
from .sentiment import summarise_tone, tone
from .topics import (
    PAPER_SAMPLING,
    PROMPT,
    WEDDING,
    count_topic_words,
    front_positions,
    layer_sweep,
    summarise,
    topic_control,
)
from .vectors import (
    TENTHS,
    dimension_sweep,
    just_tokens,
    kl_shares,
    place_sweep,
    random_vectors,
    relative_sizes,
    shared_part,
)

__all__ = [
    "PAPER_SAMPLING",
    "PROMPT",
    "SHAPES",
    "TENTHS",
    "WEDDING",
    "Choice",
    "choose",
    "count_topic_words",
    "dimension_sweep",
    "essay_sweep",
    "essays",
    "floor",
    "front_positions",
    "just_tokens",
    "kl_shares",
    "knowledge",
    "layer_sweep",
    "overhead",
    "overhead_by_size",
    "perplexity_by_density",
    "pick",
    "place_sweep",
    "price",
    "random_vectors",
    "relative_sizes",
    "sentence_shifts",
    "shared_part",
    "shifts_by_token",
    "summarise",
    "summarise_overhead",
    "summarise_tone",
    "tone",
    "topic_control",
]
