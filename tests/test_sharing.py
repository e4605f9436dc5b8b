"""Interventions come back from a file, the Hub or a control vector as they were, on the models that they are for."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from families import D_MODEL, fresh, steerable, tokenizer
from safetensors import safe_open
from safetensors.torch import save_file
from test_intervention import PLACES, effect, same, some
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trials import edit, random, tensors

import steerlab as sl
from steerlab import sharing
from steerlab.loading import BUNDLED


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_saved_and_loaded_is_the_same_bit_for_bit(tmp_path: Path, gpt2: sl.SteerableModel, dtype: torch.dtype) -> None:
    every = some() + edit("resid_pre", 0, anchor="front", start=2, **tensors("all three", 2))
    edits = tuple((s, e.with_tensors({k: t.to(dtype) for k, t in e.tensors.items()})) for s, e in every.edits)
    info = gpt2.info(method="trial", prompts={"plus": " Grüße – “so”"}, seed=3)
    path = sl.Intervention(edits, info).save(tmp_path / "x.safetensors")
    assert path == tmp_path / "x.safetensors"
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]
    for loaded in (sl.read_intervention(path), sl.load_intervention(str(path), gpt2)):
        assert dict(loaded.info) == dict(info)
        assert [(s, e.kind) for s, e in loaded.edits] == [(s, e.kind) for s, e in edits]
        for (_, mine), (_, theirs) in zip(loaded.edits, edits, strict=True):
            for name, tensor in mine.tensors.items():
                assert tensor.dtype == dtype
                assert torch.equal(tensor, theirs.tensors[name])
        assert torch.equal(effect(gpt2, loaded), effect(gpt2, sl.Intervention(edits)))


def test_one_tensor_at_several_sites_parts_of_tensors_and_learned_ones_are_saved(tmp_path: Path) -> None:
    v = random(3, D_MODEL)
    shared = sl.Intervention(tuple((site, sl.Edit(shift=v[:1])) for site in PLACES))
    views = edit("resid_pre", 0, shift=v[1:2], gain=v[:, :1].T[:, :1]) + edit(
        "mlp_out", 0, shift=v[:1].expand(2, -1), anchor="back"
    )
    learned = edit("attn_out", 0, shift=v[2:].clone().requires_grad_())
    for number, each in enumerate((shared, views, learned)):
        loaded = sl.read_intervention(each.save(tmp_path / f"{number}"))
        assert same(loaded, each)
        assert not any(tensor.requires_grad for _, e in loaded.edits for tensor in e.tensors.values())


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
    assert torch.__version__.startswith(info["versions"]["torch"])  # which may lack what follows a "+"
    assert set(info["versions"]) == {"steerlab", "torch", "transformers", "nnsight"}


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = some().save(tmp_path / "x.safetensors")
    before = path.read_bytes()

    def stop(tensors: Any, part: Path, metadata: Any) -> None:
        assert part != path
        save_file(tensors, part, metadata)
        part.write_bytes(part.read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr("steerlab.sharing.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        some(100).save(path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert same(sl.read_intervention(some(100).save(path)), some(100))  # over what the interruption left


def changed(family: str = "gpt2") -> sl.SteerableModel:
    """The tiny model with other weights."""
    model = fresh(family)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.1)
    return sl.load(model, tokenizer=tokenizer())


def test_an_intervention_for_another_model_is_refused_unless_told(tmp_path: Path, gpt2: sl.SteerableModel) -> None:
    path = sl.actadd(gpt2, " love", " hate", layer=1).save(tmp_path / "x")
    longer = type(tokenizer())(tokenizer_object=tokenizer().backend_tokenizer, bos_token="<|endoftext|>")
    longer.add_tokens(["zwölf"])
    for lm in (steerable("llama"), changed(), sl.load(fresh("gpt2"), tokenizer=longer)):
        with pytest.raises(ValueError, match="was made for model GPT2LMHeadModel, revision None, tokenizer") as caught:
            sl.load_intervention(path, lm)
        message = str(caught.value)
        assert "\n" not in message
        assert all(str(name) in message for name in (lm.name, lm.tokenizer_hash, lm.fingerprint))
        assert message.endswith("pass any_model=True to use it all the same")
        assert same(sl.load_intervention(path, lm, any_model=True), sl.read_intervention(path))


def test_a_model_is_known_by_weights_and_tokenizer_whatever_it_is_called(
    tmp_path: Path, gpt2: sl.SteerableModel
) -> None:
    path = sl.actadd(gpt2, " love", " hate", layer=1).save(tmp_path / "x")
    fresh("gpt2").save_pretrained(tmp_path / "a folder")
    tokenizer().save_pretrained(tmp_path / "a folder")
    there = sl.load(tmp_path / "a folder", device="cpu")
    twins = [there, sl.load(fresh("gpt2"), tokenizer=tokenizer(), revision="main"), steerable("gpt2", torch.bfloat16)]
    for lm in twins:
        assert lm.fingerprint == gpt2.fingerprint
        assert same(sl.load_intervention(path, lm), sl.read_intervention(path))
    info = there.info()
    assert info["model"] == "a folder"
    assert str(tmp_path) not in json.dumps(dict(info))
    assert changed().fingerprint != gpt2.fingerprint != steerable("llama").fingerprint


def test_where_weights_are_elsewhere_name_and_revision_tell(tmp_path: Path, gpt2: sl.SteerableModel) -> None:
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(BUNDLED))
    empty.config._name_or_path = str(BUNDLED)
    there = sl.load(empty, tokenizer=AutoTokenizer.from_pretrained(BUNDLED))
    assert there.fingerprint is None
    here = sl.load(BUNDLED, device="cpu")
    made = sl.Intervention({PLACES[0]: sl.Edit(shift=torch.ones(1, here.d_model))}, there.info(method="own"))
    path = made.save(tmp_path / "x")
    assert same(sl.load_intervention(path, here), made)
    assert same(sl.load_intervention(path, there), made)
    with pytest.raises(ValueError, match="was made for model bundled"):
        sl.load_intervention(path, gpt2)


def old(intervention: sl.Intervention, path: Path, **info: Any) -> Path:
    """A file as it was written before weights were noted."""
    older = {key: value for key, value in intervention.info.items() if key != "weights"}
    return sl.Intervention(intervention.edits, older | info).save(path)


def test_older_files_are_known_by_the_last_part_of_the_name(tmp_path: Path, gpt2: sl.SteerableModel) -> None:
    made = sl.actadd(gpt2, " love", " hate", layer=1)
    path = old(made, tmp_path / "x", model="/home/somebody/models/GPT2LMHeadModel")
    assert same(sl.load_intervention(path, gpt2), made)
    for info in ({"model": "gpt2-xl"}, {"revision": "step1000"}, {"tokenizer": "0" * 16}):
        with pytest.raises(ValueError, match="pass any_model=True"):
            sl.load_intervention(old(made, tmp_path / "x", **info), gpt2)


def test_a_vector_made_by_hand_fits_any_model_of_its_width(tmp_path: Path, gpt2: sl.SteerableModel) -> None:
    for made in (sl.add(random(D_MODEL), layer=-1, when="all"), some(), sl.scale(0.5, layer=1)):
        path = made.save(tmp_path / "own")
        for lm in (gpt2, steerable("llama")):
            assert torch.equal(effect(lm, sl.load_intervention(path, lm)), effect(lm, made))
    wide = sl.add(random(D_MODEL + 1), layer=1).save(tmp_path / "wide")
    for any_model in (False, True):
        with pytest.raises(
            ValueError, match=rf"at resid_post.1 has width {D_MODEL + 1}, GPT2LMHeadModel has {D_MODEL}"
        ):
            sl.load_intervention(wide, gpt2, any_model=any_model)
    with pytest.raises(ValueError, match="layer 7 is out of range"):
        sl.load_intervention(sl.add(random(D_MODEL), layer=7).save(tmp_path / "high"), gpt2)


def test_the_provenance_of_a_sum_is_its_parts(tmp_path: Path, gpt2: sl.SteerableModel) -> None:
    a, b, own = sl.actadd(gpt2, " a", " b", layer=1), sl.actadd(gpt2, " c", " d", layer=1), some()
    nested = 2 * (a + 3 * b) - own
    parts = [(part["method"], part.get("strength", 1.0)) for part in nested.info["parts"]]
    assert parts == [("actadd", 2.0), ("actadd", 6.0), ("own", 1.0)]
    assert "prompts" not in nested.info
    assert "model" not in nested.info
    path = nested.save(tmp_path / "sum")
    assert same(sl.load_intervention(path, gpt2), nested)
    assert sl.read_intervention(path).info["parts"] == nested.info["parts"]
    with pytest.raises(ValueError, match="was made for model GPT2LMHeadModel"):
        sl.load_intervention(path, steerable("llama"))


# --- the Hub -------------------------------------------------------------------------------------------------------


class Hub:
    """Stands for the Hugging Face Hub: repositories are folders here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[dict[str, Any]] = []

    def api(self, **options: Any) -> "Hub":
        self.asked.append(options)
        return self

    def create_repo(self, repo: str, **options: Any) -> str:
        self.asked.append(options)
        (self.folder / repo).mkdir(parents=True, exist_ok=True)
        return f"https://hub/{repo}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        assert commit_message
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)

    def download(self, repo: str, file: str, revision: str | None = None, token: str | None = None) -> str:
        self.asked.append({"revision": revision, "token": token})
        if not (self.folder / repo / file).exists():
            raise OSError("404 Client Error.\nRepository not found.")
        return str(self.folder / repo / file)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", made.api)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", made.download)
    return made


