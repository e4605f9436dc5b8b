"""Tiny random models of every family, made on the spot, and where plain PyTorch finds their parts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import steerlab as sl

N_LAYERS = 3
D_MODEL = 32
CONTEXT = 64
BUNDLED = Path(sl.__file__).parent / "bundled"


@dataclass(frozen=True)
class Family:
    """How to make a model of a family, and where its parts are, written down apart from the package's own table.

    `learned` says whether its positions are learned vectors, added to the tokens' before the first block.
    """

    make: Callable[[int], PreTrainedModel]
    blocks: str
    attn: str
    mlp: str
    learned: bool = False


def _maker(name: str, **settings: Any) -> Callable[[int], PreTrainedModel]:
    """The constructor of transformers' models of this name."""

    def make(vocabulary: int) -> PreTrainedModel:
        ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        config = getattr(transformers, f"{name}Config")(vocab_size=vocabulary, **ends, **settings)
        kind = "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
        model: PreTrainedModel = getattr(transformers, kind)(config)
        return model

    return make


def _llama_like(name: str, **more: Any) -> Callable[[int], PreTrainedModel]:
    """The same for a family whose config has Llama's names."""
    width = {"hidden_size": D_MODEL, "intermediate_size": 48, "max_position_embeddings": CONTEXT}
    return _maker(name, **width, num_hidden_layers=N_LAYERS, num_attention_heads=4, initializer_range=0.3, **more)


_GPT2 = {"n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": 4, "n_positions": CONTEXT}
_OPT = {"hidden_size": D_MODEL, "word_embed_proj_dim": D_MODEL, "ffn_dim": 48, "num_attention_heads": 4}
_OPT |= {"num_hidden_layers": N_LAYERS, "max_position_embeddings": CONTEXT}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
_LLAMA = ("model.layers", "self_attn", "mlp")
_POST_NORM = ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm")

FAMILIES: dict[str, Family] = {
    "gpt2": Family(_maker("GPT2", initializer_range=0.3, **_GPT2), "transformer.h", "attn", "mlp", learned=True),
    "gpt_neox": Family(_llama_like("GPTNeoX"), "gpt_neox.layers", "attention", "mlp"),
    "llama": Family(_llama_like("Llama"), *_LLAMA),
    "mistral": Family(_llama_like("Mistral", sliding_window=6, **_GROUPED), *_LLAMA),
    "gemma2": Family(_llama_like("Gemma2", sliding_window=6, **_GROUPED), *_POST_NORM),
    "qwen2": Family(_llama_like("Qwen2", num_key_value_heads=2), *_LLAMA),
    "qwen3": Family(_llama_like("Qwen3", **_GROUPED), *_LLAMA),
    "opt": Family(_maker("OPT", init_std=0.3, **_OPT), "model.decoder.layers", "self_attn", "fc2", learned=True),
    "phi": Family(_llama_like("Phi"), *_LLAMA),
}


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the bundled model: bytes, with BOS, EOS and padding all token 0."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(BUNDLED)
    return loaded


def fresh(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A new model of a family with random weights, every time the same."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = FAMILIES[family].make(len(tokenizer()))
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and norms start as zeros and ones, which would hide a path that skips one
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.train(False)
    model.to(dtype)  # type: ignore[arg-type]  # transformers types it wrongly
    return model


@cache
def bare(family: str) -> PreTrainedModel:
    """The same, made once, for plain PyTorch; no test may change it."""
    return fresh(family).requires_grad_(False)


@cache
def steerable(family: str, dtype: torch.dtype = torch.float32) -> sl.SteerableModel:
    """The same, made once, to steer."""
    return sl.load(fresh(family, dtype), tokenizer=tokenizer())
