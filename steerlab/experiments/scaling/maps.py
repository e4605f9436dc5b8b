"""Figures 3 and 4: where scalars lie, what β does to the answers, what vectors change, and whether fits agree."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau
from tqdm.auto import tqdm

from ...fit import Fit, fit_grid, score
from ...intervention import Edit, Intervention
from ...methods.learned import Learned, SteerVec, locations
from ...metrics import mean
from ...model import SteerableModel
from ...objective import Objective, difference
from ...site import Place
from ...tasks import answer_tokens
from .settings import LOCATION, STREAM, USUAL, Folder


def scalars_by_token(lm: SteerableModel, intervention: Intervention, row: "pd.Series[Any]") -> pd.DataFrame:
    """The scalars of one prompt, a row of a task's frame, by layer and token (Figures 3 and 5).

    α of ActivScalar as it was learned; α = ⟨w, h⟩ of DynScalar on the activations of the bare model.

    Returns:
        One row per location: `place`, `layer`, `position`, `token`, `role` (where the row has `roles`), `value`.

    Raises:
        ValueError: the intervention is of neither.
    """
    probes = {site: edit.probe for site, edit in intervention.edits if edit.probe is not None}
    if probes:
        seen = lm.activations(row["prompt"], list(probes))
        alphas = {site: seen.row(0, site).float() @ probe[0].to(seen[site].device) for site, probe in probes.items()}
        values = [(s.place, s.layer, i, v) for s, alpha in alphas.items() for i, v in enumerate(alpha.tolist())]
        frame = pd.DataFrame(values, columns=[*LOCATION, "value"])
    else:
        frame = locations(intervention)[[*LOCATION, "value"]]
        if frame["value"].isna().any():
            raise ValueError("only scalars have a map: ActivScalar or DynScalar (vector_changes is for SteerVec)")
    tokens = lm.tokens(row["prompt"])
    for at, (name, texts) in enumerate({"token": tokens, "role": row.get("roles", [""] * len(tokens))}.items()):
        frame.insert(3 + at, name, [texts[i] for i in frame["position"]])
    return frame


def example_maps(
    lm: SteerableModel,
    frame: pd.DataFrame,
    method: Learned = STREAM[0],
    objective: Objective = USUAL,
    *,
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """A fit for each prompt alone, and its map: what one example needs, to be averaged by role (Figure 3).

    Returns:
        The rows of `scalars_by_token`, with `row` (of the frame) and `flips` (whether that fit flips its own prompt).
    """
    parts = []
    for row in tqdm(range(len(frame)), disable=not progress, leave=False):
        example = frame.iloc[[row]]
        [fit] = fit_grid(lm, example, method, [objective], folder=folder, progress=False, **options)
        flipped = bool(score(lm, example, fit.intervention)["flips"].iloc[0])
        parts.append(scalars_by_token(lm, fit.intervention, frame.iloc[row]).assign(row=row, flips=flipped))
    return pd.concat(parts, ignore_index=True)


def by_role(maps: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and count of `value` by place, layer and role of the token."""
    groups = maps.groupby(["place", "layer", "role"], sort=False)["value"]
    return groups.agg(value="mean", sd="std", n="size").reset_index()


def beta_sweep(
    lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention, betas: Sequence[float] | None = None
) -> pd.DataFrame:
    """The two answers against the strength, 21 values from -1 to 1 by default (Figure 3, beneath the map).

    Returns:
        One row per prompt and β: `row`, `beta`, `difference` (logits), `p_correct`, `p_wrong`.
    """
    answers, parts = answer_tokens(lm, frame), []
    for beta in np.linspace(-1, 1, 21) if betas is None else betas:
        logits = lm.logits(list(frame["prompt"]), float(beta) * intervention)
        p = logits.softmax(-1).gather(1, torch.stack(answers, 1))
        columns = torch.cat([difference(logits, *answers)[:, None], p], 1).cpu().numpy()
        part = pd.DataFrame(columns, columns=["difference", "p_correct", "p_wrong"])
        part.insert(0, "row", range(len(part)))
        part.insert(1, "beta", float(beta))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def mean_answers(sweep: pd.DataFrame) -> pd.DataFrame:
    """Mean probabilities of both answers of `beta_sweep`, with Student's 95 % intervals over prompts.

    Returns:
        One row per β and answer: `beta`, `answer` (correct, wrong), `p`, `low`, `high`, `n`.
    """
    rows = [
        (beta, answer, *mean(prompts[f"p_{answer}"]))
        for beta, prompts in sweep.groupby("beta")
        for answer in ("correct", "wrong")
    ]
    return pd.DataFrame(rows, columns=["beta", "answer", "p", "low", "high", "n"])


