"""A model of the caller's, folders that hold none, adapters, and what is said of them."""

import builtins
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import bare, fresh, steerable, tokenizer
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from trials import trial

import steerlab as sl
from steerlab import checkpoint
from steerlab.loading import share

PROMPTS = ["The wedding was very fine", "He said no"]


def flags(model: PreTrainedModel) -> list[Any]:
    """What a caller can have set on a model."""
    parts = [(name, part.training, len(part._forward_hooks)) for name, part in model.named_modules()]
    return parts + [
        (name, value.requires_grad, value.dtype, value.data_ptr()) for name, value in model.named_parameters()
    ]


def unlike(model: PreTrainedModel) -> PreTrainedModel:
    """A model some of whose flags are not the usual ones."""
    model.train()
    blocks: Any = model.get_submodule("model.layers")
    blocks[1].eval()
    for parameter in blocks[0].parameters():
        parameter.requires_grad = False
    return model


# --- the caller's model -----------------------------------------------------------------------------------------------


def test_a_loaded_model_is_left_as_it_was() -> None:
    model = unlike(fresh("llama"))
    before, grads = flags(model), [name for name, value in model.named_parameters() if value.requires_grad]
    lm = sl.load(model, tokenizer=tokenizer())
    steer, _ = trial("attn_out", 1, "shift")
    lm.generate(PROMPTS, steer, max_new_tokens=2)
    lm.logits(PROMPTS, steer)
    assert flags(model) == before
    model(torch.tensor([[0, 1, 2]])).logits.sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is not None] == grads


def test_learning_an_edit_leaves_the_callers_gradients_alone() -> None:
    model = fresh("llama")
    lm = sl.load(model, tokenizer=tokenizer())
    shift = torch.zeros(1, lm.d_model, requires_grad=True)
    steer = sl.Intervention(((sl.Site("resid_pre", 1), sl.Edit(shift=shift, anchor="all")),))
    lm.logits(PROMPTS, steer).square().sum().backward()
    assert shift.grad is not None
    assert all(value.grad is None for value in model.parameters())


def test_what_the_caller_does_to_the_model_later_means_nothing_here() -> None:
    model = fresh("gpt2")  # which has dropout
    lm = sl.load(model, tokenizer=tokenizer())
    expected = lm.logits(PROMPTS)
    model.train()
    model.requires_grad_(False)
    model.transformer.h[1].register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    model.transformer.h[0].mlp = nn.Identity()
    model.config.n_layer, model.generation_config.eos_token_id = 1, 5
    model.to(torch.bfloat16)  # type: ignore[arg-type]  # transformers types it wrongly
    assert torch.equal(lm.logits(PROMPTS), expected)
    assert lm.dtype == torch.float32
    assert lm.n_layers == 3


def test_what_is_written_into_the_weights_shows() -> None:
    model = fresh("llama")
    lm = sl.load(model, tokenizer=tokenizer())
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(2)
    torch.testing.assert_close(lm.logits(PROMPTS), sl.load(model, tokenizer=tokenizer()).logits(PROMPTS))
    assert not torch.allclose(lm.logits(PROMPTS), steerable("llama").logits(PROMPTS))


def test_hooks_that_a_model_has_act() -> None:
    model, seen = fresh("llama"), []
    model.model.layers[1].mlp.register_forward_hook(lambda module, args, output: seen.append(1) or 2 * output)
    lm = sl.load(model, tokenizer=tokenizer())
    seen.clear()
    ids = torch.tensor([lm.ids(PROMPTS[0])])
    with torch.no_grad():
        torch.testing.assert_close(lm.logits(PROMPTS[0]), model(ids).logits[:, -1])
    assert len(seen) == 2


