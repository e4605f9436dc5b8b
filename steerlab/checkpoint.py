"""A model and its tokenizer from a folder or the Hub, and one line on what is wrong with one that cannot be read."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch
import transformers
from safetensors import SafetensorError
from transformers.utils.peft_utils import find_adapter_config_file

Pair: TypeAlias = "tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]"

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Wanted:
    """How a checkpoint is to be read: arguments of `steerlab.load`, and whether its weights are wanted or shapes do."""

    device: str | torch.device | None = None
    dtype: torch.dtype | None = None
    device_map: str | dict[str, Any] | None = None
    revision: str | None = None
    weights: bool = True


def read(source: str, tokenizer: transformers.PreTrainedTokenizerBase | None, wanted: Wanted) -> Pair:
    """Weights, or their shapes alone, and tokenizer.

    Args:
        source: a folder with a model or an adapter of one, or a Hub name of either.
        tokenizer: one to use in place of the source's own.
        wanted: where the weights go, and in which dtype.

    Raises:
        ImportError: it is an adapter, and `peft` is not installed.
        OSError: it is neither a folder, nor cached, nor to be had from the Hub; or files are missing or damaged.
        ValueError: it is no causal language model, has no tokenizer, or needs code of its own.
    """
    if Path(source).exists():
        check_folder(Path(source), wanted.weights)
    if described := _adapter_config(source, wanted.revision):
        return _read_adapter(source, described, tokenizer, wanted)
    with one_line(source):
        config = transformers.AutoConfig.from_pretrained(source, revision=wanted.revision, trust_remote_code=False)
    auto = auto_class(config, source)
    tokenizer = tokenizer or _read_tokenizer(source, wanted.revision)
    with one_line(source):
        return (_read_weights if wanted.weights else _read_shapes)(auto, config, source, wanted), tokenizer


def check_folder(folder: Path, weights: bool = True) -> None:
    """Refuse what is no folder of a model or of an adapter, or one whose files are missing.

    Raises:
        OSError: it is a file, or files are missing or damaged.
        ValueError: it holds no model.
    """
    if folder.is_file():
        raise OSError(f"{folder} is a file, not the folder of a model: give the folder, or a file that ends in .gguf")
    names = {path.name for path in folder.iterdir()}
    if "adapter_config.json" in names:
        if "adapter_model.safetensors" not in names:
            raise OSError(f"{folder} has the config of an adapter but no weights: adapter_model.safetensors is missing")
        return
    if "config.json" not in names:
        ggufs = sorted(name for name in names if name.endswith(".gguf"))
        holds = f"a GGUF file: load({str(folder / ggufs[0])!r})" if ggufs else "files, but no config.json"
        raise ValueError(
            f"{folder} is no folder of a transformers model: it {'holds ' + holds if names else 'is empty'}"
        )
    if not weights:
        return
    needed = set(_json(folder / INDEX).get("weight_map", {}).values()) if INDEX in names else set()
    if missing := sorted(needed - names):
        raise OSError(f"{folder} lacks {len(missing)} of its {len(needed)} files of weights, such as {missing[0]}")
    if not any(name.endswith(".safetensors") for name in names):
        pickled = any(name.endswith(".bin") for name in names)
        why = "they are pickled, and pickles are not loaded: save them" if pickled else "get them"
        raise OSError(f"{folder} has a config.json but no weights as safetensors: {why} as model.safetensors")


@contextlib.contextmanager
def one_line(source: str) -> Iterator[None]:
    """Say in one line what transformers says in many.

    Raises:
        OSError: a file is missing or damaged, or the Hub cannot be reached.
        ValueError: whatever else transformers refuses.
    """
    try:
        yield
    except (SafetensorError, EOFError) as error:
        raise OSError(f"the weights in {source} are damaged or cut short ({reason(error)}): get them again") from None
    except OSError as error:
        if Path(source).exists():
            raise OSError(f"cannot load {source}: {reason(error)}") from None
        raise OSError(
            f"cannot load {source!r}: no such folder, not in the Hugging Face cache, and not to be had from the Hub "
            f"({reason(error)}). Give a local folder, download the model once with a network, or use load() for the "
            "bundled model"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"{source} brings code of its own, which is not run: load it yourself, look at that code first, and "
                "pass load(model, tokenizer=..., layout=...)"
            ) from None
        raise ValueError(f"cannot load {source}: {reason(error)}") from None


def auto_class(config: transformers.PretrainedConfig, source: str) -> Any:
    """The transformers class that makes the model of a config; one with images only where there is none without.

    Raises:
        ValueError: it is not a causal language model.
    """
    for auto in (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText):
        if type(config) in auto._model_mapping and not config.is_encoder_decoder:
            return auto
    raise ValueError(f"{source} ({config.model_type}) is not a causal language model")


def from_pretrained(auto: Any, source: str, **options: Any) -> transformers.PreTrainedModel:
    """A model all of whose weights are in the checkpoint; transformers makes up what is missing, and goes on.

    Raises:
        OSError: weights are missing or have other shapes.
    """
    options |= {"use_safetensors": True, "trust_remote_code": False, "ignore_mismatched_sizes": True}
    model, report = auto.from_pretrained(source, output_loading_info=True, **options)
    if missing := sorted(report["missing_keys"]):
        raise OSError(f"{len(missing)} of its weights are missing, such as {missing[0]}")
    if odd := sorted(report["mismatched_keys"], key=str):
        raise OSError(f"{len(odd)} of its weights have other shapes than its config says, such as {odd[0][0]}")
    return model


def _read_weights(
    auto: Any, config: transformers.PretrainedConfig, source: str, wanted: Wanted
) -> transformers.PreTrainedModel:
    """The model with its weights, on its device."""
    place = torch.device(wanted.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    on_cpu = place.type == "cpu" and wanted.device_map is None
    options: dict[str, Any] = {"dtype": wanted.dtype or (torch.float32 if on_cpu else "auto")}
    if wanted.device_map is not None:
        options["device_map"] = wanted.device_map
    model = from_pretrained(auto, source, revision=wanted.revision, **options)
    return model if wanted.device_map is not None else model.to(place)


def _read_shapes(
    auto: Any, config: transformers.PretrainedConfig, source: str, wanted: Wanted
) -> transformers.PreTrainedModel:
    """The model on the meta device."""
    config._name_or_path = source
    with torch.device("meta"):
        model: transformers.PreTrainedModel = auto.from_config(config, dtype=wanted.dtype or config.dtype)
    with contextlib.suppress(OSError):  # it has none: the config says the same
        model.generation_config = transformers.GenerationConfig.from_pretrained(
            source, revision=wanted.revision or "main"
        )
    return model


def _read_tokenizer(source: str, revision: str | None) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer beside a model; without files transformers may make an empty one."""
    why = "it has no vocabulary"
    try:
        tokenizer: transformers.PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=False
        )
        if len(tokenizer) > len(tokenizer.all_special_tokens):
            return tokenizer
    except Exception as error:  # of a dozen kinds
        why = reason(error)
    raise ValueError(f"{source} has no tokenizer that can be read ({why}): pass tokenizer=") from None


