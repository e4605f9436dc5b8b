"""GGUF files and the course models that come as such, with tiny files made on the spot."""

import hashlib
import json
import re
import tomllib
from importlib.metadata import PackageNotFoundError, PackagePath
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from families import N_LAYERS, settled, tokenizer
from transformers import PreTrainedModel

import steerlab as sl
from steerlab import checkpoint
from steerlab import gguf as ours
from steerlab.jobs import cache_folder

gguf = pytest.importorskip("gguf")

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}A:"
PROMPTS = ["The wedding was very fine", "He said no"]
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
PARTS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
PARTS |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
PARTS |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
NAMES |= {f"model.layers.{i}.{name}": f"blk.{i}.{short}" for i in range(N_LAYERS) for name, short in PARTS.items()}
QUANTISED = ("attn_output", "ffn_up")
VOCABULARY = 320  # the first tokens of the bundled tokenizer, all bytes among them: longer ones are read slowly


def model(tied: bool) -> PreTrainedModel:
    """A tiny Qwen2, whose quantised weights are such as Q8_0 can hold."""
    config = transformers.Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    made = settled(transformers.Qwen2ForCausalLM(config))
    for name, parameter in made.named_parameters():
        if short(name).split(".")[-2] in QUANTISED:
            parameter.data = torch.from_numpy(dequantised(parameter))
    return made


def short(name: str) -> str:
    """llama.cpp's name of a parameter."""
    module, _, kind = name.rpartition(".")
    return f"{NAMES[module]}.{kind}"


def dequantised(parameter: torch.Tensor) -> Any:
    kind = gguf.GGMLQuantizationType.Q8_0
    return gguf.quants.dequantize(gguf.quants.quantize(parameter.detach().numpy(), kind), kind)


