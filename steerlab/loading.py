"""Find a model, load it, and leave what the caller passes as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from torch import nn
from torch.overrides import TorchFunctionMode

from . import checkpoint, gguf, sharing
from .intervention import Intervention, read_intervention
from .jobs import Runner
from .layout import Layout, find_layout
from .model import SteerableModel

BUNDLED = Path(__file__).parent / "bundled"


def load(
    model: str | Path | transformers.PreTrainedModel | None = None,
    *,
    tokenizer: transformers.PreTrainedTokenizerBase | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    device_map: str | dict[str, Any] | None = None,
    layout: Layout | None = None,
    revision: str | None = None,
    bos: bool | None = None,
    remote: bool | str | Runner = False,
) -> SteerableModel:
    """Load a causal language model to steer; of one that reads images too, the language model is steered.

    A loaded model is shared, not copied, and not changed: its flags, mode and hooks stay as they are, and those that it
    gets later mean nothing here. Its weights are the same memory, so what writes into them (a step of training) shows;
    what replaces them (`to`, `half`) does not.

    Args:
        model: nothing for the bundled model; a local folder, a Hub name, or a folder or Hub name of a PEFT adapter,
            which is merged into its base model; a GGUF file, or "user/repo/file.gguf" on the Hub; a name of
            `steerlab.gguf.COURSE_MODELS`; a loaded transformers model or PEFT model.
        tokenizer: needed with a loaded model, otherwise taken from the model's own place.
        device: CUDA where there is one, else the CPU; a loaded model is used where it is, or copied.
        dtype: float32 on the CPU and for GGUF, the checkpoint's own elsewhere; a loaded model keeps its own, or is
            copied.
        device_map: of accelerate, to spread a large model; then `device` is not used.
        layout: for a family whose blocks are not found, or instead of what is found; see `find_layout`.
        revision: of a Hub model.
        bos: whether plain text gets BOS in front; by default what the tokenizer itself does. (GPT-2's does not, the
            released ActAdd code does: pass True to do as it.)
        remote: True to leave the weights on NDIF and read tokenizer and config alone; an address for another server
            (name one that you trust: see `Remote`, which also takes a time-out); "local" to go the way of a request
            in this process. The key is the variable NDIF_API_KEY, or what `nnsight login` has kept.

    Raises:
        ImportError: it needs a package that is not installed.
        OSError: the model is neither a local folder, nor cached, nor to be had from the Hub, or its files are damaged.
        TypeError: it is neither a name nor a transformers model.
        ValueError: it is not a causal language model, has no tokenizer, or its blocks are not found.

    Warns:
        UserWarning: `attn_out` and `mlp_out` cannot be read or edited in this model.
    """
    runner = _runner(remote)
    if runner is not None and not runner.weights:
        model = gguf.COURSE_MODELS[model].hub if isinstance(model, str) and model in gguf.COURSE_MODELS else model
        served = _served_dtype(runner, model)
        dtype = dtype or served
    wanted = checkpoint.Wanted(device, dtype, device_map, revision, weights=runner is None or runner.weights)
    if isinstance(model, str | Path | None):
        hf, tokenizer, name, commit = _read(model, tokenizer, wanted)
    else:
        (hf, name), commit = _borrowed(model, wanted), getattr(model.config, "_commit_hash", None)
        if tokenizer is None:
            raise ValueError("a loaded model needs its tokenizer: load(model, tokenizer=...)")
    if hf.config.is_encoder_decoder or not hf.can_generate():
        raise ValueError(f"{type(hf).__name__} is not a causal language model")
    hf = _language_model(hf).train(False)
    return SteerableModel(hf, tokenizer, find_layout(hf, layout), name, commit or revision, runner, bos, revision)


def _runner(remote: bool | str | Runner) -> Runner | None:
    """The runner that `load(remote=...)` names; None for this process."""
    if not remote or isinstance(remote, Runner):
        return remote or None
    from .remote import Remote  # which needs more of nnsight than a local user does

    return Remote(None if remote is True else remote)


def _served_dtype(runner: Runner, model: Any) -> torch.dtype | None:
    """The dtype in which a server runs a model, where it says so.

    Raises:
        ValueError: the model is a folder on this computer.
    """
    from .remote import introduced

    name = BUNDLED if model is None else getattr(getattr(model, "config", None), "_name_or_path", model)
    dtype = introduced(runner, str(name)).get("dtype")
    return getattr(torch, dtype) if dtype in ("float32", "bfloat16", "float16") else None


def _commit(source: str, revision: str | None) -> str | None:
    """The commit of a Hub model that lies in the cache, which transformers 5.22 and later do not tell."""
    try:
        file = None if Path(source).exists() else try_to_load_from_cache(source, "config.json", revision=revision)
    except ValueError:  # no name that the Hub could have
        return None
    return Path(file).parent.name if isinstance(file, str) else None


def _read(
    model: str | Path | None, tokenizer: transformers.PreTrainedTokenizerBase | None, wanted: checkpoint.Wanted
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase, str, str | None]:
    """Model, tokenizer, name and, of a GGUF file, checksum."""
    if model is None:
        return *checkpoint.read(str(BUNDLED), tokenizer, wanted), "steerlab/bundled", None
    located = gguf.locate(str(model), wanted)
    try:
        hf, tokenizer = checkpoint.read(located.source, tokenizer, wanted)
    except OSError as error:
        raise OSError(f"{error}; or else {located.otherwise}" if located.otherwise else str(error)) from None
    return hf, tokenizer, located.name or _name(hf), located.checksum or _commit(located.source, wanted.revision)


def _borrowed(model: Any, wanted: checkpoint.Wanted) -> tuple[transformers.PreTrainedModel, str]:
    """The caller's model as one of our own on the same weights, and its name."""
    name = ""
    if not isinstance(model, transformers.PreTrainedModel) and hasattr(model, "get_base_model"):  # of PEFT
        name, model = f" with {model.active_adapter}", checkpoint.adapted(model)
    if not isinstance(model, transformers.PreTrainedModel):
        raise TypeError(f"cannot load a {type(model).__name__}: give a folder, a Hub name, or a transformers model")
    shared = share(model)
    moved = {"device": wanted.device, "dtype": wanted.dtype}
    moved = {key: value for key, value in moved.items() if value is not None}
    return shared.to(**moved) if moved else shared, _name(model) + name


