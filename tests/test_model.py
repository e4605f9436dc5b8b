"""Reading, editing and scoring, against the bare transformers model and plain PyTorch hooks."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from families import D_MODEL, N_LAYERS, bare, fresh, steerable, tokenizer
from reference import Change, Hooked, inputs, left_padded, read_by_hand
from torch import Tensor
from transformers import PreTrainedModel
from trials import KINDS, edit, random, tensors, trial

import steerlab as sl
from steerlab.intervention import Steer

EVEN = [" the ship saw a wedding by the shore", " by the shore a wedding saw the ship"]  # the same words, so one length
UNEVEN = ["The wedding was very fine", "I went up to my friend and said that it had all been a mistake", "He said no"]
SITES = [sl.Site(place, layer) for layer in range(N_LAYERS) for place in sl.PLACES]
each_place = pytest.mark.parametrize("place", sl.PLACES)
even_or_not = pytest.mark.parametrize("prompts", [EVEN, UNEVEN], ids=["even", "padded"])


def close(actual: Tensor, expected: Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=atol)


def real(values: Tensor, prompts: list[str]) -> list[Tensor]:
    """Rows without their padding."""
    return [row[pad:] for row, pad in zip(values, left_padded(prompts)[2], strict=True)]


@torch.no_grad()
def bare_logits(model: PreTrainedModel, prompts: Any, **more: Any) -> Tensor:
    logits: Tensor = model(**inputs(prompts), **more).logits
    return logits.float()


@torch.no_grad()
def hooked_logits(model: PreTrainedModel, family: str, prompts: list[str], *changes: Change) -> Tensor:
    with Hooked(model, family, changes, left_padded(prompts)[2]).on():
        return bare_logits(model, prompts)


def test_prompts_used_here_do_what_they_are_for() -> None:
    assert left_padded(EVEN)[2] == [0, 0]
    assert 0 in left_padded(UNEVEN)[2]
    assert len(set(left_padded(UNEVEN)[2])) == 3


# --- zero strength is the bare model, bit for bit (on the same weights: their place in memory changes last bits) ------


@even_or_not
def test_unsteered_is_the_bare_model(lm: sl.SteerableModel, prompts: list[str]) -> None:
    assert torch.equal(lm.logits(prompts, position="all"), bare_logits(lm.hf, prompts))
    assert torch.equal(lm.logits(prompts), bare_logits(lm.hf, prompts, logits_to_keep=1)[:, -1])


def zeros(place: Any) -> list[Steer]:
    """Every kind of edit at strength zero: for all rows, and another in each."""
    kinds = [trial(place, 1, kind, beta=0.0)[0] for kind in KINDS]
    front = trial(place, 1, "all three", where="front", start=1, positions=2, beta=0.0)[0]
    back = trial(place, 1, "all three", where="back", positions=3, beta=0.0)[0]
    return [*kinds, front, back, kinds, [front, None, back, kinds[2]]]


@even_or_not
@each_place
def test_zero_strength_is_the_bare_model(lm: sl.SteerableModel, place: Any, prompts: list[str]) -> None:
    prompts = [prompts[0], prompts[1], prompts[-1], prompts[0]]
    expected = bare_logits(lm.hf, prompts)
    for number, steer in enumerate(zeros(place)):
        assert torch.equal(lm.logits(prompts, steer, position="all"), expected), number


@even_or_not
@each_place
def test_zero_strength_is_the_bare_model_in_half_precision(family: str, place: Any, prompts: list[str]) -> None:
    lm = steerable(family, torch.bfloat16)
    expected = bare_logits(lm.hf, prompts)
    assert lm.dtype == torch.bfloat16
    for beta in (0.0, 1.0):
        steer = trial(place, 1, "all three", where="front", positions=2, beta=beta)[0]
        assert torch.equal(lm.logits(prompts, steer, position="all"), expected) == (beta == 0)


def test_steering_leaves_nothing_behind_in_the_model(family: str, lm: sl.SteerableModel) -> None:
    before = {name: value.clone() for name, value in lm.hf.state_dict().items()}
    lm.logits(UNEVEN, trial("attn_out", 1, "all three")[0])
    lm.generate(EVEN, trial("resid_pre", 1, "all three", when="all")[0], max_new_tokens=3)
    assert all(torch.equal(value, before[name]) for name, value in lm.hf.state_dict().items())
    close(bare_logits(lm.hf, EVEN), bare_logits(bare(family), EVEN))


# --- activations ---------------------------------------------------------------------------------------------------


@even_or_not
def test_activations_are_those_that_hooks_see(family: str, lm: sl.SteerableModel, prompts: list[str]) -> None:
    model, activations = bare(family), lm.activations(prompts, SITES)
    assert list(activations) == SITES
    assert torch.equal(activations.mask, left_padded(prompts)[1])
    for site in SITES:
        assert torch.equal(activations[site], read_by_hand(model, family, prompts, site.place, site.layer))
    for row, alone in enumerate(real(activations[SITES[5]], prompts)):
        assert torch.equal(activations.row(row, SITES[5]), alone)


@even_or_not
def test_sublayers_add_up_to_the_residual_stream(lm: sl.SteerableModel, prompts: list[str]) -> None:
    activations = lm.activations(prompts, SITES)
    for layer in range(N_LAYERS):
        pre, attn, mlp, post = (activations[sl.Site(place, layer)] for place in sl.PLACES)
        for total, block in zip(real(pre + attn + mlp, prompts), real(post, prompts), strict=True):
            torch.testing.assert_close(total, block, rtol=1e-5, atol=1e-5)
        assert all(part.abs().max() > 0.05 for part in (attn, mlp))
        if layer:
            assert torch.equal(activations[sl.Site("resid_post", layer - 1)], pre)


def test_the_first_and_the_last_stream_are_the_models_own(family: str, lm: sl.SteerableModel) -> None:
    with torch.no_grad():
        hidden = bare(family)(**inputs(EVEN), output_hidden_states=True).hidden_states
    for layer in range(N_LAYERS):
        assert torch.equal(
            lm.activations(EVEN, sl.Site("resid_pre", layer))[sl.Site("resid_pre", layer)], hidden[layer]
        )


@each_place
def test_activations_are_read_after_the_edit(lm: sl.SteerableModel, place: Any) -> None:
    site = sl.Site(place, 1)
    plain = lm.activations(UNEVEN, site)[site]
    steered = lm.activations(UNEVEN, site, edit(place, 1, shift=random(1, D_MODEL)))[site]
    close(steered, plain + random(1, D_MODEL))


def test_later_edits_are_not_seen_and_earlier_ones_are(lm: sl.SteerableModel) -> None:
    site = sl.Site("attn_out", 1)
    plain = lm.activations(EVEN, site)[site]
    for place, layer in (("mlp_out", 1), ("resid_post", 1), ("resid_pre", 2)):
        assert torch.equal(lm.activations(EVEN, site, edit(place, layer, **tensors("shift")))[site], plain)
    for place, layer in (("resid_pre", 1), ("mlp_out", 0), ("resid_pre", 0)):
        assert not torch.equal(lm.activations(EVEN, site, edit(place, layer, **tensors("shift")))[site], plain)


# --- steering equals plain hooks -----------------------------------------------------------------------------------


@even_or_not
@each_place
def test_logits_equal_those_of_hooks(family: str, lm: sl.SteerableModel, place: Any, prompts: list[str]) -> None:
    model = bare(family)
    for kind in KINDS:
        steer, change = trial(place, 1, kind)
        expected = hooked_logits(model, family, prompts, change)
        actual = lm.logits(prompts, steer, position="all")
        for row, alone in zip(real(actual, prompts), real(expected, prompts), strict=True):
            close(row, alone, atol=2e-3)  # the blocks above can make 250 times as much of rounding
        close(lm.logits(prompts, steer), expected[:, -1])
        assert (expected[:, -1] - bare_logits(model, prompts)[:, -1]).abs().max() > 0.05


@each_place
@pytest.mark.parametrize(("where", "start"), [("front", 0), ("front", 1), ("back", 0)])
def test_edits_tied_to_positions_equal_those_of_hooks(
    family: str, lm: sl.SteerableModel, place: str, where: str, start: int
) -> None:
    steer, change = trial(place, 1, "all three", where=where, start=start, positions=2, beta=-0.8)
    expected = hooked_logits(bare(family), family, UNEVEN, change)
    steered, before = (lm.logits(UNEVEN, given, position="all") for given in (steer, None))
    for row, alone, plain in zip(*(real(values, UNEVEN) for values in (steered, expected, before)), strict=True):
        close(row, alone)
        first = start if where == "front" else len(row) - 2
        close(row[:first], plain[:first])  # causal: nothing changes before the edit
        assert (row[first : first + 2] - plain[first : first + 2]).abs().amax(-1).min() > 1e-3


def test_several_sites_at_once_equal_hooks(family: str, lm: sl.SteerableModel) -> None:
    pairs = [trial(site.place, site.layer, "all three", beta=0.1, seed=i) for i, site in enumerate(SITES)]
    pairs.append(trial("mlp_out", 1, "shift", where="front", positions=3, seed=50))
    steer = sum((steer for steer, _ in reversed(pairs)), sl.Intervention())
    expected = hooked_logits(bare(family), family, UNEVEN, *(change for _, change in pairs))
    close(lm.logits(UNEVEN, steer), expected[:, -1])


# --- rows of a batch -----------------------------------------------------------------------------------------------


@each_place
def test_a_row_of_a_padded_batch_equals_the_prompt_alone(lm: sl.SteerableModel, place: Any) -> None:
    site = sl.Site("resid_post", N_LAYERS - 1)
    for where, positions in (("all", 1), ("front", 3), ("back", 2)):
        steer, _ = trial(place, 1, "all three", where=where, positions=positions)
        together, activations = lm.logits(UNEVEN, steer, position="all"), lm.activations(UNEVEN, site, steer)
        for row, prompt in enumerate(UNEVEN):
            close(real(together, UNEVEN)[row], lm.logits(prompt, steer, position="all")[0])
            close(activations.row(row, site), lm.activations(prompt, site, steer)[site][0])


def test_a_list_of_interventions_equals_one_by_one(lm: sl.SteerableModel) -> None:
    several = [
        trial("resid_pre", 1, "shift", where="front", positions=2)[0],
        trial("attn_out", 0, "gain")[0] + trial("mlp_out", 2, "probe")[0] + trial("resid_pre", 1, "shift", seed=4)[0],
        None,
        trial("resid_post", 2, "all three", where="back", positions=2)[0],
        3 * trial("resid_pre", 1, "shift", where="front", positions=2, seed=8)[0],
    ]
    prompts = [*UNEVEN, UNEVEN[0], EVEN[0]]
    together = lm.logits(prompts, several)
    for row, (prompt, steer) in enumerate(zip(prompts, several, strict=True)):
        close(together[row], lm.logits(prompt, steer)[0])
    assert (together[0] - together[3]).abs().max() > 0.05  # the same prompt, steered in two ways
    sites = [sl.Site("resid_pre", 1), sl.Site("mlp_out", 2)]
    batched = lm.activations(prompts, sites, several)
    for row, (prompt, steer) in enumerate(zip(prompts, several, strict=True)):
        alone = lm.activations(prompt, sites, steer)
        for site in sites:
            close(batched.row(row, site), alone.row(0, site))


def test_one_site_in_one_kind_for_every_row_is_stacked_and_right(lm: sl.SteerableModel) -> None:
    base, _ = trial("resid_pre", 1, "shift", where="front", positions=2)
    strengths = [c * base for c in (-2, -1, 0, 1, 2)]
    together = lm.logits([EVEN[0]] * 5, strengths)
    for row, steer in enumerate(strengths):
        close(together[row], lm.logits(EVEN[0], steer)[0])


def test_token_ids_are_taken_as_they_are(gpt2: sl.SteerableModel) -> None:
    ids, _, _ = left_padded(EVEN)
    for given in (ids, list(ids), [row.tolist() for row in ids]):
        assert torch.equal(gpt2.logits(given), gpt2.logits(EVEN))
    assert torch.equal(gpt2.logits(ids[0]), gpt2.logits(EVEN[0]))
    assert torch.equal(gpt2.batch(ids[0, 1:]).ids, ids[:1, 1:])  # no BOS is put in front


def test_a_batch_is_padded_on_the_left(gpt2: sl.SteerableModel) -> None:
    batch, (ids, mask, pads) = gpt2.batch(UNEVEN), left_padded(UNEVEN)
    assert torch.equal(batch.ids, ids)
    assert torch.equal(batch.mask, mask)
    assert batch.pad is not None
    assert batch.pad.tolist() == pads
    assert batch.lengths == mask.sum(1).tolist()
    assert gpt2.batch(EVEN).pad is None
    assert gpt2.batch(EVEN).lengths == left_padded(EVEN)[1].sum(1).tolist()
    assert gpt2.tokens("He said no") == ["<|endoftext|>", *(tokenizer().decode([i]) for i in gpt2.encode("He said no"))]


# --- log-probabilities ---------------------------------------------------------------------------------------------


def logprobs_by_hand(model: PreTrainedModel, family: str, text: str, first: int, *changes: Change) -> list[float]:
    scores = hooked_logits(model, family, [text], *changes)[0].log_softmax(-1)
    ids = left_padded([text])[0][0]
    return [float(scores[i - 1, ids[i]]) for i in range(first, len(ids))]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_logprobs_are_those_of_each_text_alone(family: str, lm: sl.SteerableModel, batch_size: int) -> None:
    model = bare(family)
    steer, change = trial("resid_pre", 1, "all three", where="front", positions=2)
    frame = lm.logprobs(UNEVEN, [steer, None, steer], batch_size=batch_size)
    assert list(frame.columns) == ["row", "position", "token", "logprob"]
    for row, changes in enumerate(([change], [], [change])):
        mine = frame[frame.row == row]
        assert mine.logprob.tolist() == pytest.approx(
            logprobs_by_hand(model, family, UNEVEN[row], 1, *changes), abs=1e-4
        )
        assert mine.position.tolist() == list(range(1, len(mine) + 1))
        assert "".join(mine.token) == UNEVEN[row]


def test_logprobs_of_continuations(gpt2: sl.SteerableModel) -> None:
    given, texts = ["The wedding", "I went up to my friend and"], [" was fine", " said no"]
    frame = gpt2.logprobs(texts, given=given)
    for row, (prompt, text) in enumerate(zip(given, texts, strict=True)):
        first = len(left_padded([prompt])[0][0])
        mine = frame[frame.row == row]
        expected = logprobs_by_hand(bare("gpt2"), "gpt2", prompt + text, first)
        assert mine.logprob.tolist() == pytest.approx(expected, abs=1e-4)
        assert mine.position.iloc[0] == first
        assert "".join(mine.token) == text
    pd.testing.assert_frame_equal(gpt2.logprobs(texts[0], given=given[0]), frame[frame.row == 0])


def test_logprobs_take_a_text_and_its_prompt_in_one_pass(gpt2: sl.SteerableModel) -> None:
    plain = gpt2.logprobs(" was fine", given="The wedding")
    later = gpt2.logprobs(" was fine", edit("resid_pre", 1, **tensors("shift"), when="decode"), given="The wedding")
    pd.testing.assert_frame_equal(later, plain)
    steered = gpt2.logprobs(" was fine", edit("resid_pre", 1, **tensors("shift"), when="all"), given="The wedding")
    whole = gpt2.logprobs("The wedding was fine", edit("resid_pre", 1, **tensors("shift")))
    assert steered.logprob.tolist() == pytest.approx(whole.logprob.tolist()[-len(steered) :], abs=1e-4)
    assert steered.logprob.tolist() != pytest.approx(plain.logprob.tolist(), abs=1e-2)


# --- gradients -----------------------------------------------------------------------------------------------------


@each_place
def test_gradients_equal_those_through_hooks(family: str, lm: sl.SteerableModel, place: Any) -> None:
    given = [tensors("all three", 2)[name].requires_grad_() for name in ("shift", "gain", "probe")]
    a, gamma, w = given
    steer = edit(place, 1, shift=a, gain=gamma, probe=w, anchor="front")
    goal = random(len(tokenizer()), seed=3)
    actual = torch.autograd.grad((lm.logits(UNEVEN, steer) @ goal).sum(), given)

    model: Any = bare(family)
    change = Change(place, 1, a=a, gamma=gamma, w=w, where="front")
    with Hooked(model, family, [change], left_padded(UNEVEN)[2]).on():
        expected = torch.autograd.grad((model(**inputs(UNEVEN)).logits[:, -1] @ goal).sum(), given)
    for mine, theirs in zip(actual, expected, strict=True):
        assert theirs.abs().max() > 1
        assert (mine - theirs).abs().max() <= 1e-4 * theirs.abs().max()  # float32 rounds to 1e-5, as processors differ


def test_gradients_reach_each_rows_own_tensors(gpt2: sl.SteerableModel) -> None:
    shifts = [random(1, D_MODEL, seed=i).requires_grad_() for i in range(3)]
    logits = gpt2.logits(UNEVEN, [edit("attn_out", 1, shift=shift) for shift in shifts])
    for row, own in enumerate(shifts):
        gradients = torch.autograd.grad(logits[row].logsumexp(-1), shifts, retain_graph=True, materialize_grads=True)
        assert [bool(gradient.any()) for gradient in gradients] == [shift is own for shift in shifts]


def test_no_graph_is_kept_without_need(gpt2: sl.SteerableModel) -> None:
    site = sl.Site("resid_post", 2)
    learned = edit("resid_pre", 1, shift=random(1, D_MODEL).requires_grad_())
    for steer in (None, edit("resid_pre", 1, shift=random(1, D_MODEL))):
        assert not gpt2.logits(EVEN, steer).requires_grad
        assert not gpt2.activations(EVEN, site, steer)[site].requires_grad
    assert gpt2.logits(EVEN, learned).requires_grad
    assert gpt2.activations(EVEN, site, learned)[site].requires_grad
    with torch.no_grad():
        assert not gpt2.logits(EVEN, learned).requires_grad
    assert not any(parameter.requires_grad for parameter in gpt2.hf.parameters())


# --- threads -------------------------------------------------------------------------------------------------------


def test_two_threads_share_a_model(gpt2: sl.SteerableModel) -> None:
    steer = trial("resid_pre", 1, "shift", when="all")[0]
    tasks: list[Callable[[], list[float]]] = [
        lambda: gpt2.logits(UNEVEN, steer)[:, 0].tolist(),
        lambda: [float(n) for n in gpt2.generate(EVEN, steer, max_new_tokens=4).completion.map(len)],
        lambda: gpt2.logprobs(UNEVEN).logprob.tolist(),
        lambda: gpt2.activations(EVEN, SITES[3])[SITES[3]].flatten().tolist(),
    ]
    expected = [task() for task in tasks]
    results: list[tuple[int, Any]] = []
    start = threading.Barrier(2)

    def work(order: list[int]) -> None:
        start.wait()
        for number in order * 5:
            try:
                results.append((number, tasks[number]()))
            except Exception as error:
                results.append((number, error))

    threads = [threading.Thread(target=work, args=(order,)) for order in ([0, 1, 2, 3], [3, 1, 0, 2])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 40
    assert [number for number, result in results if result != expected[number]] == []


# --- loading -------------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_from_its_folder(family: str, tmp_path: Path) -> None:
    bare(family).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    for path in (tmp_path, str(tmp_path)):
        lm = sl.load(path)
        close(lm.logits(UNEVEN), steerable(family).logits(UNEVEN))
        assert lm.name == str(tmp_path)
    assert (lm.n_layers, lm.d_model) == (N_LAYERS, D_MODEL)
    assert lm.n_params == sum({p.data_ptr(): p.numel() for p in lm.hf.parameters()}.values())
    assert lm.info(seed=3)["tokenizer"] == lm.tokenizer_hash
    assert lm.info(seed=3)["seed"] == 3


def test_device_and_dtype_are_chosen_said_and_overridden(tmp_path: Path) -> None:
    fresh("llama", torch.bfloat16).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    chosen = "cuda" if torch.cuda.is_available() else "cpu"
    lm = sl.load(tmp_path)
    assert lm.device.type == chosen
    assert lm.dtype == (torch.float32 if chosen == "cpu" else torch.bfloat16)
    assert f"{N_LAYERS} layers x {D_MODEL}, {lm.device}, {str(lm.dtype).removeprefix('torch.')}" in repr(lm)
    assert sl.load(tmp_path, dtype=torch.bfloat16, device="cpu").dtype == torch.bfloat16
    assert sl.load(tmp_path, dtype=torch.float64, device="cpu").logits(EVEN).dtype == torch.float32


def test_a_loaded_model_keeps_its_dtype_and_is_not_copied() -> None:
    model = fresh("opt", torch.bfloat16)
    lm = sl.load(model, tokenizer=tokenizer())
    assert [ours.data_ptr() for ours in lm.hf.parameters()] == [theirs.data_ptr() for theirs in model.parameters()]
    assert lm.dtype == torch.bfloat16


def test_a_model_spread_by_accelerate_is_steered_alike(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    fresh("llama").save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    rest = ("model.embed_tokens", "model.layers.0", "model.layers.2", "model.norm", "model.rotary_emb", "lm_head")
    steer, whole = trial("attn_out", 1, "all three", when="all")[0], steerable("llama")
    for spread in ("auto", {**dict.fromkeys(rest, "cpu"), "model.layers.1": "disk"}):
        lm = sl.load(tmp_path, device_map=spread)
        close(lm.logits(UNEVEN, steer), whole.logits(UNEVEN, steer))
        actual, expected = (each.generate(UNEVEN, steer, max_new_tokens=3).completion for each in (lm, whole))
        assert actual.tolist() == expected.tolist()


def test_the_bundled_model_needs_no_network() -> None:
    lm = sl.load(device="cpu")
    assert lm.name == "steerlab/bundled"
    assert lm.dtype == torch.float32
    sites = [sl.Site(place, 1) for place in sl.PLACES]
    pre, attn, mlp, post = (lm.activations(UNEVEN[:1], sites)[site] for site in sites)
    torch.testing.assert_close(pre + attn + mlp, post, rtol=1e-5, atol=1e-4)