def write(path: Path, tied: bool = False, architecture: str = "qwen2") -> PreTrainedModel:
    """A model as a GGUF file, and the same in transformers."""
    made = model(tied)
    config: Any = made.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(N_LAYERS)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    write_tokenizer(writer)
    for name, parameter in made.named_parameters():
        values = parameter.detach().numpy()
        kind = gguf.GGMLQuantizationType.Q8_0 if short(name).split(".")[-2] in QUANTISED else None
        writer.add_tensor(short(name), gguf.quants.quantize(values, kind) if kind else values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


def write_tokenizer(writer: Any) -> None:
    """The beginning of the bundled model's tokenizer, with a chat template."""
    words = [word for word, _ in sorted(tokenizer().get_vocab().items(), key=lambda item: item[1])][:VOCABULARY]
    merges = json.loads(tokenizer().backend_tokenizer.to_str())["model"]["merges"]  # type: ignore[attr-defined]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word == words[0] else 1 for word in words])
    writer.add_token_merges([" ".join(pair) for pair in merges if "".join(pair) in words])
    writer.add_eos_token_id(0)
    writer.add_chat_template(TEMPLATE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("STEERLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def whole(cache: Path) -> list[str]:
    """What the cache holds."""
    return sorted(path.name for path in cache.glob("*"))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_file_is_the_model_that_was_written(tied: bool, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "tiny-q8_0.gguf"
    expected = write(path, tied)
    lm = sl.load(path, device="cpu")
    ids = torch.tensor([lm.ids(PROMPTS[0])])
    with torch.no_grad():
        torch.testing.assert_close(lm.logits(PROMPTS[0]), expected(ids).logits[:, -1], rtol=1e-5, atol=1e-5)
    assert "".join(lm.tokens(PROMPTS[0])) == PROMPTS[0]
    assert len(lm.tokens(PROMPTS[0])) < len(PROMPTS[0])
    hf: Any = lm.hf
    assert (hf.lm_head.weight is hf.model.embed_tokens.weight) == tied
    assert lm.dtype == torch.float32
    assert lm.name == "tiny-q8_0"
    assert re.fullmatch(r"sha256:[0-9a-f]{16}", str(lm.revision))
    assert lm.text([{"role": "user", "content": "Hello"}]) == "user: Hello\nA:"
    assert len(whole(cache)) == 1


def test_a_second_load_converts_nothing(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "first.gguf")
    first = sl.load(tmp_path / "first.gguf", device="cpu")
    monkeypatch.setattr(ours, "_save", lambda *_: pytest.fail("it converts again"))
    (tmp_path / "first.gguf").rename(tmp_path / "second.gguf")
    second = sl.load(str(tmp_path / "second.gguf"), device="cpu")
    assert torch.equal(second.logits(PROMPTS), first.logits(PROMPTS))
    assert (second.name, second.revision) == ("second", first.revision)


def test_each_dtype_is_kept(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "tiny.gguf")
    assert sl.load(tmp_path / "tiny.gguf", dtype=torch.bfloat16, device="cpu").dtype == torch.bfloat16
    assert sl.load(tmp_path / "tiny.gguf", device="cpu").dtype == torch.float32
    assert [name.split("-")[1] for name in whole(cache)] == ["bfloat16", "float32"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_conversion_leaves_nothing(
    stop: type[BaseException], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "tiny.gguf")
    save = ours._save

    def half(file: Path, folder: Path, dtype: torch.dtype) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise stop("enough")

    monkeypatch.setattr(ours, "_save", half)
    with pytest.raises((stop, OSError)):
        sl.load(tmp_path / "tiny.gguf")
    assert whole(cache) == []
    monkeypatch.setattr(ours, "_save", save)
    assert sl.load(tmp_path / "tiny.gguf").n_layers == N_LAYERS


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_short_is_said_to_be(share: float, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(OSError, match=r"tiny.gguf is damaged or cut short \([^\n]*\): get it again$"):
        sl.load(path)
    assert whole(cache) == []


def test_what_is_no_gguf_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(OSError, match=r"text.gguf is no GGUF file: it does not begin with GGUF$"):
        sl.load(tmp_path / "text.gguf")
    for name in ("no-such.gguf", "/no/such.gguf"):
        with pytest.raises(OSError, match=f"^no such file: {name}$"):
            sl.load(name)
    with pytest.raises(
        OSError, match=r"^user/repo/file.gguf: no such file here, and not to be had from the Hub \([^\n]*$"
    ):
        sl.load("user/repo/file.gguf")


def test_a_file_of_the_hub_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tiny.gguf")
    asked: list[Any] = []

    def download(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file, revision))
        return str(tmp_path / "tiny.gguf")

    monkeypatch.setattr(ours, "hf_hub_download", download)
    assert sl.load("user/repo/Q8/tiny.gguf", revision="v1").name == "tiny"
    assert asked == [("user/repo", "Q8/tiny.gguf", "v1")]


def test_an_architecture_that_transformers_does_not_know(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "tiny.gguf", architecture="rwkv7")
    with pytest.raises(ValueError, match=r"^transformers cannot read tiny.gguf: .*rwkv7[^\n]*$"):
        sl.load(tmp_path / "tiny.gguf")
    assert whole(cache) == []


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tiny.gguf")
    monkeypatch.setattr(ours, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(ImportError, match=r"^tiny.gguf needs gguf to be read: pip install 'steerlab\[gguf\]'$"):
        sl.load(tmp_path / "tiny.gguf")


def test_a_file_is_not_for_a_server(tmp_path: Path) -> None:
    write(tmp_path / "tiny.gguf")
    with pytest.raises(ValueError, match=r"is a GGUF file, which no server has: give the Hub name of its model$"):
        sl.load(tmp_path / "tiny.gguf", remote="http://127.0.0.1:1")


# --- the course models ------------------------------------------------------------------------------------------------


def packages(folder: Path, pieces: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed packages, each with a data file."""

    def distribution(name: str) -> Any:
        if name not in pieces:
            raise PackageNotFoundError(name)
        file = folder / name.replace("-", "_") / "data" / "piece.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pieces[name])
        listed = []
        for path in (file, file.parent.parent / "__init__.py"):
            listed.append(PackagePath(path.relative_to(folder)))
            listed[-1].dist = SimpleNamespace(locate_file=lambda entry: folder / entry)
        return SimpleNamespace(files=listed)

    monkeypatch.setattr(ours, "distribution", distribution)


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PreTrainedModel, dict[str, bytes]]:
    """A course model "tiny", whose file comes in three packages."""
    made = write(tmp_path / "made.gguf")
    content = (tmp_path / "made.gguf").read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    names = ("piece-1", "piece-2", "piece-3")
    third = len(content) // 3
    pieces = dict(zip(names, (content[:third], content[third : 2 * third], content[2 * third :]), strict=True))
    entry = ours.CourseModel("tiny-q8_0.gguf", checksum, "tiny", names, "nobody/tiny", "Tiny is free")
    monkeypatch.setattr(ours, "COURSE_MODELS", {"tiny": entry})
    return made, pieces


def test_a_course_model_is_put_together_from_its_packages(
    course: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, pieces = course
    packages(tmp_path, pieces, monkeypatch)
    lm = sl.load("tiny", device="cpu")
    with torch.no_grad():
        expected = made(torch.tensor([lm.ids(PROMPTS[0])])).logits[:, -1]
    torch.testing.assert_close(lm.logits(PROMPTS[0]), expected, rtol=1e-5, atol=1e-5)
    assert lm.name == "tiny-q8_0"
    assert "Tiny is free.\n" in capsys.readouterr().err
    assert len(whole(cache)) == 1
    packages(tmp_path, {}, monkeypatch)  # the packages may go
    assert sl.load("tiny", device="cpu").revision == lm.revision


def test_packages_that_are_not_what_they_should_be_are_refused(
    course: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages(tmp_path, course[1] | {"piece-2": b"other"}, monkeypatch)
    with pytest.raises(OSError, match=r"^the packages of tiny-q8_0.gguf are damaged: pip install --force-reinstall"):
        sl.load("tiny")
    assert whole(cache) == []


def test_without_packages_the_hub_is_asked_and_both_ways_are_said(
    course: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages(tmp_path, {"piece-1": b"alone"}, monkeypatch)
    says = r"^cannot load 'nobody/tiny': [^\n]*; or else pip install 'steerlab\[tiny\]' \(Tiny is free\)$"
    with pytest.raises(OSError, match=says):
        sl.load("tiny")


def test_a_folder_goes_before_a_name(course: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    with pytest.raises(ValueError, match=r"^tiny is no folder of a transformers model: it is empty$"):
        sl.load("tiny")


def test_the_packages_are_those_of_the_extras() -> None:
    extras = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for entry in ours.COURSE_MODELS.values():
        pinned = dict(line.split("==") for line in extras[entry.extra] if "==" in line)
        assert set(entry.packages) <= set(pinned)
        assert "steerlab[gguf]" in extras[entry.extra]
        assert len(entry.sha256) == 64


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("STEERLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/steerlab")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "steerlab"
    assert checkpoint.Wanted().weights
