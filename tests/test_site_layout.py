"""Names of places, and how a model's parts are found."""

from typing import Any

import pytest
import torch
import transformers
from families import CONTEXT, D_MODEL, FAMILIES, bare, tokenizer

import steerlab as sl
from steerlab.layout import LAYOUTS, find_layout


def test_sites_sort_in_the_order_of_the_forward_pass() -> None:
    names = ["resid_pre.0", "attn_out.0", "mlp_out.0", "resid_post.0", "resid_pre.1", "attn_out.1", "resid_pre.10"]
    assert [str(site) for site in sorted(map(sl.Site.parse, reversed(names)))] == names


@pytest.mark.parametrize("place", sl.PLACES)
def test_a_site_is_written_and_read(place: Any) -> None:
    for layer in (0, 7, 123):
        assert sl.Site.parse(str(sl.Site(place, layer))) == sl.Site(place, layer)
        assert str(sl.Site(place, layer)) == f"{place}.{layer}"


@pytest.mark.parametrize("text", ["", "resid_pre", "resid_pre.", ".3", "resid_pre.x", "resid_pre.-1", "resid.3", "3"])
def test_what_is_no_site_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no site|is unknown: choose one of resid_pre, attn_out, mlp_out, resid_post"):
        sl.Site.parse(text)


def test_a_site_names_what_no_model_has() -> None:
    with pytest.raises(ValueError, match="place 'resid_mid' is unknown: choose one of resid_pre, attn_out"):
        sl.Site("resid_mid", 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer -1 is negative: layers count from 0"):
        sl.Site("resid_pre", -1)
    with pytest.raises(TypeError, match=r"layer 1\.5 is no whole number"):
        sl.Site("resid_pre", 1.5)  # type: ignore[arg-type]


def test_the_layout_leads_to_the_parts(family: str) -> None:
    model, known = bare(family), FAMILIES[family]
    layout = find_layout(model)
    blocks = model.get_submodule(layout.blocks)
    assert blocks == model.get_submodule(known.blocks)
    for block in blocks.children():
        assert block.get_submodule(layout.attn or "") is block.get_submodule(known.attn)
        assert block.get_submodule(layout.mlp or "") is block.get_submodule(known.mlp)


# --- families beyond the matrix: each is made once, and held against plain hooks --------------------------------------


@pytest.mark.parametrize("name", MORE)
def test_a_family_agrees_with_plain_hooks(name: str) -> None:
    model, lm, places = bare(name), steerable(name), MORE[name].places
    batch = lm.batch(UNEVEN)
    seen = by_hooks(model, name, batch)
    sites = [sl.Site(place, layer) for layer in range(N_LAYERS) for place in places]
    kept = lm.activations(UNEVEN, sites)
    with torch.no_grad():
        torch.testing.assert_close(
            lm.logits(UNEVEN), model(batch.ids, attention_mask=batch.mask).logits[:, -1], rtol=0, atol=1e-4
        )
    for site in sites:
        for row, length in enumerate(batch.lengths):
            torch.testing.assert_close(kept.row(row, site), seen[site][row, -length:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MORE)
def test_a_row_of_a_padded_batch_is_the_prompt_alone(name: str) -> None:
    lm = steerable(name)
    both = lm.logits(UNEVEN)
    for row, prompt in enumerate(UNEVEN):
        torch.testing.assert_close(both[row], lm.logits(prompt)[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("when", ["prompt", "decode", "all"])
@pytest.mark.parametrize("name", MORE)
def test_a_family_generates_as_with_a_hook(name: str, when: Any) -> None:
    model, lm = fresh(name), steerable(name)
    shift = 2 * torch.randn(1, D_MODEL, generator=torch.Generator().manual_seed(1))
    steer = sl.Intervention(((sl.Site("resid_post", 1), sl.Edit(shift=shift, anchor="all", when=when)),))
    passes: list[int] = []

    def add(module: nn.Module, args: Any, output: Any) -> Any:
        passes.append(1)
        if when not in ("all", "prompt" if len(passes) == 1 else "decode"):
            return None
        return (output[0] + shift, *output[1:]) if isinstance(output, tuple) else output + shift

    model.get_submodule(MORE[name].blocks)[1].register_forward_hook(add)  # type: ignore[index]
    ids = torch.tensor([lm.ids(UNEVEN[1])])
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, min_new_tokens=4, do_sample=False)
    new = lm.complete(UNEVEN[1], steer, samples=[0], temperature=0, max_new_tokens=4, min_new_tokens=4)[0]
    assert new == expected[0, ids.shape[1] :].tolist()
