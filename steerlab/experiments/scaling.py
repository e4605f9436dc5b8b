"""The experiments of Stoehr et al., Activation Scaling for Steering and Interpreting Language Models, arXiv 2410.04962.

Each takes a model and a task or an intervention and returns a tidy frame. Figures have the paper's numbers. What it
leaves open (templates, form of the loss, optimiser) is our reconstruction, so results compare in kind, not in size.
`python -m steerlab.experiments.scaling all --out results` runs them.
"""

import argparse
import itertools
import math
import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import kendalltau
from torch import Tensor
from tqdm.auto import tqdm

from ..fit import Fit, evaluate, fit_grid, score, sizes
from ..intervention import Edit, Intervention
from ..methods.learned import ActivScalar, DynScalar, Learned, SteerVec, locations
from ..metrics import bootstrap_interval
from ..model import SteerableModel, load
from ..objective import Objective, difference
from ..site import Site
from ..tasks import Task, answer_tokens, ccc, ioi
from ..tasks.ccc import PLAIN
from ..tasks.ioi import OPENINGS, TEMPLATES
from . import results

SUBLAYERS = (ActivScalar(), SteerVec())
"""The two methods of Figure 2, on `attn_out` and `mlp_out` of all layers."""

STREAM = (ActivScalar(("resid_post",)), SteerVec(("resid_post",)))
"""The same on `resid_post`, as in Figures 3 and 4."""

LOCATION = ["place", "layer", "position"]

Folder = str | Path | None


def _kept(
    lm: SteerableModel,
    frame: pd.DataFrame,
    method: Learned,
    objective: Objective | None,
    seed: int,
    folder: Folder,
    options: Mapping[str, Any],
) -> Fit:
    """One fit, found again in the folder where an earlier run left it."""
    chosen = [objective or Objective()]
    return fit_grid(lm, frame, method, chosen, seeds=(seed,), folder=folder, progress=False, **options)[0]


# --- Figure 2: Pareto fronts -------------------------------------------------------------------------------------


