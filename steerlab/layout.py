"""How each model family names its blocks and what they add to the residual stream."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Layout:
    """Where the parts of a decoder stand in its module tree.

    Args:
        blocks: path from the model to its list of blocks.
        attn: path from a block to the module whose output the attention sublayer adds to the residual stream.
        mlp: the same for the MLP sublayer.
    """

    blocks: str
    attn: str
    mlp: str


_LLAMA = Layout("model.layers", "self_attn", "mlp")
_POST_NORM = Layout("model.layers", "post_attention_layernorm", "post_feedforward_layernorm")

LAYOUTS: dict[str, Layout] = {
    "gpt2": Layout("transformer.h", "attn", "mlp"),
    "gpt_neox": Layout("gpt_neox.layers", "attention", "mlp"),
    "gptj": Layout("transformer.h", "attn", "mlp"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _POST_NORM,
    "gemma3_text": _POST_NORM,
    "olmo2": _POST_NORM,
    "phi": _LLAMA,
    "phi3": _LLAMA,
    "opt": Layout("model.decoder.layers", "self_attn", "fc2"),
}
"""Layouts by the `model_type` of a transformers config."""

ENTRANCES: dict[str, str] = {
    "gpt2": "transformer.drop",
    "gptj": "transformer.drop",
    "gpt_neox": "gpt_neox.emb_dropout",
    "phi": "model.embed_dropout",
} | dict.fromkeys(
    ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3"), "model.embed_tokens"
)
"""The modules whose output is the stream that enters the first block, by `model_type`.

Families that add learned positions to the embedding outside of any module (OPT) have none.
"""


def find_entrance(model: nn.Module, model_type: str) -> str | None:
    """Path of the module whose output enters the first block, or None where no module's is known to."""
    path = ENTRANCES.get(model_type)
    if model_type.startswith("gemma") and path is not None:  # transformers before 5.22 scales its output afterwards
        path = path if hasattr(_submodule(model, path), "embed_scale") else None
    return path


def find_layout(model: nn.Module, model_type: str, layout: Layout | None = None) -> Layout:
    """The layout of a model, checked against its module tree.

    Args:
        model: a transformers causal LM.
        model_type: its config's `model_type`.
        layout: one given by the user, for a family that the table lacks.

    Raises:
        ValueError: the family is unknown and no layout is given, or a path does not lead to a module.
    """
    found = layout or LAYOUTS.get(model_type)
    if found is None:
        lists = ", ".join(_module_lists(model)) or "none"
        raise ValueError(
            f"no layout for model type {model_type!r}: looked among {', '.join(LAYOUTS)}; "
            f"pass layout=Layout(blocks=..., attn=..., mlp=...); lists of blocks in this model: {lists}"
        )
    _submodule(model, found.blocks)
    for path in (found.attn, found.mlp):
        _submodule(model, f"{found.blocks}.0.{path}")
    return found


def _submodule(model: nn.Module, path: str) -> nn.Module:
    """The module at a path, or one line that names what was looked for."""
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise ValueError(f"the layout names {path!r}, which {type(model).__name__} does not have") from None


def _module_lists(model: nn.Module) -> Iterator[str]:
    """Paths of all module lists, as candidates for `blocks`."""
    return (name for name, module in model.named_modules() if isinstance(module, nn.ModuleList))
