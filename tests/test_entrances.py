"""The stream that enters a block is read and edited as the output of what comes before it."""

import pytest
import torch
from families import FAMILIES, bare, steerable
from torch import Tensor

import steerlab as sl
from steerlab import Site
from steerlab.layout import ENTRANCES, find_entrance


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() & ENTRANCES.keys()))
def test_an_entrance_gives_what_the_first_block_takes(family: str) -> None:
    hf, seen = bare(family), {}
    path = find_entrance(hf, family)
    assert path is not None

    def entered(module: torch.nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        seen["block"] = given[0] if given else named["hidden_states"]

    handles = [
        hf.get_submodule(f"{FAMILIES[family].blocks}.0").register_forward_pre_hook(entered, with_kwargs=True),
        hf.get_submodule(path).register_forward_hook(lambda module, given, output: seen.update(entrance=output)),
    ]
    hf(torch.tensor([[3, 4, 5]]))
    for handle in handles:
        handle.remove()
    assert torch.equal(seen["block"], seen["entrance"])


def test_a_scale_that_comes_after_the_embedding_is_no_entrance() -> None:
    model = torch.nn.Module()
    model.model = torch.nn.Module()
    model.model.embed_tokens = torch.nn.Embedding(2, 2)  # as in transformers before 5.22
    assert find_entrance(model, "gemma2") is None
    assert find_entrance(bare("opt"), "opt") is None


def test_edits_on_both_sides_of_a_border_between_blocks_add(lm: sl.SteerableModel) -> None:
    shift = torch.randn(1, lm.d_model, generator=torch.Generator().manual_seed(0))

    def push(place: sl.Place, layer: int, times: float) -> tuple[Site, sl.Edit]:
        return Site(place, layer), sl.Edit(shift=times * shift, when="all")

    both = sl.Intervention((push("resid_pre", 1, 1), push("resid_post", 0, 2)))
    once = sl.Intervention((push("resid_post", 0, 3),))
    prompts = ["Hello there", "He"]
    torch.testing.assert_close(lm.logits(prompts, both), lm.logits(prompts, once), rtol=1e-4, atol=1e-4)
    entering, leaving = Site("resid_pre", 1), Site("resid_post", 0)
    seen = lm.activations(prompts, [entering, leaving], both)
    torch.testing.assert_close(seen[entering] - seen[leaving], shift.expand_as(seen[leaving]), rtol=1e-4, atol=1e-4)


def test_a_gradient_flows_through_the_entrance() -> None:
    lm = steerable("llama")
    shift = torch.zeros(1, lm.d_model, requires_grad=True)
    lm.logits("He", sl.Intervention(((Site("resid_pre", 0), sl.Edit(shift=shift)),))).sum().backward()
    assert shift.grad is not None and bool(shift.grad.abs().sum() > 0)
