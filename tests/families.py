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


def _maker(name: str, config_name: str = "", **settings: Any) -> Callable[[int], PreTrainedModel]:
    """The constructor of transformers' models of this name."""

    def make(vocabulary: int) -> PreTrainedModel:
        ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        config = getattr(transformers, f"{config_name or name}Config")(vocab_size=vocabulary, **ends, **settings)
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

_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_BLOOM = {"hidden_size": D_MODEL, "n_layer": N_LAYERS, "n_head": 4, "initializer_range": 0.3}
_NEO = {"hidden_size": D_MODEL, "num_layers": N_LAYERS, "num_heads": 4, "max_position_embeddings": CONTEXT}
_NEO |= {"attention_types": [[["global", "local", "global"], 1]], "window_size": 6, "initializer_range": 0.3}
_FALCON = {"hidden_size": D_MODEL, "num_hidden_layers": N_LAYERS, "num_attention_heads": 4, "initializer_range": 0.3}
_GEMMA4 = {"global_head_dim": 8, "num_kv_shared_layers": 0, "sliding_window": 6, **_GROUPED}

MORE: dict[str, Family] = {
    "gpt_neo": Family(_maker("GPTNeo", **_NEO), "transformer.h", "attn", "mlp", learned=True),
    "falcon": Family(
        _maker("Falcon", parallel_attn=False, bias=True, multi_query=False, **_FALCON),
        "transformer.h",
        "self_attention",
        "mlp",
    ),
    "gemma": Family(_llama_like("Gemma", **_GROUPED), *_LLAMA),
    "gemma3": Family(_llama_like("Gemma3", config_name="Gemma3Text", sliding_window=6, **_GROUPED), *_POST_NORM),
    "gemma4": Family(
        _llama_like("Gemma4", config_name="Gemma4Text", hidden_size_per_layer_input=0, **_GEMMA4), *_POST_NORM
    ),
    "stablelm": Family(_llama_like("StableLm", num_key_value_heads=4), *_LLAMA),
    "cohere": Family(_llama_like("Cohere"), *_LLAMA),
    "smollm3": Family(_llama_like("SmolLM3", num_key_value_heads=2), *_LLAMA),
    "olmo": Family(_llama_like("Olmo"), *_LLAMA),
    "olmo2": Family(_llama_like("Olmo2"), *_POST_NORM),
    "starcoder2": Family(_llama_like("Starcoder2", num_key_value_heads=2), *_LLAMA),
    "mixtral": Family(_llama_like("Mixtral", num_key_value_heads=2, num_local_experts=3), *_LLAMA),
    "qwen2_moe": Family(
        _llama_like("Qwen2Moe", num_key_value_heads=2, shared_expert_intermediate_size=16, **_MOE), *_LLAMA
    ),
    "qwen3_moe": Family(_llama_like("Qwen3Moe", **_GROUPED, **_MOE), *_LLAMA),
    "gpt_oss": Family(_llama_like("GptOss", num_local_experts=3, num_experts_per_tok=2, **_GROUPED), *_LLAMA),
    "nemotron": Family(_llama_like("Nemotron", num_key_value_heads=2), *_LLAMA),
    "glm": Family(_llama_like("Glm", **_GROUPED), *_LLAMA),
    "glm4": Family(_llama_like("Glm4", **_GROUPED), "model.layers", "post_self_attn_layernorm", "post_mlp_layernorm"),
    # not in the package's table, which finds their parts
    "cohere2": Family(_llama_like("Cohere2", num_key_value_heads=2), *_LLAMA),
    "codegen": Family(_maker("CodeGen", rotary_dim=4, **_GPT2), "transformer.h", "attn", "mlp"),
    "granitemoe": Family(
        _llama_like("GraniteMoe", num_local_experts=3, num_experts_per_tok=2),
        "model.layers",
        "self_attn",
        "block_sparse_moe",
    ),
}
"""Families beyond the matrix."""

EVERY = FAMILIES | MORE

STREAM_ONLY: dict[str, Callable[[int], PreTrainedModel]] = {
    "bloom": _maker("Bloom", **_BLOOM),  # its sublayers return the stream with the residual in it
    "mpt": _maker("Mpt", d_model=D_MODEL, n_layers=N_LAYERS, n_heads=4, max_seq_len=CONTEXT, initializer_range=0.3),
    "granite": _llama_like("Granite", residual_multiplier=0.22),  # multiplies what they return
    "falcon in parallel": _maker("Falcon", **_FALCON),  # adds the attention to the MLP's output in place
    "post-norm opt": _maker("OPT", init_std=0.3, do_layer_norm_before=False, **_OPT),
    "gemma4 with inputs per layer": _llama_like(
        "Gemma4",
        config_name="Gemma4Text",
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=9000,
        **_GEMMA4,
    ),
}
"""Models in which no two modules' outputs are what attention and MLP add to the stream."""

_TEXT = {"hidden_size": D_MODEL, "intermediate_size": 48, "num_hidden_layers": N_LAYERS, "num_attention_heads": 4}
_TEXT |= {"num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "initializer_range": 0.3}
_TEXT |= {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
_ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": N_LAYERS, "num_attention_heads": 2}
_VISION |= {"image_size": 28, "patch_size": 14}
_LLAMA4 = {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16, "intermediate_size": 64}


def _wrapper(name: str, text: dict[str, Any], vision: dict[str, Any], *tokens: str, **more: Any) -> PreTrainedModel:
    """A model that reads images too, whose vision tower has as many layers as its language model."""
    vocabulary = len(tokenizer())
    images = {token: vocabulary + number for number, token in enumerate(tokens)}
    text = {"vocab_size": vocabulary + len(tokens), **_TEXT, **text}
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision, **images, **more)
    model: PreTrainedModel = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    return model


_QWEN_IMAGES = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
WRAPPERS: dict[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "Gemma 3": (
        lambda: _wrapper(
            "Gemma3",
            {"head_dim": 8},
            {"model_type": "siglip_vision_model", **_VISION},
            *("boi_token_index", "eoi_token_index", "image_token_index"),
            mm_tokens_per_image=4,
        ),
        "",
    ),
    "LLaVA": (
        lambda: _wrapper(
            "Llava",
            {"model_type": "llama"},
            {"model_type": "clip_vision_model", "projection_dim": 16, **_VISION},
            "image_token_index",
        ),
        "",
    ),
    "Qwen2.5-VL": (
        lambda: _wrapper(
            "Qwen2_5_VL",
            _ROPE,
            {"depth": 3, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": D_MODEL},
            *_QWEN_IMAGES,
        ),
        "",
    ),
    "Llama 4": (
        lambda: _wrapper(
            "Llama4",
            {"head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 2},
            {**_VISION, **_LLAMA4},
            *("boi_token_index", "eoi_token_index", "image_token_index"),
        ),
        "language_model",
    ),
}
"""Models that read images too, and the path to the causal language model in them, where it is one of its own."""


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the bundled model: bytes, with BOS, EOS and padding all token 0."""
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(BUNDLED)
    return loaded


def settled(model: PreTrainedModel) -> PreTrainedModel:
    """A model for use, its biases and norms moved from the zeros and ones that would hide a path that skips one."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def fresh(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A new model of a family with random weights, every time the same."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        make = STREAM_ONLY[family] if family in STREAM_ONLY else EVERY[family].make
        model = settled(make(len(tokenizer())))
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
