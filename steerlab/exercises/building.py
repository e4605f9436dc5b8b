"""The checkers of the exercises that build something: each names the usual mistakes."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..fit import score
from ..intervention import Intervention
from ..methods.actadd import actadd
from ..methods.learned import locations
from ..methods.sara import sara
from ..metrics import kl
from ..model import SteerableModel
from ..site import Site
from ..tasks import answer_tokens
from .checking import NotYet, checker, close, equal

OURS = re.compile(r"When \w+ and \w+ went to the \w+, \w+ gave a \w+ to$")


@checker
def check_control(make: Callable[[Intervention, int], Any], lm: SteerableModel) -> str:
    """03: from an intervention and a seed to a random one with the same sites, positions and norm at each position."""
    steer = actadd(lm, " Love and", " Hate and", layer=2, coefficient=3.0)
    control = make(steer, 0)
    if not isinstance(control, Intervention):
        raise NotYet(f"an Intervention is wanted, not {type(control).__name__}")
    if control.sites != steer.sites:
        raise NotYet(f"the control is at {control.sites}, the vector at {steer.sites}")
    (_, edit), (_, mine) = steer.edits[0], control.edits[0]
    vector, other = edit.shift, mine.shift
    assert vector is not None
    if other is None or other.shape != vector.shape:
        raise NotYet(f"a shift of the shape {list(vector.shape)} is wanted: a row for each position")
    if (mine.anchor, mine.start, mine.when) != (edit.anchor, edit.start, edit.when):
        raise NotYet("the positions or passes differ: keep the edit's, with replace(edit, shift=...)")
    _compare_norms(vector, other)
    cosine = float(torch.cosine_similarity(vector[1:].flatten(), other[1:].flatten(), dim=0))
    if abs(cosine) > 0.5:
        same = "the vector itself" if cosine > 0 else "the vector turned round, which steers the other way"
        raise NotYet(f"this is {same} (cosine {cosine:.2f}): the control's direction is to mean nothing")
    if close(other, make(steer, 1).edits[0][1].shift):
        raise NotYet("another seed gives the same control: draw with a generator of that seed")
    return f"as long at each position, cosine with the vector {cosine:.2f}, another for each seed"


def _compare_norms(vector: Tensor, other: Tensor) -> None:
    """`NotYet` where two shifts differ in their norm at a position."""
    wanted, norms = vector.norm(dim=-1), other.norm(dim=-1)
    if torch.isnan(norms).any():
        raise NotYet("there are NaNs: a row of norm 0 can be multiplied by its norm, but nothing be divided by it")
    if close(norms, wanted):
        return
    if close(norms.norm(), wanted.norm()):
        raise NotYet("the norm as a whole is right, those of the positions are not: row 0, of BOS, has to stay zero")
    row = int((norms - wanted).abs().argmax())
    raise NotYet(f"row {row} has norm {norms[row]:.1f}, and {wanted[row]:.1f} is wanted")


@checker
def check_dose(answer: Callable[..., float | None], lm: SteerableModel, *, prompt: str, pair: tuple[str, str]) -> str:
    """04: the strength c > 0 at which KL(steered ‖ unsteered) of the next token is so many nats, of SARA and ActAdd."""
    lines = []
    for name, steer, target in (
        ("SARA", sara(lm, prompt, attract=pair[0], repel=pair[1], layer=2), 0.02),
        ("ActAdd", actadd(lm, *pair, layer=2), 0.05),
    ):
        c = answer(lm, steer, prompt, target)
        if c is None or not np.isfinite(float(c)):
            raise NotYet(f"{name}: a number is wanted, not {c}")
        if c <= 0:
            raise NotYet(f"{name}: c = {float(c):.3g} is not above 0; the other sign steers the other way")
        _compare_doses(name, lm, steer, prompt, target, float(c))
        lines.append(f"{name} c = {float(c):.2f} for {target} nats")
    return "; ".join(lines) + ": equal strengths are not equal doses"


def _compare_doses(
    name: str, lm: SteerableModel, steer: Intervention, prompt: str, target: float, c: float, tolerance: float = 0.05
) -> None:
    """`NotYet` where a strength has another KL than the target."""
    plain, steered, full = lm.logits([prompt] * 3, [None, c * steer, steer])
    there, back, at_one = (float(kl(*pair)) for pair in ((steered, plain), (plain, steered), (full, plain)))
    if abs(there - target) <= tolerance * target:
        return
    mistakes = {
        "this is the KL from the other side, KL(unsteered ‖ steered)": back,
        "this is in bits: nats take the natural logarithm": there / np.log(2),
    }
    near = next((mistake for mistake, value in mistakes.items() if abs(value - target) <= tolerance * target), None)
    if near is None and abs(c - target / at_one) <= 0.02 * c:
        near = "you have scaled the KL at c = 1 in a straight line, and it grows about with the square of c"
    hint = f"; {near}" if near else ""
    raise NotYet(f"{name}: at c = {c:.3g} the KL is {there:.3g} nats, and {target} is wanted{hint}")


@checker
def check_own_answers(
    lm: SteerableModel, train: pd.DataFrame, test: pd.DataFrame, kept: Intervention, *, most: int = 3
) -> str:
    """05: a task of the reader's own, and at most three learned scalars that turn its answers round."""
    correct, wrong = answer_tokens(lm, test)
    prompts = [str(prompt) for prompt in test["prompt"]]
    if any(OURS.match(prompt) for prompt in prompts):
        raise NotYet("these are our sentences: write a template, or prompts and answers, of your own")
    if both := set(prompts) & set(train["prompt"]):
        raise NotYet(f"{len(both)} prompts stand on both sides, such as {min(both)!r}: test on others")
    if len(prompts) < 20:
        raise NotYet(f"{len(prompts)} prompts are few to test on: 20 at least")
    bare = float((lm.logits(prompts).argmax(-1) == correct).float().mean())
    if bare < 0.8:
        raise NotYet(f"unsteered the model gives the right answer after {bare:.0%} only: begin with a pair it knows")
    number = len(locations(kept).query("norm > 1e-6"))
    if not 0 < number <= most:
        raise NotYet(f"{number} locations are left: keep one to {most}, by sl.keep")
    flips = float(score(lm, test, kept)["flips"].mean())
    up, down = (
        float((lm.logits(prompts, beta * kept).argmax(-1) == token).float().mean())
        for beta, token in ((1, correct), (-1, wrong))
    )
    counts = f"{number} locations flip {flips:.0%}; the right answer is said after {up:.0%}, the other after {down:.0%}"
    if up < 0.8:
        raise NotYet(f"{counts}: at β = 1 the right answer is to stay, after 80 %")
    if flips < 0.8 or down < 0.5:
        raise NotYet(f"{counts}: at β = -1, 80 % and 50 % are wanted; may other scalars carry it, or a larger β?")
    return counts


