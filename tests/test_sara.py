"""SARA: the released algorithm derived anew, the anchored rule's invariances, and what is refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import families
import numpy as np
import pytest
import torch
from torch import Tensor
from trials import complete

import steerlab as sl
from steerlab.edit import components, contrast
from steerlab.site import Site

PROMPT = "A girl borrowed a horse and promised to bring it back at noon. Should the girl bring it back?"
SHORT = "Should he keep the secret?"
DUTY = "An action is right only when it is done from duty."
RESULTS = "Whatever brings the most joy to the most people is right."
THREE = ["gpt2", "llama", "gemma2"]


def random(tokens: int, seed: int, width: int = 12) -> Tensor:
    """Activations [tokens, width] with neurons of different sizes and a mean, as in a model."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(tokens, width, generator=generator, dtype=torch.float64)
    return draw * torch.linspace(0.5, 3, width, dtype=torch.float64) + 0.7


def derived(own: Tensor, attract: Tensor, repel: Tensor) -> Tensor:
    """γ of the paper's code, neuron by neuron, from activations [tokens, neurons]."""
    k = min(len(own), len(attract), len(repel))
    reduced = []
    for activations in (own, attract, repel):
        u, s, _ = torch.linalg.svd(activations.T, full_matrices=False)
        reduced.append((u @ torch.diag(s))[:, :k])
    gain = []
    for o, a, r in zip(*reduced, strict=True):
        near = (o @ a) / (o.square().sum() * a.square().sum()).sqrt()
        far = (o @ r) / (o.square().sum() * r.square().sum()).sqrt()
        gain.append(near - far)
    return torch.stack(gain)


def rooted(own: Tensor, attract: Tensor, repel: Tensor) -> Tensor:
    """γ of the anchored rule, by the square roots of A Aᵀ in full."""

    def root(activations: Tensor) -> np.ndarray:
        values, vectors = np.linalg.eigh((activations.T @ activations).numpy())
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T

    def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)

    o, a, r = root(own), root(attract), root(repel)
    return torch.from_numpy(cosines(o, a) - cosines(o, r))


