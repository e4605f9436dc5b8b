"""Completions as HTML, readable on light and dark pages: side by side, escaped, with a topic's words marked."""

import html
from collections.abc import Hashable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import chain, repeat, zip_longest

import pandas as pd
from IPython.display import HTML

from .drawing import need
from .metrics import WORD, topic_word_count

_MARK = "background:rgba(230,159,0,.45);color:inherit;border-radius:3px;padding:0 2px"
_CHANGED = "text-decoration:underline dotted;text-underline-offset:3px"


def completions_html(
    frame: pd.DataFrame,
    words: Iterable[str] = (),
    *,
    by: str = "condition",
    limit: int = 8,
    against: str | None = None,
) -> HTML:
    """Completions side by side, a column per value of `by` and a row per sample, with the topic's words marked.

    Readable on light and dark themes: marks are translucent. `words` are compared as by `metrics.topic_word_count`;
    `prompt` is grey where the frame has it; words that are not in the completion of `against` are underlined.
    """
    need(frame, "completion", by)
    wanted = {word.lower() for word in words}
    groups = {str(name): rows for name, rows in frame.groupby(by, sort=False)}
    heads, columns = "", []
    for name, rows in groups.items():
        heads += f'<th scope="col" style="text-align:left">{html.escape(name)}{_count(rows, wanted)}</th>'
        twins = groups[against]["completion"] if against in groups and name != against else ()
        shown = zip(rows.head(limit).to_dict("records"), chain(twins, repeat(None)), strict=False)
        columns.append([_cell(row, wanted, twin) for row, twin in shown])
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in zip_longest(*columns, fillvalue="<td></td>"))
    table = f'<table style="width:100%;table-layout:fixed"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
    table = table.replace("$", "<span>$</span>")  # Jupyter sets what stands between two bare dollars as mathematics
    return HTML(table)  # type: ignore[no-untyped-call]  # IPython has no types here


def _count(rows: pd.DataFrame, wanted: set[str]) -> str:
    """How many completions of a column have a topic word."""
    if not wanted:
        return ""
    hits = sum(topic_word_count(text, wanted) > 0 for text in rows["completion"])
    return f'<br><small style="font-weight:normal">{hits} of {len(rows)} with a topic word</small>'


def _cell(row: Mapping[Hashable, str], wanted: set[str], twin: str | None) -> str:
    """One completion as a table cell, its prompt in grey in front."""
    prompt = f'<span style="opacity:.7">{html.escape(str(row["prompt"]))}</span>' if "prompt" in row else ""
    text = mark_words(row["completion"], wanted, twin).replace("\n", "<br>")
    return f'<td style="text-align:left;vertical-align:top">{prompt}{text}</td>'


def mark_words(text: str, words: Iterable[str], twin: str | None = None) -> str:
    """A text as HTML, escaped, with `words` in `<mark>`; words that align with none of a `twin` text are underlined."""
    wanted, written = {word.lower() for word in words}, list(WORD.finditer(text))
    changed = set() if twin is None else _changed(WORD.findall(twin), [word[0] for word in written])
    parts, end = [], 0
    for i, word in enumerate(written):
        tag = "mark" if word[0].lower() in wanted else "span" if i in changed else None
        if tag:
            style = ";".join([_MARK] * (tag == "mark") + [_CHANGED] * (i in changed))
            shown = f'<{tag} style="{style}">{html.escape(word[0])}</{tag}>'
            parts += [html.escape(text[end : word.start()]), shown]
            end = word.end()
    return "".join([*parts, html.escape(text[end:])])


def _changed(old: Sequence[str], new: Sequence[str]) -> set[int]:
    """Numbers of the words of `new` that its alignment with `old` leaves over."""
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return set(range(len(new))) - {i for block in blocks for i in range(block.b, block.b + block.size)}
