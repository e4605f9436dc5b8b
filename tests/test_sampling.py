"""The noise is a function, and what is drawn with it has the distribution that it should have."""

from inspect import isfunction
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError, jaxtyped
from scipy import stats
from shapes import check
from torch import Tensor
from transformers import LogitsProcessorList, TopPLogitsWarper
from trials import complete, random

import steerlab as sl
from steerlab import sampling
from steerlab.sampling import CANDIDATES, drawn, next_token, penalised, row_keys, uniform

PLAIN = {"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0.0}
VOCABULARY = 1000  # more than there are candidates, so that all ways of drawing are gone


def keys(count: int, seed: int = 0) -> Tensor:
    return row_keys(seed, [[5, 6, 7]] * count, range(count))


def draws(scores: Tensor, count: int, top_p: float = 1.0, seed: int = 0) -> Tensor:
    """How often each token is drawn."""
    return torch.bincount(drawn(scores.expand(count, -1), keys(count, seed), 0, top_p), minlength=len(scores))


def p_value(counts: Tensor, probabilities: Tensor) -> float:
    """Chi-squared test of counts against probabilities, rare tokens taken together."""
    order = probabilities.argsort(descending=True)
    expected = (p := probabilities[order].double()) / p.sum() * counts.sum()
    bins = (expected.cumsum(0) / 10).long().clamp(max=int(expected.sum() / 10) - 1)
    empty = torch.zeros(int(bins.max()) + 1).double()
    summed = [empty.scatter_add(0, bins, numbers) for numbers in (counts[order].double(), expected)]
    kept = summed[1] > 0
    if kept.sum() == 1:
        return 1.0
    return float(stats.chisquare(summed[0][kept], summed[1][kept]).pvalue)


def nucleus(scores: Tensor, top_p: float) -> Tensor:
    """Probabilities that transformers samples from."""
    if top_p == 1:
        return scores.softmax(-1)
    return TopPLogitsWarper(top_p)(torch.zeros(1, 1), scores[None])[0].softmax(-1)


def test_shapes_are_those_of_the_annotations(gpt2: sl.SteerableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked here for this module, as tests/conftest.py does for the rest of the core in every test."""
    for name, value in list(vars(sampling).items()):
        if isfunction(value) and value.__module__ == sampling.__name__:
            monkeypatch.setattr(sampling, name, jaxtyped(typechecker=check)(value))
    monkeypatch.setattr(sampling.Draw, "__call__", jaxtyped(typechecker=check)(sampling.Draw.__call__))
    own = sampling.row_keys(0, [[1, 2], [1]], [0, 1])
    with pytest.raises(TypeCheckError):
        sampling.uniform(own, 0, torch.arange(3))
    whole = []
    look = sampling.drawn_whole
    monkeypatch.setattr(sampling, "drawn_whole", lambda *args: whole.append(look(*args)) or whole[-1])
    for options in ({"temperature": 0.0}, {"temperature": 2.0}, {"top_p": 0.9, "frequency_penalty": 1.0}):
        frame = gpt2.generate(["A wedding", "He said that it was"], n=3, max_new_tokens=4, **options)
        assert len(frame) == 6
    assert whole  # the way of drawing that few rows go


# --- noise -------------------------------------------------------------------------------------------------------


def test_noise_is_a_function_of_its_counter_alone() -> None:
    tokens = torch.arange(50)
    whole = uniform(keys(4)[:, None], 3, tokens)
    assert torch.equal(uniform(keys(4)[2:3, None], 3, tokens[[7, 41]]), whole[2:3][:, [7, 41]])
    assert ((whole > 0) & (whole < 1)).all()
    others = [uniform(keys(4)[:, None], 4, tokens), uniform(keys(4, seed=1)[:, None], 3, tokens)]
    assert all(not torch.isclose(whole, other).any() for other in others)


def test_noise_is_that_of_splitmix() -> None:
    """Against Python's own integers: kept completions are found again only while the noise stays."""
    noise = uniform(torch.tensor([0, -5]), 0, torch.tensor([0, 9]))
    assert noise.tolist() == [by_hand(0, 0, 0), by_hand(-5, 0, 9)]


def splitmix(state: int) -> int:
    """SplitMix64's next output in Python's own integers."""
    mask = 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def by_hand(key: int, step: int, token: int) -> float:
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    inner = splitmix((key + (step + 1) * golden) & mask)
    return ((splitmix((inner + (token + 3) * golden) & mask) >> 11) + 0.5) * 2.0**-53


@pytest.mark.parametrize("axis", ["key", "step", "token"])
def test_noise_is_uniform_and_uncorrelated_along_every_counter(axis: str) -> None:
    count, tokens, own = 20000, torch.zeros(1, dtype=torch.long), keys(1)
    numbers = {
        "key": lambda: uniform(keys(count), 0, tokens),
        "step": lambda: torch.cat([uniform(own, step, tokens) for step in range(count)]),
        "token": lambda: uniform(own, 0, torch.arange(count)),
    }[axis]()
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 0.01
    for lag in (1, 2, 7):
        assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < 4 / np.sqrt(count)


def test_keys_differ_by_seed_prompt_and_sample() -> None:
    rows = [[1, 2], [1, 3], [1], [2, 1]]
    keys = [row_keys(seed, rows, [sample] * 4) for seed in range(5) for sample in range(5)]
    assert len(torch.cat(keys).unique()) == 100
    assert torch.equal(row_keys(3, rows[::-1], [1] * 4).flip(0), row_keys(3, rows, [1] * 4))


# --- the draw ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5, 0.1])
def test_draws_have_the_probabilities_of_the_softmax_and_of_transformers_nucleus(width: float, top_p: float) -> None:
    scores = width * random(VOCABULARY, seed=3)
    counts, expected = draws(scores, 3000, top_p), nucleus(scores, top_p)
    assert counts[expected == 0].sum() == 0
    assert p_value(counts, expected) > 0.001
    assert p_value(counts, nucleus(scores / 1.5, top_p)) < 1e-3 or width < 1 or top_p < 0.9


def test_few_tokens_and_forbidden_ones() -> None:
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, -torch.inf])
    assert draws(scores, 4000)[4] == 0
    assert p_value(draws(scores, 4000)[:4], scores[:4].softmax(-1)) > 0.001