def test_pushed_and_loaded_is_the_same(hub: Hub, gpt2: sl.SteerableModel) -> None:
    made = 3 * sl.actadd(gpt2, " love", " hate|`x`\n", layer=1)
    made.push_to_hub("me/gemma-2.5-love")
    assert same(sl.load_intervention("me/gemma-2.5-love", gpt2), made)
    hub.asked.clear()
    assert made.push_to_hub("me/love-vector", private=True, token="hf_secret") == "https://hub/me/love-vector"
    assert hub.asked == [{"token": "hf_secret"}, {"private": True, "exist_ok": True}]
    assert same(sl.load_intervention("me/love-vector", gpt2, revision="v2", token="hf_other"), made)
    assert hub.asked[-1] == {"revision": "v2", "token": "hf_other"}
    with pytest.raises(ValueError, match=r"^me/love-vector was made for model GPT2LMHeadModel"):
        sl.load_intervention("me/love-vector", steerable("llama"))
    files = sorted((hub.folder / "me/love-vector").iterdir())
    assert [file.name for file in files] == ["README.md", "intervention.safetensors"]
    assert not any(b"hf_secret" in file.read_bytes() for file in files)


def test_the_card_says_what_it_is(hub: Hub, gpt2: sl.SteerableModel) -> None:
    made = 3 * sl.actadd(gpt2, " love", " hate|`x`\n", layer=1)
    made.push_to_hub("me/love-vector")
    card = (hub.folder / "me/love-vector/README.md").read_text()
    for text in ("| method | `actadd` |", "| strength | `3.0` |", "love", "hate", gpt2.fingerprint, "steering-vector"):
        assert str(text) in card
    assert "sl.load_intervention('me/love-vector', lm)" in card
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows)
    assert "base_model" not in card  # the name of a class is no model of the Hub
    (made + some()).push_to_hub("me/sum")
    card = (hub.folder / "me/sum/README.md").read_text()
    assert "| method 1 | `actadd` |" in card
    assert "| method 2 | `own` |" in card
    assert "base_model: org/model\n" in sharing.card("me/x", "", {"model": "org/model"})
    assert "made by hand" in sharing.card("me/x", "", {})


