"""What the papers report beside what the kept tables say: the page notebooks/results/README.md.

`python -m steerlab.experiments --ledger` writes it again; `box` shows a part of it in a notebook.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from IPython.display import Markdown

from . import results
from .actadd import failures
from .claims import CLAIMS, Claim, Finding

MODELS: Mapping[str, str] = MappingProxyType(
    {
        "gemma-3-270m": "Gemma 3 270M",
        "qwen2.5-coder-1.5b-instruct": "Qwen2.5-Coder 1.5B Instruct",
        "bundled": "bundled model",
    }
)
"""Folders of results, and what the page calls them."""

CHAT = ("SARA",)
"""Papers whose real model is the chat model, since they need answers; that of the others is Gemma."""

TITLES = ("figure or table", "measured", "paper")
"""What stands before the models' columns."""

MARK = "<!-- what follows is written by `python -m steerlab.experiments --ledger` -->"
"""On the page, between what is written by hand and what is not."""

NEAR = 0.05
"""How far from its reference a value that should not change may lie."""


def verdict(finding: Finding | None, claim: Claim) -> str:
    """Whether a finding has the paper's sign: yes, opposite, or unclear where its interval holds the reference.

    Of what should not change much it is yes within `NEAR` of the reference, else no; of what should not change at all
    it is yes where the interval holds the reference, and unclear where there is none.
    """
    if finding is None:
        return "not run"
    if claim.direction == "unchanged":
        return "unclear" if np.isnan(finding.low) else "yes" if finding.low <= claim.reference <= finding.high else "no"
    if claim.direction == "near":
        return "yes" if abs(finding.value - claim.reference) <= NEAR else "no"
    low, high = (
        (finding.value, finding.value) if np.isnan(finding.low) else (finding.low, finding.high)
    )  # without an interval the number itself
    above, below = low > claim.reference, high < claim.reference
    if not (above or below):
        return "unclear"
    return "yes" if above == (claim.direction == "above") else "opposite"


def written(finding: Finding | None, form: str) -> str:
    """A finding as a cell of the page."""
    if finding is None:
        return "–"
    number = format(finding.value, form)
    interval = "" if np.isnan(finding.low) else f" [{format(finding.low, form)}, {format(finding.high, form)}]"
    return f"{number}{interval}" + (f", n = {finding.n:,}" if finding.n else "")


def find(claim: Claim, folder: Path) -> Finding | None:
    """What a folder's table says of a claim; nothing where there is no such table, or not yet with such a number."""
    path = folder / f"{claim.table}.csv"
    finding = claim.read(pd.read_csv(path)) if path.is_file() else None
    return None if finding is None or np.isnan(finding.value) else finding


def models(paper: str) -> dict[str, str]:
    """The real model that a paper's experiments were run on, and the bundled one, as in `MODELS`."""
    other = "gemma-3-270m" if paper.startswith(CHAT) else "qwen2.5-coder-1.5b-instruct"
    return {folder: title for folder, title in MODELS.items() if folder != other}


def ledger(claims: Mapping[str, Sequence[Claim]], folder: Path = results.FOLDER) -> pd.DataFrame:
    """All claims: `paper`, `item`, `says`, `published`, of each model its number and its verdict, and `why`."""
    rows = []
    for paper, own in claims.items():
        for claim in own:
            findings = {model: find(claim, folder / model) for model in models(paper)}
            verdicts = {model: verdict(finding, claim) for model, finding in findings.items()}
            numbers = {model: written(finding, claim.form) for model, finding in findings.items()}
            about = {"paper": paper, "item": claim.item, "says": claim.says, "published": claim.published}
            why = "" if set(verdicts.values()) <= {"yes"} else claim.why
            rows.append(about | numbers | {f"{model} sign": said for model, said in verdicts.items()} | {"why": why})
    return pd.DataFrame(rows)


def compare(paper: str, *items: str, folder: Path = results.FOLDER) -> pd.DataFrame:
    """What a paper reports beside what the kept tables of each model say; "not run" where there is no table yet.

    Args:
        paper: the beginning of its name: "ActAdd", "Activation scaling", "SARA".
        items: figures, tables or sections, named as in the ledger up to the first comma: "B", "Figure 3"; all by
            default.
        folder: of the models' folders.

    Returns:
        One row per claim: `figure or table`, `measured`, `paper`, and a column for each model.

    Raises:
        ValueError: there is no such paper, or it has no such item.
    """
    claims = next((own for name, own in CLAIMS.items() if name.startswith(paper)), None)
    if claims is None:
        raise ValueError(f"no paper {paper!r}; there are: {', '.join(CLAIMS)}")
    named = [re.split(r",| \(", claim.item)[0] for claim in claims]
    if missing := [item for item in items if item not in named]:
        raise ValueError(f"no item {missing[0]!r} of {paper}; there are: {', '.join(dict.fromkeys(named))}")
    rows = []
    for claim, name in zip(claims, named, strict=True):
        if items and name not in items:
            continue
        findings = {title: find(claim, folder / model) for model, title in models(paper).items()}
        numbers = {title: written(finding, claim.form) if finding else "not run" for title, finding in findings.items()}
        rows.append(dict(zip(TITLES, (claim.item, claim.says, claim.published), strict=True)) | numbers)
    return pd.DataFrame(rows)


def box(paper: str, *items: str, folder: Path = results.FOLDER) -> Markdown:
    """`compare` as a table of a notebook."""
    frame = compare(paper, *items, folder=folder)
    lines = [_table(list(map(str, frame))), _table(["---"] * frame.shape[1])]
    shown = "\n".join(lines + [_table(list(row)) for row in frame.itertuples(index=False)])
    return Markdown(shown)  # type: ignore[no-untyped-call]  # IPython has no types here


def page(folder: Path = results.FOLDER) -> str:
    """The page: what is written by hand, up to `MARK`, and a table for each paper."""
    hand = (folder / "README.md").read_text(encoding="utf-8").split(MARK)[0].rstrip()
    frame = ledger(CLAIMS, folder)
    lines = [hand, "", MARK, "", "## The papers beside the kept tables", "", *_summary(frame), ""]
    for paper, own in frame.groupby("paper", sort=False):
        named = models(str(paper))
        titles = [*TITLES, *(title for name in named.values() for title in (name, "same sign")), "why not"]
        columns = ["item", "says", "published", *(name for model in named for name in (model, f"{model} sign")), "why"]
        lines += [f"### {paper}", "", _table(titles), _table(["---"] * len(titles))]
        lines += [_table(list(values)) for values in own[columns].itertuples(index=False)] + [""]
    return "\n".join([*lines, *_failed(folder)]).rstrip() + "\n"


def _failed(folder: Path) -> list[str]:
    """The vectors of each model's gallery whose words come no more often than unsteered."""
    lines = []
    for model, name in MODELS.items():
        if (path := folder / model / "actadd_gallery.csv").is_file():
            named = ", ".join(failures(pd.read_csv(path))) or "none"
            lines.append(f"Of the gallery (`{model}/{path.name}`), vectors that fail on the {name}: {named}.")
    return lines


def _summary(frame: pd.DataFrame) -> list[str]:
    """How often each model has the papers' sign."""
    lines = []
    for model, name in MODELS.items():
        counts = frame[f"{model} sign"].value_counts()
        lines.append(f"- {name}: " + ", ".join(f"{said} {count}" for said, count in counts.items()) + ".")
    return lines


def _table(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def write(folder: Path = results.FOLDER) -> Path:
    """Write the page anew."""
    path, text = folder / "README.md", page(folder)
    path.write_text(text, encoding="utf-8")
    return path
