"""Names of places, and how a model's parts are found."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import (
    D_MODEL,
    FAMILIES,
    MORE,
    N_LAYERS,
    STREAM_ONLY,
    WRAPPERS,
    bare,
    fresh,
    settled,
    steerable,
    tokenizer,
)
from reference import Hooked, inputs, left_padded, read_by_hand
from tiers import few
from torch import Tensor
from trials import trial

import steerlab as sl
import steerlab.layout as layout_module
from steerlab import checkpoint
from steerlab.layout import LAYOUTS, find_layout

UNEVEN = ["The wedding was very fine", "I went up to my friend and said that it had all been a mistake", "He said no"]
each_more = pytest.mark.parametrize("name", few(MORE, "gemma3", "mixtral", "codegen"))  # codegen: not in the table


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-3)


def greedy(lm: sl.SteerableModel, steer: Any = None, **length: int) -> list[str]:
    completions: list[str] = lm.generate(UNEVEN, steer, temperature=0, **length).completion.tolist()
    return completions


@torch.no_grad()
def by_hand(model: Any, ids: Tensor) -> list[float]:
    """Log-probabilities of the tokens of one text after its first."""
    scores = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    logprobs: list[float] = scores.gather(1, ids[0, 1:, None])[:, 0].tolist()
    return logprobs


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


def test_the_layout_leads_to_the_parts(family: str) -> None:
    model, known = bare(family), FAMILIES[family]
    layout = find_layout(model)
    blocks = model.get_submodule(layout.blocks)
    assert blocks == model.get_submodule(known.blocks)
    for block in blocks.children():
        assert block.get_submodule(layout.attn or "") is block.get_submodule(known.attn)
        assert block.get_submodule(layout.mlp or "") is block.get_submodule(known.mlp)


@each_more
def test_a_layout_is_found_alike_without_the_table(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = find_layout(bare(name))
    monkeypatch.setattr(layout_module, "LAYOUTS", {})
    assert find_layout(bare(name)) == listed == sl.Layout(MORE[name].blocks, MORE[name].attn, MORE[name].mlp)


# --- families beyond the matrix: each is held against plain hooks -----------------------------------------------------


@each_more
def test_a_family_agrees_with_plain_hooks(name: str) -> None:
    model, lm = bare(name), steerable(name)
    pads = left_padded(UNEVEN)[2]
    sites = [sl.Site(place, 1) for place in sl.PLACES]
    kept = lm.activations(UNEVEN, sites)
    for site in sites:
        expected = read_by_hand(model, name, UNEVEN, site.place, 1)
        steer, change = trial(site.place, 1, "all three")
        with Hooked(model, name, [change], pads).on(), torch.no_grad():
            close(lm.logits(UNEVEN, steer), model(**inputs(UNEVEN)).logits[:, -1])
        for row, pad in enumerate(pads):
            close(kept.row(row, site), expected[row, pad:])
    pre, attn, mlp, post = (kept[site] for site in sites)
    close(pre + attn + mlp, post)
    first, entering = sl.Site("resid_pre", 0), read_by_hand(model, name, UNEVEN, "resid_pre", 0)
    for row, pad in enumerate(pads):
        close(lm.activations(UNEVEN, first).row(row, first), entering[row, pad:])
    close(lm.logits(UNEVEN)[0], lm.logits(UNEVEN[0])[0])


@pytest.mark.parametrize("when", ["prompt", "decode", "all"])
@each_more
def test_a_family_generates_as_with_a_hook(name: str, when: Any) -> None:
    model, lm = bare(name), steerable(name)
    ids, mask, pads = left_padded(UNEVEN)
    steer, change = trial("resid_post", 1, "shift", when=when)
    length = {"max_new_tokens": 4, "min_new_tokens": 4}
    with Hooked(model, name, [change], pads).on():
        expected = model.generate(ids, attention_mask=mask, do_sample=False, **length)[:, ids.shape[1] :].tolist()
    assert greedy(lm, steer, **length) == tokenizer().batch_decode(expected, skip_special_tokens=True)


# But for those with many experts, which round by who is beside whom.
@pytest.mark.parametrize("name", few([name for name in MORE if "moe" not in name], "gemma3"))
def test_samples_that_share_a_prompt_are_those_drawn_alone(name: str) -> None:
    lm, steer = steerable(name), trial("resid_post", 1, "shift", when="all")[0]
    together, alone = (lm.generate(UNEVEN[:2], steer, n=2, max_new_tokens=4, batch_size=size) for size in (64, 1))
    assert together.completion.tolist() == alone.completion.tolist()


# --- where attention and MLP do not add up ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAM_ONLY)
def test_where_the_parts_do_not_add_up_the_stream_alone_can_be_steered(name: str) -> None:
    model = fresh(name)
    with pytest.warns(UserWarning, match="^resid_pre \\+ attn_out \\+ mlp_out = resid_post does not hold in .*[^\n]*$"):
        lm = sl.load(model, tokenizer=tokenizer())
    for place in ("attn_out", "mlp_out"):
        site = sl.Site(place, 1)
        steer = sl.Intervention(((site, sl.Edit(gain=torch.full((1, 1), -1.0))),))
        with pytest.raises(ValueError, match=f"^{place}.1 is no sublayer's output in .*: use resid_pre or resid_post$"):
            lm.activations(UNEVEN, site)
        with pytest.raises(ValueError, match=f"^{place}.1 is no sublayer's output"):
            lm.logits(UNEVEN, steer)
    ids = torch.tensor([lm.ids(UNEVEN[0])])
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
    for site, expected in ((sl.Site("resid_pre", 1), states[1]), (sl.Site("resid_post", 1), states[2])):
        close(lm.activations(UNEVEN[0], site)[site], expected)


@pytest.mark.parametrize("given", [True, False], ids=["given", "of the table"])
def test_a_layout_that_does_not_add_up_is_said_in_one_line(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = sl.Layout("model.layers", "self_attn", "mlp")  # before Gemma 2's post-norms
    monkeypatch.setitem(LAYOUTS, "gemma2", layout)
    with pytest.warns(UserWarning, match="does not hold in Gemma2ForCausalLM with attn='self_attn' and mlp='mlp'"):
        lm = sl.load(fresh("gemma2"), tokenizer=tokenizer(), layout=layout if given else None)
    assert lm.layout == sl.Layout("model.layers")


def test_a_layout_of_blocks_alone_is_taken_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lm = sl.load(fresh("llama"), tokenizer=tokenizer(), layout=sl.Layout("model.layers"))
    with pytest.raises(ValueError, match=r"^mlp_out.0 is no sublayer's output"):
        lm.activations("Hello", sl.Site("mlp_out", 0))
    with pytest.raises(ValueError, match=r"^a layout names both attn and mlp, or neither: attn='self_attn', mlp=None$"):
        sl.Layout("model.layers", "self_attn")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["llama", "gemma2", "glm4"])
def test_the_check_allows_for_the_rounding_of_the_dtype(name: str, dtype: torch.dtype) -> None:
    assert find_layout(fresh(name, dtype)) == find_layout(bare(name))
    granite = fresh("granite", dtype)
    with pytest.warns(UserWarning, match="does not hold in Granite"):
        find_layout(granite)


def test_the_check_leaves_no_hook_and_runs_once() -> None:
    model, passes = fresh("llama"), []
    model.register_forward_pre_hook(lambda module, args: passes.append(1))
    find_layout(model)
    assert passes == [1]
    assert not any(module._forward_hooks for module in model.modules())


# --- what cannot be steered -------------------------------------------------------------------------------------------


def test_blocks_that_hand_on_another_stream_are_refused_in_one_line() -> None:
    config = transformers.Gemma3nTextConfig(
        vocab_size=len(tokenizer()),
        vocab_size_per_layer_input=len(tokenizer()),
        hidden_size=D_MODEL,
        intermediate_size=48,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_kv_shared_layers=0,
        hidden_size_per_layer_input=8,
        laurel_rank=4,
        activation_sparsity_pattern=[0.0] * N_LAYERS,
        pad_token_id=0,
    )
    model = transformers.Gemma3nForCausalLM(config)
    says = r"do not hand on one stream \[batch, pos, d_model\]: model.layers.0 maps \[4, 1, 4, 32\] to \[4, 1, 4, 32\]$"
    with pytest.raises(ValueError, match=says):
        sl.load(model, tokenizer=tokenizer())


def hidden_blocks() -> transformers.PreTrainedModel:
    """A model whose config does not say how many blocks it has."""
    model = fresh("stablelm")
    model.config.num_hidden_layers = 7
    model.config.model_type = "unheard_of"
    return model


def test_unknown_blocks_say_how_to_pass_a_layout() -> None:
    with pytest.raises(ValueError, match=r"^no layout for StableLmForCausalLM") as caught:
        sl.load(hidden_blocks(), tokenizer=tokenizer())
    message = str(caught.value)
    assert "\n" not in message
    assert "pass layout=Layout(blocks=..., attn=..., mlp=...)" in message
    assert message.endswith("lists of modules in it: model.layers")


def test_a_layout_makes_an_unknown_family_steerable() -> None:
    model, site = hidden_blocks(), sl.Site("attn_out", 1)
    lm = sl.load(model, tokenizer=tokenizer(), layout=sl.Layout("model.layers", "self_attn", "mlp"))
    assert lm.n_layers == N_LAYERS
    steer = sl.Intervention({site: sl.Edit(gain=torch.full((1, 1), -1.0))})
    assert not lm.activations("The wedding was fine", site, steer)[site].any()


def test_blocks_may_stand_at_the_root_of_a_model() -> None:
    model = fresh("llama")
    model.layers = model.model.layers
    lm = sl.load(model, tokenizer=tokenizer(), layout=sl.Layout("layers", "self_attn", "mlp"))
    ids = torch.tensor([lm.ids(UNEVEN[0])])
    assert lm.logprobs(UNEVEN[0]).logprob.tolist() == pytest.approx(by_hand(bare("llama"), ids), abs=1e-3)


@pytest.mark.parametrize(
    ("layout", "missing"),
    [
        (sl.Layout("model.blocks", "self_attn", "mlp"), "model.blocks"),
        (sl.Layout("model.layers", "attn", "mlp"), "model.layers.0.attn"),
        (sl.Layout("model.layers", "self_attn", "ffn"), "model.layers.0.ffn"),
        (sl.Layout("model", "self_attn", "mlp"), "model.0"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(layout: sl.Layout, missing: str) -> None:
    with pytest.raises(ValueError, match=f"^the layout names '{missing}', which StableLmForCausalLM does not have$"):
        sl.load(fresh("stablelm"), tokenizer=tokenizer(), layout=layout)


def test_without_weights_the_table_or_a_given_layout_counts() -> None:
    with torch.device("meta"):
        model = MORE["stablelm"].make(len(tokenizer()))
        odd = STREAM_ONLY["granite"](len(tokenizer()))
        unknown = MORE["codegen"].make(len(tokenizer()))
    assert find_layout(model) == sl.Layout("model.layers", "self_attn", "mlp")
    assert find_layout(odd) == sl.Layout("model.layers")
    with pytest.raises(ValueError, match=r"^no layout for CodeGenForCausalLM"):
        find_layout(unknown)
    assert find_layout(unknown, sl.Layout("transformer.h", "attn", "mlp")).mlp == "mlp"


@pytest.mark.parametrize("name", few(WRAPPERS, "Gemma 3"))
def test_without_weights_the_language_model_of_one_that_reads_images_is_found(name: str, tmp_path: Path) -> None:
    model = WRAPPERS[name][0]()
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    shapes, _ = checkpoint.read(str(tmp_path), None, checkpoint.Wanted(weights=False))
    assert shapes.device.type == "meta"
    assert find_layout(shapes) == sl.load(model, tokenizer=tokenizer()).layout


# --- models that read images too --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["as an object", "from a folder"])
@pytest.mark.parametrize("name", few(WRAPPERS, "Gemma 3"))
def test_the_language_model_of_one_that_reads_images_is_steered(name: str, place: str, tmp_path: Path) -> None:
    make, inner = WRAPPERS[name]
    torch.manual_seed(0)
    model = settled(make())
    if place == "from a folder":
        model.save_pretrained(tmp_path)
        tokenizer().save_pretrained(tmp_path)
    lm = sl.load(tmp_path, device="cpu") if place == "from a folder" else sl.load(model, tokenizer=tokenizer())
    plain = model.get_submodule(inner)
    both = lm.logits(UNEVEN)
    site = sl.Site("attn_out", 1)
    for row, prompt in enumerate(UNEVEN):
        ids = torch.tensor([lm.ids(prompt)])
        with torch.no_grad():
            close(both[row], plain(input_ids=ids).logits[0, -1])
        new = plain.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, min_new_tokens=4, do_sample=False
        )
        expected = tokenizer().decode(new[0, ids.shape[1] :], skip_special_tokens=True)
        assert greedy(lm, max_new_tokens=4, min_new_tokens=4)[row] == expected
        scores = lm.logprobs(prompt).logprob.tolist()
        assert scores == pytest.approx(by_hand(plain, ids), abs=1e-3)
    sites = [sl.Site(each, 1) for each in sl.PLACES]
    pre, attn, mlp, post = (lm.activations(UNEVEN, sites)[each] for each in sites)
    close(pre + attn + mlp, post)
    steer = sl.Intervention(((site, sl.Edit(gain=torch.full((1, 1), -1.0))),))
    assert not lm.activations(UNEVEN, site, steer)[site].any()
