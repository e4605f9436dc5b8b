"""The loop against one written by hand, a grid against its settings alone, the metrics against their definitions."""

import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from families import fresh, steerable, tokenizer
from torch import Tensor

import steerlab as sl
from steerlab import ActivScalar, DynScalar, Objective, SteerVec, loop
from steerlab.loop import FitOptions, Problem, prepared, start, stops
from steerlab.methods.learned import Learned
from steerlab.passes import Call, logits

METHODS = (ActivScalar(), SteerVec(), DynScalar())
QUICK: dict[str, Any] = {"steps": 12, "patience": 4, "batch_size": 3, "lr": 0.05, "progress": False}


@pytest.fixture(scope="module")
def lm() -> sl.SteerableModel:
    return steerable("llama")


@pytest.fixture(scope="module")
def task(lm: sl.SteerableModel) -> sl.tasks.Task:
    return sl.tasks.ioi(lm, 16, orders=["ABBA"])


def tensors(fit: sl.Fit) -> Tensor:
    return torch.stack([tensor for _, edit in fit.intervention.edits for tensor in edit.tensors.values()])


def by_hand(frame: pd.DataFrame, objective: Objective, lr: float, steps: int) -> tuple[Tensor, list[float]]:
    """Mean of α over the steps, and the losses: plain hooks, plain Adam, all prompts at every step."""
    hf = fresh("llama").requires_grad_(False)
    ids = torch.tensor([[0, *tokenizer().encode(prompt, add_special_tokens=False)] for prompt in frame["prompt"]])
    correct, wrong = (
        torch.tensor([steerable("llama").encode(text)[0] for text in frame[side]]) for side in ("correct", "wrong")
    )
    rows = torch.arange(len(ids))
    alpha = torch.zeros(6, ids.shape[1], requires_grad=True)
    adam = torch.optim.Adam([alpha], lr=lr)
    beta = 1.0

    def others(logits: Tensor) -> Tensor:
        keep = torch.ones_like(logits, dtype=torch.bool)
        keep[rows, correct] = keep[rows, wrong] = False
        return logits[keep].view(len(ids), -1).log_softmax(-1)

    for i, block in enumerate(hf.model.layers):
        block.self_attn.register_forward_hook(
            lambda m, a, out, i=i: (out[0] * (1 + beta * alpha[2 * i, :, None]), *out[1:])
        )
        block.mlp.register_forward_hook(lambda m, a, out, i=i: out * (1 + beta * alpha[2 * i + 1, :, None]))
    with torch.no_grad():
        log_p = others(hf(ids).logits[:, -1])
    losses, total = [], torch.zeros_like(alpha)
    for _ in range(steps):
        loss = objective.minimality * alpha.abs().sum()
        for beta in (1.0, -1.0):
            logits = hf(ids).logits[:, -1]
            gap = objective.margin - beta * (logits[rows, correct] - logits[rows, wrong])
            kl = (log_p.exp() * (log_p - others(logits))).sum(1)
            loss = loss + gap.clamp(min=0).mean() + objective.faithfulness * kl.mean() / 2
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
        total += alpha.detach()
    return total / steps, losses


def test_the_loop_equals_one_by_hand(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    objective = Objective(margin=3, faithfulness=0.5, minimality=0.2)
    fit = sl.fit(
        lm, task.train, ActivScalar(), objective, steps=10, patience=10, batch_size=99, lr=0.03, progress=False
    )
    alpha, losses = by_hand(task.train, objective, lr=0.03, steps=10)
    assert fit.history["loss"].tolist() == pytest.approx(losses, rel=1e-4)
    torch.testing.assert_close(tensors(fit)[:, :, 0], alpha, atol=1e-4, rtol=1e-3)
    assert float(alpha.abs().max()) > 0.05


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_gives_the_same_tensors(lm: sl.SteerableModel, task: sl.tasks.Task, method: Learned) -> None:
    first, same, other = (tensors(sl.fit(lm, task.train, method, seed=seed, **QUICK)) for seed in (1, 1, 2))
    torch.testing.assert_close(first, same, atol=1e-4, rtol=0)
    assert float((first - other).abs().max()) > 1e-3 * float(first.abs().max())


@pytest.mark.parametrize("method", METHODS)
def test_fitting_helps_and_leaves_the_model_alone(task: sl.tasks.Task, method: Learned) -> None:
    hf = fresh("llama")
    lm = sl.load(hf, tokenizer=tokenizer())
    before = {name: parameter.clone() for name, parameter in hf.named_parameters()}
    options = QUICK | {"steps": 60, "patience": 20, "batch_size": 8}
    fit = sl.fit(lm, task.train, method, Objective(margin=5, faithfulness=0.1, minimality=0.001), **options)
    first, last = (fit.history["effectiveness"].iloc[i] for i in (0, -1))
    assert last < 0.6 * first
    assert fit.history["flip_rate"].iloc[-1] >= 0.75
    for name, parameter in hf.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.grad is None and parameter.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in hf.modules())