def pareto(
    lm: SteerableModel,
    task: Task,
    methods: Sequence[Learned] = SUBLAYERS,
    objectives: Sequence[Objective] | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    margin: float = 10.0,
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Effectiveness against faithfulness and minimality over the grid of margin, λ_F and λ_M (Figure 2).

    Args:
        lm: the model.
        task: its train side is fitted, both are measured.
        methods: to compare.
        objectives: the settings, by default the paper's 64.
        seeds: of the fits.
        margin: m of the effectiveness that is measured, one for all settings, whichever they were fitted with.
        folder: where finished fits are kept, so that a stopped run goes on.
        progress: whether to show bars.
        options: of `FitOptions`.

    Returns:
        One row per method, setting, seed and split: `method`, `margin`, `lambda_f`, `lambda_m`, `seed`, `split`,
        `steps`; means over prompts of what `score` gives; what `sizes` gives; `front_faithfulness` and
        `front_minimality`: whether no other setting of the method does better in both on this split, for this seed.
    """
    grid = Objective.grid() if objectives is None else objectives
    rows = []
    for method in methods:
        fits = fit_grid(lm, task.train, method, grid, seeds=seeds, folder=folder, progress=progress, **options)
        for found in tqdm(fits, desc="measure", disable=not progress, leave=False):
            setting = {"method": method.name, "margin": found.objective.margin}
            setting |= {"lambda_f": found.objective.faithfulness, "lambda_m": found.objective.minimality}
            for split, frame in (("train", task.train), ("test", task.test)):
                told = {"seed": found.seed, "split": split, "steps": len(found.history)}
                rows.append(setting | told | _means(lm, frame, found.intervention, margin) | sizes(found.intervention))
    return _with_fronts(pd.DataFrame(rows))


def _means(
    lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention, margin: float = 10.0
) -> dict[str, float]:
    """Means over prompts; `correct` is the share that the bare model gets right."""
    rows = score(lm, frame, intervention, margin=margin)
    rows = rows.assign(difference=(rows["plus"] - rows["minus"]) / 2, correct=rows["bare"] > 0)
    rows = rows.rename(columns={"flips": "flip_rate"})
    names = ("effectiveness", "difference", "faithfulness", "kl", "flip_rate", "correct")
    return {name: float(rows[name].mean()) for name in names}


def _with_fronts(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, with its columns `front_faithfulness` and `front_minimality` made anew."""
    by = [name for name in ("task", "method", "seed", "split") if name in frame]
    for other in ("faithfulness", "minimality"):
        groups = frame.groupby(by, group_keys=False)[["effectiveness", other]]
        frame[f"front_{other}"] = groups.apply(_undominated)
    return frame


def _undominated(points: pd.DataFrame) -> pd.Series:
    """Rows that no other row beats in one column without losing in the other; small is good."""
    values = points.to_numpy()
    no_worse = np.all(values[None] <= values[:, None], axis=-1)
    better = np.any(values[None] < values[:, None], axis=-1)
    return pd.Series(~np.any(no_worse & better, axis=1), points.index)


def at_equal_effectiveness(frame: pd.DataFrame, levels: Sequence[float] = (1, 2, 5, 10)) -> pd.DataFrame:
    """What each method pays in faithfulness for the same effectiveness.

    The setting is chosen on the training side: of those that are at most `level` nats short of the margin there, the
    most faithful one. It is measured on the test side.

    Args:
        frame: of `pareto`.
        levels: of effectiveness, in nats.

    Returns:
        One row per level, method and seed that reaches it: `level`, and the setting's row of `frame` on the test side.
    """
    index = ["method", "seed", "margin", "lambda_f", "lambda_m"]
    train, test = (frame[frame["split"] == split].set_index(index) for split in ("train", "test"))
    found = []
    for level in levels:
        enough = train[train["effectiveness"] <= level]
        chosen = enough.groupby(["method", "seed"])["faithfulness"].idxmin()
        found.append(test.loc[list(chosen)].reset_index().assign(level=level))
    return pd.concat(found, ignore_index=True)


def cheap_against_thorough(
    lm: SteerableModel,
    task: Task,
    objectives: Sequence[Objective],
    thorough: Mapping[str, Any],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Do the options of a large grid change what a few of its settings come to?

    Args:
        lm: the model.
        task: its train side is fitted, both are measured.
        objectives: some of the grid's settings.
        thorough: options of `FitOptions` that spare nothing.
        seeds: of the fits.
        folder: where finished fits are kept.
        progress: whether to show bars.
        options: those of the grid.

    Returns:
        The rows of `pareto`, with `options`: cheap or thorough.
    """
    told: dict[str, Any] = {"objectives": objectives, "seeds": seeds, "folder": folder, "progress": progress}
    runs = {"cheap": options, "thorough": thorough}
    found = [pareto(lm, task, **told, **chosen).assign(options=name) for name, chosen in runs.items()]
    return pd.concat(found, ignore_index=True)


# --- Figure 3: the map of scalars, and the sweep of β --------------------------------------------------------------


def scalar_map(lm: SteerableModel, intervention: Intervention, row: "pd.Series[Any]") -> pd.DataFrame:
    """The scalars of one prompt by layer and token (Figures 3 and 5).

    α of ActivScalar as it was learned; α = ⟨w, h⟩ of DynScalar on the activations of the bare model.

    Args:
        lm: the model.
        intervention: of ActivScalar or DynScalar.
        row: of a task's frame, with `prompt` and, if it has them, `roles`.

    Returns:
        One row per location: `place`, `layer`, `position`, `token`, `role`, `value`.

    Raises:
        ValueError: the intervention holds neither.
    """
    probes = {site: edit.probe for site, edit in intervention.edits if edit.probe is not None}
    if probes:
        seen = lm.activations(row["prompt"], list(probes))
        alphas = {site: seen.row(0, site).float() @ probe[0].to(seen[site].device) for site, probe in probes.items()}
        found = [(s.place, s.layer, i, v) for s, alpha in alphas.items() for i, v in enumerate(alpha.tolist())]
        frame = pd.DataFrame(found, columns=[*LOCATION, "value"])
    else:
        frame = locations(intervention)[[*LOCATION, "value"]]
        if frame["value"].isna().any():
            raise ValueError("only scalars have a map: ActivScalar or DynScalar (vector_changes is for SteerVec)")
    tokens, roles = lm.tokens(row["prompt"]), row.get("roles", [""] * len(lm.tokens(row["prompt"])))
    frame.insert(3, "token", [tokens[i] for i in frame["position"]])
    frame.insert(4, "role", [roles[i] for i in frame["position"]])
    return frame


def example_maps(
    lm: SteerableModel,
    frame: pd.DataFrame,
    method: Learned = STREAM[0],
    objective: Objective | None = None,
    *,
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """A fit for each prompt alone, and its map: what one example needs, to be averaged by role (Figure 3).

    Returns:
        The rows of `scalar_map`, with `row` (of the frame) and `flips` (whether that fit flips its own prompt).
    """
    parts = []
    for row in tqdm(range(len(frame)), disable=not progress, leave=False):
        one = frame.iloc[[row]]
        found = _kept(lm, one, method, objective, 0, folder, options)
        flipped = bool(score(lm, one, found.intervention)["flips"].iloc[0])
        parts.append(scalar_map(lm, found.intervention, frame.iloc[row]).assign(row=row, flips=flipped))
    return pd.concat(parts, ignore_index=True)


def by_role(maps: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and count of `value` by place, layer and role of the token."""
    groups = maps.groupby(["place", "layer", "role"], sort=False)["value"]
    return groups.agg(value="mean", sd="std", n="size").reset_index()


def beta_sweep(
    lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention, betas: Sequence[float] | None = None
) -> pd.DataFrame:
    """The two answers against the strength from -1 to 1 (Figure 3, beneath the map).

    Returns:
        One row per prompt and β: `row`, `beta`, `difference` (logits), `p_correct`, `p_wrong`.
    """
    correct, wrong = answer_tokens(lm, frame)
    prompts, parts = list(frame["prompt"]), []
    for beta in np.linspace(-1, 1, 21) if betas is None else betas:
        with torch.no_grad():
            logits = lm.logits(prompts, float(beta) * intervention)
        p = logits.softmax(-1)
        columns = [
            difference(logits, correct, wrong),
            p.gather(1, correct[:, None])[:, 0],
            p.gather(1, wrong[:, None])[:, 0],
        ]
        part = pd.DataFrame(torch.stack(columns, 1).cpu().numpy(), columns=["difference", "p_correct", "p_wrong"])
        part.insert(0, "row", range(len(prompts)))
        part.insert(1, "beta", float(beta))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def mean_answers(sweep: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Mean probabilities of both answers against β, with 95 % bootstrap intervals over prompts.

    Args:
        sweep: of `beta_sweep`.
        seed: of the bootstrap.

    Returns:
        One row per β and answer: `beta`, `answer` (correct, wrong), `p`, `low`, `high`, `n`.
    """
    rows = []
    for beta, prompts in sweep.groupby("beta"):
        for answer in ("correct", "wrong"):
            rows.append((beta, answer, *bootstrap_interval(prompts[f"p_{answer}"], seed=seed)))
    return pd.DataFrame(rows, columns=["beta", "answer", "p", "low", "high", "n"])


# --- Figure 4: what SteerVec changes, and whether it comes out the same twice --------------------------------------


def vector_changes(lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention) -> pd.DataFrame:
    """Change of norm and direction by a vector at each location, on the activations of the bare model (Figure 4).

    Args:
        lm: the model.
        frame: prompts, all of one length.
        intervention: of SteerVec.

    Returns:
        One row per location: `place`, `layer`, `position`, `norm` (‖v‖), and means over prompts of `relative`
        (‖v‖/‖h‖), `change` (‖h + v‖ - ‖h‖) and `cosine` (of h and h + v).
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
    """Do repeated fits agree where, and in which direction? (Figure 4).

    Args:
        lm: the model.
        frame: prompts of one length.
        vectors: fits of SteerVec with different seeds.
        scalars: fits of ActivScalar at the same locations.

    Returns:
        One row per pair of fits: `first`, `second` (method and seed), `tau` (Kendall's, of the orders of locations by
        |change of norm| or |α|), `cosine` (mean over locations of the two vectors' cosine; NaN where one is a scalar).
    """
    maps = {(f.method.name, f.seed): vector_changes(lm, frame, f.intervention)["change"].abs() for f in vectors}
    maps |= {(f.method.name, f.seed): locations(f.intervention)["norm"] for f in scalars}
    shifts = {(f.method.name, f.seed): _shifts(f.intervention) for f in vectors}
    rows = []
    for first, second in itertools.combinations(maps, 2):
        both = first in shifts and second in shifts
        cosine = torch.cosine_similarity(shifts[first], shifts[second], dim=-1).mean() if both else math.nan
        tau = kendalltau(maps[first], maps[second]).statistic
        rows.append((f"{first[0]} {first[1]}", f"{second[0]} {second[1]}", float(tau), float(cosine)))
    return pd.DataFrame(rows, columns=["first", "second", "tau", "cosine"])


def _shifts(intervention: Intervention) -> Float[Tensor, "location d_model"]:
    return torch.cat([edit.shift for _, edit in intervention.edits if edit.shift is not None])


# --- Figure 5: other lengths --------------------------------------------------------------------------------------


def lengths(
    lm: SteerableModel,
    task: Task,
    method: DynScalar | None = None,
    objective: Objective | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """DynScalar trained on some lengths and tested on others (Figure 5); make the task with `task_of_lengths`.

    Returns:
        The rows of `by_length`, with `seed`.
    """
    how, parts = method or DynScalar(), []
    for seed in tqdm(seeds, disable=not progress, leave=False):
        found = _kept(lm, task.train, how, objective, seed, folder, options)
        parts.append(by_length(lm, task, found.intervention).assign(seed=seed))
    return pd.concat(parts, ignore_index=True)


def by_length(lm: SteerableModel, task: Task, intervention: Intervention) -> pd.DataFrame:
    """What an intervention does to each test prompt: the columns of `score`, `length` in tokens, `seen` in training."""
    train, test = ([len(lm.tokens(prompt)) for prompt in side["prompt"]] for side in (task.train, task.test))
    rows = score(lm, task.test, intervention).assign(length=test)
    return rows.assign(seen=rows["length"].isin(train))


def task_of_lengths(lm: SteerableModel, n: int = 200, seed: int = 0, *, capitals: bool = False) -> Task:
    """A task whose answer stands elsewhere in the test: the same sentence after other openings.

    Args:
        lm: the model.
        n: prompts, half of them to train on.
        seed: of the words.
        capitals: country and capital instead of indirect objects.
    """
    base = PLAIN[0] if capitals else TEMPLATES[0]
    forms = [opening + base.lstrip() if opening else base for opening in OPENINGS]
    make: Callable[..., Task] = ccc if capitals else ioi
    return make(lm, n, seed, templates=[forms[0], forms[2]], test_templates=forms)


def strongest(lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention) -> pd.DataFrame:
    """Where the largest and the smallest scalar of each prompt stand, BOS left out: does the map find the answers?

    Returns:
        Two rows per prompt: the columns of `scalar_map`, with `row` (of the frame) and `which` (largest, smallest).
    """
    found = []
    for number, (_, row) in enumerate(frame.iterrows()):
        alphas = scalar_map(lm, intervention, row).query("role != 'BOS'")
        ends = alphas.loc[[alphas["value"].idxmax(), alphas["value"].idxmin()]]
        found.append(ends.assign(row=number, which=["largest", "smallest"]))
    return pd.concat(found, ignore_index=True)


# --- the table, and the maps that the paper compares with ---------------------------------------------------------


def table(
    lm: SteerableModel,
    tasks: Sequence[Task],
    methods: Sequence[Learned] = (*SUBLAYERS, *STREAM, DynScalar()),
    objective: Objective | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Methods × tasks × places on the test side, each beside a control: its own numbers at shuffled locations.

    Returns:
        One row per task, method, places, seed and condition (learned, shuffled): means over test prompts, sizes, and
        `seconds` and `steps` of the fit.
    """
    rows = []
    for task, method, seed in tqdm(list(itertools.product(tasks, methods, seeds)), disable=not progress, leave=False):
        found = _kept(lm, task.train, method, objective, seed, folder, options)
        cost = {"seconds": found.intervention.info["seconds"], "steps": len(found.history)}
        told = {"task": task.name, "method": method.name, "places": _where(method), "seed": seed}
        for condition, steer in (
            ("learned", found.intervention),
            ("shuffled", shuffled_locations(found.intervention, seed)),
        ):
            rows.append(told | {"condition": condition} | _means(lm, task.test, steer) | sizes(steer) | cost)
    return pd.DataFrame(rows)


def _where(method: Learned) -> str:
    """Its places, and its layers where they are not all."""
    layers = "" if method.layers is None else f", layers {min(method.layers)} to {max(method.layers)}"
    return "+".join(method.places) + layers


def shuffled_locations(intervention: Intervention, seed: int = 0) -> Intervention:
    """A control: the same numbers, dealt anew to the locations (for DynScalar, to the sites)."""
    generator = torch.Generator().manual_seed(seed)
    name = next(iter(intervention.edits[0][1].tensors))
    each = [edit.tensors[name] for _, edit in intervention.edits]
    every = torch.cat(each)
    dealt = torch.split(every[torch.randperm(len(every), generator=generator)], [len(part) for part in each])
    edits = []
    for (site, old), part in zip(intervention.edits, dealt, strict=True):
        fields: dict[str, Any] = {name: part, "anchor": old.anchor, "start": old.start, "when": old.when}
        edits.append((site, Edit(**fields)))
    return Intervention(tuple(edits), {**intervention.info, "method": "shuffled", "seed": seed})


def patching(
    lm: SteerableModel, frame: pd.DataFrame, places: Sequence[Any] = ("resid_post",), *, progress: bool = True
) -> pd.DataFrame:
    """Activation and attribution patching: what the counterpart's activation does at each location.

    Patching puts h of `counter` in the place of h at one location; its effect is the fall of the logit difference.
    Attribution patching estimates the effect of all locations from one gradient: -⟨∂Δ/∂h, h' - h⟩.

    Args:
        lm: the model.
        frame: `prompt`, `correct`, `wrong`, and `counter` of the same length.
        places: to patch, in all layers.
        progress: whether to show a bar.

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
        for position in range(gaps[site].shape[1]):
            patched = [_patch(site, gap, position) for gap in gaps[site]]
            fall = delta.detach() - difference(lm.logits(prompts, patched), *answers)
            rows.append((site.place, site.layer, position, float(fall.mean()), guess[position]))
    return pd.DataFrame(rows, columns=[*LOCATION, "patching", "attribution"])


def _patch(site: Site, gap: Float[Tensor, "pos d_model"], position: int) -> Intervention:
    """The counterpart's activation at one position."""
    return Intervention(((site, Edit(shift=gap[position : position + 1], anchor="front", start=position)),))


def map_agreement(maps: pd.DataFrame, scalars: Intervention) -> pd.DataFrame:
    """Kendall's τ between the orders of locations by |α| and by each map of `patching`, over their common locations."""
    both = maps.astype({"position": "Int64"}).merge(locations(scalars), on=LOCATION)
    rows = [(name, *kendalltau(both[name].abs(), both["norm"]), len(both)) for name in ("patching", "attribution")]
    return pd.DataFrame(rows, columns=["map", "tau", "p", "locations"])


# --- which choices matter -----------------------------------------------------------------------------------------


def choices(
    lm: SteerableModel,
    task: Task,
    objective: Objective | None = None,
    *,
    seed: int = 0,
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """What the reconstructed details change: hinge, direction of the divergence, BOS, start; on the test side.

    Returns:
        The rows of `evaluate`, with `choice`.
    """
    usual, method = objective or Objective(), ActivScalar()
    variants = {
        "as decided": (method, usual),
        "plain difference": (method, replace(usual, margin=math.inf)),
        "divergence reversed": (method, replace(usual, reverse=True)),
        "BOS left alone": (replace(method, first=1), usual),
        "normal start, 0.1": (replace(method, init=0.1), usual),
    }
    parts = []
    for choice, (how, what) in tqdm(variants.items(), disable=not progress, leave=False):
        found = _kept(lm, task.train, how, what, seed, folder, options)
        parts.append(evaluate(lm, task.test, found.intervention).assign(choice=choice))
    return pd.concat(parts, ignore_index=True)


def gradients(
    lm: SteerableModel,
    task: Task,
    method: Learned = SUBLAYERS[0],
    objective: Objective | None = None,
    *,
    seed: int = 0,
    folder: Folder = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """The exact gradient beside the one estimated from forward passes: histories with `gradient`, by rows run."""
    runs = {
        name: _kept(lm, task.train, method, objective, seed, folder, {"gradient": name, **options})
        for name in tqdm(("exact", "spsa"), disable=not progress, leave=False)
    }
    return pd.concat([found.history.assign(gradient=name) for name, found in runs.items()], ignore_index=True)


# --- the command line ---------------------------------------------------------------------------------------------

Frames = Mapping[str, pd.DataFrame]
TASKS = ("ioi", "conflict", "ccc")
CHECKED = [Objective(1, 0, 0), Objective(10, 1, 0), Objective(10, 1, 1), Objective(100, 10, 0)]
"""Settings of the grid that are fitted once more with thorough options."""

DYNAMIC = Objective(margin=10, faithfulness=1, minimality=0.01)
"""Of DynScalar: the components of w all count, so that minimality must weigh less than for scalars."""

SOFT = Objective(margin=10, faithfulness=0.1, minimality=0.01)
"""Of the table: capitals don't flip where faithfulness weighs as much as effectiveness."""

FREE = Objective(margin=10, faithfulness=1, minimality=0)
"""Of vectors that are compared with each other: the l1 norm of so many components would keep them where they began."""

THOROUGH = {"batch_size": 16, "steps": 400, "patience": 30, "lr": 0.02}
CHEAP = {"batch_size": 4, "steps": 120, "patience": 15, "lr": 0.05}


def _run_pareto(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    if ask.processes == 1:
        parts = [_share(ask, 0)]
    else:
        with multiprocessing.get_context("spawn").Pool(ask.processes) as pool:
            parts = pool.map(partial(_share, ask), range(ask.processes))
    return {"pareto": _with_fronts(pd.concat(parts, ignore_index=True))}


def _share(ask: argparse.Namespace, number: int) -> pd.DataFrame:
    """Fit and measure one share of the grid, in a process of its own where there are several."""
    torch.set_num_threads(max(1, torch.get_num_threads() // ask.processes))
    lm = load(ask.model)
    objectives = _grid(ask)[number :: ask.processes]
    told: dict[str, Any] = {"objectives": objectives, "seeds": ask.seeds, "folder": ask.fits, **_options(ask)}
    return pd.concat([pareto(lm, task, **told).assign(task=task.name) for task in _tasks(lm, ask)], ignore_index=True)


def _grid(ask: argparse.Namespace) -> list[Objective]:
    """The settings in an order in which every share has long fits and short ones."""
    objectives = Objective.grid(*[ask.grid] * 3)
    return random.Random(0).sample(objectives, len(objectives))


def _run_options(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    told: dict[str, Any] = {"seeds": ask.seeds[:1], "folder": ask.fits, **_options(ask)}
    found = [
        cheap_against_thorough(lm, task, CHECKED, THOROUGH, **told).assign(task=task.name) for task in _tasks(lm, ask)
    ]
    return {"options": pd.concat(found, ignore_index=True)}


def _run_maps(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    task, options = ioi(lm, ask.n, ask.seeds[0], orders=["ABBA"]), _options(ask)
    scalars, vectors = (
        [_kept(lm, task.train, method, objective, seed, ask.fits, options) for seed in ask.seeds]
        for method, objective in zip(STREAM, (Objective(10, 1, 1), FREE), strict=True)
    )
    sweep = beta_sweep(lm, task.test, scalars[0].intervention)
    maps = patching(lm, task.test.head(20))
    return {
        "map": scalar_map(lm, scalars[0].intervention, task.test.iloc[0]),
        "examples": by_role(example_maps(lm, task.test.head(20), folder=ask.fits, **options)),
        "beta": mean_answers(sweep),
        "vectors": pd.concat([vector_changes(lm, task.test, v.intervention).assign(seed=v.seed) for v in vectors]),
        "runs": run_agreement(lm, task.test, vectors, scalars),
        "patching": maps,
        "patching_agreement": map_agreement(maps, scalars[0].intervention),
    }


def _run_lengths(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    found = [
        lengths(lm, task, objective=DYNAMIC, seeds=ask.seeds, folder=ask.fits, **_options(ask)).assign(task=task.name)
        for task in (task_of_lengths(lm, ask.n), task_of_lengths(lm, min(ask.n, 100), capitals=True))
    ]
    return {"lengths": pd.concat(found, ignore_index=True)}


def _run_table(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    mixed = replace(ioi(lm, ask.n), name="ioi, both orders")
    upper = tuple(range(lm.n_layers // 2, lm.n_layers))  # where nothing can be erased before it is read
    methods = (*SUBLAYERS, *STREAM, DynScalar(), ActivScalar(layers=upper), SteerVec(layers=upper))
    told: dict[str, Any] = {"objective": SOFT, "seeds": ask.seeds, "folder": ask.fits, **_options(ask)}
    return {"table": table(lm, [*_tasks(lm, ask), mixed], methods, **told)}


def _run_choices(lm: SteerableModel, ask: argparse.Namespace) -> Frames:
    task, told = ioi(lm, ask.n, orders=["ABBA"]), {"folder": ask.fits, **_options(ask)}
    both = gradients(lm, task, objective=SOFT, **told | {"lr": 0.03})  # an estimated slope wants smaller steps
    return {"choices": choices(lm, task, **told), "gradients": both}


def _tasks(lm: SteerableModel, ask: argparse.Namespace) -> list[Task]:
    """The tasks asked for; names stand at the same position in all prompts, as methods tied to positions need it."""
    make: dict[str, Callable[[], Task]] = {
        "ioi": lambda: ioi(lm, ask.n, orders=["ABBA"]),
        "ccc": lambda: ccc(lm, min(ask.n, 100)),
        "conflict": lambda: ccc(lm, ask.n, conflict=True),
    }
    return [make[name]() for name in ask.tasks]


def _options(ask: argparse.Namespace) -> dict[str, Any]:
    """Those of `FitOptions`."""
    return {name: getattr(ask, name) for name in CHEAP}


RUNS: dict[str, Callable[[SteerableModel, argparse.Namespace], Frames]] = {
    "pareto": _run_pareto,
    "options": _run_options,
    "maps": _run_maps,
    "lengths": _run_lengths,
    "table": _run_table,
    "choices": _run_choices,
}


def _parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="python -m steerlab.experiments.scaling", description="Activation scaling.")
    parser.add_argument("experiment", choices=["all", *RUNS])
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the CSV files")
    parser.add_argument("--fits", type=Path, default=Path("build/fits"), help="where finished fits are kept")
    parser.add_argument("--model", default=None, help="folder or Hub name; the bundled model by default")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--n", type=int, default=200, help="prompts of a task, half of them to train on")
    parser.add_argument("--grid", type=float, nargs="+", default=[0, 1, 10, 100], help="of margin, λ_F and λ_M")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=1, help="among which the grid is shared")
    for name, value in CHEAP.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help="of a fit")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: runs experiments, and writes each frame to OUT/scaling_NAME.csv."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    ask = _parser().parse_args(given)
    lm = load(ask.model)
    for name in RUNS if ask.experiment == "all" else [ask.experiment]:
        started = time.perf_counter()
        frames = {f"scaling_{title}": frame for title, frame in RUNS[name](lm, ask).items()}
        told = {"n": ask.n, "seeds": ask.seeds, **_options(ask)}
        results.save(frames, ask.out, lm, "steerlab.experiments.scaling", [name, *given[1:]], **told)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