def vector_changes(lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention) -> pd.DataFrame:
    """What SteerVec's vector v does to norm and direction at each location, on the bare model's activations (Figure 4).

    Returns:
        One row per location: `place`, `layer`, `position`, `norm` (‖v‖), and means over prompts, all of one length, of
        `relative` (‖v‖/‖h‖), `change` (‖h + v‖ - ‖h‖) and `cosine` (of h and h + v).
    """
    seen = lm.activations(list(frame["prompt"]), intervention.sites)
    rows = []
    for site, edit in intervention.edits:
        assert edit.shift is not None, "vector_changes is for SteerVec"
        h = seen[site][:, edit.start : edit.start + edit.length].float()
        v = edit.shift.to(h)
        before, after = h.norm(dim=-1), (h + v).norm(dim=-1)
        columns = [v.norm(dim=-1), (v.norm(dim=-1) / before).mean(0), (after - before).mean(0)]
        columns.append(torch.cosine_similarity(h, h + v, dim=-1).mean(0))
        for i, values in enumerate(torch.stack(columns, 1).tolist()):
            rows.append((site.place, site.layer, edit.start + i, *values))
    return pd.DataFrame(rows, columns=[*LOCATION, "norm", "relative", "change", "cosine"])


def run_agreement(
    lm: SteerableModel, frame: pd.DataFrame, vectors: Sequence[Fit], scalars: Sequence[Fit] = ()
) -> pd.DataFrame:
    """Do fits of SteerVec with several seeds, and of ActivScalar at the same locations, agree? (Figure 4).

    Returns:
        One row per pair of fits: `first`, `second` (method and seed), `tau` (Kendall's, of the orders of locations by
        |change of norm| or |α|), `cosine` (mean over locations of the two vectors' cosine; NaN where one is a scalar).
    """
    maps, shifts, rows = {}, {}, []
    for fit in vectors:
        name, edits = f"{fit.method.name} {fit.seed}", fit.intervention.edits
        maps[name] = vector_changes(lm, frame, fit.intervention)["change"].abs()
        shifts[name] = torch.cat([edit.shift for _, edit in edits if edit.shift is not None])
    maps |= {f"{fit.method.name} {fit.seed}": locations(fit.intervention)["norm"] for fit in scalars}
    for first, second in itertools.combinations(maps, 2):
        both = first in shifts and second in shifts
        cosine = torch.cosine_similarity(shifts[first], shifts[second], dim=-1).mean() if both else math.nan
        rows.append((first, second, float(kendalltau(maps[first], maps[second]).statistic), float(cosine)))
    return pd.DataFrame(rows, columns=["first", "second", "tau", "cosine"])


def patching(
    lm: SteerableModel, frame: pd.DataFrame, places: Sequence[Place] = ("resid_post",), *, progress: bool = True
) -> pd.DataFrame:
    """Activation and attribution patching, in all layers: what the counterpart's activation does at each location.

    Patching puts h of `counter`, which has the length of `prompt`, in the place of h at one location; its effect is the
    fall of the logit difference. Attribution patching estimates it for all from one gradient: -⟨∂Δ/∂h, h' - h⟩.

    Returns:
        One row per location: `place`, `layer`, `position`, means over prompts of `patching` and `attribution`, in nats.

    Raises:
        ValueError: the frame has no `counter`, or lengths differ.
    """
    if "counter" not in frame:
        raise ValueError("patching needs a column `counter`: the same prompt with the other answer")
    answers, prompts, others = answer_tokens(lm, frame), list(frame["prompt"]), list(frame["counter"])
    batch = lm.batch(prompts)
    if len({*batch.lengths, *lm.batch(others).lengths}) > 1:
        raise ValueError("patching needs prompts and counterparts of one length")
    sites = SteerVec(tuple(places)).sites(lm)
    here, there = lm.activations(prompts, sites), lm.activations(others, sites)
    gaps = {site: there[site] - here[site] for site in sites}
    zeros = {site: torch.zeros_like(gap).requires_grad_() for site, gap in gaps.items()}
    delta = difference(lm.forward(batch, {s: [SteerVec().stack(z)] for s, z in zeros.items()}, "last")[:, -1], *answers)
    slopes = torch.autograd.grad(delta.sum(), list(zeros.values()))
    rows = []
    for site, slope in tqdm(list(zip(sites, slopes, strict=True)), disable=not progress, leave=False):
        guess = (slope * gaps[site]).sum(-1).mean(0).neg().tolist()
        for i in range(gaps[site].shape[1]):
            edits = [Edit(shift=gap[i : i + 1], anchor="front", start=i) for gap in gaps[site]]
            patched = lm.logits(prompts, [Intervention({site: edit}) for edit in edits])
            fall = delta.detach() - difference(patched, *answers)
            rows.append((site.place, site.layer, i, float(fall.mean()), guess[i]))
    return pd.DataFrame(rows, columns=[*LOCATION, "patching", "attribution"])


def map_agreement(maps: pd.DataFrame, scalars: Intervention) -> pd.DataFrame:
    """Kendall's τ between the orders of locations by |α| and by each map of `patching`, over their common locations."""
    both = maps.astype({"position": "Int64"}).merge(locations(scalars), on=LOCATION)
    rows = [(name, *kendalltau(both[name].abs(), both["norm"]), len(both)) for name in ("patching", "attribution")]
    return pd.DataFrame(rows, columns=["map", "tau", "p", "locations"])
