"""What steering costs on text that the model writes itself, and the least that it must cost."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import rel_entr

from ... import data
from ...intervention import Intervention
from ...metrics import token_shifts
from ...model import SteerableModel
from ...prompts import Prompt
from ...sweep import Setting
from .perplexity import BATCH, ratio
from .topics import PAPER_SAMPLING, WEDDING, counted, lay, summarise

SAMPLINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"plain": {"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0.0}, "released": PAPER_SAMPLING}
)
"""From the model's own distribution, the one that the bound speaks of, and as in the release."""


def price(
    lm: SteerableModel,
    steer: Intervention,
    *,
    strengths: Sequence[float] = (0.25, 0.35, 0.5, 0.7, 1, 2, 4, 8),
    room: bool = False,
    prompts: Sequence[str] | None = None,
    words: Iterable[str] = WEDDING,
    samplings: Collection[str] = tuple(SAMPLINGS),
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
        steer: what to test, at strength 1; of edits that a given text feels as a completion does: those at the front,
            and those of all passes.
        strengths: to multiply it by; 0 comes first in any case.
        room: whether the vector lies over spaces of its own; unsteered, the prompt is bare.
        prompts: to complete; by default 20 of `data.prompts("plain")`, none of them of `choose`.
        words: of the topic.
        samplings: of which completions the shares are; the text that is scored is plain in any case.
        n: completions of each prompt at each strength, by each sampling.
        options: of `sweep.completions`, such as `seed` and `file`.

    Returns:
        One row per sampling (plain, released) and strength, and as in `summarise` with the unsteered model for a
        baseline, q the `share`; `ratio`, `ratio_low`, `ratio_high` (on the plain text, bootstrap over prompts; few of
        them cover little, see `metrics.mean`), `tokens` (T), and `floor`, where the sampling is plain. The ends of
        completions are not scored.

    Raises:
        ValueError: an edit is of other positions or passes, a sampling is unknown, or what `sweep.completions` refuses.
    """
    if not samplings or set(samplings) - set(SAMPLINGS):
        raise ValueError(f"samplings={samplings!r}: give some of {', '.join(SAMPLINGS)}")
    if any(edit.when == "decode" or (edit.when == "prompt" and edit.anchor != "front") for _, edit in steer.edits):
        raise ValueError("a text is read in one pass: give edits with anchor='front', or with when='all'")
    texts = data.prompts("plain")[6:26] if prompts is None else prompts
    steers = {0.0: None} | {float(strength): strength * steer for strength in strengths if strength}
    laid = {at: [lay(lm, text, edit, room) if edit else text for text in texts] for at, edit in steers.items()}
    settings = [
        Setting({"strength": at, "bare_prompt": text}, prompt, steers[at])
        for at in laid
        for text, prompt in zip(texts, laid[at], strict=True)
    ]
    frames = {
        name: counted(lm, settings if name in samplings else settings[: len(texts)], words, n=n, **how, **options)
        for name, how in SAMPLINGS.items()
        if name in samplings or name == "plain"
    }
    own = frames["plain"].query("strength == 0 and completion != ''")
    written, numbers = own["completion"].tolist(), [texts.index(text) for text in own["bare_prompt"]]
    scores = {at: _scores(lm, written, edit, [laid[at][i] for i in numbers]) for at, edit in steers.items()}
    shifts = {at: token_shifts(scores[0.0], scores[at]) for at in steers}
    costs = pd.DataFrame(
        [{"strength": at, **ratio(own, own["row"].map(dict(enumerate(numbers))))} for at, own in shifts.items()]
    )
    costs = costs.rename(columns={"low": "ratio_low", "high": "ratio_high"}).drop(columns="sentences")
    shares = [
        summarise(frame, by=["strength"], baseline={"strength": 0.0}).assign(sampling=name)
        for name, frame in frames.items()
        if name in samplings
    ]
    table = pd.concat(shares).merge(costs, on="strength", how="left")
    zero, tokens = table["share"][0], len(scores[0.0]) / (n * len(texts))
    floors = [floor(zero, q, tokens) for q in table["share"]]
    return table.assign(tokens=tokens, floor=pd.Series(floors).where(table["sampling"] == "plain"))


def floor(p: float, q: float, tokens: float) -> float:
    """The least perplexity ratio on unsteered text when steering moves the share of hits from p to q (see `price`)."""
    return float(np.exp((rel_entr(p, q) + rel_entr(1 - p, 1 - q)) / tokens))


def _scores(
    lm: SteerableModel, texts: Sequence[str], steer: Intervention | None, given: Sequence[Prompt]
) -> pd.DataFrame:
    """`lm.logprobs` of texts, with positions that count from where each text begins."""
    frame = lm.logprobs(list(texts), steer, given=list(given), batch_size=BATCH)
    return frame.assign(position=frame["position"] - frame.groupby("row")["position"].transform("min"))
