"""Generation: which passes are edited, and what is sampled."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pytest
import torch
from families import CONTEXT, D_MODEL, bare, fresh, steerable, tokenizer
from reference import Change, Hooked, left_padded, part
from scipy import stats
from torch import Tensor, nn
from trials import complete, edit, random, trial

import steerlab as sl

PROMPTS = ["The wedding was very fine", "I went up to my friend and said that it had all been a mistake", "He said no"]
NEW = 5
each_place = pytest.mark.parametrize("place", sl.PLACES)
each_when = pytest.mark.parametrize("when", ["prompt", "decode", "all"])


def greedy(lm: sl.SteerableModel, prompts: Any, steer: Any = None, **more: Any) -> list[str]:
    texts: list[str] = lm.generate(prompts, steer, temperature=0, **{"max_new_tokens": NEW, **more}).completion.tolist()
    return texts


@torch.no_grad()
def greedy_by_hand(model: Any, family: str, prompts: list[str], *changes: Change, **more: Any) -> list[str]:
    """transformers' own greedy search under plain hooks."""
    ids, mask, pads = left_padded(prompts)
    options = {"max_new_tokens": NEW, "do_sample": False, **more}
    with Hooked(model, family, changes, pads).on():
        new = model.generate(ids, attention_mask=mask, **options)[:, ids.shape[1] :]
    texts: list[str] = tokenizer().batch_decode(new, skip_special_tokens=True)
    return texts


# --- greedy generation, token for token ----------------------------------------------------------------------------


def test_greedy_is_transformers_own(family: str, lm: sl.SteerableModel) -> None:
    assert greedy(lm, PROMPTS) == greedy_by_hand(bare(family), family, PROMPTS)


@each_when
@each_place
def test_steered_generation_equals_hooks(family: str, lm: sl.SteerableModel, place: Any, when: Any) -> None:
    steer, change = trial(place, 1, "all three", when=when, beta=0.8)
    expected = greedy_by_hand(bare(family), family, PROMPTS, change)
    assert greedy(lm, PROMPTS, steer) == expected
    assert expected != greedy(lm, PROMPTS)


@each_place
def test_generation_under_edits_of_positions_equals_hooks(family: str, lm: sl.SteerableModel, place: Any) -> None:
    pairs = [
        trial(place, 1, "all three", where="front", start=1, positions=2, beta=2.0, rows=[0]),
        trial(place, 2, "shift", when="all", rows=[1, 2]),
        trial(place, 1, "gain", where="back", positions=2, rows=[2], seed=5),
        trial("resid_pre", 0, "shift", when="decode", rows=[2], seed=6),
    ]
    front, always, back, later = (steer for steer, _ in pairs)
    expected = greedy_by_hand(bare(family), family, PROMPTS, *(change for _, change in pairs))
    together = greedy(lm, PROMPTS, [front, always, always + back + later])
    assert together == expected
    assert together[2] == greedy(lm, PROMPTS[2], always + back + later)[0]
    assert expected != greedy(lm, PROMPTS)


def test_options_of_transformers_are_passed_on(gpt2: sl.SteerableModel) -> None:
    options = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1}
    assert greedy(gpt2, PROMPTS[0], **options) == greedy_by_hand(bare("gpt2"), "gpt2", PROMPTS[:1], **options)
    assert greedy(gpt2, PROMPTS[0], **options) != greedy(gpt2, PROMPTS[0])


def test_generation_settings_of_the_model_that_sample_are_set_aside() -> None:
    model = fresh("llama")
    settings: Any = model.generation_config
    settings.update(do_sample=True, temperature=9.0, top_k=0, top_p=1.0)
    lm, plain = sl.load(model, tokenizer=tokenizer()), steerable("llama")
    pd.testing.assert_frame_equal(lm.generate(PROMPTS, max_new_tokens=NEW), plain.generate(PROMPTS, max_new_tokens=NEW))


# --- `when` counts passes exactly -----------------------------------------------------------------------------------


