"""What a prompt may be, and its token ids: text, ids, chat messages, or what a tokenizer has encoded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]
"""A turn of a chat: `{"role": "user", "content": "..."}`; a last one of the assistant opens the answer."""

Prompt = str | Int[Tensor, " pos"] | Sequence[Message]
"""Text, token ids that are taken as they are, or the messages of a chat, which the chat template turns into text."""

Prompts = Prompt | Sequence[Prompt] | Int[Tensor, "batch pos"] | Mapping[str, Any] | pd.Series
"""One prompt or several; a tokenizer's encoding (`input_ids`, `attention_mask`) and a Series of texts are several."""

Plain = tuple[Tensor, Tensor, Tensor | None]
"""A batch as a pass is given it: ids [B, T], mask [B, T], and the left padding [B] or None."""


@dataclass(frozen=True)
class Batch:
    """Prompts as left-padded token ids.

    `pad` counts the padding of each row; it is None where no row is padded.
    """

    ids: Int[Tensor, "batch pos"]
    mask: Int[Tensor, "batch pos"]
    pad: Int[Tensor, " batch"] | None

    def __repr__(self) -> str:
        """Rows and widths, not the numbers."""
        rows, width = self.ids.shape
        return f"Batch({rows} x {width} tokens, {min(self.lengths)} to {max(self.lengths)} of them real)"

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], filler: int, device: torch.device) -> "Batch":
        """Rows of token ids, padded on the left by a token that the mask hides."""
        width = max(map(len, rows))
        ids = torch.tensor([[filler] * (width - len(row)) + [*row] for row in rows], device=device)
        if all(len(row) == width for row in rows):
            return cls(ids, torch.ones_like(ids), None)
        pad = torch.tensor([width - len(row) for row in rows], device=device)
        return cls(ids, (torch.arange(width, device=device) >= pad[:, None]).long(), pad)

    @property
    def plain(self) -> Plain:
        """As a tuple, which is what a pass is given."""
        return self.ids, self.mask, self.pad

    @property
    def lengths(self) -> list[int]:
        """Real tokens of each row."""
        rows, width = self.ids.shape
        return [width] * rows if self.pad is None else (width - self.pad).tolist()

    @property
    def rows(self) -> list[list[int]]:
        """The real tokens of each row."""
        return [row[len(row) - length :] for row, length in zip(self.ids.tolist(), self.lengths, strict=True)]

    def content(self, prefix: Sequence[int]) -> Bool[Tensor, "batch pos"]:
        """The real tokens, less the special ones (`prefix`, BOS as a rule) where a row begins with them."""
        real = self.mask.bool().clone()
        for row, ids in enumerate(self.rows):
            first = real.shape[1] - len(ids)
            real[row, first : first + leading(ids, prefix)] = False
        return real


def leading(ids: Sequence[int], prefix: Sequence[int]) -> int:
    """How many special tokens (`prefix`) a row of ids begins with: all of them or none."""
    return len(prefix) if list(ids[: len(prefix)]) == list(prefix) else 0


def special_prefix(tokenizer: PreTrainedTokenizerBase, bos: bool | None = None) -> list[int]:
    """The ids that are put in front of plain text: what the tokenizer itself puts there, BOS as a rule.

    Args:
        tokenizer: whose habit it is.
        bos: True puts BOS there whatever the habit, False nothing.

    Raises:
        ValueError: `bos` is True, and the tokenizer has no BOS token.
    """
    if bos is False:
        return []
    if bos:
        if tokenizer.bos_token_id is None:
            raise ValueError("bos=True, but the tokenizer has no BOS token: leave bos out")
        return [int(tokenizer.bos_token_id)]
    whole, bare = (list(tokenizer.encode("a", add_special_tokens=special)) for special in (True, False))
    starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[: next(starts, 0)]


def encode(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, prefix: Sequence[int]) -> list[int]:
    """Token ids of a prompt; `prefix` goes in front of text that does not begin with it already.

    Raises:
        ValueError: messages for a tokenizer without a chat template.
    """
    if isinstance(prompt, str):
        ids = list(tokenizer.encode(prompt, add_special_tokens=False))
        return ids if prefix and ids[:1] == list(prefix[:1]) else [*prefix, *ids]
    if is_chat(prompt):  # the template writes the special tokens itself
        return list(tokenizer.encode(chat_text(tokenizer, prompt), add_special_tokens=False))
    return [int(token) for token in prompt]  # type: ignore[arg-type]  # no messages, which are a chat


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """A chat as the tokenizer's template writes it, up to where the answer begins (the generation prompt).

    Where the last turn is the assistant's it is what the answer begins with, and is left open: no end of turn follows.

    Raises:
        ValueError: the tokenizer has no chat template, the template refuses the messages, or they hold more than text.
    """
    parts = (part for turn in messages if isinstance(turn["content"], list | tuple) for part in turn["content"])
    if odd := next((part for part in parts if not isinstance(part, Mapping) or part.get("type") != "text"), None):
        raise ValueError(f"the chat holds {_shown(odd)}: text alone is read here, without images or sound")
    if not tokenizer.chat_template:
        raise ValueError("the prompt is a chat, but the tokenizer has no chat template: give text, or a chat model")
    try:
        turns = [dict(turn) for turn in messages]
        begun = turns[-1]["role"] == "assistant"
        options = {"continue_final_message": begun, "add_generation_prompt": not begun}
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **options))
    except Exception as error:  # whatever a template raises
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ValueError(f"the chat template refuses these messages ({reason})") from None