@checker
def check_probe(
    lm: SteerableModel, probe: Intervention, train: pd.DataFrame, test: pd.DataFrame, *, least: float = 0.8
) -> str:
    """06: probes that work on prompts of a length which their training did not have."""
    if any(edit.probe is None or edit.gain is not None or edit.shift is not None for _, edit in probe.edits):
        raise NotYet("probes alone are wanted: a gain or a shift does not look at what it edits")
    seen, new = ({len(lm.tokens(text)) for text in side["prompt"]} for side in (train, test))
    if both := seen & new:
        raise NotYet(f"the training has prompts of {min(both)} tokens too: test on another length")
    if len(test) < 20:
        raise NotYet(f"{len(test)} prompts are few to test on: 20 at least")
    learned, tested = (float(score(lm, side, probe)["flips"].mean()) for side in (train, test))
    counts = f"{tested:.0%} of the prompts of {', '.join(map(str, sorted(new)))} tokens flip, {learned:.0%} in training"
    if learned < least:
        raise NotYet(f"{counts}: it has not even learned its own prompts; try more steps or another objective")
    if tested < least:
        raise NotYet(f"{counts}, and {least:.0%} are wanted: it knows the opening, not the people; vary the training")
    return counts


@checker
def check_mean_difference(
    answer: Callable[[SteerableModel, Sequence[str], Sequence[str], int], Tensor | None], lm: SteerableModel
) -> str:
    """07: the mean difference of many pairs, [d_model]: of the last tokens, where the block is entered."""
    plus = ["It was a good dinner", "All in all the day was good", "She is good"]
    minus = ["It was a bad dinner and", "The day was bad", "He said that this is bad"]
    layer = lm.n_layers // 2
    wanted = actadd(lm, plus, minus, layer=layer, position="back", vector="last").edits[0][1].shift
    assert wanted is not None
    means = {
        place: [_means(lm, texts, Site(place, layer)) for texts in (plus, minus)]
        for place in ("resid_pre", "resid_post")
    }
    last, whole = ({place: pair[0][i] - pair[1][i] for place, pair in means.items()} for i in (0, 1))
    near = {
        "the sign is wrong: plus less minus": -wanted[0],
        "these are sums: divide by the number of texts": len(plus) * wanted[0],
        "this is a direction of length 1: the mean difference has a length of its own": wanted[0] / wanted.norm(),
        "this leaves the block; what enters it is wanted": last["resid_post"],
        "this is the mean over all tokens: take the last one of each text": whole["resid_pre"],
    }
    return equal(answer(lm, plus, minus, layer), wanted[0], near)


