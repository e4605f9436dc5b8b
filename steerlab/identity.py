"""What tells one model from another: hashes of its vocabulary and its weights."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
import transformers
from torch import Tensor

from .kept import digest

if TYPE_CHECKING:
    from .model import SteerableModel


def tokenizer_hash(tokenizer: transformers.PreTrainedTokenizerBase) -> str:
    """Sixteen hex digits of the vocabulary's SHA-256."""
    return digest(tokenizer.get_vocab())[:16]


def fingerprint(hf: transformers.PreTrainedModel) -> str | None:
    """Sixteen hex digits that tell these weights from others; None where the weights are elsewhere.

    Of each tensor it takes the shape and about 256 values, rounded to bfloat16. So it does not depend on device or
    name, nor on whether the model was loaded in float32 or bfloat16. (float16 rounds otherwise.)
    """
    tensors = [parameter.detach() for parameter in hf.parameters()]
    if any(tensor.is_meta for tensor in tensors):
        return None
    sample = hashlib.sha256()
    for tensor in tensors:
        values = tensor.reshape(-1)[:: max(1, tensor.numel() // 256)]
        values = values.to(torch.bfloat16).view(torch.int16) if values.is_floating_point() else values
        sample.update(f"{list(tensor.shape)}{values.tolist()}".encode())
    return sample.hexdigest()[:16]


def identity(lm: SteerableModel) -> str:
    """Sixteen hex digits that tell one model from another: name, revision, tokenizer, dtype and weights.

    Of each weight tensor it takes its shape, the sum of its bits read as integers (which any order of summing gives
    alike), and some of its values, so that a change of a single number is seen. Kept tables know their model by it.
    """
    weights = [(name, list(tensor.shape), _bits(tensor)) for name, tensor in lm.hf.named_parameters()]
    return digest([1, [lm.name, lm.revision, lm.tokenizer_hash, str(lm.dtype), weights]])[:16]


def _bits(tensor: Tensor) -> list[int]:
    """A sum and a sample of a tensor's bits; nothing for one whose values are elsewhere."""
    if tensor.is_meta or not tensor.numel():
        return []
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    flat = tensor.detach().contiguous().flatten().view(integer)
    sample = flat[:: max(1, len(flat) // 16)]
    return [int(flat.sum(dtype=torch.int64)), *sample.tolist()]