def test_the_weights_are_shared_and_not_copied(family: str) -> None:
    model = fresh(family)
    twin = share(model)
    for kind in (nn.Module.named_parameters, nn.Module.named_buffers):
        ours, theirs = dict(kind(twin)), dict(kind(model))
        assert {name: value.data_ptr() for name, value in ours.items()} == {
            name: value.data_ptr() for name, value in theirs.items()
        }
    assert not {id(part) for part in twin.modules()} & {id(part) for part in model.modules()}


class Scaled(nn.Parameter):
    """A quantised weight, as those of bitsandbytes, whose scale is taken off it when its module first runs."""

    scale: torch.Tensor | None


class ScaledLinear(nn.Linear):
    """Takes the scale."""

    taken: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight: Any = self.weight
        if weight.scale is not None:
            self.taken, weight.scale = weight.scale, None
        assert self.taken is not None, "the scale is gone"
        return x @ (weight.float() * self.taken).T


def test_quantised_weights_are_shared_and_left_as_they_were() -> None:
    model = fresh("llama")
    quantised = ScaledLinear(32, 48, bias=False)
    quantised.weight = Scaled(torch.randint(-9, 9, (48, 32), dtype=torch.int8), requires_grad=False)
    quantised.weight.scale = torch.tensor(0.05)  # type: ignore[attr-defined]
    model.model.layers[1].mlp.up_proj = quantised
    lm = sl.load(model, tokenizer=tokenizer())
    ours: Any = lm.hf.get_submodule("model.layers.1.mlp.up_proj")
    assert ours.weight.data_ptr() == quantised.weight.data_ptr()
    ids = torch.tensor([lm.ids(PROMPTS[0])])
    with torch.no_grad():
        torch.testing.assert_close(lm.logits(PROMPTS[0]), model(ids).logits[:, -1], rtol=1e-4, atol=1e-4)


def test_a_model_can_be_loaded_twice_and_from_another() -> None:
    model = fresh("qwen2")
    lms = [sl.load(model, tokenizer=tokenizer()), sl.load(model, tokenizer=tokenizer())]
    lms.append(sl.load(lms[0].hf, tokenizer=tokenizer()))
    steer, _ = trial("mlp_out", 1, "shift", when="all")
    first = [lm.generate(PROMPTS, steer, max_new_tokens=4).completion.tolist() for lm in lms]
    assert first[0] == first[1] == first[2]


def test_device_and_dtype_make_a_copy_of_a_loaded_model() -> None:
    model = fresh("llama")
    before = flags(model)
    lm = sl.load(model, tokenizer=tokenizer(), dtype=torch.bfloat16)
    assert lm.dtype == torch.bfloat16
    assert flags(model) == before
    same = sl.load(model, tokenizer=tokenizer(), dtype=torch.float32, device="cpu")
    assert [value.data_ptr() for value in same.hf.parameters()] == [value.data_ptr() for value in model.parameters()]


def test_the_callers_tokenizer_is_left_as_it_was() -> None:
    own = type(tokenizer()).from_pretrained(Path(sl.__file__).parent / "bundled")
    own.pad_token, own.padding_side = None, "right"
    lm = sl.load(fresh("llama"), tokenizer=own)
    assert len(lm.generate(PROMPTS, max_new_tokens=2)) == 2
    assert own.pad_token is None
    assert own.padding_side == "right"


