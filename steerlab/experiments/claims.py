"""What the three papers report, and where the kept tables would show it. The papers' numbers stand here; no other does.

Published numbers are of GPT-2-XL for ActAdd, of GPT-2 for activation scaling, and of Gemma-2B for SARA, where nothing
else is said; "direction" stands where no number is known to us.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy

from ..metrics import gain, share
from .actadd.topics import WEDDING


class Finding(NamedTuple):
    """A number of a kept table, its 95 % interval where it has one, and of how many items."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    n: int | None = None


Read = Callable[[pd.DataFrame], Finding]
Direction = Literal["above", "below", "near", "unchanged"]


@dataclass(frozen=True)
class Claim:
    """One thing that a paper reports, and where we would see it.

    Args:
        item: figure, table or section of the paper.
        says: what is measured.
        published: the paper's number, or the direction where no number is known.
        table: the name of the kept table.
        read: the number that the table has for it.
        direction: where the paper has it, against `reference`: above it, below it, within 0.05 of it ("near"), or so
            that the interval holds it ("unchanged").
        reference: 0 for a difference, 1 for a ratio.
        form: how the number is written.
        why: what explains a disagreement.
    """

    item: str
    says: str
    published: str
    table: str
    read: Read
    direction: Direction = "above"
    reference: float = 0.0
    form: str = ".0%"
    why: str = ""


# --- reading a table ----------------------------------------------------------------------------------------------

STRONG = "setting == 'strongest'"
GENTLE = "setting == 'gentle'"


def row(query: str, value: str = "share", low: str = "low", high: str = "high", n: str = "n") -> Read:
    """Reads the one row of a table that a query finds.

    Raises:
        ValueError: it finds none, or several.
    """

    def read(frame: pd.DataFrame) -> Finding:
        rows = frame.query(query)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} rows are {query!r}, not one")
        at, least, most, count = (
            float(rows[name].iloc[0]) if name in rows else float("nan") for name in (value, low, high, n)
        )
        return Finding(at, least, most, None if np.isnan(count) else int(count))

    return read


def where_run(query: str, read: Read) -> Read:
    """Reads a number only where the table has such rows: a run may be smaller than the paper's."""
    return lambda frame: read(frame) if len(frame.query(query)) else Finding(float("nan"))


def change(query: str) -> Read:
    """The paired gain of the row that a query finds."""
    return row(query, "gain", "gain_low", "gain_high")


def ratio(query: str) -> Read:
    """The perplexity ratio of the row that a query finds, over sentences."""
    return row(query, "ratio", n="sentences")


def part(query: str, over: str | None = None) -> Read:
    """The share of rows for which a query holds, among those for which another does, with Wilson's interval."""

    def read(frame: pd.DataFrame) -> Finding:
        rows = frame.query(over) if over else frame
        return Finding(*share(rows.index.isin(rows.query(query).index)))

    return read


def mean_of(query: str, column: str) -> Read:
    """The mean of a column over the rows that a query finds, with Student's interval."""

    def read(frame: pd.DataFrame) -> Finding:
        values = frame.query(query)[column].astype(float)
        return Finding(*gain(values, np.zeros(len(values))))

    return read


def _densest(frame: pd.DataFrame) -> Finding:
    rows = frame.query(f"{GENTLE} and read == 'sentences'")
    return ratio("density == density.max()")(rows)


def _unrelated(frame: pd.DataFrame) -> Finding:
    rows = frame.query(f"{GENTLE} and read == 'sentences'")
    return ratio("density == density.min()")(rows)


def _topical_tail(frame: pd.DataFrame) -> Finding:
    """How many of the twenty token types that gain most are the topic's words."""
    top = frame.nlargest(20, "shift")["token"].astype(str).str.strip().str.lower()
    return Finding(*share([any(word.startswith(token) and len(token) > 3 for word in WEDDING) for token in top]))


def _unseen_flips(frame: pd.DataFrame) -> Finding:
    """In how many unseen-length prompts the answer flips."""
    rows = frame.query("split == 'test' and not seen")
    return Finding(*share(rows["flips"], rows["task"].astype(str) + rows["row"].astype(str)))


def _lost(frame: pd.DataFrame) -> Finding:
    """P@100 of all clozes, steered less its zero; the same clozes, paired."""
    rows = frame.query(f"{GENTLE} and k == 100 and condition == 'steered'")
    n, won, lost = (int(rows[name].sum()) for name in ("n", "won", "lost"))
    after = np.arange(n) < won
    return Finding(*gain(after, (np.arange(n) >= won) & (np.arange(n) < won + lost)))