@contextmanager
def hooked(lm: sl.SteerableModel, family: str, layer: int, coefficient: float, prompt_only: bool) -> Iterator[None]:
    """The released algorithm as a plain pre-hook on the transformers model."""
    block = lm.hf.get_submodule(families.FAMILIES[family].blocks)[layer]  # type: ignore[index]
    references = []
    for text in (DUTY, RESULTS):
        with torch.no_grad():
            states = lm.hf(torch.tensor([[0, *lm.encode(text)]]), output_hidden_states=True).hidden_states
        references.append(states[layer][0])

    def hook(_: object, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> tuple[object, object]:
        h = args[0] if args else kwargs["hidden_states"]
        if prompt_only and h.shape[1] == 1:
            return args, kwargs
        new = h * (1 + coefficient * derived(h[0], *references))
        return ((new, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": new})

    handle = block.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


# --- released ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [(9, 5, 7), (1, 5, 7), (4, 4, 4), (20, 15, 14)])
def test_released_gain_equals_the_derived_one(tokens: tuple[int, int, int]) -> None:
    own, attract, repel = (random(count, seed) for seed, count in enumerate(tokens))
    expected = derived(own, attract, repel)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(contrast(own, components(attract), components(repel)), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(sl.sara_gain(own, attract, repel, variant="released"), expected, atol=1e-6, rtol=0)


def test_released_gain_of_one_token_is_a_difference_of_signs() -> None:
    own, attract, repel = random(1, 0, width=400) - 0.7, random(6, 1, width=400), random(8, 2, width=400)
    gain = sl.sara_gain(own, attract, repel, variant="released")
    nearest = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close((gain - nearest).abs().min(0).values, torch.zeros_like(gain), atol=1e-9, rtol=0)
    assert all((gain.round() == value).any() for value in (-2, 0, 2))


@pytest.mark.parametrize("family", THREE)
def test_released_equals_plain_hooks_at_the_prompt(family: str) -> None:
    lm = families.steerable(family, torch.float64)
    steer = sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=1, coefficient=0.7, variant="released")
    with hooked(lm, family, 1, 0.7, prompt_only=False), torch.no_grad():
        expected = lm.hf(torch.tensor([[0, *lm.encode(PROMPT)]])).logits[:, -1].float()
    torch.testing.assert_close(lm.logits(PROMPT, steer), expected, atol=1e-6, rtol=1e-6)
    assert (lm.logits(PROMPT) - expected).abs().max() > 0.01


@pytest.mark.parametrize("family", THREE)
@pytest.mark.parametrize("when", ["all", "prompt"])
def test_released_equals_plain_hooks_while_decoding(family: str, when: sl.intervention.When) -> None:
    lm = families.steerable(family, torch.float64)
    ids = torch.tensor([[0, *lm.encode(PROMPT)]])
    steer = sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=1, coefficient=0.7, variant="released", when=when)
    greedy = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    expected = {}
    for prompt_only in (True, False):
        with hooked(lm, family, 1, 0.7, prompt_only), torch.no_grad():
            expected[prompt_only] = lm.hf.generate(ids, attention_mask=torch.ones_like(ids), **greedy)[
                0, ids.shape[1] :
            ]
    assert expected[True].tolist() != expected[False].tolist(), "this prompt does not tell decode steps apart"
    tokens = complete(lm, PROMPT, steer, samples=[0], max_new_tokens=12, temperature=0)[0]
    assert tokens == expected[when == "prompt"].tolist()[: len(tokens)]
    assert len(tokens) > 3


def test_order_of_the_attracting_tokens_changes_the_released_components_by_signs_alone() -> None:
    attract = random(7, 1)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    torch.testing.assert_close(components(attract[order]).abs(), components(attract).abs())
    own, repel = random(9, 0), random(7, 2)
    torch.testing.assert_close(sl.sara_gain(own, attract[order], repel), sl.sara_gain(own, attract, repel))


def test_released_edits_survive_saving_scaling_and_adding(tmp_path: object) -> None:
    lm = families.steerable("llama")
    steer = sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=1, variant="released")
    again = sl.load_intervention(steer.save(f"{tmp_path}/sara.safetensors"), lm)
    torch.testing.assert_close(lm.logits(PROMPT, again), lm.logits(PROMPT, steer), atol=0, rtol=0)
    half = sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=1, variant="released", coefficient=0.5)
    for sum_ in (0.5 * steer, steer - half, steer - 0.5 * again):
        torch.testing.assert_close(lm.logits(PROMPT, sum_), lm.logits(PROMPT, half), atol=1e-5, rtol=1e-5)
    assert (lm.logits(PROMPT, half) - lm.logits(PROMPT, steer)).abs().max() > 1e-3
    assert [len((steer + other).edits) for other in (steer, again)] == [1, 2]


def test_fewer_components_and_another_width_are_seen() -> None:
    lm = families.steerable("llama")
    full, two = (
        sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=1, variant="released", components=k) for k in (None, 2)
    )
    assert two.edits[0][1].attract.shape == (2, families.D_MODEL)  # type: ignore[union-attr]
    assert (lm.logits(PROMPT, full) - lm.logits(PROMPT, two)).abs().max() > 1e-3
    other = sl.Edit(gain=torch.ones(1, 1), attract=torch.ones(3, 16), repel=torch.ones(3, 16))
    with pytest.raises(ValueError, match="width 16"):
        lm.logits(PROMPT, sl.Intervention({Site("resid_pre", 1): other}))


# --- anchored ----------------------------------------------------------------------------------------------------


def test_anchored_gain_equals_the_square_roots_in_full() -> None:
    own, attract, repel = random(9, 0), random(5, 1), random(7, 2)
    expected = rooted(own, attract, repel)
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(sl.sara_gain(own, attract, repel), expected, atol=1e-7, rtol=0)