def test_a_model_that_accelerate_spread_is_shared_too(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    fresh("llama").save_pretrained(tmp_path)
    rest = ("model.embed_tokens", "model.layers.0", "model.layers.2", "model.norm", "model.rotary_emb", "lm_head")
    spread = {**dict.fromkeys(rest, "cpu"), "model.layers.1": "disk"}
    model = AutoModelForCausalLM.from_pretrained(tmp_path, device_map=spread, offload_folder=tmp_path / "offload")
    lm = sl.load(model, tokenizer=tokenizer())
    steer, _ = trial("attn_out", 1, "all three", when="all")
    torch.testing.assert_close(
        lm.logits(PROMPTS, steer), steerable("llama").logits(PROMPTS, steer), rtol=1e-4, atol=1e-4
    )


# --- adapters ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A PEFT model with a LoRA that changes much, and the folder that it was saved to."""
    peft = pytest.importorskip("peft")
    base, folder = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("adapters") / "poet"
    fresh("llama").save_pretrained(base)
    tokenizer().save_pretrained(base)
    config = peft.LoraConfig(target_modules=["q_proj", "down_proj"], r=4, task_type="CAUSAL_LM")
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.save_pretrained(folder)
    return model, folder


@pytest.mark.parametrize("place", ["as an object", "from its folder"])
def test_a_lora_is_steered(adapter: tuple[Any, Path], place: str) -> None:
    model, folder = adapter
    model.train()
    learnt = [name for name, value in model.named_parameters() if value.requires_grad]
    lm = sl.load(folder) if place == "from its folder" else sl.load(model, tokenizer=tokenizer())
    assert [name for name, value in model.named_parameters() if value.requires_grad] == learnt
    assert model.training
    model.eval()
    steer, _ = trial("mlp_out", 1, "gain")
    ids = torch.tensor([lm.ids(PROMPTS[0])])
    gain = dict(steer.edits)[sl.Site("mlp_out", 1)].gain
    with torch.no_grad():
        torch.testing.assert_close(lm.logits(PROMPTS[0]), model(ids).logits[:, -1], rtol=1e-4, atol=1e-4)
        block = model.get_submodule("base_model.model.model.layers.1.mlp")
        handle = block.register_forward_hook(lambda module, args, output: output * (1 + gain))
        torch.testing.assert_close(lm.logits(PROMPTS[0], steer), model(ids).logits[:, -1], rtol=1e-4, atol=1e-4)
        handle.remove()
    assert not torch.allclose(lm.logits(PROMPTS[0]), steerable("llama").logits(PROMPTS[0]))
    assert lm.name.endswith(" with poet" if place == "from its folder" else " with default")


def test_an_adapter_without_peft_says_what_it_is(adapter: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"poet is an adapter \(LORA\) of the model '.*': pip install peft, or[^\n]*$"
    ):
        sl.load(adapter[1])


def test_an_adapter_of_a_model_that_is_not_here_names_both(adapter: tuple[Any, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(adapter[1], tmp_path / "poet")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "no/such-model"}))
    with pytest.raises(OSError, match=r"^.*poet is an adapter \(LORA\) of the model 'no/such-model', and cannot load"):
        sl.load(folder)