@contextmanager
def passes_seen(lm: sl.SteerableModel, mark: Tensor) -> Iterator[list[tuple[int, bool]]]:
    """By a hook of plain PyTorch on the second block: each pass's number of tokens, and whether the mark was in it."""
    seen: list[tuple[int, bool]] = []

    def look(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        h = arguments[0]
        seen.append((h.shape[1], bool((h @ mark[0] > 0.5 * mark.pow(2).sum()).all())))

    handle = part(lm.hf, "gpt2", "resid_pre", 1).register_forward_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


MARK = 1000 * random(1, D_MODEL)


def due(when: str, step: int) -> bool:
    return {"prompt": step == 0, "decode": step > 0, "all": True}[when]


@each_when
def test_an_edit_is_made_on_exactly_the_passes_that_when_says(gpt2: sl.SteerableModel, when: Any) -> None:
    steer = edit("resid_post", 0, shift=MARK, when=when)
    width = left_padded(PROMPTS)[0].shape[1]
    for given in (steer, [steer] * 3, 0.9 * steer):
        with passes_seen(gpt2, MARK) as seen:
            gpt2.generate(PROMPTS, given, max_new_tokens=NEW)
        assert seen == [(width if step == 0 else 1, due(when, step)) for step in range(NEW)]


@each_when
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_the_same_when_all_sequences_end_early(gpt2: sl.SteerableModel, when: Any, stop: int) -> None:
    steer = edit("resid_post", 0, shift=MARK, when=when)
    width = left_padded(PROMPTS)[0].shape[1]
    with passes_seen(gpt2, MARK) as seen:
        frame = gpt2.generate(PROMPTS, steer, max_new_tokens=12, **ending_after(stop))
    assert seen == [(width if step == 0 else 1, due(when, step)) for step in range(stop)]
    assert frame.n_tokens.tolist() == [stop - 1] * 3  # the EOS is not counted


def ending_after(step: int) -> dict[str, Any]:
    """Options of transformers under which token number `step` is EOS in every row, and none before it."""
    return {"min_new_tokens": step - 1, "exponential_decay_length_penalty": (step - 2, 1e9)}


@each_when
def test_sequences_that_end_at_different_steps(gpt2: sl.SteerableModel, when: Any) -> None:
    steer = edit("resid_post", 1, shift=random(1, D_MODEL, seed=3), when=when)
    tokens = [gpt2.encode(text) for text in greedy(gpt2, PROMPTS, steer, max_new_tokens=8)]
    full = complete(gpt2, PROMPTS, steer, samples=[0, 0, 0], temperature=0, max_new_tokens=8)
    ends = [full[0][2], full[1][4], full[2][1]]
    expected = [ids[: min(ids.index(end) for end in ends if end in ids)] for ids in full]
    assert len({len(ids) for ids in expected}) > 1, tokens
    mark = edit("resid_post", 0, shift=torch.zeros(1, D_MODEL), when=when)
    with passes_seen(gpt2, MARK) as seen:
        frame = gpt2.generate(PROMPTS, steer + mark, temperature=0, max_new_tokens=8, eos_token_id=ends)
    assert frame.n_tokens.tolist() == [len(ids) for ids in expected]
    assert frame.completion.tolist() == [tokenizer().decode(ids) for ids in expected]
    assert len(seen) == max(len(ids) for ids in expected) + 1


# --- frames --------------------------------------------------------------------------------------------------------


def test_a_frame_has_one_row_per_completion(gpt2: sl.SteerableModel) -> None:
    frame = gpt2.generate(PROMPTS, n=2, max_new_tokens=NEW, seed=3)
    assert list(frame.columns) == ["row", "prompt", "sample", "completion", "n_tokens", "seed"]
    assert frame.row.tolist() == [0, 0, 1, 1, 2, 2]
    assert frame["sample"].tolist() == [0, 1] * 3
    assert frame.prompt.tolist() == [prompt for prompt in PROMPTS for _ in range(2)]
    assert set(frame.seed) == {3}
    assert frame.n_tokens.between(0, NEW).all()
    assert all(completion.count("<|endoftext|>") == 0 for completion in frame.completion)


def test_prompts_may_be_ids(gpt2: sl.SteerableModel) -> None:
    ids = [row[pad:] for row, pad in zip(left_padded(PROMPTS)[0], left_padded(PROMPTS)[2], strict=True)]
    frame = gpt2.generate(ids, max_new_tokens=NEW)
    assert frame.completion.tolist() == gpt2.generate(PROMPTS, max_new_tokens=NEW).completion.tolist()
    assert frame.prompt.tolist() == [f"<|endoftext|>{prompt}" for prompt in PROMPTS]


def test_generation_up_to_the_end_of_the_context(gpt2: sl.SteerableModel) -> None:
    ids = torch.randint(1, 8000, (1, CONTEXT - 4), generator=torch.Generator().manual_seed(0))
    assert gpt2.generate(ids, max_new_tokens=5, min_new_tokens=5, seed=1).n_tokens.tolist() == [5]
    with pytest.raises(ValueError, match=f"has {CONTEXT - 4} tokens and 6 new ones: .* context of {CONTEXT}"):
        gpt2.generate(ids, max_new_tokens=6)


# --- sampling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["prompt", "all"])
def test_a_sample_is_the_same_in_any_batch(lm: sl.SteerableModel, when: Any) -> None:
    steer = trial("resid_pre", 1, "shift", when=when)[0]
    options: dict[str, Any] = {"max_new_tokens": NEW, "seed": 7, "frequency_penalty": 0.5, "top_p": 0.9}
    whole = lm.generate(PROMPTS, steer, n=3, **options)
    assert whole.groupby("row").completion.nunique().min() > 1
    for batch_size in (1, 4):
        other = lm.generate(PROMPTS, steer, n=3, batch_size=batch_size, **options)
        pd.testing.assert_frame_equal(other, whole)
    for row, prompt in enumerate(PROMPTS):
        alone = lm.generate(prompt, steer, n=2, **options)
        assert alone.completion.tolist() == whole[whole.row == row].completion.tolist()[:2]
    listed = lm.generate(PROMPTS, [steer, None, 2 * steer], n=3, **options)
    assert listed.completion.tolist()[:3] == whole.completion.tolist()[:3]
    assert listed.completion.tolist()[3:6] == lm.generate(PROMPTS[1], n=3, **options).completion.tolist()


def test_seeds_and_samples_choose_the_noise(gpt2: sl.SteerableModel) -> None:
    first, same, other = (
        gpt2.generate(PROMPTS[0], n=6, seed=s, max_new_tokens=NEW).completion.tolist() for s in (0, 0, 1)
    )
    assert first == same
    assert len({*first, *other}) == 12
    assert gpt2.generate([PROMPTS[0]] * 2, seed=0, max_new_tokens=NEW).completion.nunique() == 1  # the same sample


def p_value(counts: Tensor, probabilities: Tensor) -> float:
    """How likely counts at least this far off would be, were they drawn with these probabilities (chi-square)."""
    expected = probabilities.double() / probabilities.double().sum() * counts.sum()
    return float(stats.chisquare(counts.numpy(), expected.numpy()).pvalue)


def test_a_sample_is_drawn_from_the_models_own_distribution(gpt2: sl.SteerableModel) -> None:
    """First tokens at a temperature, in bins of about an eighth of the probability."""
    logits = gpt2.logits(PROMPTS[0])[0]
    logits[0] = -torch.inf  # EOS cannot come first here
    order = logits.argsort(descending=True)
    options: dict[str, Any] = {"samples": range(400), "max_new_tokens": 1, "min_new_tokens": 1}
    drawn = torch.tensor(complete(gpt2, [PROMPTS[0]] * 400, temperature=0.5, **options)).flatten()
    eighths = ((logits / 0.5).softmax(-1)[order].cumsum(0) * 8).long().clamp(max=7)
    bins = torch.unique_consecutive(eighths, return_inverse=True)[1]
    counts = torch.bincount(bins[order.argsort()[drawn]], minlength=int(bins.max()) + 1)
    assert len(counts) >= 6
    for temperature, fits in ((0.5, True), (0.6, False), (0.4, False)):
        shares = torch.zeros(len(counts)).scatter_add(0, bins, (logits / temperature).softmax(-1)[order])
        assert (p_value(counts, shares) > 0.01) == fits


def test_a_colder_softmax_is_greedier(gpt2: sl.SteerableModel) -> None:
    cold = gpt2.generate(PROMPTS[0], n=20, temperature=1e-4, max_new_tokens=NEW).completion
    assert set(cold) == set(greedy(gpt2, PROMPTS[0]))
    assert gpt2.generate(PROMPTS[0], n=20, temperature=1.0, max_new_tokens=NEW).completion.nunique() > 15


# --- the frequency penalty -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [1.5, -1.5])
def test_frequency_penalty_in_generation_step_by_step(gpt2: sl.SteerableModel, penalty: float) -> None:
    rows = [row[pad:].tolist() for row, pad in zip(left_padded(PROMPTS)[0], left_padded(PROMPTS)[2], strict=True)]
    options: dict[str, Any] = {"samples": [0] * 3, "temperature": 0, "max_new_tokens": 6, "min_new_tokens": 6}
    completions = complete(gpt2, PROMPTS, frequency_penalty=penalty, **options)
    for ids, new in zip(rows, completions, strict=True):
        for token in new:
            scores = gpt2.logits(torch.tensor(ids))[0]
            scores = scores - penalty * torch.bincount(torch.tensor(ids), minlength=len(scores))
            scores[0] = -torch.inf  # no EOS
            assert token == int(scores.argmax())
            ids.append(token)
    assert completions != complete(gpt2, PROMPTS, **options)