def _less(first: str, second: str, value: str = "share") -> Read:
    """The value of one row less that of another, without an interval."""

    def read(frame: pd.DataFrame) -> Finding:
        return Finding(row(first, value)(frame).value - row(second, value)(frame).value)

    return read


def _ordered(frame: pd.DataFrame) -> Finding:
    """The share of layers, at c = 1 over the first tokens, whose ratios rise from bad to good reviews."""
    rows = frame.query("coefficient == 1 and position == 'front'")
    wide = rows.pivot(index="layer", columns="text", values="ratio")
    return Finding(*share((wide["bad"] < wide["middling"]) & (wide["middling"] < wide["good"])))


def _helped(frame: pd.DataFrame) -> Finding:
    """The share of layers, at c = 1 over the first tokens, whose ratio of the essays on weddings is below 1."""
    return part("ratio < 1", "coefficient == 1 and position == 'front' and text == 'weddings'")(frame)


def _disfluency(frame: pd.DataFrame) -> Finding:
    """Perplexity of steered completions over that of unsteered ones."""
    same = f"{STRONG} and minus == 'Hate'"
    rows = frame.query(f"{same} and towards == 'pleasant'" if "towards" in frame else same).set_index("condition")
    return Finding(float(rows["disfluency"]["steered"] / rows["disfluency"]["zero"]))


def _shown(frame: pd.DataFrame) -> Finding:
    """The share of vectors of the gallery whose words come more often than unsteered."""
    hits = frame.groupby(["vector", "coefficient"])["hit"].mean().unstack()
    return Finding(*share((hits.drop(columns=0.0).gt(hits[0.0], axis=0)).any(axis=1)))


def _topic_kl(frame: pd.DataFrame) -> Finding:
    """The topic's words' share of the KL, among the ten tokens that make most of it."""
    topical = frame["token"].astype(str).str.strip().str.lower().isin(WEDDING)
    return Finding(float(frame.loc[topical, "share"].sum()))


