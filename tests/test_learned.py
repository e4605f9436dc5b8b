"""The three methods against plain PyTorch hooks written from the paper's equations, and as interventions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from families import FAMILIES, fresh, steerable, tokenizer
from tiers import few
from torch import Tensor, nn

import steerlab as sl
from steerlab import ActivScalar, DynScalar, SteerVec
from steerlab.loop import Problem, losses, prepared
from steerlab.methods.learned import Learned
from steerlab.objective import Objective
from steerlab.passes import Call

METHODS = (ActivScalar, SteerVec, DynScalar)
PLACES: tuple[sl.Place, ...] = ("attn_out", "mlp_out", "resid_post")
SOME = ("gpt2", "llama", "gemma2", "opt")


def equation(method: type[Learned], theta: Tensor, beta: float) -> Callable[[Tensor], Tensor]:
    """h~ from h [B, T, D] as the paper has it, one location at a time."""

    def edit(h: Tensor) -> Tensor:
        if method is ActivScalar:
            return torch.stack([h[:, i] * (1 + beta * theta[i, 0]) for i in range(h.shape[1])], 1)
        if method is SteerVec:
            return torch.stack([h[:, i] + beta * theta[i] for i in range(h.shape[1])], 1)
        return h * (1 + beta * torch.einsum("btd,d->bt", h, theta[0]))[..., None]

    return edit


@contextmanager
def hooked(hf: Any, family: str, edits: dict[sl.Site, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Forward hooks on a bare transformers model."""
    paths = FAMILIES[family]
    handles = []

    def hook(edit: Callable[[Tensor], Tensor], width: int) -> Callable[..., Any]:
        def run(module: nn.Module, args: Any, output: Any) -> Any:
            h = output[0] if isinstance(output, tuple) else output
            new = edit(h.view(width, -1, h.shape[-1])).view(h.shape)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return run

    for site, edit in edits.items():
        block = hf.get_submodule(paths.blocks)[site.layer]
        module = {"resid_post": block}.get(site.place) or block.get_submodule(
            {"attn_out": paths.attn, "mlp_out": paths.mlp}[site.place]
        )
        handles.append(module.register_forward_hook(hook(edit, 4)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def plain_loss(
    family: str, method: type[Learned], theta: dict[sl.Site, Tensor], ids: Tensor, answers: Tensor, objective: Objective
) -> Tensor:
    """The three terms with hooks and arithmetic alone, prompt by prompt."""
    hf = fresh(family).double().requires_grad_(False)
    with torch.no_grad():
        original = hf(ids).logits[:, -1]
    total = torch.zeros((), dtype=torch.float64)
    for beta in (1.0, -1.0):
        with hooked(hf, family, {site: equation(method, tensor, beta) for site, tensor in theta.items()}):
            steered = hf(ids).logits[:, -1]
        for row, (correct, wrong) in enumerate(answers.tolist()):
            gap = objective.margin - beta * (steered[row, correct] - steered[row, wrong])
            rest = torch.ones(steered.shape[1], dtype=torch.bool)
            rest[[correct, wrong]] = False
            log_p, log_q = original[row, rest].log_softmax(-1), steered[row, rest].log_softmax(-1)
            kl = (log_p.exp() * (log_p - log_q)).sum()
            total = total + (gap.clamp(min=0) + objective.faithfulness * kl / 2) / len(answers)
    return total


PROMPTS = ["When Mary and John went", "After Ann and Peter sat", "Then Kate and Jack ran", "Once Ruth and Adam came"]


CORRECT, WRONG = [" Mary", " Ann", " Kate", " Ruth"], [" John", " Peter", " Jack", " Adam"]


def task() -> pd.DataFrame:
    return pd.DataFrame({"prompt": PROMPTS, "correct": CORRECT, "wrong": WRONG})


def lost(lm: sl.SteerableModel, problem: Problem, theta: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """What the loop computes from these tensors, on all prompts."""

    def work(model: Any, plain: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return losses(model, prepared(model, plain), theta, torch.arange(4)[None], [asdict(objective)])

    return lm.run([Call(work, (problem.plain,), None)])[0]


@pytest.mark.parametrize("family", few(SOME, "gpt2", "gemma2"))
@pytest.mark.parametrize("method", METHODS)
def test_gradients_equal_those_of_plain_hooks(family: str, method: type[Learned]) -> None:
    # weights in float64, so that what differs is not the rounding
    lm, frame, objective = steerable(family, torch.float64), task(), Objective(margin=5, faithfulness=2)
    made = method(places=PLACES)
    problem = Problem.of(lm, frame, made)
    generator = torch.Generator().manual_seed(1)
    size = {ActivScalar: 0.3, SteerVec: 0.3, DynScalar: 0.02}[method]
    theta = (size * torch.randn(1, *problem.shape, generator=generator)).requires_grad_()
    loss, _ = lost(lm, problem, theta, objective)
    loss.sum().backward()

    copies = {site: theta.detach()[0, i].double().requires_grad_() for i, site in enumerate(made.sites(lm))}
    ids = torch.tensor([[0, *tokenizer().encode(prompt, add_special_tokens=False)] for prompt in PROMPTS])
    answers = torch.tensor([[lm.encode(word)[0] for word in pair] for pair in zip(CORRECT, WRONG, strict=True)])
    expected = plain_loss(family, method, copies, ids, answers, objective)
    expected.backward()
    gradient = torch.stack([copy.grad for copy in copies.values() if copy.grad is not None])
    torch.testing.assert_close(loss[0].double(), expected, rtol=1e-5, atol=1e-5)
    assert theta.grad is not None
    # every site matters, but for the last: the final norm undoes a scaling of its input
    assert gradient[:-1].abs().flatten(1).max(1).values.min() > 1e-3
    largest = float(gradient.abs().max())  # logits are float32, and so are their gradients
    torch.testing.assert_close(theta.grad[0].double(), gradient, rtol=1e-5, atol=1e-5 * largest)


def intervention(lm: sl.SteerableModel, method: Learned, length: int, size: float = 0.3) -> sl.Intervention:
    sites = method.sites(lm)
    shape = (len(sites), *method.shape(length, lm.d_model))
    return method.intervention(sites, size * torch.randn(shape, generator=torch.Generator().manual_seed(0)), lm.info())


def count(learned: sl.Intervention) -> int:
    return sum(tensor.numel() for _, edit in learned.edits for tensor in edit.tensors.values())


@pytest.mark.parametrize("method", METHODS)
def test_a_strength_of_zero_is_the_bare_model(method: type[Learned]) -> None:
    lm = steerable("gemma2")
    bare_logits = lm.logits(PROMPTS, position="all")
    for place in sl.PLACES:
        learned = intervention(lm, method(places=(place,)), 6)
        assert torch.equal(lm.logits(PROMPTS, 0 * learned, position="all"), bare_logits)
        assert not torch.equal(lm.logits(PROMPTS, learned, position="all"), bare_logits)


@pytest.mark.parametrize("method", METHODS)
def test_the_value_applies_what_the_loop_applied(method: type[Learned]) -> None:
    lm, made = steerable("llama"), method(places=PLACES)
    learned = intervention(lm, made, 6, size=0.1)
    problem = Problem.of(lm, task(), made)
    theta = torch.stack([next(iter(edit.tensors.values())) for _, edit in learned.edits])[None]
    loss, terms = lost(lm, problem, theta, Objective(margin=5, faithfulness=2))
    scored = sl.score(lm, task(), learned, margin=5)
    assert float(loss) == pytest.approx((scored["effectiveness"] + 2 * scored["faithfulness"]).mean(), rel=1e-4)
    assert terms[0].tolist() == pytest.approx(scored[["effectiveness", "faithfulness", "kl", "flips"]].mean(), rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_loaded(method: type[Learned], tmp_path: Path) -> None:
    lm = steerable("llama")
    learned = intervention(lm, method(), 6)
    loaded = sl.load_intervention(learned.save(tmp_path / "learned.safetensors"), lm)
    assert loaded.sites == learned.sites
    assert torch.equal(lm.logits(PROMPTS, loaded), lm.logits(PROMPTS, learned))


def test_the_first_positions_can_be_left_alone() -> None:
    lm, site = steerable("gpt2"), sl.Site("resid_post", 2)
    plain = lm.activations(PROMPTS, site)[site]
    for method in (ActivScalar, SteerVec):
        made = intervention(lm, method(places=("resid_post",), first=2), 6)
        moved = (lm.activations(PROMPTS, site, made)[site] - plain).norm(dim=-1)
        assert moved[:, :2].max() == 0 and moved[:, 2:].min() > 0


def test_dynscalar_reads_every_row_at_its_own_length() -> None:
    lm = steerable("llama")
    learned = intervention(lm, DynScalar(), 1, size=0.05)
    mixed = ["Ann", PROMPTS[0], "One day Mary met John at the garden near the old house"]
    together = lm.logits(mixed, learned)
    for row, prompt in enumerate(mixed):
        torch.testing.assert_close(together[row], lm.logits(prompt, learned)[0], rtol=1e-4, atol=1e-5)


def test_parameter_counts_of_the_paper() -> None:
    # |S|·L·I, |S|·L·I·D and |S|·L·D for two places, 3 layers of width 32 and prompts of 6 tokens
    lm = steerable("llama")
    assert [count(intervention(lm, method(), 6)) for method in METHODS] == [2 * 3 * 6, 2 * 3 * 6 * 32, 2 * 3 * 32]


def test_locations_say_where_and_how_much() -> None:
    lm = steerable("llama")
    scalars = intervention(lm, ActivScalar(places=("mlp_out",), layers=(1, 2), first=1), 6)
    frame = sl.locations(scalars)
    places = [("mlp_out", layer, position) for layer in (1, 2) for position in range(1, 6)]
    assert list(frame[["place", "layer", "position"]].itertuples(index=False, name=None)) == places
    gains = torch.cat([edit.gain[:, 0] for _, edit in scalars.edits if edit.gain is not None])
    assert frame["value"].tolist() == pytest.approx(gains.tolist())
    assert frame["norm"].tolist() == pytest.approx(gains.abs().tolist())
    vectors = intervention(lm, SteerVec(layers=(0,)), 6)
    frame = sl.locations(vectors)
    shift = vectors.edits[1][1].shift
    assert shift is not None and frame["value"].isna().all()
    assert frame["norm"].iloc[6:].tolist() == pytest.approx(shift.norm(dim=1).tolist())
    assert sl.locations(intervention(lm, DynScalar(), 6))["position"].isna().all()


def test_units_make_a_step_a_relative_change() -> None:
    h = torch.randn(50, 32) * 7
    assert ActivScalar().unit(h) == 1
    assert SteerVec().unit(h) == pytest.approx(7 * (2 / torch.pi) ** 0.5, rel=0.1)
    worst = DynScalar().unit(h) * torch.sign(h) * h  # every component at its worst sign
    assert float(worst.sum(-1).mean()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActivScalar(places="resid_post"), "places='resid_post': give a tuple of some of resid_pre"),
        (lambda: ActivScalar(places=()), r"places=\(\): give a tuple"),
        (lambda: SteerVec(places=("mlp",)), "place 'mlp' is unknown"),
        (lambda: SteerVec(places=("mlp_out", "mlp_out")), "names one twice"),
        (lambda: DynScalar(layers=(1, 1)), "names one twice"),
        (lambda: DynScalar(layers=()), "leaves nothing to learn"),
        (lambda: SteerVec(init=-1), "init=-1 is out of range"),
        (lambda: ActivScalar(layers=(3,)).sites(steerable("llama")), "layer 3 is out of range: .* has layers 0 to 2"),
        (lambda: ActivScalar(layers=(-4,)).sites(steerable("llama")), "layer -4 is out of range: .* or -3 to -1 from"),
        (lambda: ActivScalar(layers=(-1, 2)).sites(steerable("llama")), "names one twice"),
        (lambda: ActivScalar(first=6).shape(6, 32), "first=6 is out of range: the prompts have positions 0 to 5"),
    ],
)
def test_what_no_model_has(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
