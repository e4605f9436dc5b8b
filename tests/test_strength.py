"""Strength in comparable units, against norms and divergences taken by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import steerlab as sl
from steerlab import strength

PROMPTS = ["I went up to my friend and said", "The ship sailed"]


@pytest.fixture(scope="module")
def lm(tiny: Callable[..., sl.SteerableModel]) -> sl.SteerableModel:
    return tiny()


@pytest.fixture(scope="module")
def vector(lm: sl.SteerableModel) -> sl.Intervention:
    return sl.actadd(lm, " weddings", " ", layer=1)


def test_relative_size_of_a_shift_by_hand(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    [(site, edit)] = vector.edits
    assert edit.shift is not None
    stream = lm.activations(PROMPTS, site)
    norms = torch.cat([stream.row(row, site)[1:].norm(dim=-1) for row in range(2)])  # without BOS
    size = strength.relative_size(lm, vector, PROMPTS)
    assert size == {site: pytest.approx((edit.shift[1].norm() / norms.mean()).item(), rel=1e-5)}
    assert strength.relative_size(lm, 3 * vector, PROMPTS)[site] == pytest.approx(3 * size[site], rel=1e-5)


def test_relative_size_of_a_gain(lm: sl.SteerableModel) -> None:
    site = sl.Site("mlp_out", 2)
    half = sl.Intervention({site: sl.Edit(gain=torch.tensor([[0.5]]), when="decode")})
    assert strength.relative_size(lm, half, PROMPTS) == {site: pytest.approx(0.5, rel=1e-5)}


def test_strength_for_size_scales_to_it(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    both = vector + 2 * sl.actadd(lm, " weddings", " ", layer=2)
    beta = strength.strength_for_size(lm, both, 0.7, PROMPTS)
    assert np.mean(list(strength.relative_size(lm, beta * both, PROMPTS).values())) == pytest.approx(0.7, rel=1e-4)


def test_mean_kl_by_hand(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    divergences = strength.mean_kl(lm, vector, [0, 1, 5], PROMPTS)
    for value, c in zip(divergences, [0, 1, 5], strict=True):
        steered, plain = (lm.logits(PROMPTS, steer).log_softmax(-1) for steer in (c * vector, None))
        assert value == pytest.approx((steered.exp() * (steered - plain)).sum(-1).mean().item(), abs=1e-5)
    assert divergences[0] == pytest.approx(0, abs=1e-6) and divergences[2] > divergences[1] > 0


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_strength_for_kl_reaches_the_target_first_there(
    lm: sl.SteerableModel, vector: sl.Intervention, share: float
) -> None:
    target = share * strength.mean_kl(lm, vector, np.geomspace(0.01, 1000, 50).tolist(), PROMPTS).max()
    beta = strength.strength_for_kl(lm, vector, target, PROMPTS)
    assert strength.mean_kl(lm, vector, [beta], PROMPTS)[0] == pytest.approx(target, rel=0.011)
    below = strength.mean_kl(lm, vector, np.geomspace(0.01, 0.98 * beta, 40).tolist(), PROMPTS)
    assert below.max() <= 1.01 * target


def test_refusals(lm: sl.SteerableModel, vector: sl.Intervention) -> None:
    with pytest.raises(ValueError, match="size -1 is out of range"):
        strength.strength_for_size(lm, vector, -1, PROMPTS)
    with pytest.raises(ValueError, match="changes nothing"):
        strength.strength_for_size(lm, 0 * vector, 1, PROMPTS)
    with pytest.raises(ValueError, match="target 0 is out of range"):
        strength.strength_for_kl(lm, vector, 0, PROMPTS)
    with pytest.raises(ValueError, match=r"no strength up to 1000 reaches a KL of 99 nats"):
        strength.strength_for_kl(lm, vector, 99, PROMPTS)
    with pytest.raises(ValueError, match=r"strength 500 has a KL of .* already"):
        strength.strength_for_kl(lm, vector, 1e-6, PROMPTS, bracket=(500, 1000))
    with pytest.raises(ValueError, match="bracket"):
        strength.strength_for_kl(lm, vector, 1, PROMPTS, bracket=(3, 1))
    with pytest.raises(ValueError, match="positions of the intervention"):
        strength.mean_kl(lm, sl.actadd(lm, " a a a a a a a", " ", layer=1), [1], PROMPTS)
