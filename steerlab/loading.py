"""Find a model, load it, and say in one line what is wrong with one that cannot be loaded."""

import contextlib
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .intervention import Intervention, read_intervention
from .jobs import Runner
from .layout import Layout, find_layout
from .model import SteerableModel

BUNDLED = Path(__file__).parent / "bundled"


def load(
    model: str | Path | PreTrainedModel | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    device_map: str | dict[str, Any] | None = None,
    layout: Layout | None = None,
    revision: str | None = None,
    bos: bool | None = None,
    remote: bool | str | Runner = False,
) -> SteerableModel:
    """Load a causal language model to steer.

    Args:
        model: nothing for the bundled model, a local folder, a Hub name, or a loaded transformers model.
        tokenizer: needed with a loaded model, otherwise taken from the model's own place.
        device: CUDA where there is one, else the CPU; a loaded model stays where it is.
        dtype: float32 on the CPU, the checkpoint's own elsewhere; a loaded model keeps its own.
        device_map: of accelerate, to spread a large model; then `device` is not used.
        layout: for a family that `steerlab.layout.LAYOUTS` lacks.
        revision: of a Hub model.
        bos: whether plain text gets BOS in front; by default what the tokenizer itself does. (GPT-2's does not, the
            released ActAdd code does: pass True to do as it.)
        remote: True to leave the weights on NDIF and read tokenizer and config alone; an address for another server
            (name one that you trust: see `Remote`, which also takes a time-out); "local" to go the way of a request
            in this process. The key is the variable NDIF_API_KEY, or what `nnsight login` has kept.

    Raises:
        OSError: the model is neither a local folder, nor cached, nor to be had from the Hub.
        TypeError: it is neither a name nor a transformers model.
        ValueError: it is not a causal language model, or its family is unknown and no layout is given.
    """
    runner = _runner(remote)
    if isinstance(model, PreTrainedModel):
        if tokenizer is None:
            raise ValueError("a loaded model needs its tokenizer: load(model, tokenizer=...)")
        moved = {"device": device, "dtype": dtype}
        hf = model.to(**{name: value for name, value in moved.items() if value is not None})  # type: ignore[arg-type]
    elif not isinstance(model, str | Path | None):
        raise TypeError(f"cannot load a {type(model).__name__}: give a folder, a Hub name, or a transformers model")
    else:
        source = BUNDLED if model is None else model
        weights = runner is None or runner.weights
        hf, tokenizer = _from_pretrained(str(source), tokenizer, device, dtype, device_map, revision, weights)
    if hf.config.is_encoder_decoder or not hf.can_generate():
        raise ValueError(f"{type(hf).__name__} is not a causal language model")
    name = "steerlab/bundled" if model is None else str(hf.config._name_or_path or type(hf).__name__)
    found = find_layout(hf, hf.config.model_type, layout)
    commit = getattr(hf.config, "_commit_hash", None) or revision
    return SteerableModel(hf, tokenizer, found, name, commit, runner, bos)


def _runner(remote: bool | str | Runner) -> Runner | None:
    """The runner that `load(remote=...)` names; None for this process."""
    if not remote or isinstance(remote, Runner):
        return remote or None
    from .remote import Remote  # which needs more of nnsight than a local user does

    return Remote(None if remote is True else remote)


def _from_pretrained(
    source: str,
    tokenizer: PreTrainedTokenizerBase | None,
    device: str | torch.device | None,
    dtype: torch.dtype | None,
    device_map: str | dict[str, Any] | None,
    revision: str | None,
    weights: bool,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Weights, or their shapes alone, and tokenizer from a folder or the Hub."""
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    wanted: torch.dtype | str = dtype or (torch.float32 if place.type == "cpu" and device_map is None else "auto")
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
        if type(config) not in AutoModelForCausalLM._model_mapping:
            raise ValueError(f"{source} ({config.model_type}) is not a causal language model")
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(source, revision=revision)
        if not weights:
            config._name_or_path = source
            with torch.device("meta"):
                bare = AutoModelForCausalLM.from_config(config, dtype=dtype or config.dtype)  # type: ignore[no-untyped-call]
            with contextlib.suppress(OSError):  # it has none: the config says the same
                bare.generation_config = GenerationConfig.from_pretrained(source, revision=revision or "main")
            return bare, tokenizer
        spread = {"device_map": device_map} if device_map is not None else {}
        hf = AutoModelForCausalLM.from_pretrained(source, revision=revision, dtype=wanted, **spread)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(
            f"cannot load {source!r}: no such folder, not in the Hugging Face cache, and not to be had from the Hub "
            f"({reason}). Give a local folder, download the model once with a network, or use load() for the "
            "bundled model"
        ) from None
    return hf if device_map is not None else hf.to(place), tokenizer  # type: ignore[arg-type]  # `to` is ill-typed


def load_intervention(path: str | Path, lm: SteerableModel, *, any_model: bool = False) -> Intervention:
    """Read a saved intervention for a model.

    Args:
        path: what `Intervention.save` wrote.
        lm: the model to steer.
        any_model: accept one that was made for another model, revision of it, or tokenizer.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, not ours, or made for another model.
    """
    intervention = read_intervention(path)
    mine = lm.info()
    what = ("model", "revision", "tokenizer")
    if not any_model and any(intervention.info.get(key) != mine[key] for key in what):
        theirs, ours = (", ".join(f"{key} {info.get(key)}" for key in what) for info in (intervention.info, mine))
        raise ValueError(f"{path} was made for {theirs}; this is {ours}: pass any_model=True to use it all the same")
    return intervention