@pytest.mark.parametrize("method", METHODS)
def test_a_grid_is_its_settings_alone(lm: sl.SteerableModel, task: sl.tasks.Task, method: Learned) -> None:
    objectives = [Objective(1, 0, 0), Objective(10, 1, 0.01), Objective(float("inf"), 10, 1)]
    grid = sl.fit_grid(lm, task.train, method, objectives, seeds=(0, 5), **QUICK)
    assert [(fit.objective, fit.seed) for fit in grid] == [(o, seed) for o in objectives for seed in (0, 5)]
    for fit in grid:
        alone = sl.fit(lm, task.train, method, fit.objective, seed=fit.seed, **QUICK)
        assert len(alone.history) == len(fit.history)
        torch.testing.assert_close(tensors(alone), tensors(fit), atol=1e-5, rtol=1e-3)
        np.testing.assert_allclose(alone.history["loss"], fit.history["loss"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("losses", "taken"),
    [
        ([8, 8, 4, 4, 2, 2, 1, 1, 0.5, 0.5], 10),  # falling all the time: to the last step
        ([8, 8, 4, 4, 4, 4, 4, 4, 2, 2], 8),  # two windows no better than the best before
        ([8, 8, 4, 4, 5, 5, 3, 3, 3, 3], 10),  # one worse, the next better again
        ([8, 8, 7.99, 7.99, 7.98, 7.98, 1, 1, 1, 1], 6),  # better, but by less than a hundredth
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6),  # nothing left to do
        ([-1, -1, -2, -2, -3, -3, -2, -2, -2.5, -2.5], 10),  # losses below zero
    ],
)
def test_when_a_setting_stops(lm: sl.SteerableModel, task: sl.tasks.Task, losses: list[float], taken: int) -> None:
    options = asdict(FitOptions(steps=10, patience=2))
    problem = Problem.of(lm, task.train, ActivScalar(layers=(0,)))
    run = start(0, asdict(Objective()), 0, problem.plain | {"units": torch.ones(2, 1, 1)}, lr=0.1)
    for step, loss in enumerate(losses, start=1):
        run["log"].append([loss])
        with torch.no_grad():
            run["theta"].fill_(step)
        if stops(run, options):
            break
    assert step == taken
    assert run["mean"].unique().tolist() == [taken - 0.5]  # of the last two steps


