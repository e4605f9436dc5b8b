"""Activation addition, against the algorithm as released, written with plain PyTorch hooks."""

import re
from typing import Any

import pandas as pd
import pytest
import torch
from families import FAMILIES, N_LAYERS, bare, steerable, tokenizer
from reference import activation_addition, read_by_hand
from trials import complete, edit, random, trial

import steerlab as sl

LONG = "I went up to my friend and said that it had all been a mistake"
PAIRS = [
    (" weddings", " "),
    (" weddings", ""),
    (" I love to talk about weddings", " hate"),
    (" hate", " love and hate"),
]
NEW = 5


def shift(intervention: sl.Intervention) -> torch.Tensor:
    (_, edit), *rest = intervention.edits
    assert not rest
    assert list(edit.tensors) == ["shift"]
    return edit.tensors["shift"]


def ids(text: str) -> list[int]:
    return [0, *tokenizer().encode(text, add_special_tokens=False)]


def test_the_space_is_one_token() -> None:
    assert len(ids(" ")) == 2


# --- as released ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("plus", "minus"), PAIRS)
def test_logits_and_generation_equal_the_released_algorithm(
    family: str, lm: sl.SteerableModel, plus: str, minus: str
) -> None:
    model: Any = bare(family)
    tokens = torch.tensor([ids(LONG)])
    for layer, c in ((0, 3.0), (1, 5.0), (N_LAYERS - 1, -2.0)):
        steer = c * sl.actadd(lm, plus, minus, layer=layer)
        with activation_addition(model, family, plus, minus, layer, c), torch.no_grad():
            expected = model(tokens).logits
            written = model.generate(tokens, do_sample=False, max_new_tokens=NEW, min_new_tokens=NEW)
        torch.testing.assert_close(lm.logits(LONG, steer, position="all"), expected, rtol=1e-4, atol=1e-4)
        generated = complete(lm, LONG, steer, samples=[0], temperature=0, max_new_tokens=NEW, min_new_tokens=NEW)
        assert generated == written[:, tokens.shape[1] :].tolist()
        assert (expected - bare(family)(tokens).logits).abs().max() > 0.05


@pytest.mark.parametrize(("plus", "minus"), PAIRS)
def test_the_shorter_prompt_is_padded_on_the_right_with_spaces(
    family: str, lm: sl.SteerableModel, plus: str, minus: str
) -> None:
    rows, space = [ids(plus), ids(minus)], ids(" ")[1]
    longest = max(map(len, rows))
    both = [torch.tensor(row + [space] * (longest - len(row))) for row in rows]
    states = read_by_hand(bare(family), family, both, "resid_pre", 1)  # type: ignore[arg-type]
    vector = shift(sl.actadd(lm, plus, minus, layer=1))
    torch.testing.assert_close(vector, states[0] - states[1], rtol=1e-4, atol=1e-5)
    assert vector.shape == (longest, lm.d_model)


def test_the_vector_at_bos_is_zero(lm: sl.SteerableModel) -> None:
    for layer in range(N_LAYERS):
        vector = shift(sl.actadd(lm, " I love to talk about weddings", " I hate", layer=layer))
        assert not vector[0].any()
        assert vector[1:].norm(dim=-1).max() > 0.5


def test_a_batch_is_steered_like_each_prompt_alone(lm: sl.SteerableModel) -> None:
    prompts = [LONG, "He said no and went", "The wedding was fine and so was the ship"]
    wedding = 4 * sl.actadd(lm, " weddings", " ", layer=1)
    steers = [wedding, -1 * wedding, sl.actadd(lm, " I love", " hate", layer=2)]
    together = lm.logits(prompts, steers)
    for row, (prompt, steer) in enumerate(zip(prompts, steers, strict=True)):
        torch.testing.assert_close(together[row], lm.logits(prompt, steer)[0], rtol=1e-4, atol=1e-4)


def test_the_sign_of_the_pair_is_the_sign_of_the_strength(gpt2: sl.SteerableModel) -> None:
    love, hate = sl.actadd(gpt2, " love", " hate", layer=1), sl.actadd(gpt2, " hate", " love", layer=1)
    assert torch.equal(shift(love), shift(-hate))
    assert torch.equal(shift(sl.actadd(gpt2, " love", " hate", layer=1, coefficient=-2.5)), shift(-2.5 * love))


def test_the_vector_is_kept_in_full_precision() -> None:
    lm, site = steerable("llama", torch.bfloat16), sl.Site("resid_pre", 1)
    plus = ids(" weddings")
    states = lm.activations(torch.tensor([plus, [0] + ids(" ")[1:] * (len(plus) - 1)]), site)[site]
    vector = shift(sl.actadd(lm, " weddings", " ", layer=1))
    assert vector.dtype == torch.float32
    assert torch.equal(vector, states[0].float() - states[1].float())
    assert not torch.equal(vector, (states[0] - states[1]).float())