def _language_model(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """The causal language model inside of one that reads images too, if it is there as a whole (Llama 4, BLIP-2)."""
    inner: Any = model.get_decoder()
    return inner if isinstance(inner, transformers.PreTrainedModel) and inner.can_generate() else model


def _name(model: transformers.PreTrainedModel) -> str:
    """What a model is called: where it is from, or its class."""
    return str(model.config._name_or_path or type(model).__name__)


class _KeepTensors(TorchFunctionMode):
    """While it is on, a deep copy holds the tensors themselves."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is torch.Tensor.__deepcopy__ else func(*args, **(kwargs or {}))


def share(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """A model with modules, flags and hooks of its own, whose weights are the same memory.

    Its parameters are frozen; tied ones stay tied.
    """
    memo = {id(parameter): _alias(parameter) for parameter in model.parameters()}
    with _KeepTensors():
        return copy.deepcopy(model, memo)


def _alias(parameter: nn.Parameter) -> nn.Parameter:
    """A frozen parameter on the memory of another; one that is no tensor of its own (torchao) is left as it is."""
    if nn.Parameter not in type(parameter).__mro__:
        return parameter
    alias: nn.Parameter = torch.Tensor._make_subclass(type(parameter), parameter.data, False)
    vars(alias).update(vars(parameter))  # the scales of bitsandbytes, which its 8-bit modules take away when they run
    return alias


def load_intervention(
    path: str | Path,
    lm: SteerableModel,
    *,
    any_model: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> Intervention:
    """Read a saved intervention for a model.

    A model is known again by its tokenizer and its weights, whatever its folder is called; where the weights are not
    known (a remote model, an older file), by its name and revision. An intervention made by hand belongs to any model
    of its width.

    Args:
        path: what `Intervention.save` wrote, or a repository of the Hub, "user/name".
        lm: the model to steer.
        any_model: accept one that was made for another model of the same width, revision of it, or tokenizer.
        revision: of the repository.
        token: of an account that may read it; by default what `hf auth login` has kept.

    Raises:
        FileNotFoundError: no such file, nor such a repository.
        ValueError: truncated, not ours, or made for another model.
    """
    intervention = read_intervention(path, revision=revision, token=token)
    ours = lm.info()
    for theirs in () if any_model else sharing.origins(intervention.info):
        if not sharing.same_model(theirs, ours):
            models = f"{sharing.described(theirs)}; this is {sharing.described(ours)}"
            raise ValueError(f"{path} was made for {models}: pass any_model=True to use it all the same")
    lm.check_intervention(intervention)
    return intervention