def test_anchored_gain_of_fewer_components_is_that_of_the_reduced_activations() -> None:
    def reduced(activations: Tensor) -> Tensor:
        u, s, vt = torch.linalg.svd(activations, full_matrices=False)
        return u[:, :2] @ torch.diag(s[:2]) @ vt[:2]

    all_three = [random(9, 0), random(5, 1), random(7, 2)]
    gain = sl.sara_gain(*all_three, components=2)
    torch.testing.assert_close(gain, rooted(*map(reduced, all_three)), atol=1e-6, rtol=0)
    assert (gain - sl.sara_gain(*all_three)).abs().max() > 0.01


def flipping(seed: int) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """An SVD that is as right as LAPACK's, with other signs."""
    real, generator = torch.linalg.svd, torch.Generator().manual_seed(seed)

    def svd(a: Tensor, full_matrices: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        u, s, vt = real(a, full_matrices=full_matrices)
        signs = torch.randint(0, 2, s.shape, generator=generator).to(a) * 2 - 1
        return u * signs[..., None, :], s, vt * signs[..., None]

    return svd


def test_only_anchored_ignores_the_signs_of_singular_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    own, attract, repel = random(9, 0), random(5, 1), random(7, 2)
    before = {variant: sl.sara_gain(own, attract, repel, variant=variant) for variant in ("anchored", "released")}
    monkeypatch.setattr(torch.linalg, "svd", flipping(3))
    after = {variant: sl.sara_gain(own, attract, repel, variant=variant) for variant in ("anchored", "released")}
    torch.testing.assert_close(after["anchored"], before["anchored"], atol=1e-12, rtol=0)
    assert (after["released"] - before["released"]).abs().max() > 0.1


@pytest.mark.parametrize("family", THREE)
def test_anchored_gain_is_the_same_in_float64_and_in_a_batch(family: str) -> None:
    lm, fine = families.steerable(family), families.steerable(family, torch.float64)
    options = {"attract": DUTY, "repel": RESULTS, "layer": [0, 2]}
    alone = sl.sara(lm, SHORT, **options)  # type: ignore[arg-type]
    other, batched = sl.sara(lm, [PROMPT, SHORT], **options)  # type: ignore[arg-type]
    exact = sl.sara(fine, SHORT, **options)  # type: ignore[arg-type]
    for (_, single), (_, same), (_, precise), (_, else_) in zip(
        alone.edits, batched.edits, exact.edits, other.edits, strict=True
    ):
        torch.testing.assert_close(same.gain, single.gain, atol=2e-5, rtol=0)
        torch.testing.assert_close(precise.gain.float(), single.gain, atol=2e-5, rtol=0)
        assert (else_.gain - single.gain).abs().max() > 0.01
        assert single.gain.dtype == torch.float32
        assert precise.gain.dtype == torch.float64


def test_a_padded_row_is_steered_as_it_is_alone() -> None:
    lm = families.steerable("llama", torch.float64)
    steers = sl.sara(lm, [PROMPT, SHORT], attract=DUTY, repel=RESULTS, layer=1, coefficient=3)
    both = lm.logits([PROMPT, SHORT], steers)
    torch.testing.assert_close(both[1], lm.logits(SHORT, steers[1])[0], atol=1e-6, rtol=0)
    assert (both[1] - lm.logits(SHORT)[0]).abs().max() > 1e-3


def test_gain_is_the_one_of_the_prompts_activations_without_bos() -> None:
    lm = families.steerable("gpt2", torch.float64)
    site = Site("resid_pre", 2)
    read = [lm.activations(text, site)[site][0] for text in (SHORT, DUTY, RESULTS)]
    for skip_bos, first in ((True, 1), (False, 0)):
        steer = sl.sara(lm, SHORT, attract=DUTY, repel=RESULTS, layer=2, coefficient=-2, skip_bos=skip_bos)
        expected = -2 * rooted(*(activations[first:] for activations in read))
        torch.testing.assert_close(steer.edits[0][1].gain, expected[None], atol=1e-6, rtol=0)


def test_gain_is_held_while_decoding() -> None:
    lm = families.steerable("llama", torch.float64)
    steer = sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=1, coefficient=4)
    gain = steer.edits[0][1].gain
    block = lm.hf.model.layers[1]
    handle = block.register_forward_pre_hook(lambda _, args: (args[0] * (1 + gain[0]), *args[1:]))
    ids = torch.tensor([[0, *lm.encode(PROMPT)]])
    with torch.no_grad():
        written = lm.hf.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    handle.remove()
    tokens = complete(lm, PROMPT, steer, samples=[0], max_new_tokens=12, temperature=0)[0]
    assert len(tokens) > 3
    assert tokens == written[0, ids.shape[1] :].tolist()[: len(tokens)]
    prompt_only = sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=1, coefficient=4, when="prompt")
    assert tokens != complete(lm, PROMPT, prompt_only, samples=[0], max_new_tokens=12, temperature=0)[0]


