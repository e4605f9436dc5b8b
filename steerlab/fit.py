"""Find the tensors of a learned intervention, for one setting or a whole grid in one loop; and judge what was found."""

import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from .identity import identity
from .intervention import Intervention, read_intervention
from .loop import LOG, THRESHOLD, FitOptions, Learnt, Problem, Seeded, capacity
from .methods.learned import Learned, locations
from .metrics import kl, mean
from .model import SteerableModel
from .objective import Objective, difference, effectiveness, faithfulness, flips, minimality
from .passes import Call, Tap, like, logits
from .prompts import Plain
from .sampling import finite
from .tasks import COLUMNS, answer_tokens


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Fit(Intervention):
    """What was found, and how: an intervention, to be given, scaled and saved like any other, with its history.

    Args:
        intervention: the learned tensors; β = 1 favours the correct answer.
        history: one row per step: `step`; on its prompts `loss`, `effectiveness`, `faithfulness`, `kl` (answers
            included) and `flip_rate`; `minimality`, `locations` (norm above 0.01), and `forwards`, rows run so far.
        method: what was learned where.
        objective: what was minimised.
        seed: of the initial values, the prompts of each step, and the perturbations.
    """

    history: pd.DataFrame
    method: Learned
    objective: Objective
    seed: int

    def __init__(
        self, intervention: Intervention, history: pd.DataFrame, method: Learned, objective: Objective, seed: int
    ) -> None:
        """Keep an intervention with how it was found."""
        super().__init__(intervention.edits, intervention.info)
        self.__dict__.update(history=history, method=method, objective=objective, seed=seed)

    @property
    def intervention(self) -> Intervention:
        """The learned tensors alone."""
        return Intervention(self.edits, self.info)

    @property
    def n_parameters(self) -> int:
        """How many numbers were learned."""
        return sum(tensor.numel() for tensor in _tensors(self.intervention))

    def __repr__(self) -> str:
        """Method, size, and where the loss came from and went."""
        first, last = self.history["loss"].iloc[[0, -1]]
        size = f"{self.method.name}, {self.n_parameters} numbers, {self.objective}, seed={self.seed}"
        return f"Fit({size}: loss {first:.3g} -> {last:.3g} in {len(self.history)} steps)"


def fit(
    lm: SteerableModel,
    frame: pd.DataFrame,
    method: Learned,
    objective: Objective | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
    steps: int = 400,
    lr: float = 0.02,
    batch_size: int = 16,
    patience: int = 20,
    tolerance: float = 0.01,
    gradient: Literal["auto", "exact", "spsa"] = "auto",
    directions: int = 4,
    perturbation: float = 0.02,
) -> Fit:
    """Learn an intervention for a task by gradient descent; the model's weights stay as they are.

    Args:
        lm: the model.
        frame: prompts to train on, with `prompt`, `correct`, `wrong`.
        method: `ActivScalar`, `SteerVec` or `DynScalar`.
        objective: `Objective()` by default.
        seed: of everything random.
        progress: whether to show a bar.
        steps: as in `FitOptions`, like all that follow.
        lr: of the optimiser.
        batch_size: prompts of one step.
        patience: steps of a window.
        tolerance: by which share a loss must be smaller to count as smaller.
        gradient: "exact", "spsa", or "auto": exact where the model's place allows it.
        directions: of "spsa".
        perturbation: of "spsa".

    Raises:
        ValueError: what `tasks.answer_tokens` refuses, prompts of several lengths for a method tied to positions, a
            layer, position or option out of range.
    """
    chosen = FitOptions(steps, lr, batch_size, patience, tolerance, gradient, directions, perturbation).settled(lm)
    problem = Problem.of(lm, frame, method)
    setting = (objective or Objective(), seed)
    with tqdm(total=chosen.steps, desc=method.name, disable=not progress or lm.runner.at_once, leave=False) as bar:

        def tick(ended: dict[int, Learnt]) -> None:
            bar.update()

        ((learnt,),) = lm.run([problem.call([setting], chosen, 1, None if lm.runner.at_once else tick)])
    return _result(problem, setting, learnt, chosen)