def _adapter_config(source: str, revision: str | None) -> Path | None:
    """The config of an adapter in a folder or on the Hub, if it is one."""
    with contextlib.suppress(OSError, ValueError):  # what is wrong with the source shows when its config is read
        described = find_adapter_config_file(source, revision=revision)
        return Path(described) if described else None
    return None


def _read_adapter(
    source: str, described: Path, tokenizer: transformers.PreTrainedTokenizerBase | None, wanted: Wanted
) -> Pair:
    """The base model of a PEFT adapter, the adapter merged into it."""
    adapter = _json(described)
    base = adapter.get("base_model_name_or_path")
    kind = f"{source} is an adapter ({adapter.get('peft_type', 'PEFT')}) of the model {base!r}"
    if not base:
        raise ValueError(f"{kind}, which it does not name: load that and the adapter yourself, and pass the model")
    if find_spec("peft") is None:
        raise ImportError(f"{kind}: pip install peft, or give a folder in which both are merged")
    if not wanted.weights:
        raise ValueError(f"{kind}: a server has the weights of that model alone, so give its name instead")
    with contextlib.suppress(ValueError):  # then that of the base
        tokenizer = tokenizer or _read_tokenizer(source, wanted.revision)
    try:
        model, tokenizer = read(str(base), tokenizer, Wanted(wanted.device, wanted.dtype, wanted.device_map))
    except (OSError, ValueError) as error:
        raise type(error)(f"{kind}, and {error}") from None
    try:
        wrapped = importlib.import_module("peft").PeftModel.from_pretrained(model, source, revision=wanted.revision)
        adapted(wrapped)
        merged: transformers.PreTrainedModel = wrapped.merge_and_unload()
    except Exception as error:
        raise OSError(f"{kind}, and cannot be put on it: {reason(error)}") from None
    merged.config._name_or_path = f"{base} with {Path(source).name}"
    return merged, tokenizer


def adapted(model: Any) -> transformers.PreTrainedModel:
    """The base model of a PEFT model, its adapter in place.

    Raises:
        ValueError: the adapter is not in the base model's modules.
    """
    if any(config.is_prompt_learning for config in model.peft_config.values()):
        raise ValueError(
            f"its adapter {model.active_adapter!r} adds tokens to the prompt: only LoRA's like can be steered"
        )
    return model.get_base_model()


def _json(path: Path) -> dict[str, Any]:
    """What a JSON file holds."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OSError(f"{path} is damaged: {reason(error)}") from None
    if not isinstance(content, dict):
        raise OSError(f"{path} is damaged: it holds no JSON object")
    return content


def reason(error: BaseException) -> str:
    """The first line of an error."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
