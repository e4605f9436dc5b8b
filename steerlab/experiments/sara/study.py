"""Answers to dilemmas, steered and unsteered: each in a setting of its own, their shares, and what steering moved."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ...intervention import Intervention, When
from ...judges import GROUPS, SCHOOL_LABELS, Judge, word_judge
from ...methods.actadd import actadd
from ...methods.sara import Variant, sara, sara_gain, shuffled
from ...metrics import gain, mcnemar, mean, means, share
from ...model import SteerableModel
from ...prompts import Prompt
from ...strength import mean_kl
from ...sweep import Setting, completions, noted
from .dilemmas import CONSEQUENCES, DUTY, PARENT
from .published import DEPTHS

Direction = Literal["duty", "consequence"]
Method = Literal["sara", "actadd", "shuffled", "prompt"]
Dose = float | Literal["released"] | None
METHODS: tuple[Method, ...] = ("sara", "actadd", "shuffled", "prompt")
"""SARA; ActAdd with the same two prompts; SARA's own gains handed to other neurons; the attracting prompt written in
front of the dilemma, and nothing steered."""

ANSWERS: Mapping[str, Any] = MappingProxyType({"temperature": 0.8, "top_p": 0.3, "max_new_tokens": 40})
"""How our answers are sampled: as released, but 40 tokens long, which is where the bundled model's sense ends."""


RELEASED_SAMPLING = MappingProxyType({"temperature": 0.8, "top_p": 0.3, "max_new_tokens": 100})
"""How the released notebook samples; it takes 5 answers at each layer, with coefficient 1."""

DOSES: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "released": {"variant": "released"},
        "anchored": {},
        "anchored, γ as large": {"dose": "released"},
        "anchored, equal KL": {"dose": 0.7},
    }
)
"""At which SARA's two variants are compared: options of `dilemma_study`."""