def _middle_size(frame: pd.DataFrame) -> Finding:
    return Finding(float(frame["size"].iloc[len(frame) // 2]))


def _answers(beta: int) -> Read:
    """P(correct) less P(wrong) at a strength."""
    return _less(f"beta == {beta} and answer == 'correct'", f"beta == {beta} and answer == 'wrong'", "p")


def _names(frame: pd.DataFrame) -> Finding:
    """The mean scalar on the receiver's name less that on the other's, over layers, with an interval over prompts."""
    rows = frame[frame["role"].isin(["IO", "S"])]
    means = rows.groupby("role")["value"].mean()
    layers = rows["layer"].nunique()
    half = 1.96 * float(np.sqrt((rows["sd"] ** 2 / rows["n"]).sum()) / layers)
    gap = float(means["IO"] - means["S"])
    return Finding(gap, gap - half, gap + half, int(rows["n"].min()))


def _as_patching(frame: pd.DataFrame) -> Finding:
    """Kendall's τ with activation patching, with the interval that its p has in the normal approximation."""
    tau, p, locations = frame.query("map == 'patching'")[["tau", "p", "locations"]].iloc[0]
    half = 1.96 * abs(tau) / float(scipy.stats.norm.isf(p / 2))
    return Finding(tau, tau - half, tau + half, int(locations))


def _numbers(frame: pd.DataFrame) -> Finding:
    """The numbers above 0.01 of vectors less those of scalars, the mean of all settings."""
    means = frame.query("split == 'test'").groupby("method")["numbers"].mean()
    return Finding(float(means["SteerVec"] - means["ActivScalar"]))


def _pairs_of(first: str, second: str, column: str) -> Read:
    """The mean over pairs of fits of two methods."""
    return mean_of(f"first.str.startswith('{first}') and second.str.startswith('{second}')", column)


def _largest(frame: pd.DataFrame) -> Finding:
    """The share of prompts whose largest scalar is on the answer's name; a role where it never stands has no row."""
    rows = frame.query("which == 'largest' and task == 'ioi'")
    hits = rows.loc[rows["role"] == "IO", "share"].sum() * rows["n"].iloc[0]
    return Finding(*share(np.arange(rows["n"].iloc[0]) < round(hits)))


def _late_less_middle(frame: pd.DataFrame) -> Finding:
    """SARA's share of answers from duty in the late layers less that in the middle ones."""
    rows = frame.query("method == 'sara' and direction == 'duty'").set_index("depth")["share"]
    return Finding(float(rows["late"] - rows["middle"]))


def _individualising(frame: pd.DataFrame) -> Finding:
    """The score of harm less that of authority, unsteered."""
    plain = frame.query("condition == 'unsteered'").set_index("foundation")["score"]
    return Finding(float(plain["harm"] - plain["authority"]))


def _effect(method: str, direction: str) -> Read:
    return row(f"method == '{method}' and direction == '{direction}'", "gain")


# --- the claims ---------------------------------------------------------------------------------------------------

COSTS_ALL = "the bundled model's vector makes all text less likely, on the topic or not"
NOISE = "in a small stream a trained direction moves the logits more than noise of its norm"
LAST_TWO = "on Gemma bad is lowest at 7 of 8 layers; middling and good lie within each other's intervals"
RARE = "few completions are rude unsteered, so there is little to lower, and it costs little"
OPPOSITES = "opposites share most of what they add, and it cancels; each against a space does better"
PAIRED = "the two curves look alike; asked cloze by cloze, a few more are lost than won"
ORDER = "most scalars are nearly zero, and the order of those is noise"
FEW = "few dilemmas: the interval speaks of other dilemmas, and is wide"
RANDOM_LABELS = 0.26
"""1 / (distinct labels) of five labels drawn at random from eight."""

REAL_TEXT: tuple[tuple[str, bool, str, Direction], ...] = (
    ("with", True, "below 1", "below"),
    ("without", False, "about 1", "near"),
)

ACTADD = (
    Claim(
        "A, perplexity of web text by topic density", "ratio of the densest documents", "0.96, GPT-2-XL",
        "actadd_perplexity", where_run(GENTLE, _densest), "below", 1, ".3f", why=COSTS_ALL,
    ),
    Claim(
        "A, the same", "ratio of the documents without the topic", "about 1", "actadd_perplexity",
        where_run(GENTLE, _unrelated), "near", 1, ".3f",
    ),
    *(
        Claim(
            "A, on WikiText-2", f"ratio of paragraphs {which} a topic word", number, "actadd_real_text",
            ratio(f"{GENTLE} and topic == {has}"), direction, 1, ".3f", why=COSTS_ALL,
        )
        for which, has, number, direction in REAL_TEXT
    ),
    Claim(
        "A', shift by token", "topic words among the 20 tokens that gain most", "the heavy tail is made of them",
        "actadd_tokens", _topical_tail,
    ),
    Claim(
        "B, layer sweep", "completions with a wedding word, steered at the chosen layer", "> 90 % at layer 6 of 48",
        "actadd_best", row(f"{STRONG} and condition == 'steered'"), reference=0.5,
    ),
    Claim(
        "B, control", "the same, unsteered", "about 2 %", "actadd_best", row(f"{STRONG} and condition == 'zero'"),
        "near",
    ),
    Claim(
        "B, control", "the same, a random vector of the same norm", "none in the paper", "actadd_best",
        row(f"{STRONG} and condition == 'random'"), "near",
    ),
    Claim(
        "C, topics", "mean gain of completions on the topic, 24 topics, c as chosen", "+5 to +25 % at c = 2",
        "actadd_topics", mean_of("condition == 'steered'", "gain"),
    ),
    *(
        Claim(
            f"D, {name}", "P@100, steered less the same spaces alone", "no visible change", f"actadd_{table}", _lost,
            "unchanged", form=".1%", why=PAIRED,
        )
        for name, table in (("ConceptNet P@K", "clozes"), ("our facts", "knowledge"))
    ),
    Claim(
        "E, overhead", "extra time of a steered pass, largest model timed", "at most 0.4 %", "actadd_overhead",
        row("n_params == n_params.max()", "premium"), "near", form=".1%",
    ),
    Claim(
        "F, toxicity", "change of rude completions, Love − Hate", "0.127 to 0.101", "actadd_toxicity",
        change(f"{STRONG} and minus == 'Hate' and condition == 'steered'"), "below", form=".1%", why=RARE,
    ),
    Claim(
        "F, its cost", "perplexity, steered over unsteered", "20.4 / 16.0", "actadd_toxicity", _disfluency, "above",
        1, ".2f", why=RARE,
    ),
    Claim(
        "G, sentiment", "change of pleasant completions, Love − Hate", "0.200 to 0.349", "actadd_tone",
        change(f"{STRONG} and minus == 'Hate' and towards == 'pleasant' and condition == 'steered'"), why=OPPOSITES,
    ),
    Claim(
        "G, sentiment", "change of unpleasant completions, Hate − Love", "0.207 to 0.395", "actadd_tone",
        change(f"{STRONG} and minus == 'Love' and towards == 'unpleasant' and condition == 'steered'"), why=OPPOSITES,
    ),
    Claim(
        "G, its cost", "perplexity, steered over unsteered", "29.3 / 18.5", "actadd_tone", _disfluency, "above", 1,
        ".2f", why=OPPOSITES,
    ),
    Claim(
        "H, random vectors", "KL / entropy, random less the vector's", "random moves logits more",
        "actadd_random_vectors",
        _less("condition == 'random'", "condition == 'vector'", "value"), form=".3f", why=NOISE,
    ),
    Claim(
        "I, nonsense text", "KL / entropy, the vector's less a nonsense text's of its norm", "mild",
        "actadd_random_vectors",
        _less("condition == 'vector'", "condition == 'nonsense'", "value"), form=".3f", why=NOISE,
    ),
    Claim(
        "J, just the token?", "completions with a wedding word by the embeddings' difference", "almost nothing",
        "actadd_just_tokens", row("source == source.min() and condition == 'as it is'"), "below", 0.5,
        why="where the chosen layer is the first or the next, the two are nearly the same",
    ),
    Claim(
        "K, part of the dimensions", "completions with a wedding word, all dimensions less half of them",
        "rises smoothly",
        "actadd_dimensions", _less("dimensions == 1", "dimensions == 0.5"),
    ),
    Claim(
        "L, essays", "ratio on weddings, steered", "0.875", "actadd_essays",
        ratio(f"{GENTLE} and topic == 'weddings' and condition == 'steered'"), "below", 1, ".3f", why=COSTS_ALL,
    ),
    Claim(
        "L, essays", "ratio on ships, steered", "0.994", "actadd_essays",
        ratio(f"{GENTLE} and topic == 'ships' and condition == 'steered'"), "near", 1, ".3f",
    ),
    Claim(
        "L, essays", "ratio on weddings, prompted", "0.890", "actadd_essays",
        ratio(f"{GENTLE} and topic == 'weddings' and condition == 'prompted'"), "below", 1, ".3f", why=COSTS_ALL,
    ),
    Claim(
        "L, essays", "ratio on ships, prompted", "1.132", "actadd_essays",
        ratio(f"{GENTLE} and topic == 'ships' and condition == 'prompted'"), "above", 1, ".3f",
    ),
    Claim(
        "M, essays by layer", "layers whose ratio on weddings is below 1", "all but the first", "actadd_essay_sweep",
        _helped, reference=0.5, why=COSTS_ALL,
    ),
    Claim(
        "N, reviews by layer", "layers whose ratios rise from bad to good under worst", "nearly all", "actadd_reviews",
        _ordered, reference=0.5, why=LAST_TWO,
    ),
    Claim(
        "O, place", "completions with a wedding word, front", "front, middle and back all steer", "actadd_places",
        row("condition == 'front'"),
    ),
    Claim(
        "P, KL by token", "share of the KL that the topic's words make", "0.781, wedding", "actadd_kl_shares",
        _topic_kl,
        reference=0.5, form=".2f",
    ),
    Claim(
        "Q, relative size", "vector / stream at the middle layer, c = 1", "about 1 at layer 20",
        "actadd_relative_sizes",
        _middle_size, reference=0.5, form=".2f",
    ),
    Claim(
        "qualitative vectors", "vectors whose words come more often than unsteered", "shown as working",
        "actadd_gallery", _shown, reference=0.5,
        why="strengths and depths are those of GPT-2-XL, none was tuned",
    ),
)  # fmt: skip

SCALING = (
    *(
        Claim(
            f"3, effectiveness, {name}", f"held-out prompts {what}, ActivScalar", "direction", "scaling_held_out",
            row(f"task == '{task}' and method == 'ActivScalar' and beta == 1 and metric == '{metric}'", "value"),
            reference=0.5,
        )
        for task, name in (("ioi", "IOI"), ("ccc in conflict", "CCC"))
        for metric, what in (("flips", "that flip"), ("first", "whose new answer comes first"))
    ),
    *(
        Claim(
            f"Figure 2, faithfulness, {name}", "nats that vectors pay more than scalars, equally effective",
            "scalars not behind", "scaling_equal", row(f"task == '{task}'", "difference"), form=".2f",
            why="of one setting; on the front of the whole grid the bundled model's scalars pay less at each level",
        )
        for task, name in (("ioi", "IOI"), ("ccc in conflict", "CCC"))
    ),
    Claim(
        "Figure 2, minimality", "numbers above 0.01, vectors less scalars, mean of all settings", "scalars far smaller",
        "scaling_pareto",
        _numbers, form=".0f",
    ),
    Claim("Figure 3, β = 1", "P(correct) − P(wrong)", "above 0", "scaling_beta", _answers(1), form=".2f"),
    Claim("Figure 3, β = −1", "P(correct) − P(wrong)", "below 0", "scaling_beta", _answers(-1), "below", form=".2f"),
    Claim(
        "Figure 3, map", "mean scalar on the receiver's name less the other's", "one promoted, the other scaled down",
        "scaling_examples", _names, form=".3f",
        why="Gemma's scalars promote the giver's second mention in layers 7 and 8, and scale the receiver's name down",
    ),
    Claim(
        "Figure 4", "Kendall's τ of locations by change of norm, between fits of vectors", "maps agree", "scaling_runs",
        _pairs_of("SteerVec", "SteerVec", "tau"), form=".2f",
    ),
    Claim(
        "Figure 4", "the same, vectors and scalars", "maps resemble each other", "scaling_runs",
        _pairs_of("SteerVec", "ActivScalar", "tau"), form=".2f", why=ORDER,
    ),
    Claim(
        "Figure 4", "cosine of vectors of two fits", "directions differ", "scaling_runs",
        _pairs_of("SteerVec", "SteerVec", "cosine"), "below", 0.5, ".2f",
    ),
    Claim(
        "Figure 5", "held-out prompts of unseen lengths that flip, DynScalar", "direction", "scaling_lengths",
        _unseen_flips,
        reference=0.5,
    ),
    Claim(
        "Figure 5", "IOI prompts whose largest scalar is on the answer", "found at its new position", "scaling_largest",
        _largest, reference=0.5,
        why="the largest scalars stand on other words, or on the giver's second mention",
    ),
    Claim(
        "patching (said by a third party)", "Kendall's τ of |α| and activation patching", "direction",
        "scaling_patching_agreement", _as_patching, form=".2f", why=ORDER,
    ),
)  # fmt: skip

SARA = (
    Claim(
        "1, dilemmas", "unsteered answers from duty", "0.72 a priori, Gemma-2B", "sara_shares",
        row("method == 'unsteered' and group == 'duty'"), reference=0.5, why=FEW,
    ),
    Claim(
        "2, consistency", "1 / distinct labels", "0.46", "sara_schools_consistency",
        row("method == 'unsteered'", "value"), reference=RANDOM_LABELS, form=".2f",
    ),
    Claim(
        "3, agreement of scorers", "share of answers", "0.74", "sara_schools_agreement",
        row("method == 'all'", "value"), reference=0.5, form=".2f", why="a count of words beside a small model",
    ),
    Claim(
        "4, moral foundations", "harm less authority, unsteered", "4.74 − 2.52", "foundations_profile",
        _individualising,
        form=".2f",
    ),
    Claim(
        "5, SARA towards consequences", "change of such answers", "0.23 to 0.47", "sara_effects",
        _effect("sara", "consequence"), why=FEW,
    ),
    Claim(
        "5, SARA towards duty", "change of such answers", "0.72 to 0.83", "sara_effects", _effect("sara", "duty"),
        why=FEW,
    ),
    Claim(
        "6, by depth", "share of answers from duty under SARA, late less middle layers", "1.0 − 0.67",
        "sara_released_depths", _late_less_middle,
        why="one dilemma; the bundled model takes up what is added in its middle layers alone",
    ),
    Claim(
        "7, against ActAdd", "change towards duty, SARA's less ActAdd's", "SARA stronger", "sara_effects",
        _less("method == 'sara' and direction == 'duty'", "method == 'actadd' and direction == 'duty'", "gain"),
        why=FEW,
    ),
)  # fmt: skip

CLAIMS: Mapping[str, Sequence[Claim]] = MappingProxyType(
    {
        "ActAdd (arXiv 2308.10248)": ACTADD,
        "Activation scaling (arXiv 2410.04962)": SCALING,
        "SARA and the moral compass (arXiv 2405.17345)": SARA,
    }
)