def test_sorting_is_left_to_rows_that_need_it_and_changes_no_other() -> None:
    scores = torch.linspace(0.1, 6, 60)[:, None] * random(60, VOCABULARY, seed=4)
    together = drawn(scores, keys(60), 0, 0.9)
    alone = [drawn(scores[i : i + 1], keys(60)[i : i + 1], 0, 0.9) for i in range(60)]
    assert torch.equal(together, torch.cat(alone))


def test_what_no_candidate_wins_is_drawn_from_the_rest() -> None:
    """Of a flat distribution nearly all draws are tokens that are no candidates."""
    counts = draws(torch.zeros(VOCABULARY), 6000)
    assert stats.chisquare(counts.numpy()).pvalue > 0.001
    assert CANDIDATES < VOCABULARY / 4


def test_steered_and_unsteered_draws_share_their_noise() -> None:
    """A small change of the logits changes few draws; independent noise would change most."""
    scores = 2 * random(VOCABULARY, seed=5)
    near = scores + 0.02 * random(VOCABULARY, seed=6)
    same = drawn(scores.expand(2000, -1), keys(2000), 0, 1.0) == drawn(near.expand(2000, -1), keys(2000), 0, 1.0)
    other = drawn(scores.expand(2000, -1), keys(2000), 0, 1.0) == drawn(near.expand(2000, -1), keys(2000, 1), 0, 1.0)
    assert same.float().mean() > 0.75
    assert other.float().mean() < 0.2


def test_penalty_subtracts_its_count_times() -> None:
    ids = torch.tensor([[0, 0, 3, 1, 3], [2, 1, 1, 1, 0]])
    scores = random(2, 5)
    counts = torch.tensor([[0.0, 1, 0, 2, 0], [1.0, 3, 1, 0, 0]])  # the two on the left of the first row are padding
    torch.testing.assert_close(penalised(scores, ids, torch.tensor([2, 0]), 1.5), scores - 1.5 * counts)
    counts[0, 0] = 2
    torch.testing.assert_close(penalised(scores, ids, None, 1.5), scores - 1.5 * counts)


