"""What a server gave back, held against what was asked for before it is believed, or even unpacked."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import zstandard
from torch import Tensor

from .faults import DamagedError
from .passes import Call, Form

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""What the numbers of a model may come in: a server may run another precision than is known here."""


def leaves(gives: Any) -> Iterator[Form]:
    """All forms in a structure."""
    if isinstance(gives, Form):
        yield gives
    elif isinstance(gives, dict | list | tuple):
        for part in gives.values() if isinstance(gives, dict) else gives:
            yield from leaves(part)


def size_of(gives: Any) -> int:
    """Bytes of all tensors in a structure, at most."""
    return sum(form.size for form in leaves(gives))


def parts(calls: Sequence[Call], limit: int) -> Iterator[list[Call]]:
    """Calls in their order, in as few requests as the limit of result bytes allows; one at least in each."""
    part: list[Call] = []
    size = 0
    for call in calls:
        more = size_of(call.gives)
        if part and size + more > limit:
            yield part
            part, size = [], 0
        part.append(call)
        size += more
    if part:
        yield part


def names(calls: Sequence[Call]) -> str:
    """The functions that run, each once."""
    return ", ".join(dict.fromkeys(call.work.__name__ for call in calls))


def most_bytes(calls: Sequence[Call]) -> int:
    """Bytes that a saved result of these calls can have: its numbers in double precision, names and alignment."""
    forms = list(leaves([call.gives for call in calls]))
    return 2**16 + sum(2 * form.size + (2 * form.size if form.dtype.itemsize < 4 else 0) + 2**11 for form in forms)


def unpacked(content: bytes, most: int) -> Any:
    """Tensors and plain values from a compressed file of torch, of at most so many bytes; anything else is refused.

    Raises:
        DamagedError: it is longer, no such file, or holds other things.
    """
    try:
        with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(io.BytesIO(content)) as reader:
            plain = reader.read(most + 1)
        if len(plain) > most:
            raise DamagedError(f"it unpacks to more than the {most:,} bytes that it could have")
        with zipfile.ZipFile(io.BytesIO(plain)) as archive:  # torch would inflate what is compressed in it once more
            names = {entry.filename.rpartition("/")[2] for entry in archive.infolist()}
            if (
                any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
                or "constants.pkl" in names
            ):
                raise DamagedError("it is no plain file of tensors")
        return torch.load(io.BytesIO(plain), map_location="cpu", weights_only=True)
    except DamagedError:
        raise
    except Exception as error:  # whatever the readers make of it
        raise DamagedError(f"it cannot be read: {type(error).__name__}") from None


def checked(saved: Any, calls: Sequence[Call]) -> list[Any]:
    """Results that are what the calls give.

    Raises:
        DamagedError: they are not.
    """
    results = saved.get("results") if isinstance(saved, dict) and len(saved) == 1 else None
    if not isinstance(results, list) or not fits([call.gives for call in calls], results):
        raise DamagedError("it is not what was asked for")
    return results


def fits(gives: Any, result: Any) -> bool:
    """Whether a result has the structure, the shapes and the kinds of numbers that were announced."""
    if isinstance(gives, Form):
        plain = isinstance(result, Tensor) and result.layout == torch.strided
        return plain and _same_kind(gives.dtype, result.dtype) and _same_shape(gives, result.shape)
    if isinstance(gives, dict):
        named = isinstance(result, dict) and gives.keys() == result.keys()
        return named and all(fits(gives[name], result[name]) for name in gives)
    if isinstance(gives, list | tuple):
        return isinstance(result, list | tuple) and len(result) == len(gives) and all(map(fits, gives, result))
    return gives is None and result is None


def _same_kind(asked: torch.dtype, came: torch.dtype) -> bool:
    return came in FLOATS if asked.is_floating_point else came == asked


def _same_shape(form: Form, shape: Sequence[int]) -> bool:
    """Equal, but for the axis along which a result may be shorter."""
    if len(shape) != len(form.shape):
        return False
    pairs = enumerate(zip(form.shape, shape, strict=True))
    return all(came <= asked if axis == form.shorter else came == asked for axis, (asked, came) in pairs)