def test_several_samples_of_the_released_variant_are_the_rows_alone() -> None:
    lm = families.steerable("llama")
    steer = sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=1, coefficient=3, variant="released")
    options: dict[str, Any] = {"max_new_tokens": 4, "seed": 2}
    whole = lm.generate(PROMPT, steer, n=3, **options)
    new = [complete(lm, PROMPT, steer, samples=[sample], **options)[0] for sample in range(3)]
    assert whole.completion.tolist() == [lm.tokenizer.decode(ids, skip_special_tokens=True) for ids in new]
    assert whole.completion.nunique() == 3
    both = lm.generate([PROMPT, SHORT], [steer, None], n=2, **options)
    assert both.completion.tolist()[:2] == whole.completion.tolist()[:2]


@pytest.mark.parametrize("variant", ["anchored", "released"])
def test_equal_prompts_cancel_and_swapped_ones_negate(variant: sl.methods.sara.Variant) -> None:
    own, attract, repel = random(9, 0), random(5, 1), random(7, 2)
    assert (sl.sara_gain(own, attract, attract, variant=variant) == 0).all()
    forth, back = sl.sara_gain(own, attract, repel, variant=variant), sl.sara_gain(own, repel, attract, variant=variant)
    assert torch.equal(forth, -back)
    assert forth.abs().max() > 0.05


@pytest.mark.parametrize("family", THREE)
@pytest.mark.parametrize("variant", ["anchored", "released"])
def test_coefficient_zero_is_bit_equal_to_the_bare_model(family: str, variant: sl.methods.sara.Variant) -> None:
    lm = families.steerable(family)
    steer = sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=[0, 1], coefficient=0, variant=variant)
    assert torch.equal(lm.logits(PROMPT, steer), lm.logits(PROMPT))
    assert not torch.equal(
        lm.logits(PROMPT, steer + sl.sara(lm, PROMPT, attract=DUTY, repel=SHORT, layer=1)), lm.logits(PROMPT)
    )