def test_a_setting_that_stops_makes_room(
    lm: sl.SteerableModel, task: sl.tasks.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    losses = loop.losses

    def counted(model: Any, problem: Any, theta: Tensor, *rest: Any) -> Any:
        batches.append(len(theta))
        return losses(model, problem, theta, *rest)

    monkeypatch.setattr(loop, "losses", counted)
    monkeypatch.setattr(loop, "stops", lambda run, options: len(run["log"]) == (8, 3, 7)[run["number"]])
    monkeypatch.setattr("steerlab.loop.CPU_TOKENS", 2 * (2 * 3 * 15))  # two settings at a time
    grid = sl.fit_grid(lm, task.train, ActivScalar(), Objective.grid((1, 2, 3), (0,), (0,)), **QUICK)
    assert [len(fit.history) for fit in grid] == [8, 3, 7]
    assert [fit.objective.margin for fit in grid] == [1, 2, 3]
    assert batches == [2] * 8 + [1] * 2  # the third takes the place of the second


def test_the_result_is_the_mean_of_the_last_window(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    # at a large λ_M the last step alone would leave jitter of the size of the learning rate
    fit = sl.fit(lm, task.train, ActivScalar(), Objective(1, 0, 100), **QUICK | {"steps": 40, "patience": 20})
    assert float(tensors(fit).abs().mean()) < 0.5 * 0.05


def test_a_stopped_grid_goes_on(
    lm: sl.SteerableModel, task: sl.tasks.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objectives, folder = Objective.grid((1, 10), (0, 1), (0.01,)), tmp_path / "grid"
    whole = sl.fit_grid(lm, task.train, ActivScalar(), objectives, **QUICK)
    monkeypatch.setattr("steerlab.loop.CPU_TOKENS", 1)  # one setting at a time
    steps: list[int] = []
    losses = loop.losses

    def interrupted(model: Any, problem: Any, theta: Tensor, *rest: Any) -> Any:
        steps.append(len(theta))
        if len(steps) == 2 * 12 + 5:  # in the middle of the third
            raise KeyboardInterrupt
        return losses(model, problem, theta, *rest)

    monkeypatch.setattr(loop, "losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sl.fit_grid(lm, task.train, ActivScalar(), objectives, folder=folder, **QUICK)
    assert len(list(folder.glob("*.safetensors"))) == 2
    resumed = sl.fit_grid(lm, task.train, ActivScalar(), objectives, folder=folder, **QUICK)
    assert len(steps) == (2 * 12 + 5) + 2 * 12  # the third and the fourth, from their beginnings
    for a, b in zip(whole, resumed, strict=True):
        torch.testing.assert_close(tensors(a), tensors(b), atol=1e-5, rtol=1e-3)
        pd.testing.assert_frame_equal(a.history, b.history, rtol=1e-3, atol=1e-5, check_dtype=False)
        assert a.objective == b.objective
    sl.fit_grid(lm, task.train, ActivScalar(), objectives, folder=folder, **QUICK)
    assert len(steps) == 53  # nothing is left to do


def test_what_was_kept_is_taken_for_the_same_question_only(
    lm: sl.SteerableModel, task: sl.tasks.Task, tmp_path: Path
) -> None:
    def kept(model: sl.SteerableModel, frame: pd.DataFrame, method: Learned, **options: Any) -> int:
        sl.fit_grid(model, frame, method, [Objective()], folder=tmp_path, **QUICK | options)
        return len(list(tmp_path.glob("*.safetensors")))

    assert kept(lm, task.train, ActivScalar()) == 1
    assert kept(lm, task.train, ActivScalar()) == 1
    other = fresh("llama")
    with torch.no_grad():
        other.model.norm.weight.mul_(1.1)
    assert kept(sl.load(other, tokenizer=tokenizer()), task.train, ActivScalar()) == 2
    assert kept(lm, task.test, ActivScalar()) == 3
    assert kept(lm, task.train, ActivScalar(first=1)) == 4
    assert kept(lm, task.train, ActivScalar(), seeds=(7,)) == 5
    assert kept(lm, task.train, ActivScalar(), lr=0.01) == 6


def test_the_estimated_gradient_points_where_the_exact_one_does(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    problem = Problem.of(lm, task.train, ActivScalar(places=("attn_out",), layers=(0,)))
    options = asdict(FitOptions(gradient="spsa", directions=60, perturbation=1e-2))
    (plain,) = lm.run([Call(prepared, (problem.plain,), None)])
    objectives = [Objective(5, 1), Objective(1, 0)]
    runs = [start(i, asdict(objective), i, plain, 0.1) for i, objective in enumerate(objectives)]
    index = torch.arange(2).expand(2, 2)
    theta = torch.full((2, *problem.shape), 0.05, requires_grad=True)
    asked = [run["objective"] for run in runs]
    ((losses, _),) = lm.run([Call(loop.losses, (plain, theta * plain["units"], index, asked), None)])
    ((target, loss, _),) = lm.run([Call(loop.spsa, (plain, runs, theta, index, options), None)])
    exact, estimated = (torch.autograd.grad(value, theta)[0].flatten(1) for value in (losses.sum(), target))
    assert (torch.cosine_similarity(exact, estimated) > 0.85).all()
    share = (exact * estimated).sum(1) / exact.square().sum(1)  # noise across the gradient does not count here
    torch.testing.assert_close(share, torch.ones(2), rtol=0, atol=0.25)
    torch.testing.assert_close(losses, loss, rtol=0.02, atol=0, check_device=False)


def test_forward_passes_alone_can_fit(
    lm: sl.SteerableModel, task: sl.tasks.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(model: Any, batch: Any, taps: Any, last: bool, grad: bool) -> Any:
        assert not grad
        return logits(model, batch, taps, last, grad)

    monkeypatch.setattr(loop, "logits", refused)
    options = QUICK | {"steps": 40, "patience": 20, "batch_size": 4, "directions": 4}
    objective = Objective(margin=5, faithfulness=0.1, minimality=0.001)
    fit = sl.fit(lm, task.train, ActivScalar(), objective, gradient="spsa", **options)
    assert fit.history["effectiveness"].iloc[-10:].mean() < 0.9 * fit.history["effectiveness"].iloc[0]
    assert fit.history["forwards"].tolist()[:2] == [2 * 4 * 8, 2 * 2 * 4 * 8]  # signs × prompts × perturbations


def test_dynscalar_fits_and_meets_other_lengths(lm: sl.SteerableModel) -> None:
    from steerlab.tasks.ioi import OPENINGS, TEMPLATES

    short, long = [TEMPLATES[0], TEMPLATES[3]], [OPENINGS[1] + TEMPLATES[0]]
    task = sl.tasks.ioi(lm, 16, templates=short, test_templates=long, orders=["ABBA"])
    fit = sl.fit(lm, task.train, DynScalar(), **QUICK)
    assert sl.score(lm, task.test, fit.intervention)["plus"].notna().all()
    for method in (ActivScalar(), SteerVec()):
        with pytest.raises(
            ValueError, match=r"tied to positions, but the prompts have 15 to 17 tokens: take .* DynScalar"
        ):
            sl.fit(lm, task.train, method, **QUICK)


def test_evaluate_against_its_definitions(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    fit = sl.fit(lm, task.train, ActivScalar(), Objective(5, 0.1, 0.001), **QUICK)
    table = sl.evaluate(lm, task.test, fit.intervention, margin=5).set_index("metric")
    logits = {
        beta: torch.stack([lm.logits(prompt, beta * fit.intervention)[0] for prompt in task.test["prompt"]])
        for beta in (0, 1, -1)
    }
    answers = {side: [steerable("llama").encode(text)[0] for text in task.test[side]] for side in ("correct", "wrong")}
    rows = range(len(task.test))
    delta = {b: z[rows, answers["correct"]] - z[rows, answers["wrong"]] for b, z in logits.items()}
    total = [torch.distributions.kl_divergence(*map(_distribution, (logits[0], logits[b]))) for b in (1, -1)]
    alpha = tensors(fit)
    expected = {
        "effectiveness": ((5 - delta[1]).clamp(min=0) + (5 + delta[-1]).clamp(min=0)).mean(),
        "difference": ((delta[1] - delta[-1]) / 2).mean(),
        "kl": torch.stack(total).mean(),
        "flip_rate": ((delta[1] > 0) & (delta[-1] < 0)).float().mean(),
        "correct": (delta[0] > 0).float().mean(),
        "minimality": alpha.abs().sum(),
        "numbers": (alpha.abs() > 0.01).sum(),
        "locations": (alpha.abs() > 0.01).sum(),
        "parameters": alpha.numel(),
    }
    for metric, value in expected.items():
        assert table.loc[metric, "value"] == pytest.approx(float(value), rel=1e-4), metric
    means = table.loc[["effectiveness", "difference", "faithfulness", "kl", "flip_rate", "correct"]]
    assert (means["low"] <= means["value"]).all() and (means["value"] <= means["high"]).all()
    assert (means["n"] == 8).all() and fit.n_parameters == 6 * 15


def _distribution(logits: Tensor) -> torch.distributions.Categorical:
    return torch.distributions.Categorical(logits=logits)


def test_the_other_sign_is_the_opposite(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    fit = sl.fit(lm, task.train, SteerVec(), **QUICK)
    steered, opposite = (sl.score(lm, task.test, steer) for steer in (fit.intervention, -fit.intervention))
    np.testing.assert_array_equal(steered["plus"], opposite["minus"])
    np.testing.assert_array_equal(steered["kl"], opposite["kl"])


def test_a_tied_intervention_knows_its_length(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    fit = sl.fit(lm, task.train, ActivScalar(), **QUICK)
    longer = sl.tasks.ioi(
        lm, 8, templates=["It was a fine day. {P} and {Q} went to the {place}, and {S} gave a {object} to"]
    )
    with pytest.raises(ValueError, match="a prompt has 21 tokens, the intervention was fitted at the positions of 15"):
        sl.evaluate(lm, longer.test, fit.intervention)


def test_a_fit_says_where_it_comes_from(lm: sl.SteerableModel, task: sl.tasks.Task, tmp_path: Path) -> None:
    fit = sl.fit(lm, task.train, SteerVec(layers=(1,)), Objective(3, 2, 1), seed=4, **QUICK)
    info = sl.load_intervention(fit.intervention.save(tmp_path / "fit.safetensors"), lm).info
    assert (info["method"], info["seed"], info["length"], info["prompts"]) == ("SteerVec", 4, 15, 8)
    assert info["objective"] == {"margin": 3, "faithfulness": 2, "minimality": 1, "reverse": False}
    assert info["options"]["steps"] == 12
    assert repr(fit).startswith("Fit(SteerVec, 960 numbers, margin=3, faithfulness=2, minimality=1")


def test_a_loss_that_is_no_number_ends_a_setting_alone(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    objectives = [Objective(float("inf"), 0, 0), Objective(1, 0, 3e38)]
    options = QUICK | {"lr": 0.5}
    with pytest.warns(UserWarning, match=r"the loss became inf .*use a smaller lr"):
        good, bad = sl.fit_grid(lm, task.train, ActivScalar(), objectives, **options)
    assert len(bad.history) < len(good.history)
    assert torch.isfinite(tensors(bad)).all() and float(tensors(good).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient": "forward"}, "gradient='forward' is unknown: choose auto, exact or spsa"),
        ({"steps": 0}, "steps=0 is out of range"),
        ({"lr": -1.0}, "lr=-1.0 is out of range"),
        ({"lr": float("nan")}, "lr=nan is out of range"),
        ({"directions": 0}, "directions=0 is out of range"),
    ],
)
def test_options_out_of_range(
    lm: sl.SteerableModel, task: sl.tasks.Task, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sl.fit(lm, task.train, ActivScalar(), **options)


def test_bad_input_fails_before_the_model_runs(
    lm: sl.SteerableModel, task: sl.tasks.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("the model ran")

    for name in ("forward", "activations", "logits"):
        monkeypatch.setattr(sl.SteerableModel, name, never)
    twice = pd.concat([task.train, task.train])
    pieces = task.train.assign(correct="Christopher Robin")
    for frame, method, message in (
        (twice, ActivScalar(), "8 prompts stand there more than once"),
        (pieces, ActivScalar(), r"'Christopher Robin' is \d tokens"),
        (task.train, ActivScalar(layers=(7,)), "layer 7 is out of range"),
        (task.train, ActivScalar(first=15), "first=15 is out of range"),
    ):
        with pytest.raises(ValueError, match=message):
            sl.fit(lm, frame, method)
    with pytest.raises(ValueError, match="no settings"):
        sl.fit_grid(lm, task.train, ActivScalar(), [])
    with pytest.raises(ValueError, match="point one way"):
        sl.fit_grid(lm, task.train, ActivScalar(), [Objective(), Objective(reverse=True)])
    with pytest.raises(TypeError, match="'step'"):
        sl.fit(lm, task.train, ActivScalar(), step=3)  # type: ignore[call-arg]


@pytest.mark.slow
def test_eighty_fits_leave_memory_flat(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    def used() -> tuple[int, int]:
        gc.collect()
        alive = sum(issubclass(type(each), Tensor) for each in gc.get_objects())
        return alive, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def fits(count: int) -> None:
        for seed in range(count):
            sl.fit(lm, task.train, METHODS[seed % 3], seed=seed, steps=2, patience=1, batch_size=4, progress=False)

    fits(20)
    tensors_before, peak_before = used()
    fits(60)
    tensors_after, peak_after = used()
    assert tensors_after <= tensors_before
    assert peak_after - peak_before < 20_000  # kilobytes (bytes on macOS, where 20 kB would be the stricter)


# --- gradients of the caller ---------------------------------------------------------------------------------------


@contextmanager
def switched_off() -> Iterator[None]:
    """`set_grad_enabled(False)` as a statement."""
    torch.set_grad_enabled(False)
    try:
        yield
    finally:
        torch.set_grad_enabled(True)


@pytest.mark.parametrize("off", [torch.no_grad, switched_off])
def test_a_fit_where_gradients_are_off(lm: sl.SteerableModel, task: sl.tasks.Task, off: Any) -> None:
    expected = sl.fit(lm, task.train, ActivScalar(), **QUICK)
    with off():
        fit = sl.fit(lm, task.train, ActivScalar(), **QUICK)
        (grid,) = sl.fit_grid(lm, task.train, ActivScalar(), [Objective()], **QUICK)
        assert not torch.is_grad_enabled()
    assert torch.equal(tensors(fit), tensors(expected)) and torch.equal(tensors(grid), tensors(expected))


def test_a_fit_in_inference_mode_is_one_line(lm: sl.SteerableModel, task: sl.tasks.Task) -> None:
    with torch.inference_mode(), pytest.raises(ValueError, match=r"^nothing can be learned in torch.inference_mode"):
        sl.fit(lm, task.train, ActivScalar(), **QUICK)


def test_a_fit_leaves_the_callers_flags_and_gradients(task: sl.tasks.Task) -> None:
    hf = fresh("llama")
    frozen = hf.get_parameter("model.norm.weight").requires_grad_(False)
    lm = sl.load(hf, tokenizer=tokenizer())
    sl.fit(lm, task.train, DynScalar(), **QUICK)
    for parameter in hf.parameters():
        assert parameter.requires_grad == (parameter is not frozen) and parameter.grad is None
    assert all(parameter.grad is None for parameter in lm.hf.parameters())