def dilemma_study(
    lm: SteerableModel,
    dilemmas: pd.DataFrame,
    judge: Judge | None = None,
    *,
    duty: str = DUTY,
    consequence: str = CONSEQUENCES,
    layers: Iterable[int] | None = None,
    repeats: int = 5,
    directions: Sequence[Direction] = ("duty", "consequence"),
    methods: Sequence[Method] = METHODS,
    coefficient: float = 1.0,
    actadd_coefficient: float = 1.0,
    dose: Dose = None,
    variant: Variant = "anchored",
    when: When = "all",
    temperature: float = 0.8,
    top_p: float = 0.3,
    max_new_tokens: int = 100,
    seed: int = 0,
    file: str | Path | None = None,
    rows: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Answers to dilemmas at every layer, in both directions, by several methods, each beside its unsteered twin.

    Each layer draws noise of its own, so that answers pooled over layers are independent; within a layer all conditions
    share it, so that they compare pair by pair, and there are as many unsteered answers as steered ones.

    With a remote model two requests: what all vectors are made of, then all answers. (Only a result beyond the limit of
    a request is asked for in several.)

    Args:
        lm: the model.
        dilemmas: `id` and `prompt`, a text or a chat; of a chat also `question`, the text that the judge is shown.
        judge: sorts the answers; of the bundled model the word judge by default, of another model one has to be given.
            It is shown the dilemma and the answer, also where another text stood in front of the dilemma.
        duty: the prompt that the direction "duty" attracts to, and "consequence" repels from.
        consequence: the other prompt.
        layers: all by default, one at a time.
        repeats: answers at each layer.
        directions: of the steering.
        methods: of `METHODS`. For "prompt" a layer is only another draw of the noise.
        coefficient: of SARA and of its control.
        actadd_coefficient: of ActAdd.
        dose: what coefficient 1 is, by default the method's own. A number: as many nats of the next token's
            KL(steered ‖ unsteered), for every method, direction, layer and dilemma alike (see `at_kl`). "released":
            a γ as large as that of the released variant, for SARA and its control (see `at_size`). With a remote model
            either takes requests of its own.
        variant: of SARA. "released" runs one row at a time.
        when: passes that SARA edits.
        temperature: of the sampling, and so on as released.
        top_p: nucleus.
        max_new_tokens: of an answer.
        seed: of the sampling and of the control.
        file: keeps results, so that a stopped run goes on where it was.
        rows: of one batch; found from the free memory by default.
        progress: whether to show a bar over layers.

    Returns:
        One row per answer: `id`, `method`, `direction` (both "unsteered" for the twin), `layer`, `coefficient`,
        `prompt` (the dilemma), `sample`, `completion`, `n_tokens`, `seed` (of the layer), `label`, `group`,
        `confidence`.

    Raises:
        ValueError: a method or direction is unknown, two dilemmas have the same id, no judge is given for another than
            the bundled model, the released size of γ is asked of something without one to be sized, or what `sara`,
            `actadd` and `lm.generate` refuse.
    """
    need_known("direction", directions, ("duty", "consequence"))
    need_known("method", methods, METHODS)
    if variant == "released" and "shuffled" in methods:
        raise ValueError('the released variant has no gain to shuffle: leave "shuffled" out of methods')
    if dose == "released" and (variant == "released" or "actadd" in methods):
        raise ValueError('dose="released" is for anchored SARA and its control: leave ActAdd out')
    _need_own_ids(dilemmas)
    judge = judge or word_judge(lm)
    chosen = list(range(lm.n_layers)) if layers is None else list(layers)
    prompts = list(dilemmas["prompt"])
    pairs: dict[Direction, tuple[str, str]] = {"duty": (duty, consequence), "consequence": (consequence, duty)}
    sampling: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
    sampling |= {"n": repeats, "file": file, "rows": 1 if variant == "released" else rows, "progress": False}
    shown = dilemmas.set_index("id")["question" if "question" in dilemmas else "prompt"]

    def steers(direction: Direction, lm: SteerableModel) -> dict[str, list[ByLayer]]:
        return unit_steers(lm, prompts, *pairs[direction], chosen, methods, variant, when, seed)

    def answers(layer: int, lm: SteerableModel) -> pd.DataFrame:
        settings = [setting for condition in conditions for setting in condition.settings(dilemmas, layer)]
        return completions(lm, settings, seed=1000 * seed + layer, **sampling)

    with noted(lm, file) as lm:
        conditions = [Condition("unsteered", "unsteered", 0.0)]
        made = lm.together([partial(steers, direction) for direction in directions])
        strengths = dict.fromkeys(methods, coefficient) | {"actadd": actadd_coefficient}
        for direction, steer in zip(directions, made, strict=True):
            dosed = {name: at_dose(lm, prompts, each, dose, *pairs[direction]) for name, each in steer.items()}
            conditions += conditions_of(direction, methods, dosed, strengths, pairs[direction][0])
        bar = tqdm(chosen, disable=not progress or lm.runner.at_once, unit="layer")
        frames = lm.together(partial(answers, layer) for layer in bar)
    frame = pd.concat(frames, ignore_index=True)
    return judge_answers(frame.assign(prompt=frame["id"].map(shown)), judge)


ByLayer = dict[int, Intervention]


class Condition(NamedTuple):
    """One way of putting the dilemmas to the model: steered at coefficient 1 by layer, or under a heading, or bare."""

    method: str
    direction: str
    coefficient: float
    steers: Sequence[ByLayer] | None = None
    heading: str = ""

    def settings(self, dilemmas: pd.DataFrame, layer: int) -> list[Setting]:
        """A setting for each dilemma."""
        columns = {"method": self.method, "direction": self.direction, "layer": layer, "coefficient": self.coefficient}
        bare = [None] * len(dilemmas)
        steers = bare if self.steers is None else [self.coefficient * each[layer] for each in self.steers]
        return [
            Setting({"id": name, **columns}, under(self.heading, prompt), steer)
            for name, prompt, steer in zip(dilemmas["id"], dilemmas["prompt"], steers, strict=True)
        ]


def conditions_of(
    direction: Direction,
    methods: Sequence[Method],
    steers: Mapping[str, Sequence[ByLayer]],
    strengths: Mapping[Method, float],
    attract: str,
) -> list[Condition]:
    """A direction's conditions: steered by each method, or under the attracting prompt."""
    return [
        Condition(method, direction, 0.0, heading=f"{attract} ")
        if method == "prompt"
        else Condition(method, direction, strengths[method], steers[method])
        for method in methods
    ]


def under(heading: str, prompt: Prompt) -> Prompt:
    """A prompt with a heading in front of it; of a chat in front of the user's first turn."""
    if isinstance(prompt, str):
        return heading + prompt
    first = next(i for i, turn in enumerate(prompt) if turn["role"] == "user")
    return [{**turn, "content": heading + turn["content"]} if i == first else turn for i, turn in enumerate(prompt)]


def at_dose(
    lm: SteerableModel, prompts: Sequence[Prompt], steers: Sequence[ByLayer], dose: Dose, attract: str, repel: str
) -> Sequence[ByLayer]:
    """Each dilemma's interventions at a dose of `dilemma_study`: as they are, at a size of γ, or at a KL."""
    if dose is None:
        return steers
    return at_size(lm, prompts, steers, attract, repel) if dose == "released" else at_kl(lm, prompts, steers, dose)


STRENGTHS = np.geomspace(0.25, 64, 9)
"""Strengths among which `at_kl` looks."""


def at_kl(lm: SteerableModel, prompts: Sequence[Prompt], steers: Sequence[ByLayer], target: float) -> list[ByLayer]:
    """Each dilemma's interventions at the strength that moves its next token by a target.

    Between the `STRENGTHS`, a factor of 2 apart, log KL is taken for linear in log strength. Where no strength reaches
    the target it is the one that comes nearest.

    Args:
        lm: the model.
        prompts: the dilemmas.
        steers: of each dilemma, by layer, at strength 1.
        target: KL(steered ‖ unsteered) in nats.
    """

    def dosed(prompt: Prompt, intervention: Intervention) -> Intervention:
        values = np.maximum(mean_kl(lm, intervention, STRENGTHS.tolist(), [prompt]), 1e-9)
        reached = int((values >= target).argmax())
        if values[reached] < target:
            return float(STRENGTHS[values.argmax()]) * intervention
        part = slice(max(0, reached - 1), reached + 1)
        return float(np.exp(np.interp(np.log(target), np.log(values[part]), np.log(STRENGTHS[part])))) * intervention

    pairs = zip(prompts, tqdm(steers, desc="doses", leave=False), strict=True)
    return [{layer: dosed(prompt, steer) for layer, steer in by_layer.items()} for prompt, by_layer in pairs]


def at_size(
    lm: SteerableModel, prompts: Sequence[Prompt], steers: Sequence[ByLayer], attract: str, repel: str
) -> list[ByLayer]:
    """Each dilemma's gains with the root mean square of the released variant's γ, on the same dilemma and layer.

    Of the γ that the released variant finds on the dilemma itself, with BOS, as published; while it writes it finds
    others.

    Args:
        lm: the model.
        prompts: the dilemmas.
        steers: of each dilemma, by layer, a gain per neuron.
        attract: attracting prompt.
        repel: repelling prompt.
    """
    sites = [site for steer in steers[0].values() for site, _ in steer.edits]
    own, near, far = (lm.activations(texts, sites) for texts in (prompts, attract, repel))

    def sized(row: int, intervention: Intervention) -> Intervention:
        [(site, edit)] = intervention.edits
        released = sara_gain(own.row(row, site), near.row(0, site), far.row(0, site), variant="released")
        return float(released.norm() / edit.tensors["gain"].norm()) * intervention

    return [{layer: sized(row, steer) for layer, steer in by_layer.items()} for row, by_layer in enumerate(steers)]


def unit_steers(
    lm: SteerableModel,
    prompts: Sequence[Prompt],
    attract: str,
    repel: str,
    layers: list[int],
    methods: Sequence[Method],
    variant: Variant,
    when: When,
    seed: int,
) -> dict[str, list[ByLayer]]:
    """What each method does to each prompt at each layer, at coefficient 1; with a remote model one request for all."""
    options: dict[str, Any] = {"attract": attract, "repel": repel, "layer": layers, "when": when, "variant": variant}
    works: list[Callable[[SteerableModel], Any]] = []
    if {"sara", "shuffled"} & set(methods):
        batches: Sequence[Any] = prompts if variant == "released" else [prompts]
        works += [partial(sara, prompts=batch, **options) for batch in batches]
    gains = len(works)
    if "actadd" in methods:
        works += [partial(actadd, plus=attract, minus=repel, layer=layer) for layer in layers]
    made = lm.together(works)
    steers: dict[str, list[ByLayer]] = {}
    if gains:
        interventions = made[:gains] if variant == "released" else made[0]
        steers["sara"] = [
            {site.layer: Intervention({site: edit}) for site, edit in steer.edits} for steer in interventions
        ]
    if "shuffled" in methods:
        steers["shuffled"] = [
            {layer: shuffled(steer, 1000 * seed + layer) for layer, steer in by_layer.items()}
            for by_layer in steers["sara"]
        ]
    if "actadd" in methods:
        steers["actadd"] = [dict(zip(layers, made[gains:], strict=True))] * len(prompts)
    return {method: steers[method] for method in methods if method in steers}


def judge_answers(frame: pd.DataFrame, judge: Judge) -> pd.DataFrame:
    """A frame of completions with a judge's `label`, `group` and `confidence`; the judge sees no other column."""
    verdicts = judge(list(frame["completion"]), list(frame["prompt"]))
    return pd.concat([frame.drop(columns=verdicts.columns, errors="ignore"), verdicts], axis=1)


def seed_example(
    lm: SteerableModel,
    judge: Judge | None = None,
    *,
    prompt: str = PARENT,
    layer: int,
    repeats: int = 4,
    **options: Any,
) -> pd.DataFrame:
    """The release's example: one dilemma unsteered, steered to duty and steered to consequences, side by side.

    Args:
        lm: the model.
        judge: as in `dilemma_study`.
        prompt: the dilemma.
        layer: where to steer.
        repeats: answers of each kind; those with the same `sample` share their noise.
        options: others of `dilemma_study`.

    Returns:
        Its frame for SARA alone, with the direction as `condition`.
    """
    dilemma = pd.DataFrame({"id": ["parent"], "prompt": [prompt]})
    chosen: dict[str, Any] = {"methods": ("sara",), "progress": False} | options
    frame = dilemma_study(lm, dilemma, judge, layers=[layer], repeats=repeats, **chosen)
    return frame.assign(condition=frame["direction"])


def with_depth(frame: pd.DataFrame, n_layers: int) -> pd.DataFrame:
    """A frame with `depth`: early, middle and late thirds of the layers, layer 0 included (the release left it out)."""
    codes = (frame["layer"] * len(DEPTHS) // n_layers).to_numpy()
    return frame.assign(depth=pd.Categorical.from_codes(codes, pd.Index(DEPTHS), ordered=True))


def shares(
    frame: pd.DataFrame, by: Sequence[str] = ("method", "direction"), of: Literal["group", "label"] = "group"
) -> pd.DataFrame:
    """Share of answers in each group, with Wilson's 95 % interval: over answers to one dilemma, over several dilemmas.

    Args:
        frame: from `dilemma_study`.
        by: columns that make a cell, such as also "layer" or "depth".
        of: "label" for the eight schools, where the judge tells them apart.

    Returns:
        One row per cell and group: the columns of `by`, `group` (or `label`), `share`, `low`, `high`, `n`, `units`,
        `interval`.

    Raises:
        ValueError: schools are asked for, and the judge has named none.
    """
    names = GROUPS if of == "group" else tuple(SCHOOL_LABELS)
    if not frame[of].isin(names).any():
        raise ValueError("the judge names none of the eight schools: take one that does, such as ModelJudge")
    judged = frame.rename(columns={of: "judged"})
    each = judged.merge(pd.DataFrame({of: names}), how="cross")
    each = each.assign(share=each["judged"] == each[of])
    return means(each, "share", [*by, of], _dilemma(frame)).rename(columns={"value": "share"})


def effects(frame: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """What steering moved, against the unsteered twins.

    Args:
        frame: from `dilemma_study`.
        by: more columns that make a cell, such as "layer", "depth" or "id".

    Returns:
        One row per method, direction and cell: `gain` (change of the target group's share, paired with the twins, and
        its 95 % interval `low`, `high`), `n` (pairs), `units`, `share` (of the target group, steered), `baseline`
        (unsteered, with Wilson's interval `baseline_low`, `baseline_high`), `beyond` (whether the interval of the gain
        lies above 0), `p` (McNemar's exact test), and `spill`, our measure of the spill-over to other groups: the sum
        of the increases in the share of every group that was not the target. 0 means that only the target grew.

        Intervals are over dilemmas where a cell has several, and speak of others like these, as far as a handful can
        (see `metrics.gain`). In a cell of one dilemma they are over pairs, and speak of further answers to it, as does
        `p` everywhere of these dilemmas.
    """
    pair = ["id", "layer", "sample"]
    twins = frame[frame["method"] == "unsteered"].set_index(pair)["group"]
    steered = frame[frame["method"] != "unsteered"]
    steered = steered.assign(before=twins.loc[pd.MultiIndex.from_frame(steered[pair])].to_numpy())
    rows = []
    for values, cell in steered.groupby(["method", "direction", *by], sort=False, observed=True):
        named: dict[str, Any] = dict(zip(["method", "direction", *by], values, strict=True))
        rows.append(named | _effect(cell, named["direction"]))
    return pd.DataFrame(rows)


def _effect(cell: pd.DataFrame, target: str) -> dict[str, Any]:
    """What steering moved in one cell, whose answers have the group of their twins in `before`."""
    after, before = cell["group"] == target, cell["before"] == target
    change, baseline = gain(after, before, cell["id"]), share(before, cell["id"])
    rises = [(cell["group"] == group).mean() - (cell["before"] == group).mean() for group in GROUPS if group != target]
    return {
        **{"gain": change.value, "low": change.low, "high": change.high, "n": change.n, "units": cell["id"].nunique()},
        **{"share": after.mean(), "baseline": baseline.value},
        **{"baseline_low": baseline.low, "baseline_high": baseline.high},
        **{"beyond": change.low > 0, "p": mcnemar(after, before), "spill": sum(max(0.0, rise) for rise in rises)},
    }


def consistency(frame: pd.DataFrame, n: int = 5) -> pd.DataFrame:
    """1 / (number of distinct labels among the first n answers to a dilemma), as the paper counts them, and the mean.

    Returns:
        One row per method and direction: the mean over dilemmas as `value`, with Student's 95 % interval `low`, `high`,
        and `n` (dilemmas).
    """
    rows = []
    for cell, answers in frame.groupby(["method", "direction"], sort=False):
        distinct = answers.groupby("id", sort=False)["label"].agg(lambda labels: labels.head(n).nunique())
        rows.append((*cell, *mean(1 / distinct)))
    return pd.DataFrame(rows, columns=["method", "direction", "value", "low", "high", "n"])


def agreement(frame: pd.DataFrame) -> pd.DataFrame:
    """How often two judges put an answer into the same group: `group` and `second`.

    Returns:
        One row per method and direction, and one for all: the share as `value`, with Wilson's 95 % interval `low`,
        `high`, and `n`.
    """
    same = frame.assign(same=frame["group"] == frame["second"])
    cells = [*same.groupby(["method", "direction"], sort=False), (("all", "all"), same)]
    rows = [(*cell, *share(part["same"])) for cell, part in cells]
    return pd.DataFrame(rows, columns=["method", "direction", "value", "low", "high", "n"])


def _dilemma(frame: pd.DataFrame) -> str:
    """The column that tells dilemmas apart."""
    return "id" if "id" in frame else "prompt"


def _need_own_ids(dilemmas: pd.DataFrame) -> None:
    """Refuse dilemmas whose answers could not be told apart."""
    for name in dilemmas["id"][dilemmas["id"].duplicated()]:
        raise ValueError(f"two dilemmas have the id {name!r}: each needs one of its own")


def need_known(what: str, given: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuse a name that there is not."""
    for each in given:
        if each not in allowed:
            raise ValueError(f"{what} {each!r} is unknown: choose among {', '.join(allowed)}")