def fit_grid(
    lm: SteerableModel,
    frame: pd.DataFrame,
    method: Learned,
    objectives: Sequence[Objective],
    *,
    seeds: Sequence[int] = (0,),
    folder: str | Path | None = None,
    memory: float = 0.5,
    progress: bool = True,
    steps: int = 400,
    lr: float = 0.02,
    batch_size: int = 16,
    patience: int = 20,
    tolerance: float = 0.01,
    gradient: Literal["auto", "exact", "spsa"] = "auto",
    directions: int = 4,
    perturbation: float = 0.02,
) -> list[Fit]:
    """Fit many settings of one method in one loop, as many at a time as memory allows; with a remote model, in one job.

    Args:
        lm: the model.
        frame: prompts to train on, the same for all.
        method: what is learned.
        objectives: such as `Objective.grid()`.
        seeds: each objective is fitted once with each.
        folder: where finished settings are kept, so that a run that was stopped goes on from there. A setting is known
            again by the model and its weights, prompts, method, objective, seed and options.
        memory: share of a GPU's free memory to use, by a rough estimate.
        progress: whether to show a bar.
        steps: as in `FitOptions`, like all that follow.
        lr: of the optimiser.
        batch_size: prompts of one step.
        patience: steps of a window.
        tolerance: by which share a loss must be smaller to count as smaller.
        gradient: "exact", "spsa", or "auto": exact where the model's place allows it.
        directions: of "spsa".
        perturbation: of "spsa".

    Returns:
        One fit per setting: all seeds of the first objective, then those of the next.

    Raises:
        ValueError: what `fit` refuses, no settings, or objectives whose divergences point both ways.
    """
    settings = _settings(objectives, seeds)
    chosen = FitOptions(steps, lr, batch_size, patience, tolerance, gradient, directions, perturbation).settled(lm)
    problem = Problem.of(lm, frame, method)
    common = _identity(problem, frame, chosen)
    files = [None if folder is None else _file(folder, common, setting) for setting in settings]
    fits = {i: _read(file, method, *settings[i]) for i, file in enumerate(files) if file and file.exists()}
    _fit_missing(problem, settings, fits, files, chosen, memory, progress)
    return [fits[i] for i in range(len(settings))]


def _settings(objectives: Sequence[Objective], seeds: Sequence[int]) -> list[Seeded]:
    """Each objective with each seed."""
    settings = [(objective, seed) for objective in objectives for seed in seeds]
    if not settings:
        raise ValueError("no settings: give at least one objective and one seed")
    if len({objective.reverse for objective, _ in settings}) > 1:
        raise ValueError("the divergences of a grid point one way: fit objectives with reverse=True apart")
    return settings


def _fit_missing(
    problem: Problem,
    settings: Sequence[Seeded],
    fits: dict[int, Fit],
    files: Sequence[Path | None],
    options: FitOptions,
    memory: float,
    progress: bool,
) -> None:
    """Fit the settings that are not fitted yet, and keep each as it ends."""
    lm = problem.lm
    missing = [i for i in range(len(settings)) if i not in fits]

    def keep(ended: dict[int, Learnt]) -> None:
        for turn, learned in ended.items():
            fits[missing[turn]] = _result(problem, settings[missing[turn]], learned, options)
            _write(None if lm.runner.made_up else files[missing[turn]], fits[missing[turn]])
            bar.update()

    with tqdm(
        total=len(settings), initial=len(fits), desc=problem.method.name, disable=not progress, leave=False
    ) as bar:
        if missing:
            wanted, at_once = [settings[i] for i in missing], capacity(problem, options, memory)
            (ended,) = lm.run([problem.call(wanted, options, at_once, None if lm.runner.at_once else keep)])
            if lm.runner.at_once:
                keep(dict(enumerate(ended)))


def _result(problem: Problem, setting: Seeded, learnt: Learnt, options: FitOptions) -> Fit:
    """The mean of the last window as an intervention, with where it comes from."""
    (objective, seed), (tensors, log, seconds), count = setting, learnt, len(problem.plain["batch"][0])
    history = pd.DataFrame(log.tolist(), columns=list(LOG))
    history.insert(0, "step", range(len(history)))
    history["forwards"] = (history["step"] + 1) * 2 * options.members * min(options.batch_size, count)
    if not math.isfinite(last := history["loss"].iloc[-1]):
        warnings.warn(f"the loss became {last} ({objective}): use a smaller lr", stacklevel=3)
    origin = {"method": problem.method.name, "objective": asdict(objective), "seed": seed}
    length = {"length": problem.plain["batch"][0].shape[1]} if problem.method.tied else {}
    info = problem.lm.info(**origin, **length, options=asdict(options), prompts=count, seconds=float(seconds))
    learned = problem.method.intervention(problem.method.sites(problem.lm), tensors, info)
    return Fit(learned, history, problem.method, objective, seed)


def _identity(problem: Problem, frame: pd.DataFrame, options: FitOptions) -> list[Any]:
    """What all settings of a grid depend on."""
    return [identity(problem.lm), frame[list(COLUMNS)].to_numpy().tolist(), repr(problem.method), asdict(options)]


def _file(folder: str | Path, common: list[Any], setting: Seeded) -> Path:
    """Where a setting is kept."""
    name = hashlib.sha256(json.dumps([*common, repr(setting)]).encode()).hexdigest()[:20]
    return Path(folder) / f"{name}.safetensors"


