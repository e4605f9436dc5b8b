"""The experiments of Turner et al., Steering Language Models With Activation Engineering, arXiv 2308.10248.

Each takes a model and returns a tidy frame. What is swept takes a contrast pair, the rest any intervention, so that the
other methods can be put to the same tests. What recurs: `plus` and `minus` are the contrast pair, `coefficient` is the
paper's c, `room` says that a vector lies over spaces put in for it ("pad" in the release) instead of over the first
tokens of the text ("front", as in the paper), `n` are completions of each setting, and `options` those of `counted`:
`words` that count (the nine wedding words), `seed`, and others of `sweep.completions`, with the paper's sampling.
`python -m steerlab.experiments.actadd all` runs them at full size.
"""

from .choice import Choice as Choice
from .choice import choose as choose
from .choice import pick as pick
from .gallery import VECTORS as VECTORS
from .gallery import failures as failures
from .gallery import gallery as gallery
from .knowledge import knowledge as knowledge
from .overhead import SHAPES as SHAPES
from .overhead import overhead as overhead
from .overhead import overhead_by_size as overhead_by_size
from .overhead import summarise_overhead as summarise_overhead
from .perplexity import essay_sweep as essay_sweep
from .perplexity import essays as essays
from .perplexity import paragraphs as paragraphs
from .perplexity import perplexity_by_density as perplexity_by_density
from .perplexity import perplexity_by_topic as perplexity_by_topic
from .perplexity import sentence_shifts as sentence_shifts
from .perplexity import shifts_by_token as shifts_by_token
from .price import floor as floor
from .price import price as price
from .sentiment import summarise_tone as summarise_tone
from .sentiment import tone as tone
from .topics import PAPER_SAMPLING as PAPER_SAMPLING
from .topics import PROMPT as PROMPT
from .topics import WEDDING as WEDDING
from .topics import count_topic_words as count_topic_words
from .topics import front_positions as front_positions
from .topics import layer_sweep as layer_sweep
from .topics import summarise as summarise
from .topics import topic_control as topic_control
from .vectors import TENTHS as TENTHS
from .vectors import dimension_sweep as dimension_sweep
from .vectors import just_tokens as just_tokens
from .vectors import kl_shares as kl_shares
from .vectors import place_sweep as place_sweep
from .vectors import random_vectors as random_vectors
from .vectors import relative_sizes as relative_sizes
from .vectors import shared_part as shared_part