def _means(lm: SteerableModel, texts: Sequence[str], site: Site) -> tuple[Tensor, Tensor]:
    """The mean of the texts' last activations, and of the means of all of each text's."""
    rows = [lm.activations(text, site).row(0, site) for text in texts]
    return torch.stack([row[-1] for row in rows]).mean(0), torch.stack([row.mean(0) for row in rows]).mean(0)


@checker
def check_study(
    study: Callable[[SteerableModel, dict[int, Intervention]], pd.DataFrame],
    lm: SteerableModel,
    *,
    prompt: str,
    strengths: Sequence[float],
    token: str = " wedding",
) -> str:
    """08: a token's log-probability by condition, layer and strength, of which 0 is one, in one request."""
    layers = (0, 1)
    vectors = dict(zip(layers, lm.together([_heading(layer) for layer in layers]), strict=True))
    rows = 2 * len(layers) * len(strengths)
    size = _one_request(lm.dry_run(lambda lm: study(lm, vectors)), rows)
    answer = _logprobs(study(lm, vectors), layers, strengths)
    wanted = _wanted(lm, vectors, prompt, strengths, token)
    for (layer, strength), right in wanted.items():
        _compare_steered(float(answer["steered", layer, strength]), right, f"layer {layer}, strength {strength:g}")
        if strength:
            _compare_random(float(answer["random", layer, strength]), right, wanted[layer, 0], layer)
    still = _logprobs(study(lm, {layer: 0 * vector for layer, vector in vectors.items()}), layers, strengths)
    if (still - wanted[layers[0], 0]).abs().max() > 1e-3:
        raise NotYet("the control does not have the norm of the vector: at length 0 the prediction still moves")
    return f"{rows} settings in one request, {size:,} bytes back; the steered rows are those of lm.logits"


def _heading(layer: int) -> Callable[[SteerableModel], Intervention]:
    """A vector that is not the notebook's."""
    return lambda lm: actadd(lm, " ships", " ", layer=layer)


def _one_request(dry: pd.DataFrame, rows: int) -> int:
    """The bytes that a study of so many rows brings back; `NotYet` where it is more than one request, or too many."""
    if dry.empty:
        raise NotYet("it asks the model for nothing")
    if len(dry) > 1:
        raise NotYet(f"it takes {len(dry)} requests: list all settings, then ask once")
    size = int(dry["result_bytes"].iloc[0])
    if size > 200 * rows:
        raise NotYet(f"{size:,} bytes come back, of {rows} settings: take the log-probability beside the model")
    return size


def _logprobs(frame: object, layers: Sequence[int], strengths: Sequence[float]) -> "pd.Series[float]":
    """A study's log-probabilities by condition, layer and strength; `NotYet` where a row is missing."""
    names = ["condition", "layer", "strength"]
    if not isinstance(frame, pd.DataFrame) or not {*names, "logprob"} <= set(frame.columns):
        raise NotYet(f"a table with the columns {', '.join(names)} and logprob is wanted")
    logprobs = frame.set_index(names)["logprob"]
    points = pd.MultiIndex.from_product([["steered", "random"], layers, strengths], names=names)
    if missing := [point for point in points if point not in logprobs.index]:
        raise NotYet("there is no row for " + ", ".join(map(str, missing[0])))
    if len(logprobs) != len(points):
        raise NotYet(f"{len(points)} rows are wanted, one for each setting, not {len(logprobs)}")
    return logprobs.astype(float)


def _wanted(
    lm: SteerableModel, vectors: dict[int, Intervention], prompt: str, strengths: Sequence[float], token: str
) -> dict[tuple[int, float], float]:
    """The token's log-probability by layer and strength."""
    points = [(layer, strength) for layer in vectors for strength in strengths]
    logits = lm.logits([prompt] * len(points), [strength * vectors[layer] for layer, strength in points])
    (index,) = lm.encode(token)
    return dict(zip(points, logits.log_softmax(-1)[:, index].tolist(), strict=True))


def _compare_steered(value: float, right: float, where: str) -> None:
    """`NotYet` where a log-probability is another."""
    if abs(value - right) > 1e-3 * max(1, abs(right)):
        near = "; this is the probability" if abs(value - np.exp(right)) < 1e-3 else ""
        raise NotYet(f"steered, {where}: logprob is {value:.3f}, and {right:.3f} is wanted{near}")


def _compare_random(value: float, steered: float, plain: float, layer: int) -> None:
    """`NotYet` where a control is no control."""
    if abs(value - steered) < 1e-6:
        raise NotYet(f"layer {layer}: the random rows are the steered ones")
    if abs(value - plain) < 1e-6:
        raise NotYet(f"layer {layer}: the random rows are unsteered: a random vector is wanted")
