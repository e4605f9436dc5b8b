"""The folded solutions of the notebooks, and the line that a checker prints."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

Printed = Callable[[], str]

SOURCES = Path(__file__).resolve().parents[1] / "notebooks" / "source"
SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.DOTALL)
PRELUDE = """
from dataclasses import replace

import nnsight
import torch
from nnsight import TransformersModel

import steerlab as sl
from steerlab.experiments import actadd as experiments
from steerlab.experiments import scaling

lm = sl.load(device="cpu")
traced = TransformersModel(lm.hf, tokenizer=lm.tokenizer)
blocks = traced.get(lm.layout.blocks)
"""


def solutions(notebook: str, folder: Path, fits: bool = False) -> dict[str, Any]:
    """The names that a notebook's folded solutions define, of those that fit something only where it is said so.

    They run from a file, since traces need their source.
    """
    text = re.sub(r"^# ?", "", (SOURCES / f"{notebook}.py").read_text(), flags=re.MULTILINE)
    blocks = SOLUTION.findall(text)
    assert blocks, f"no folded solutions in {notebook}"
    path = folder / "solutions.py"
    chosen = [code for code in blocks if "best." not in code and (fits or "sl.fit(" not in code)]
    path.write_text(PRELUDE + "\n\n".join(chosen))
    return runpy.run_path(str(path))
