"""Interventions come back from a file, the Hub or a control vector as they were, on the models that they are for."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families import D_MODEL, fresh, steerable, tokenizer
from safetensors import safe_open
from safetensors.torch import save_file
from test_intervention import PLACES, effect, same, some
from trials import edit, random, tensors

import steerlab as sl


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_saved_and_loaded_is_the_same_bit_for_bit(tmp_path: Path, gpt2: sl.SteerableModel, dtype: torch.dtype) -> None:
    every = some() + edit("resid_pre", 0, anchor="front", start=2, **tensors("all three", 2))
    edits = tuple((s, e.with_tensors({k: t.to(dtype) for k, t in e.tensors.items()})) for s, e in every.edits)
    info = gpt2.info(method="trial", prompts={"plus": " Grüße – “so”"}, seed=3)
    path = sl.Intervention(edits, info).save(tmp_path / "x.safetensors")
    assert path == tmp_path / "x.safetensors"
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]
    for found in (sl.read_intervention(path), sl.load_intervention(str(path), gpt2)):
        assert dict(found.info) == dict(info)
        assert [(s, e.kind) for s, e in found.edits] == [(s, e.kind) for s, e in edits]
        for (_, mine), (_, theirs) in zip(found.edits, edits, strict=True):
            for name, tensor in mine.tensors.items():
                assert tensor.dtype == dtype
                assert torch.equal(tensor, theirs.tensors[name])
        assert torch.equal(effect(gpt2, found), effect(gpt2, sl.Intervention(edits)))


def test_one_tensor_at_several_sites_parts_of_tensors_and_learned_ones_are_saved(tmp_path: Path) -> None:
    v = random(3, D_MODEL)
    shared = sl.Intervention(tuple((site, sl.Edit(shift=v[:1])) for site in PLACES))
    views = edit("resid_pre", 0, shift=v[1:2], gain=v[:, :1].T[:, :1]) + edit(
        "mlp_out", 0, shift=v[:1].expand(2, -1), anchor="back"
    )
    learned = edit("attn_out", 0, shift=v[2:].clone().requires_grad_())
    for number, each in enumerate((shared, views, learned)):
        found = sl.read_intervention(each.save(tmp_path / f"{number}"))
        assert same(found, each)
        assert not any(tensor.requires_grad for _, e in found.edits for tensor in e.tensors.values())


def test_the_header_names_its_origin(tmp_path: Path, gpt2: sl.SteerableModel) -> None:
    path = sl.actadd(gpt2, " love", " hate", layer=1, coefficient=3).save(tmp_path / "x")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    header = json.loads(metadata["header"])
    assert header["edits"] == [{"site": "resid_pre.1", "anchor": "front", "start": 0, "when": "prompt"}]
    info = header["info"]
    assert (info["model"], info["tokenizer"]) == (gpt2.name, gpt2.tokenizer_hash)
    assert info["revision"] is None
    assert info["method"] == "actadd"
    assert info["prompts"] == {"plus": " love", "minus": " hate", "coefficient": 3}
    assert info["versions"]["torch"] == torch.__version__
    assert set(info["versions"]) == {"steerlab", "torch", "transformers", "nnsight"}


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = some().save(tmp_path / "x.safetensors")
    before = path.read_bytes()

    def stop(tensors: Any, part: Path, metadata: Any) -> None:
        assert part != path
        save_file(tensors, part, metadata)
        part.write_bytes(part.read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr("steerlab.intervention.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        some(100).save(path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert same(sl.read_intervention(some(100).save(path)), some(100))  # over what the interruption left


def test_an_intervention_for_another_model_is_refused_unless_told(tmp_path: Path, gpt2: sl.SteerableModel) -> None:
    path = sl.actadd(gpt2, " love", " hate", layer=1).save(tmp_path / "x")
    longer = type(tokenizer())(tokenizer_object=tokenizer().backend_tokenizer, bos_token="<|endoftext|>")
    longer.add_tokens(["zwölf"])
    others = [
        steerable("llama"),
        sl.load(fresh("gpt2"), tokenizer=tokenizer(), revision="step1000"),
        sl.load(fresh("gpt2"), tokenizer=longer),
    ]
    for lm in others:
        with pytest.raises(ValueError, match="was made for model GPT2LMHeadModel, revision None, tokenizer") as caught:
            sl.load_intervention(path, lm)
        message = str(caught.value)
        assert "\n" not in message
        assert lm.name in message
        assert lm.tokenizer_hash in message
        assert message.endswith("pass any_model=True to use it all the same")
        assert same(sl.load_intervention(path, lm, any_model=True), sl.read_intervention(path))
    twin = sl.load(fresh("gpt2"), tokenizer=tokenizer())
    assert same(sl.load_intervention(path, twin), sl.read_intervention(path))
    with pytest.raises(ValueError, match="was made for model None"):
        sl.load_intervention(some().save(tmp_path / "unknown"), gpt2)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def some_text(path: Path) -> None:
    path.write_text("a letter to a friend\n" * 20)


def weights(path: Path) -> None:
    save_file({"0.shift": random(1, D_MODEL)}, path)


def weights_of_pytorch(path: Path) -> None:
    save_file({"0.shift": random(1, D_MODEL)}, path, {"format": "pt"})


def rewritten(path: Path, **header: Any) -> None:
    with safe_open(path, framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    text = header.get("text", json.dumps(json.loads(metadata["header"]) | header))
    save_file(found, path, metadata | {"header": text})


def no_json(path: Path) -> None:
    rewritten(path, text="{")


def unknown_site(path: Path) -> None:
    rewritten(path, edits=[{"site": "resid_mid.1", "anchor": "all", "start": 0, "when": "prompt"}])


def no_tensors(path: Path) -> None:
    rewritten(path, edits=[{"site": "mlp_out.1", "anchor": "all", "start": 0, "when": "prompt"}] * 9)


def unknown_field(path: Path) -> None:
    rewritten(path, edits=[{"site": "mlp_out.1", "angle": 3}])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut, "is truncated or no safetensors file"),
        (cut_in_the_header, "is truncated or no safetensors file"),
        (empty, "is truncated or no safetensors file"),
        (some_text, "is truncated or no safetensors file"),
        (weights, "is a safetensors file, but not a steerlab intervention"),
        (weights_of_pytorch, "is a safetensors file, but not a steerlab intervention"),
        (no_json, "has a damaged header"),
        (unknown_site, "has a damaged header"),
        (no_tensors, "has a damaged header"),
        (unknown_field, "has a damaged header"),
    ],
)
def test_a_file_that_is_not_whole_or_not_ours_is_refused(
    tmp_path: Path, gpt2: sl.SteerableModel, spoil: Any, says: str
) -> None:
    path = some().save(tmp_path / "x.safetensors")
    spoil(path)
    for any_model in (False, True):
        with pytest.raises(ValueError, match=says) as caught:
            sl.load_intervention(path, gpt2, any_model=any_model)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path, gpt2: sl.SteerableModel) -> None:
    for path in (tmp_path / "no.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"^no file {path}$"):
            sl.load_intervention(path, gpt2)
    with pytest.raises(FileNotFoundError, match=f"^cannot save x: no folder {tmp_path / 'no'}$"):
        some().save(tmp_path / "no" / "x")
