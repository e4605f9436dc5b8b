"""How a model's blocks are named, and what they add to the residual stream: a table, a probe, and a check of both."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers
from torch import Tensor, nn

Seen = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Layout:
    """Where the parts of a decoder stand in its module tree.

    Args:
        blocks: path from the model to its list of blocks.
        attn: path from a block to the module whose output the attention sublayer adds to the residual stream; None
            where no module's output is that, and then neither `attn_out` nor `mlp_out` can be read or edited.
        mlp: the same for the MLP sublayer.
    """

    blocks: str
    attn: str | None = None
    mlp: str | None = None

    def __post_init__(self) -> None:
        if (self.attn is None) != (self.mlp is None):
            raise ValueError(f"a layout names both attn and mlp, or neither: attn={self.attn!r}, mlp={self.mlp!r}")


_LLAMA = Layout("model.layers", "self_attn", "mlp")
_POST_NORM = Layout("model.layers", "post_attention_layernorm", "post_feedforward_layernorm")
_GPT2 = Layout("transformer.h", "attn", "mlp")

LAYOUTS: dict[str, Layout] = {
    "gpt2": _GPT2,
    "gpt_neo": _GPT2,
    "gpt_neox": Layout("gpt_neox.layers", "attention", "mlp"),
    "gptj": _GPT2,
    "falcon": Layout("transformer.h"),
    "bloom": Layout("transformer.h"),
    "mpt": Layout("transformer.blocks"),
    "granite": Layout("model.layers"),
    "gemma4_text": Layout("model.layers"),
    "opt": Layout("model.decoder.layers", "self_attn", "fc2"),
    "gemma2": _POST_NORM,
    "gemma3_text": _POST_NORM,
    "olmo2": _POST_NORM,
    "llama4_text": Layout("model.layers", "self_attn", "feed_forward"),
    "glm4": Layout("model.layers", "post_self_attn_layernorm", "post_mlp_layernorm"),
} | dict.fromkeys(
    (
        "llama",
        "mistral",
        "mixtral",
        "qwen2",
        "qwen2_moe",
        "qwen2_vl_text",
        "qwen2_5_vl_text",
        "qwen3",
        "qwen3_moe",
        "qwen3_vl_text",
        "gemma",
        "phi",
        "phi3",
        "cohere",
        "glm",
        "gpt_oss",
        "nemotron",
        "olmo",
        "smollm3",
        "stablelm",
        "starcoder2",
    ),
    _LLAMA,
)
"""Layouts by the `model_type` of a transformers text config; with blocks alone where not every model adds up."""

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
    if path is None or not _leads(model, path):
        return None
    scaled_later = model_type.startswith("gemma") and not hasattr(model.get_submodule(path), "embed_scale")
    return None if scaled_later else path  # transformers before 5.22 scales Gemma's embedding outside of any module


def find_layout(model: transformers.PreTrainedModel, layout: Layout | None = None) -> Layout:
    """The layout of a model: the one given, else that of its family, else what its module tree shows.

    Four tokens are run to see that at each block resid_pre + attn_out + mlp_out = resid_post, up to the rounding of the
    dtype. Where that does not hold, a warning says so, and the layout returned names blocks alone. Without weights
    nothing can be run: the layout given or that of the table counts.

    Args:
        model: a transformers causal LM; of one that reads images too, the language model is meant.
        layout: one given by the user.

    Raises:
        ValueError: no blocks are found or a path does not lead to a module; or the blocks do not hand on one stream,
            [batch, pos, d_model].
    """
    known = layout or LAYOUTS.get(model.config.get_text_config().model_type)
    lists = [known.blocks] if known and _leads(model, known.blocks) else _block_lists(model)
    if layout is not None:
        _check_paths(model, layout)
        lists = [layout.blocks]
    if all(parameter.is_meta for parameter in model.parameters()) and not hasattr(model, "hf_device_map"):
        return _unseen(model, known, lists)
    seen = _watch(model, lists, [part for part in (known.attn, known.mlp) if part] if known else [])
    streams = [blocks for blocks in lists if not _odd_block(model, seen, blocks)]
    if len(streams) != 1:
        raise ValueError(_no_blocks(model, lists, streams, seen))
    if layout is not None and layout.attn is None:
        return layout
    return _with_parts(model, seen, streams[0], known)


def _block_lists(model: transformers.PreTrainedModel) -> list[str]:
    """Paths of the module lists in the language model with as many members as it has layers, and parts in them."""
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    decoder = model.get_decoder()
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    long = [
        name
        for name, module in lists.items()
        if len(module) == layers and name.startswith(prefix) and list(module[0].children())
    ]
    return [name for name in long if not any(name.startswith(f"{other}.") for other in long)]


def _unseen(model: transformers.PreTrainedModel, known: Layout | None, lists: list[str]) -> Layout:
    """The layout of a model that cannot be run: the one known, at the blocks that its tree has."""
    if known is None or len(lists) != 1:
        raise ValueError(_no_blocks(model, lists, lists, {}))
    located = replace(known, blocks=lists[0])
    _check_paths(model, located)
    return located


def _watch(model: transformers.PreTrainedModel, lists: Iterable[str], parts: Iterable[str]) -> Seen:
    """Input and output of each block, and of its parts or children, when four tokens are read.

    The tensors are those that the modules passed on, not copies: where a block changes one in place, so that who reads
    it reads something else, it shows.
    """
    seen: Seen = {}
    with ExitStack() as hooks, torch.no_grad():
        for path in _paths(model, lists, parts):
            handle = model.get_submodule(path).register_forward_hook(_keep(seen, path), with_kwargs=True)
            hooks.callback(handle.remove)
        try:
            device = "cpu" if model.device.type == "meta" else model.device  # meta: all is offloaded to the disk
            model(input_ids=torch.tensor([[1, 2, 3, 4]], device=device), use_cache=False)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"{type(model).__name__} cannot read four token ids ({reason})") from error
    return seen


def _paths(model: nn.Module, lists: Iterable[str], parts: Iterable[str]) -> Iterator[str]:
    """Paths of all blocks, of their parts where they have them, and of their children."""
    for blocks in lists:
        for i, block in enumerate(_children(model, blocks)):
            names = dict.fromkeys([*parts, *(name for name, _ in block.named_children())])
            yield f"{blocks}.{i}"
            yield from (f"{blocks}.{i}.{name}" for name in names if _leads(block, name))


def _keep(seen: Seen, path: str) -> Callable[..., None]:
    """A hook that keeps the first input and output of a module, as it is called first."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        entering = next(iter((*args, *kwargs.values())), None)
        leaving = output[0] if isinstance(output, tuple) else output
        if isinstance(entering, Tensor) and isinstance(leaving, Tensor):
            seen.setdefault(path, (entering, leaving))

    return hook