def _write(file: Path | None, result: Fit) -> None:
    """The history first: the tensors beside it say that the setting is whole."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        result.history.to_csv(file.with_suffix(".csv"), index=False)
        result.intervention.save(file)


def _read(file: Path, method: Learned, objective: Objective, seed: int) -> Fit:
    """What `_write` wrote."""
    return Fit(read_intervention(file), pd.read_csv(file.with_suffix(".csv")), method, objective, seed)


def score(
    lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention, *, margin: float = 10.0, batch_size: int = 64
) -> pd.DataFrame:
    """What an intervention does to each prompt.

    Args:
        lm: the model.
        frame: `prompt`, `correct`, `wrong`.
        intervention: learned or any other; run with β = 1 and β = -1.
        margin: m of `effectiveness`, the same for all that is to be compared.
        batch_size: prompts of one pass.

    Returns:
        One row per prompt: logit differences `bare` (β = 0), `plus`, `minus`; `effectiveness`, `faithfulness` and total
        `kl` in nats, the latter two averaged over β = ±1; `flips`.

    Raises:
        ValueError: what `answer_tokens` and the model refuse, or a prompt of another length than a tied intervention's.
    """
    correct, wrong = answer_tokens(lm, frame)
    prompts, length = list(frame["prompt"]), intervention.info.get("length")
    lengths = set(lm.batch(prompts).lengths)
    if length is not None and lengths != {length}:
        other = min(lengths - {length})
        raise ValueError(f"a prompt has {other} tokens, the intervention was fitted at the positions of {length}")
    calls = (
        _judged_call(lm, [prompts[row] for row in rows], intervention, correct[rows], wrong[rows], margin)
        for rows in torch.split(torch.arange(len(prompts)), batch_size)
    )
    parts = [finite(part.cpu()) for part in lm.run(calls)]
    names = ["bare", "plus", "minus", "effectiveness", "faithfulness", "kl", "flips"]
    return pd.DataFrame(torch.cat(parts).numpy(), columns=names, index=frame.index).astype({"flips": bool})


def _judged_call(
    lm: SteerableModel, prompts: list[str], intervention: Intervention, correct: Tensor, wrong: Tensor, margin: float
) -> Call:
    """The columns of `score` for some prompts."""
    batch = lm.batch(prompts)
    signs = [lm.taps(lm.check(steer, batch)) for steer in (None, intervention, -intervention)]
    return Call(judged, (batch.plain, signs, correct, wrong, margin), like(len(prompts), 7))


def judged(
    model: Any, batch: Plain, signs: Sequence[Sequence[Tap]], correct: Tensor, wrong: Tensor, margin: float
) -> Float[Tensor, "prompt column"]:
    """The columns of `score`, from passes without and with either sign; travels, as `passes.py` says."""
    base, up, down = (logits(model, batch, taps, True, False)[:, -1].float() for taps in signs)
    answers = (correct.to(base.device), wrong.to(base.device))
    bare, plus, minus = (difference(scores, *answers) for scores in (base, up, down))
    moved = (faithfulness(up, base, *answers) + faithfulness(down, base, *answers)) / 2
    total = (kl(base, up) + kl(base, down)) / 2
    columns = [bare, plus, minus, effectiveness(plus, minus, margin), moved, total, flips(plus, minus)]
    return torch.stack([column.float() for column in columns], 1)


def evaluate(
    lm: SteerableModel, frame: pd.DataFrame, intervention: Intervention, *, margin: float = 10.0
) -> pd.DataFrame:
    """All metrics of an intervention on a frame of prompts, with 95 % intervals over prompts (see `metrics.mean`).

    Args:
        lm: the model.
        frame: `prompt`, `correct`, `wrong`; prompts that the fit has not seen.
        intervention: learned or any other; run with β = 1 and β = -1.
        margin: m of `effectiveness`.

    Returns:
        One row per metric: `metric`, `value`, `low`, `high`, `n`. Means over prompts, in nats, are `effectiveness` (0
        is best), `difference` (Δ(+1) - Δ(-1)) / 2, `faithfulness` and `kl` (0 is untouched), with Student's interval;
        shares are `flip_rate` and `correct` (Δ > 0 without steering), with Wilson's. Of the intervention: `minimality`
        (l1), `numbers` and `locations` above 0.01, and `parameters`.

    Raises:
        ValueError: what `score` refuses.
    """
    rows = score(lm, frame, intervention, margin=margin)
    measures: Mapping[str, pd.Series] = {
        "effectiveness": rows["effectiveness"],
        "difference": (rows["plus"] - rows["minus"]) / 2,
        "faithfulness": rows["faithfulness"],
        "kl": rows["kl"],
        "flip_rate": rows["flips"],
        "correct": rows["bare"] > 0,
    }
    metrics = [(name, *mean(values)) for name, values in measures.items()]
    metrics += [(name, value, float("nan"), float("nan"), 1) for name, value in sizes(intervention).items()]
    return pd.DataFrame(metrics, columns=["metric", "value", "low", "high", "n"])


def sizes(intervention: Intervention) -> dict[str, float]:
    """How small an intervention is: `minimality` (l1), `numbers` and `locations` above 0.01, and `parameters`."""
    tensors = _tensors(intervention)
    return {
        "minimality": float(minimality(tensors)),
        "numbers": float(sum(int((tensor.abs() > THRESHOLD).sum()) for tensor in tensors)),
        "locations": float((locations(intervention)["norm"] > THRESHOLD).sum()),
        "parameters": float(sum(tensor.numel() for tensor in tensors)),
    }


def _tensors(intervention: Intervention) -> list[Tensor]:
    """Everything that was learned."""
    return [tensor for _, edit in intervention.edits for tensor in edit.tensors.values()]
