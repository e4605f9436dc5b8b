"""Interventions add and scale like vectors, and come back from a file as they were."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from families import D_MODEL, steerable
from trials import edit, random, tensors, trial

import steerlab as sl

PROMPTS = ["The wedding was very fine", "I went up to my friend and said that it had all been a mistake", "He said no"]
PLACES = [sl.Site("resid_pre", 1), sl.Site("attn_out", 1), sl.Site("resid_post", 2)]


def some(seed: int = 0) -> sl.Intervention:
    """Edits of every kind, at three sites."""
    return (
        trial("resid_pre", 1, "shift", where="front", positions=3, seed=seed)[0]
        + trial("resid_pre", 1, "all three", seed=seed + 10)[0]
        + trial("attn_out", 1, "gain", when="all", seed=seed + 20)[0]
        + trial("resid_post", 2, "probe", where="back", seed=seed + 30)[0]
    )


def same(first: sl.Intervention, second: sl.Intervention) -> bool:
    """Bit for bit, whichever the order of the edits."""

    def contents(intervention: sl.Intervention) -> list[Any]:
        fields = [(str(site), e.anchor, e.start, e.when, e) for site, e in intervention.edits]
        return sorted((*head, name, t.shape, t.tolist()) for *head, e in fields for name, t in e.tensors.items())

    return contents(first) == contents(second)


def effect(lm: sl.SteerableModel, steer: sl.Intervention | None) -> torch.Tensor:
    return lm.logits(PROMPTS, steer)


# --- algebra -------------------------------------------------------------------------------------------------------


def test_a_sum_does_not_depend_on_its_order(lm: sl.SteerableModel) -> None:
    a, b = some(0), some(100)
    assert same(a + b, b + a)
    torch.testing.assert_close(effect(lm, a + b), effect(lm, b + a), rtol=1e-3, atol=1e-3)
    assert (effect(lm, a + b) - effect(lm, a)).abs().max() > 0.05
    c = some(200)
    for (_, left), (_, right) in zip((a + (b + c)).edits, ((a + b) + c).edits, strict=True):
        assert left.kind == right.kind
        for name, tensor in left.tensors.items():
            torch.testing.assert_close(tensor, right.tensors[name])


def test_a_sum_makes_both_changes(gpt2: sl.SteerableModel) -> None:
    site = PLACES[0]
    plain = gpt2.activations(PROMPTS, site)[site]

    def change(steer: sl.Intervention) -> torch.Tensor:
        return gpt2.activations(PROMPTS, site, steer)[site] - plain

    parts = [
        edit("resid_pre", 1, anchor="front", **tensors("shift", 3)),
        edit("resid_pre", 1, anchor="front", **tensors("shift", 3, seed=1)),
        edit("resid_pre", 1, **tensors("gain", seed=2)),
        edit("resid_pre", 1, anchor="back", **tensors("all three", seed=3)),
    ]
    total = parts[0] + parts[1] + parts[2] + parts[3]
    assert len(total.edits) == 3  # the first two are of one kind
    torch.testing.assert_close(change(total), sum(map(change, parts), torch.zeros(())), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("c", [2, -0.5, 0, np.float64(3), np.int64(-1), np.float32(0.25)])
def test_scaling(gpt2: sl.SteerableModel, c: Any) -> None:
    a, b = some(0), some(100)
    assert same(c * a, a * c)
    for (site, left), (other, right) in zip((c * (a + b)).edits, (c * a + c * b).edits, strict=True):
        assert (site, left.kind) == (other, right.kind)
        for name, tensor in left.tensors.items():
            torch.testing.assert_close(tensor, right.tensors[name])
    assert same(2 * (c * a), (2 * c) * a)
    shift = edit("resid_pre", 1, **tensors("shift"))
    site = PLACES[0]
    plain, steered = (gpt2.activations(PROMPTS, site, steer)[site] for steer in (None, c * shift))
    torch.testing.assert_close(
        steered - plain, (float(c) * tensors("shift")["shift"]).expand_as(plain), rtol=0, atol=1e-5
    )


def test_opposites_cancel(lm: sl.SteerableModel) -> None:
    a = some()
    assert same(-a, -1 * a)
    assert same(a - some(100), a + -some(100))
    assert torch.equal(effect(lm, a - a), effect(lm, None))
    assert set((a - a).norm().values()) == {0.0}
    opposite = -a
    assert same(-opposite, a)


def test_nothing_is_neutral(gpt2: sl.SteerableModel) -> None:
    a, nothing = some(), sl.Intervention()
    assert same(a + nothing, a)
    assert same(sum([a, some(100)], nothing), a + some(100))
    assert torch.equal(effect(gpt2, nothing), effect(gpt2, None))
    assert gpt2.generate(PROMPTS[0], nothing, max_new_tokens=3).equals(gpt2.generate(PROMPTS[0], max_new_tokens=3))
    assert nothing.sites == ()


@pytest.mark.parametrize(
    "other",
    [
        {"anchor": "back"},
        {"anchor": "front", "start": 1},
        {"anchor": "front", "positions": 2},
        {"when": "all"},
        {"when": "decode"},
    ],
)
def test_edits_of_another_kind_stay_apart(other: dict[str, Any]) -> None:
    positions = other.pop("positions", 1)
    start = {"anchor": "front"} if other.get("anchor") == "front" else {}
    a = edit("resid_pre", 1, **start, **tensors("shift"))
    b = edit("resid_pre", 1, **other, **tensors("shift", positions))
    assert len((a + b).edits) == 2
    assert len((a + a).edits) == 1


def test_a_value_does_not_change() -> None:
    a, b = some(), some(100)
    before = [tensor.clone() for _, e in a.edits for tensor in e.tensors.values()]
    _ = [3 * a, -a, a + b, a - b, b + a, a.norm(), a.cosine(b)]
    assert all(map(torch.equal, before, [tensor for _, e in a.edits for tensor in e.tensors.values()]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.edits = ()  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.edits[0][1].start = 1  # type: ignore[misc]


def test_sites_are_in_the_order_of_the_forward_pass() -> None:
    assert some().sites == tuple(PLACES)
    backwards = edit("resid_post", 2, **tensors("shift")) + edit("resid_pre", 1, **tensors("shift"))
    assert [str(site) for site in backwards.sites] == ["resid_pre.1", "resid_post.2"]


def test_norm_is_the_euclidean_norm_of_a_sites_tensors() -> None:
    three, four = torch.full((1, 1), 3.0), torch.full((1, 1), 4.0)
    a = edit("resid_pre", 1, shift=three) + edit("resid_pre", 1, gain=four) + edit("mlp_out", 0, shift=four, gain=three)
    assert a.norm() == {sl.Site("mlp_out", 0): 5.0, sl.Site("resid_pre", 1): 5.0}
    assert list(a.norm()) == list(a.sites)
    assert (-2 * a).norm() == {sl.Site("mlp_out", 0): 10.0, sl.Site("resid_pre", 1): 10.0}
    shift = random(4, D_MODEL)
    assert edit("resid_pre", 0, shift=shift, anchor="front").norm()[sl.Site("resid_pre", 0)] == pytest.approx(
        math.sqrt(sum(x * x for row in shift.tolist() for x in row))
    )


def test_cosine() -> None:
    a, b = some(0), some(100)
    assert a.cosine(a) == pytest.approx(dict.fromkeys(PLACES, 1.0))
    assert a.cosine(-3 * a) == pytest.approx(dict.fromkeys(PLACES, -1.0))
    assert a.cosine(b) == pytest.approx(b.cosine(a))
    assert a.cosine(7 * b) == pytest.approx(a.cosine(b))
    assert max(abs(value) for value in a.cosine(b).values()) < 0.9
    x, y = (edit("resid_pre", 1, shift=torch.tensor([values])) for values in ([3.0, 4.0], [4.0, -3.0]))
    assert x.cosine(y) == pytest.approx({PLACES[0]: 0.0})
    z = edit("resid_pre", 1, shift=torch.tensor([[4.0, 3.0]])) + edit("mlp_out", 1, shift=torch.tensor([[1.0, 1.0]]))
    assert x.cosine(z) == pytest.approx({PLACES[0]: 0.96})


def test_cosine_of_what_has_nothing_in_common() -> None:
    with pytest.raises(ValueError, match="share no site with the same kind of edit"):
        edit("resid_pre", 1, **tensors("shift")).cosine(edit("resid_pre", 2, **tensors("shift")))
    with pytest.raises(ValueError, match="share no site with the same kind of edit"):
        edit("resid_pre", 1, **tensors("shift")).cosine(edit("resid_pre", 1, **tensors("gain")))


def test_a_sum_tells_where_its_parts_come_from(gpt2: sl.SteerableModel) -> None:
    a, b = sl.actadd(gpt2, " love", " hate", layer=1), sl.actadd(gpt2, " weddings", " ", layer=1)
    info = (a + 2 * b).info
    assert info["method"] == "sum"
    assert [part["prompts"]["plus"] for part in info["parts"]] == [" love", " weddings"]
    assert (info["model"], info["tokenizer"]) == (gpt2.name, gpt2.tokenizer_hash)
    other = sl.actadd(steerable("llama"), " weddings", " ", layer=1)
    assert "model" not in (a + other).info
    assert dict((a + sl.Intervention()).info) == dict(a.info)