# --- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", sl.PLACES)
def test_other_places(family: str, lm: sl.SteerableModel, place: Any) -> None:
    states = read_by_hand(bare(family), family, [" love", " hate"], place, 1)
    steer = sl.actadd(lm, " love", " hate", layer=1, place=place)
    assert steer.sites == (sl.Site(place, 1),)
    torch.testing.assert_close(shift(steer), states[0] - states[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", ["front", "back"])
def test_front_and_back_of_the_prompt(lm: sl.SteerableModel, position: Any) -> None:
    site = sl.Site("resid_pre", 1)
    steer = sl.actadd(lm, " I love to talk", " hate", layer=1, position=position)
    count = len(shift(steer))
    plain, steered = (lm.activations(LONG, site, given)[site][0] for given in (None, steer))
    expected = torch.zeros_like(plain)
    if position == "front":
        expected[:count] = shift(steer)
    else:
        expected[-count:] = shift(steer)
    torch.testing.assert_close(steered - plain, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("when", ["prompt", "decode", "all"])
def test_a_single_vector_is_added_everywhere(lm: sl.SteerableModel, when: Any) -> None:
    site = sl.Site("resid_pre", 1)
    near, far = (lm.activations(text, site)[site][0] for text in (" I love to talk", " hate"))
    mean = sl.actadd(lm, " I love to talk", " hate", layer=1, vector="mean", when=when)
    last = sl.actadd(lm, " I love to talk", " hate", layer=1, vector="last", when=when)
    torch.testing.assert_close(shift(mean)[0], near[1:].mean(0) - far[1:].mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shift(last)[0], near[-1] - far[-1], rtol=1e-4, atol=1e-4)
    for steer in (mean, last):
        ((_, edit),) = steer.edits
        assert (edit.anchor, edit.when) == ("all", when)
    site = sl.Site("resid_pre", 1)
    plain, steered = (lm.activations(LONG, site, given)[site] for given in (None, mean))
    moved = shift(mean).expand_as(plain) if when != "decode" else torch.zeros_like(plain)
    torch.testing.assert_close(steered - plain, moved, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("vector", ["positions", "mean", "last"])
def test_pairs_give_the_mean_of_their_vectors(lm: sl.SteerableModel, vector: Any) -> None:
    plus, minus = [" love", " joy", " peace"], [" hate", " war", " anger"]
    if vector != "positions":  # whose pairs have one length
        plus[0] = " I love to talk"
    together = shift(sl.actadd(lm, plus, minus, layer=2, vector=vector))
    alone = [shift(sl.actadd(lm, *pair, layer=2, vector=vector)) for pair in zip(plus, minus, strict=True)]
    torch.testing.assert_close(together, torch.stack(alone).mean(0), rtol=1e-4, atol=1e-4)
    against_one = shift(sl.actadd(lm, pd.Series(plus), " hate", layer=2, vector=vector))
    alone = [shift(sl.actadd(lm, text, " hate", layer=2, vector=vector)) for text in plus]
    torch.testing.assert_close(against_one, torch.stack(alone).mean(0), rtol=1e-4, atol=1e-4)


def test_more_pairs_than_a_pass_takes(gpt2: sl.SteerableModel) -> None:
    numbers = [f" {i} and a wedding" for i in range(40)]
    together = shift(sl.actadd(gpt2, numbers, " hate", layer=1, vector="last"))
    alone = [shift(sl.actadd(gpt2, text, " hate", layer=1, vector="last")) for text in numbers]
    torch.testing.assert_close(together, torch.stack(alone).mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("plus", "minus", "options", "says"),
    [
        ([" love", " joy"], [" hate", " war", " anger"], {}, "2 prompts to move towards and 3 to move away from"),
        ([], " hate", {}, "0 prompts to move towards"),
        ([" love", " I love to talk"], [" hate", " war"], {}, "the pairs have 2 to 5 tokens: vector='positions' takes"),
        ([" love", " joy"], [" hate", " joy"], {"vector": "last"}, "' joy': their difference is zero"),
        (" love", "", {"vector": "mean"}, "has no token of its own: vector='mean' needs one"),
    ],
)
def test_pairs_that_do_not_fit(gpt2: sl.SteerableModel, plus: Any, minus: Any, options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        sl.actadd(gpt2, plus, minus, layer=1, **options)


def test_it_says_where_it_comes_from(gpt2: sl.SteerableModel) -> None:
    info = sl.actadd(gpt2, " love", " hate", layer=2, coefficient=1.5).info
    assert info["method"] == "actadd"
    assert info["prompts"] == {"plus": " love", "minus": " hate", "coefficient": 1.5}
    assert info["site"] == "resid_pre.2"
    assert info["model"] == gpt2.name


# --- room for the vector -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plus", [" weddings", " I love to talk about weddings", "Dear friend"])
def test_at_layer_0_with_room_it_equals_prompting(family: str, lm: sl.SteerableModel, plus: str) -> None:
    """Embeddings add up: (p₊ − spaces) over as many spaces is p₊, where positions are learned vectors too."""
    steer = sl.actadd(lm, plus, "", layer=0)
    prompted = torch.tensor(ids(plus) + ids(LONG)[1:])
    (room,) = sl.make_room(lm, LONG, steer)
    assert room.shape == prompted.shape
    actual, expected = lm.logits(room, steer, position="all"), lm.logits(prompted, position="all")
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert (actual - lm.logits(room, position="all"))[0, -1].abs().max() > 1e-3
    options: dict[str, Any] = {"samples": [0], "temperature": 0, "max_new_tokens": NEW, "min_new_tokens": NEW}
    assert complete(lm, room, steer, **options) == complete(lm, prompted, **options)


def test_that_equality_is_tested_with_learned_positions_and_without() -> None:
    assert {family.learned for family in FAMILIES.values()} == {True, False}


def test_room_is_made_behind_bos(gpt2: sl.SteerableModel) -> None:
    space = ids(" ")[1]
    prompts = [LONG, "He said no"]
    for spaces in (0, 3):
        rows = sl.make_room(gpt2, prompts, spaces)
        assert [row.tolist() for row in rows] == [[0, *[space] * spaces, *ids(prompt)[1:]] for prompt in prompts]
    steer = sl.actadd(gpt2, " I love to talk", " hate", layer=1)
    assert sl.make_room(gpt2, LONG, steer)[0].tolist() == sl.make_room(gpt2, LONG, len(shift(steer)) - 1)[0].tolist()
    single = sl.actadd(gpt2, " love", " hate", layer=1, vector="mean")
    assert sl.make_room(gpt2, LONG, single)[0].tolist() == ids(LONG)  # it overlays no token in particular


def test_room_is_made_in_ids_too(gpt2: sl.SteerableModel) -> None:
    rows = [torch.tensor(ids(LONG)), torch.tensor(ids("He said no"))]
    expected = [row.tolist() for row in sl.make_room(gpt2, [LONG, "He said no"], 2)]
    assert [row.tolist() for row in sl.make_room(gpt2, rows, 2)] == expected
    assert [row.tolist() for row in sl.make_room(gpt2, rows[0], 2)] == expected[:1]


def test_a_padded_prompt_of_another_place_still_fits(gpt2: sl.SteerableModel) -> None:
    """Rows with room, of different lengths: each is steered as alone."""
    steer = sl.actadd(gpt2, " I love to talk", " hate", layer=1)
    rooms = sl.make_room(gpt2, [LONG, "No"], steer)
    together = gpt2.logits(rooms, steer)
    for row, room in enumerate(rooms):
        torch.testing.assert_close(together[row], gpt2.logits(room, steer)[0], rtol=1e-4, atol=1e-4)


# --- the random control --------------------------------------------------------------------------------------------


def test_a_random_vector_keeps_the_norm_of_each_row(lm: sl.SteerableModel) -> None:
    real = sl.actadd(lm, " I love to talk about weddings", " hate", layer=1)
    control = sl.random_like(real, seed=3)
    torch.testing.assert_close(shift(control).norm(dim=-1), shift(real).norm(dim=-1), rtol=1e-5, atol=1e-5)
    assert not shift(control)[0].any()
    assert control.norm() == pytest.approx(real.norm(), rel=1e-5)
    cosines = torch.cosine_similarity(shift(control)[1:], shift(real)[1:], dim=-1)
    assert cosines.abs().max() < 0.75  # 32 dimensions: 0.18 is the standard deviation
    assert control.info["method"] == "random"
    assert control.info["seed"] == 3
    assert control.info["prompts"] == real.info["prompts"]


def test_random_vectors_differ_by_seed_alone(gpt2: sl.SteerableModel) -> None:
    real = sl.actadd(gpt2, " love", " hate", layer=1)
    assert torch.equal(shift(sl.random_like(real, 1)), shift(sl.random_like(real, 1)))
    assert not torch.equal(shift(sl.random_like(real, 1)), shift(sl.random_like(real, 2)))


def test_a_random_control_of_any_intervention(gpt2: sl.SteerableModel) -> None:
    real = trial("attn_out", 1, "all three", when="all")[0] + edit("mlp_out", 0, gain=random(3, 1), anchor="back")
    control = sl.random_like(real, seed=7)
    assert [(site, e.kind) for site, e in control.edits] == [(site, e.kind) for site, e in real.edits]
    for (_, mine), (_, theirs) in zip(control.edits, real.edits, strict=True):
        for name, tensor in mine.tensors.items():
            torch.testing.assert_close(tensor.norm(dim=-1), theirs.tensors[name].norm(dim=-1))
            assert not torch.equal(tensor, theirs.tensors[name])


def test_directions_of_random_vectors_are_isotropic() -> None:
    real = edit("resid_pre", 0, shift=torch.ones(2000, 4), anchor="front")
    drawn = shift(sl.random_like(real))
    assert drawn.mean(0).abs().max() < 0.1  # standard deviation 0.022
    torch.testing.assert_close(drawn.T @ drawn / 2000, torch.eye(4), rtol=0, atol=0.15)