def test_an_adapter_that_adds_tokens_is_refused(adapter: tuple[Any, Path]) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(fresh("llama"), peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
    with pytest.raises(ValueError, match=r"^its adapter 'default' adds tokens to the prompt: only LoRA's like"):
        sl.load(model, tokenizer=tokenizer())


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, in one file of weights."""
    folder = tmp_path_factory.mktemp("sound")
    fresh("llama").save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def keep(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    """Changes the bytes of a file."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def drop(*names: str) -> Callable[[Path], Any]:
    """Removes files."""
    return lambda folder: [(folder / name).unlink() for name in names]


def describe(**fields: Any) -> Callable[[Path], Any]:
    """Changes fields of the config."""
    return keep("config.json", lambda text: json.dumps(json.loads(text) | fields).encode())


def without_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def in_shards(folder: Path, *, lost: bool = False, index: str = "") -> None:
    (folder / "model.safetensors").unlink()
    fresh("llama").save_pretrained(folder, max_shard_size="100KB")
    if lost:
        sorted(folder.glob("model-*.safetensors"))[1].unlink()
    if index:
        (folder / checkpoint.INDEX).write_text(index)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(bare("llama").state_dict(), folder / "pytorch_model.bin")


def own_code(folder: Path) -> None:
    describe(model_type="mine", auto_map={"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"})(folder)
    (folder / "mine.py").write_text("raise SystemExit('this was run')")


NO_TOKENIZER = drop("tokenizer.json", "tokenizer_config.json")
BROKEN: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "weights cut": (keep("model.safetensors", lambda b: b[: len(b) // 2]), OSError, "damaged or cut short"),
    "weights cut in the header": (keep("model.safetensors", lambda b: b[:100]), OSError, "damaged or cut short"),
    "weights empty": (keep("model.safetensors", lambda b: b""), OSError, "damaged or cut short"),
    "weights of noise": (keep("model.safetensors", lambda b: os.urandom(999)), OSError, "damaged or cut short"),
    "no weights": (drop("model.safetensors"), OSError, "no weights as safetensors: get them"),
    "pickled weights": (pickled, OSError, "they are pickled, and pickles are not loaded"),
    "a weight missing": (without_a_weight, OSError, "1 of its weights are missing, such as model.layers.1.mlp.up"),
    "a layer missing": (describe(num_hidden_layers=4), OSError, "9 of its weights are missing, such as model.layers.3"),
    "other shapes": (
        describe(intermediate_size=64),
        OSError,
        "9 of its weights have other shapes than its config says",
    ),
    "a shard missing": (
        lambda d: in_shards(d, lost=True),
        OSError,
        "lacks 1 of its 4 files of weights, such as model-0000",
    ),
    "index damaged": (lambda d: in_shards(d, index="{"), OSError, "model.safetensors.index.json is damaged"),
    "index a list": (lambda d: in_shards(d, index="[]"), OSError, "is damaged: it holds no JSON object"),
    "no config": (drop("config.json"), ValueError, "no folder of a transformers model: it holds files, but no config"),
    "config damaged": (keep("config.json", lambda b: b[:50]), OSError, "config.json' is not a valid JSON file"),
    "config empty": (keep("config.json", lambda b: b"{}"), ValueError, "Unrecognized model"),
    "unknown type": (describe(model_type="unheard_of"), ValueError, "model type `unheard_of`"),
    "code of its own": (own_code, ValueError, "brings code of its own, which is not run: load it yourself"),
    "no tokenizer": (NO_TOKENIZER, ValueError, "has no tokenizer that can be read .*: pass tokenizer="),
    "tokenizer cut": (keep("tokenizer.json", lambda b: b[:500]), ValueError, "has no tokenizer that can be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused_in_one_line(
    name: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, kind, says = BROKEN[name]
    folder = shutil.copytree(sound, tmp_path / "model")
    change(folder)
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("it asks"))
    with pytest.raises(kind, match=says) as caught:
        sl.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("family", ["gpt2", "opt", "gemma2", "gpt_neox"])
def test_a_tokenizer_that_transformers_makes_up_is_none(family: str, tmp_path: Path) -> None:
    fresh(family).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))} has no tokenizer .*: pass tokenizer=$"):
        sl.load(tmp_path)
    assert sl.load(tmp_path, tokenizer=tokenizer(), device="cpu").name == str(tmp_path)


def test_a_folder_in_shards_is_whole(sound: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sound, tmp_path / "model")
    in_shards(folder)
    torch.testing.assert_close(sl.load(folder, device="cpu").logits(PROMPTS), steerable("llama").logits(PROMPTS))


def test_what_is_no_folder_of_a_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no folder of a transformers model: it is empty$"):
        sl.load(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"it holds a GGUF file: load\('.*/model.gguf'\)$"):
        sl.load(tmp_path)
    (tmp_path / "notes.txt").write_text("of a model")
    with pytest.raises(
        OSError, match=r"notes.txt is a file, not the folder of a model: give the folder, or a file that"
    ):
        sl.load(tmp_path / "notes.txt")


def test_a_sound_folder_loads_without_a_warning(sound: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lm = sl.load(sound, device="cpu")
    torch.testing.assert_close(lm.logits(PROMPTS), steerable("llama").logits(PROMPTS))
