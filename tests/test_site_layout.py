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
    for layer in (0, 7, 123, -1, -12):
        assert sl.Site.parse(str(sl.Site(place, layer))) == sl.Site(place, layer)
        assert str(sl.Site(place, layer)) == f"{place}.{layer}"


@pytest.mark.parametrize("text", ["", "resid_pre", "resid_pre.", ".3", "resid_pre.x", "resid_pre.--1", "resid.3", "3"])
def test_what_is_no_site_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no site|is unknown: choose one of resid_pre, attn_out, mlp_out, resid_post"):
        sl.Site.parse(text)


def test_a_site_names_what_no_model_has() -> None:
    with pytest.raises(ValueError, match="place 'resid_mid' is unknown: choose one of resid_pre, attn_out"):
        sl.Site("resid_mid", 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"layer 1\.5 is no whole number"):
        sl.Site("resid_pre", 1.5)  # type: ignore[arg-type]


def test_the_table_leads_to_the_parts(family: str) -> None:
    model, known = bare(family), FAMILIES[family]
    found = find_layout(model, model.config.model_type)
    blocks = model.get_submodule(found.blocks)
    assert blocks == model.get_submodule(known.blocks)
    for block in blocks.children():
        assert block.get_submodule(found.attn) is block.get_submodule(known.attn)
        assert block.get_submodule(found.mlp) is block.get_submodule(known.mlp)


def stablelm() -> transformers.PreTrainedModel:
    """A model whose family is not in the table."""
    assert "stablelm" not in LAYOUTS
    config = transformers.StableLmConfig(
        vocab_size=len(tokenizer()),
        hidden_size=D_MODEL,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    return transformers.StableLmForCausalLM(config)


def test_an_unknown_family_says_what_was_looked_for_and_how_to_pass_a_layout() -> None:
    with pytest.raises(ValueError, match="stablelm") as caught:
        sl.load(stablelm(), tokenizer=tokenizer())
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in LAYOUTS)
    assert "pass layout=Layout(blocks=..., attn=..., mlp=...)" in message
    assert message.endswith("lists of blocks in this model: model.layers")


def test_a_layout_makes_an_unknown_family_steerable() -> None:
    model, site = stablelm(), sl.Site("attn_out", 1)
    lm = sl.load(model, tokenizer=tokenizer(), layout=sl.Layout("model.layers", "self_attn", "mlp"))
    sites = [sl.Site(place, 1) for place in sl.PLACES]
    found = lm.activations("The wedding was fine", sites)
    pre, attn, mlp, post = (found[each] for each in sites)
    torch.testing.assert_close(pre + attn + mlp, post, rtol=0, atol=1e-5)
    steer = sl.Intervention({site: sl.Edit(gain=torch.full((1, 1), -1.0))})
    assert not lm.activations("The wedding was fine", site, steer)[site].any()


@pytest.mark.parametrize(
    ("layout", "missing"),
    [
        (sl.Layout("model.blocks", "self_attn", "mlp"), "model.blocks"),
        (sl.Layout("model.layers", "attn", "mlp"), "model.layers.0.attn"),
        (sl.Layout("model.layers", "self_attn", "ffn"), "model.layers.0.ffn"),
        (sl.Layout("model", "self_attn", "mlp"), "model.0.self_attn"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(layout: sl.Layout, missing: str) -> None:
    with pytest.raises(ValueError, match=f"^the layout names '{missing}', which StableLmForCausalLM does not have$"):
        sl.load(stablelm(), tokenizer=tokenizer(), layout=layout)


def test_a_layout_of_the_users_goes_before_the_table() -> None:
    model = bare("gemma2")
    plain = sl.Layout("model.layers", "self_attn", "mlp")  # before the post-norms
    assert find_layout(model, "gemma2", plain) is plain