def test_temperature_comes_before_the_penalty_and_both_before_the_nucleus() -> None:
    scores, ids = 3 * random(1, 40), torch.tensor([[3, 3, 8]])
    settings = {"temperature": 0.5, "top_p": 0.4, "frequency_penalty": 1.0}
    rows = [next_token(scores, ids, None, keys(400)[i : i + 1], 0, settings) for i in range(400)]
    expected = nucleus(penalised(scores / 0.5, ids, None, 1.0)[0], 0.4)
    assert p_value(torch.bincount(torch.cat(rows), minlength=40), expected) > 0.001


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_numbers_that_are_none_are_refused(bad: float, temperature: float) -> None:
    scores = random(2, 300)
    scores[1, 7] = bad
    with pytest.raises(ValueError, match=r"not finite .* bfloat16 or float32"):
        next_token(scores, torch.zeros(2, 1).long(), None, keys(2), 0, PLAIN | {"temperature": temperature})


# --- in a model ----------------------------------------------------------------------------------------------------


def test_prompts_are_drawn_independently() -> None:
    """Over seeds, a share over prompts varies as independent draws do; with one noise for all it varied 12 times."""
    lm = sl.load()
    names = ["man", "woman", "boy", "girl", "captain", "doctor", "lady", "priest", "king", "soldier"]
    prompts = [f"The {name} {verb}" for name in names for verb in ("said to me", "went away", "sat down", "came home")]
    comma = lm.encode(",")[0]
    p = lm.logits(prompts).softmax(-1)[:, comma]
    options: dict[str, Any] = {"max_new_tokens": 1, "batch_size": 40}
    shares = [lm.generate(prompts, seed=s, **options).completion.eq(",").mean() for s in range(60)]
    ratio = np.var(shares) / (float((p * (1 - p)).sum()) / len(prompts) ** 2)
    assert 0.5 < ratio < 1.8  # 60 degrees of freedom: 0.6 to 1.5 in 99 % of runs


def test_a_prompt_keeps_its_noise_in_every_order_and_with_options(gpt2: sl.SteerableModel) -> None:
    """Options of transformers take another way through generation (no shared prompt), which must not change draws."""
    prompts = ["He said no", "The wedding was very fine", "I went up"]
    options: dict[str, Any] = {"n": 3, "max_new_tokens": 6, "seed": 4}
    whole = gpt2.generate(prompts, **options)
    turned = gpt2.generate(prompts[::-1], **options)
    for i, prompt in enumerate(prompts):
        own = whole[whole.row == i].completion.tolist()
        assert turned[turned.row == 2 - i].completion.tolist() == own
        assert gpt2.generate(prompt, **options).completion.tolist() == own
    unshared = gpt2.generate(prompts, **options, repetition_penalty=1.0)
    assert unshared.completion.tolist() == whole.completion.tolist()


def test_first_tokens_are_the_models_own(gpt2: sl.SteerableModel) -> None:
    prompt, count = "The wedding was very fine", 600
    scores = gpt2.logits(prompt)[0]
    scores[0] = -torch.inf
    new = complete(gpt2, [prompt] * count, samples=range(count), max_new_tokens=1, min_new_tokens=1)
    counts = torch.bincount(torch.tensor(new).flatten(), minlength=len(scores))
    assert p_value(counts, scores.softmax(-1)) > 0.001


@torch.no_grad()
def test_the_distribution_is_that_of_transformers_own_sampling(gpt2: sl.SteerableModel) -> None:
    """Second tokens, which follow different first ones, of our samples and of transformers'."""
    prompt, count = "He said no", 1500
    ids = gpt2.batch([prompt] * count).ids
    torch.manual_seed(0)
    warp = LogitsProcessorList([TopPLogitsWarper(0.9)])
    theirs = gpt2.hf.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=2, min_new_tokens=2,
        logits_processor=warp, pad_token_id=0,
    )[:, -1]  # fmt: skip
    ours = complete(gpt2, [prompt] * count, samples=range(count), top_p=0.9, max_new_tokens=2, min_new_tokens=2)
    mine = torch.tensor(ours)[:, -1]
    table = torch.stack([torch.bincount(tokens % 40, minlength=40) for tokens in (theirs, mine)]).numpy()
    assert stats.chi2_contingency(table).pvalue > 0.001