def test_names_that_are_no_repository_and_repositories_that_are_not_there(hub: Hub, gpt2: sl.SteerableModel) -> None:
    for name in ("vector", "me/love/vector", "https://hub/me/x", "me/"):
        with pytest.raises(ValueError, match="is no repository of the Hub: write it as user/name"):
            some().push_to_hub(name)
    assert not hub.asked
    with pytest.raises(FileNotFoundError, match=r"^no file me/none, and no .* of the Hub \(404 Client Error\.\)$"):
        sl.load_intervention("me/none", gpt2)
    with pytest.raises(FileNotFoundError, match=r"^no file me/none\.safetensors$"):
        sl.load_intervention("me/none.safetensors", gpt2)


# --- llama.cpp -----------------------------------------------------------------------------------------------------


def test_control_vectors_are_read_back(tmp_path: Path) -> None:
    v, w = random(D_MODEL), random(D_MODEL, seed=1)
    made = 2 * sl.add({1: v, 3: w}, when="all") + sl.add(v, layer=4, place="resid_pre", when="all")
    reader = gguf.GGUFReader(made.to_gguf(tmp_path / "v.gguf"))
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.layer_count"].contents() == 2
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert set(tensors) == {"direction.1", "direction.3"}  # what enters block 4 is what leaves block 3
    assert all(tensor.tensor_type == gguf.GGMLQuantizationType.F32 for tensor in reader.tensors)
    assert tensors["direction.1"].data.shape == (D_MODEL,)
    torch.testing.assert_close(torch.tensor(tensors["direction.1"].data), 2 * v)
    torch.testing.assert_close(torch.tensor(tensors["direction.3"].data), 2 * w + v)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (sl.Intervention(), "one at least"),
        (sl.add({1: random(4), 2: random(5)}, when="all"), "vectors of one width"),
        (sl.add(random(4), layer=1), "has anchor='all', when='prompt': both must be all"),
        (sl.add(random(2, 4), layer=1, anchor="back"), "has anchor='back', when='prompt': both must be all"),
        (sl.scale(2, layer=1, when="all"), "adds vectors alone, and the edit at resid_post.1 has a gain"),
        (sl.add(random(4), layer=0, when="all"), "no control vector at resid_post.0: resid_post from layer 1"),
        (sl.add(random(4), layer=1, place="resid_pre", when="all"), "no control vector at resid_pre.1"),
        (sl.add(random(4), layer=2, place="mlp_out", when="all"), "no control vector at mlp_out.2"),
        (sl.add(random(4), layer=-1, when="all"), "counts its layer from the end"),
    ],
)
def test_what_is_no_control_vector_is_refused(tmp_path: Path, made: sl.Intervention, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        made.to_gguf(tmp_path / "v.gguf")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_gguf_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'steerlab[gguf]'")):
        sl.add(random(4), layer=1, when="all").to_gguf(tmp_path / "v.gguf")


# --- files that are not ours ---------------------------------------------------------------------------------------


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
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    text = header.get("text", json.dumps(json.loads(metadata["header"]) | header))
    save_file(tensors, path, metadata | {"header": text})


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