@pytest.mark.parametrize("variant", ["anchored", "released"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_are_steered(variant: sl.methods.sara.Variant, dtype: torch.dtype) -> None:
    lm, fine = families.steerable("llama", dtype), families.steerable("llama")
    half, full = (
        sl.sara(model, PROMPT, attract=DUTY, repel=RESULTS, layer=0, variant=variant, coefficient=2)
        for model in (lm, fine)
    )
    shift = lm.logits(PROMPT, half) - lm.logits(PROMPT)
    assert shift.isfinite().all()
    assert shift.abs().max() > 0.01
    if variant == "anchored":  # the released one may flip a sign
        torch.testing.assert_close(half.edits[0][1].gain, full.edits[0][1].gain, atol=0.1, rtol=0)
        assert half.edits[0][1].gain.dtype == torch.float32


def test_a_silent_neuron_gets_no_gain() -> None:
    own, attract, repel = random(9, 0), random(5, 1), random(7, 2)
    attract[:, 3] = 0
    repel[:, 3] = 0
    gain = sl.sara_gain(own, attract, repel)
    assert gain[3] == 0
    assert gain.isfinite().all()


def test_shuffled_keeps_the_histogram_and_moves_the_neurons() -> None:
    lm = families.steerable("llama")
    steer = sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=[0, 1])
    control = sl.shuffled(steer, seed=1)
    for (site, edit), (same, other) in zip(steer.edits, control.edits, strict=True):
        assert site == same
        assert torch.equal(edit.gain.sort().values, other.gain.sort().values)  # type: ignore[union-attr]
        assert not torch.equal(edit.gain, other.gain)  # type: ignore[arg-type]
        assert other.when == "all"
    assert torch.equal(sl.shuffled(steer, seed=1).edits[1][1].gain, control.edits[1][1].gain)  # type: ignore[arg-type]


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"attract": ""}, "attract is empty"),
        ({"repel": ""}, "repel is empty"),
        ({"prompts": []}, "prompt is empty"),
        ({"attract": torch.tensor([0])}, "attract holds nothing but BOS"),
        ({"components": 40}, r"components=40 is out of range: 1 to the smallest token count .*repel"),
        ({"components": 0}, "components=0 is out of range"),
        ({"variant": "anchord"}, "variant='anchord' is unknown: choose anchored or released"),
        ({"variant": "released", "prompts": [PROMPT, SHORT]}, "the released variant takes one prompt, not a list of 2"),
        ({"coefficient": float("inf")}, "coefficient inf is not a finite number"),
        ({"layer": 3}, "layer 3 is out of range: .* has layers 0 to 2"),
        ({"layer": []}, "no layers given"),
        ({"when": "always"}, "when='always' is unknown"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_the_model_runs(
    changed: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = families.steerable("llama")
    monkeypatch.setattr(lm, "run", lambda calls: pytest.fail("the model has run"))
    options = {"prompts": PROMPT, "attract": DUTY, "repel": RESULTS, "layer": 1} | changed
    with pytest.raises(ValueError, match=message) as caught:
        sl.sara(lm, **options)  # type: ignore[call-overload]
    assert "\n" not in str(caught.value)


def test_released_refuses_a_batch_before_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = families.steerable("llama")
    steer = sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=1, variant="released")
    monkeypatch.setattr(lm, "run", lambda calls: pytest.fail("the model has run"))
    for steers in (steer, [steer, None]):
        with pytest.raises(
            ValueError, match="edits one prompt at a time, and this batch has 2 rows: pass batch_size=1"
        ):
            lm.logits([PROMPT, PROMPT], steers)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attract": torch.ones(2, 4)}, "needs both, attract and repel"),
        ({"attract": torch.ones(2, 4), "repel": torch.ones(2, 4), "gain": torch.ones(1, 4)}, "a gain of one number"),
        ({"attract": torch.ones(2, 4), "repel": torch.ones(4), "gain": torch.ones(1, 1)}, r"repel has shape \[4\]"),
        ({"attract": torch.ones(2, 4), "repel": torch.ones(2, 4), "anchor": "front"}, "must be all"),
    ],
)
def test_references_that_make_no_sense_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sl.Edit(**({"gain": torch.ones(1, 1)} | fields))  # type: ignore[arg-type]


def test_only_gains_per_neuron_can_be_shuffled() -> None:
    lm = families.steerable("llama")
    for steer in (
        sl.sara(lm, PROMPT, attract=DUTY, repel=RESULTS, layer=1, variant="released"),
        sl.actadd(lm, "Duty", "Results", layer=1),
    ):
        with pytest.raises(ValueError, match=r"at resid_pre\.1 is no gain per neuron"):
            sl.shuffled(steer)