def _odd_block(model: transformers.PreTrainedModel, seen: Seen, blocks: str) -> str:
    """What the first block does that does not map [batch, pos, d_model] to the same, or nothing."""
    shape = (1, 4, model.config.get_text_config().hidden_size)
    for i in range(len(_children(model, blocks))):
        pair = seen.get(f"{blocks}.{i}")
        if pair is None:
            return f"{blocks}.{i} is not run on text"
        if any(tensor.shape != shape for tensor in pair):
            return f"{blocks}.{i} maps {list(pair[0].shape)} to {list(pair[1].shape)}"
    return ""


def _with_parts(model: transformers.PreTrainedModel, seen: Seen, blocks: str, known: Layout | None) -> Layout:
    """A layout with the attention and the MLP that add up at every block, or without."""
    names = [name for name, _ in _children(model, blocks)[0].named_children()]
    attns, mlps = ([name for name in names if re.search(kind, name)] for kind in ("att", "mlp|ff|feed|fc|moe|expert"))
    pairs: Iterable[tuple[str, str | None]] = itertools.product(attns, mlps)
    tried = "for any two parts of a block"
    if known is not None and known.attn is not None:
        pairs, tried = [(known.attn, known.mlp)], f"with attn={known.attn!r} and mlp={known.mlp!r}"
    for attn, mlp in pairs:
        if all(_adds_up(seen, f"{blocks}.{i}", attn, mlp) for i in range(len(_children(model, blocks)))):
            return Layout(blocks, attn, mlp)
    warnings.warn(
        f"resid_pre + attn_out + mlp_out = resid_post does not hold in {type(model).__name__} {tried}: "
        "only resid_pre and resid_post can be read and edited",
        stacklevel=4,
    )
    return Layout(blocks)


def _adds_up(seen: Seen, block: str, attn: str | None, mlp: str | None) -> bool:
    """Whether a block's input and what its two sublayers add are its output, up to rounding."""
    pair, adds, more = seen[block], seen.get(f"{block}.{attn}"), seen.get(f"{block}.{mlp}")
    if adds is None or more is None or adds[1].numel() != pair[1].numel() or more[1].numel() != pair[1].numel():
        return False
    pre, post, *terms = (tensor.cpu().double().flatten() for tensor in (*pair, adds[1], more[1]))
    size = sum((term.abs() for term in terms), pre.abs() + post.abs())
    missing = (pre + sum(terms) - post).abs()
    finite = missing.isfinite()  # float16 may overflow, which says nothing of the layout
    return bool((missing <= 8 * torch.finfo(pair[1].dtype).eps * size)[finite].all())


def _check_paths(model: nn.Module, layout: Layout) -> None:
    """Refuse a layout that names a module which the model does not have."""
    parts = [f"{layout.blocks}.0.{part}" for part in (layout.attn, layout.mlp) if part is not None]
    for path in (layout.blocks, f"{layout.blocks}.0", *parts):
        if not _leads(model, path):
            raise ValueError(f"the layout names {path!r}, which {type(model).__name__} does not have")


def _no_blocks(model: transformers.PreTrainedModel, lists: list[str], streams: list[str], seen: Seen) -> str:
    """Why no blocks can be steered, in one line."""
    kind = f"{type(model).__name__} (model type {model.config.get_text_config().model_type!r})"
    if len(lists) == 1 and not streams:
        odd = _odd_block(model, seen, lists[0])
        return f"the blocks of {kind} do not hand on one stream [batch, pos, d_model]: {odd}"
    every = ", ".join(name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)) or "none"
    return f"no layout for {kind}: pass layout=Layout(blocks=..., attn=..., mlp=...); lists of modules in it: {every}"


def _leads(module: nn.Module, path: str) -> bool:
    """Whether a path leads to a module."""
    try:
        return bool(module.get_submodule(path))
    except AttributeError:
        return False


def _children(model: nn.Module, blocks: str) -> list[nn.Module]:
    """The blocks at a path."""
    return list(model.get_submodule(blocks).children())
