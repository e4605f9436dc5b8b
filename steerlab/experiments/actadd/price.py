"""What steering costs on text that the model writes itself, and the least that it must cost."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import rel_entr

from ... import data
from ...intervention import Intervention
from ...methods.actadd import actadd
from ...metrics import share, token_shifts
from ...model import Prompt, SteerableModel
from ...sweep import Setting
from .perplexity import BATCH, ratio
from .topics import WEDDING, counted, lay

PLAIN: Mapping[str, Any] = MappingProxyType({"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0.0})
"""Sampling from the model's own distribution, the one that the bound speaks of."""


def price(
    lm: SteerableModel,
    plus: str = " weddings",
    minus: str = " ",
    *,
    layer: int,
    coefficients: Sequence[float] = (0.25, 0.5, 0.7, 1, 2, 4, 8),
    room: bool = False,
    prompts: Sequence[str] | None = None,
    words: Iterable[str] = WEDDING,
    n: int = 50,
    **options: Any,
) -> pd.DataFrame:
    """How often each strength steers, its perplexity ratio on the model's own unsteered text, and the bound on that.

    What the unsteered model writes after a prompt is unrelated text at its mildest: nothing in it is strange to the
    model. Yet nothing that steers can leave it alone. Let a share p of completions of T tokens hold a topic word
    unsteered, and a share q steered. Telling hits from misses loses information, so

        T · log(ratio) = KL(unsteered ‖ steered) ≥ p · log(p / q) + (1 − p) · log((1 − p) / (1 − q))

    by the data-processing inequality, and the same holds for means over prompts, as KL is convex. `floor` is the least
    ratio that this allows: 1.02 at q = 55 %, T = 40 and p = 0, and infinite at q = 100 %. Our addition: the paper
    measures web text, whose own words can overrule what was added before them.

    Args:
        lm: the model.
        plus: prompt to move towards.
        minus: prompt to move away from.
        layer: block whose input is steered.
        coefficients: strengths; 0 comes first in any case.
        room: whether the vector lies over spaces of its own; unsteered, the prompt is bare.
        prompts: to complete; by default 20 of `data.prompts("plain")`, none of them of `choose`.
        words: of the topic.
        n: completions of each prompt at each strength.
        options: of `sweep.completions`, such as `seed` and `file`; the sampling is plain.

    Returns:
        One row per strength: `coefficient`, `share` (q), `low`, `high`, `n`, `ratio`, `ratio_low`, `ratio_high`
        (bootstrap over completions), `tokens` (T), `floor`. The ends of completions are not scored.

    Raises:
        ValueError: what `actadd` and `sweep.completions` refuse.
    """
    texts = data.prompts("plain")[6:26] if prompts is None else prompts
    vectors: dict[float, Intervention | None] = {0.0: None}
    vectors |= {float(c): actadd(lm, plus, minus, layer=layer, coefficient=c) for c in coefficients if c}
    laid = {c: [lay(lm, text, steer, room) if steer else text for text in texts] for c, steer in vectors.items()}
    settings = [
        Setting({"coefficient": c, "number": i}, prompt, vectors[c]) for c in laid for i, prompt in enumerate(laid[c])
    ]
    frame = counted(lm, settings, words, n=n, **PLAIN, **options)
    own = frame[(frame["coefficient"] == 0) & (frame["completion"] != "")]
    written, numbers = own["completion"].tolist(), own["number"].tolist()
    scores = {c: _scores(lm, written, steer, [laid[c][i] for i in numbers]) for c, steer in vectors.items()}
    hits = {c: share(frame.loc[frame["coefficient"] == c, "hit"]) for c in vectors}
    tokens = len(scores[0.0]) / (n * len(texts))
    rows = []
    for c, (value, low, high, count) in hits.items():
        cost = ratio(token_shifts(scores[0.0], scores[c]))
        about = {"coefficient": c, "share": value, "low": low, "high": high, "n": count}
        costs = {"ratio": cost["ratio"], "ratio_low": cost["low"], "ratio_high": cost["high"]}
        rows.append({**about, **costs, "tokens": tokens, "floor": floor(hits[0.0].value, value, tokens)})
    return pd.DataFrame(rows)


def floor(p: float, q: float, tokens: float) -> float:
    """The least perplexity ratio on unsteered text when steering moves the share of hits from p to q (see `price`)."""
    return float(np.exp((rel_entr(p, q) + rel_entr(1 - p, 1 - q)) / tokens))


def _scores(
    lm: SteerableModel, texts: Sequence[str], steer: Intervention | None, given: Sequence[Prompt]
) -> pd.DataFrame:
    """`lm.logprobs` of texts, with positions that count from where each text begins."""
    frame = lm.logprobs(list(texts), steer, given=list(given), batch_size=BATCH)
    return frame.assign(position=frame["position"] - frame.groupby("row")["position"].transform("min"))