def is_chat(prompt: Any) -> TypeGuard[Sequence[Message]]:
    """Whether a value is the list of a chat's messages."""
    many = isinstance(prompt, Sequence) and not isinstance(prompt, str) and len(prompt) > 0
    return many and all(isinstance(turn, Mapping) and {"role", "content"} <= set(turn) for turn in prompt)


def is_single(prompts: Any) -> bool:
    """Whether a value is one prompt rather than several."""
    return (
        isinstance(prompts, str) or is_chat(prompts) or (isinstance(prompts, Tensor | np.ndarray) and _is_ids(prompts))
    )


def as_list(prompts: Prompts) -> list[Prompt]:
    """Prompts as a list, also where one is given; padding that an encoding's mask hides is dropped.

    Raises:
        TypeError: a value that is no prompt.
        ValueError: an encoding with more than text, or whose mask is no padding at the ends.
    """
    if isinstance(prompts, pd.DataFrame):
        raise TypeError(f"a table is no prompt: give one of its columns ({', '.join(map(str, prompts.columns))})")
    if isinstance(prompts, Mapping):
        return list(_encoded(prompts))
    if is_single(prompts):
        return [_checked(prompts, None)]
    if isinstance(prompts, Tensor | np.ndarray) and prompts.ndim not in (1, 2):
        raise TypeError(f"ids of {prompts.ndim} dimensions are no prompts: give [pos] for one or [batch, pos]")
    if isinstance(prompts, Iterator):
        raise TypeError(f"{_shown(prompts)} can be read only once: give a list of it")
    if isinstance(prompts, BYTES | set | frozenset) or not isinstance(prompts, Iterable):
        raise TypeError(f"{_shown(prompts)} is no prompt: {ALLOWED}")
    return [_checked(prompt, i) for i, prompt in enumerate(prompts)]  # a two-dimensional tensor is a list of rows


def as_one(prompt: Prompts) -> Prompt:
    """A single prompt, which may also come as a list of one, such as a tokenizer's encoding.

    Raises:
        TypeError: a value that is no prompt.
        ValueError: several prompts, or none.
    """
    listed = as_list(prompt)
    if len(listed) != 1:
        raise ValueError(f"{len(listed)} prompts where one is needed")
    return listed[0]


ALLOWED = "give text, token ids (a 1-d tensor or array of integers), chat messages, or a list of these"
BYTES = bytes | bytearray | memoryview
BEYOND_TEXT = ("pixel", "image", "video", "audio", "features", "embeds")


def _checked(prompt: Any, row: int | None) -> Prompt:
    """One prompt of a list."""
    if isinstance(prompt, str):
        return str(prompt)
    if is_chat(prompt):
        return prompt
    if isinstance(prompt, Mapping) and len(rows := list(_encoded(prompt))) == 1:  # the encoding of one text
        return rows[0]
    if _is_ids(prompt):
        return torch.as_tensor(prompt)
    if isinstance(prompt, Sequence) and not isinstance(prompt, BYTES) and all(map(_is_integer, prompt)):
        return torch.tensor([int(token) for token in prompt], dtype=torch.long)
    place = "" if row is None else f"prompt {row} is "
    raise TypeError(f"{place}{_shown(prompt)}{'' if place else ' is no prompt'}: {ALLOWED}")


def _encoded(encoding: Mapping[str, Any]) -> Iterator[Tensor]:
    """The rows of a tokenizer's encoding, without their padding."""
    if "input_ids" not in encoding:
        keys = ", ".join(map(repr, list(encoding)[:4]))
        message = "; a message stands in a list" if "content" in encoding else ""
        raise TypeError(
            f"a mapping with the keys {keys} is no prompt: {ALLOWED}, or an encoding with 'input_ids'{message}"
        )
    if odd := sorted(str(key) for key in encoding if any(part in str(key) for part in BEYOND_TEXT)):
        raise ValueError(f"the encoding has {odd[0]!r}: text alone is read here, without images or sound")
    rows, mask = _rows(encoding["input_ids"]), encoding.get("attention_mask")
    masks = [[1] * len(row) for row in rows] if mask is None else _rows(mask)
    if list(map(len, masks)) != list(map(len, rows)) or any(seen not in (0, 1) for row in masks for seen in row):
        raise ValueError("the encoding's attention_mask is not a 0 or 1 for each of its input_ids")
    for row, seen in zip(rows, masks, strict=True):
        real = [position for position, shown in enumerate(seen) if shown]
        if real and real[-1] - real[0] + 1 != len(real):
            raise ValueError(
                "the encoding's attention_mask hides tokens between real ones: padding at the ends alone is dropped"
            )
        yield torch.as_tensor(_checked(row, None))[real]


def _rows(values: Any) -> list[list[Any]]:
    """A field of an encoding as rows, also where it has one without a batch."""
    if not isinstance(values, Tensor | np.ndarray | pd.Series | list | tuple):
        raise TypeError(f"an encoding's field is {_shown(values)}: a tensor, an array or a list is needed")
    rows = [row.tolist() if isinstance(row, Tensor | np.ndarray) else row for row in values]
    flat = not rows or not isinstance(rows[0], list | tuple)
    return [rows] if flat else rows


def _is_ids(value: Any) -> bool:
    """Whether a value is a tensor or an array of one row of token ids."""
    if isinstance(value, Tensor):
        return value.ndim == 1 and value.dtype in INTEGERS
    return isinstance(value, np.ndarray) and value.ndim == 1 and np.issubdtype(value.dtype, np.integer)


INTEGERS = (torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """A value that is refused, as the message names it: in one line."""
    if isinstance(value, Tensor | np.ndarray):
        return f"a {value.ndim}-d {type(value).__name__} of {value.dtype}"
    return f"{' '.join(repr(value).split()):.60} ({type(value).__name__})"
