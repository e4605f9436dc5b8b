"""Prompts with a correct and a wrong answer, split into train and test."""

from .ccc import ccc
from .frames import COLUMNS, Task, answer_tokens, from_frame
from .ioi import ioi

__all__ = ["COLUMNS", "Task", "answer_tokens", "ccc", "from_frame", "ioi"]
