"""What stands around every notebook: how long it takes, and where it is on the map; made from the scripts."""

import re

import nbformat
from nbformat import NotebookNode

RUNS = {
    "00": "half a minute",
    "01": "half a minute",
    "02": "two minutes",
    "03": "two minutes",
    "04": "one minute",
    "05": "two minutes",
    "06": "one minute",
    "07": "one minute",
    "08": "two minutes",
    "09": "one minute",
}
"""From top to bottom on two quiet cores, rounded up."""

WORDS_A_MINUTE = 150  # prose with formulas, read by somebody who thinks along
EXERCISE = re.compile(r"^\*\*\d+\.\d+ · .*?●.*?about (\d+) minutes", re.MULTILINE | re.DOTALL)
SOLUTION = re.compile(r"\n*<details><summary>Solution</summary>.*?</details>", re.DOTALL)
STUB = "\n\n*The solution is in the instructor's version.*"
END = "<!-- the map, made by tools/notebooks.py -->"


def name(stem: str) -> str:
    """A notebook's short name: 05_activation_scaling is 05 · activation scaling."""
    number, *words = stem.split("_")
    return f"{number} · {' '.join(words)}"


def prose(notebook: NotebookNode) -> str:
    """All text of a notebook."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def question(notebook: NotebookNode) -> str:
    """The question in a notebook's title."""
    title = str(notebook.cells[0].source).splitlines()[0]
    return title.partition("·")[2].strip()


def times(stem: str, text: str) -> str:
    """The line of reading, running and exercise minutes, from a notebook's text."""
    exercises = [int(minutes) for minutes in EXERCISE.findall(text)]
    reading = max(5, 5 * round(len(SOLUTION.sub("", text).split()) / WORDS_A_MINUTE / 5))
    parts = [f"reading: about {reading} minutes", f"running: about {RUNS[stem[:2]]} on two cores"]
    if exercises:
        number = "one" if len(exercises) == 1 else str(len(exercises))
        parts.append(f"exercises: {sum(exercises)} minutes ({number})")
    return f"**Time.** {'; '.join(parts)}. With another `MODEL` or `PROFILE` in the next cell the running time changes."


def course_map(stem: str, questions: dict[str, str]) -> str:
    """The whole map, with the previous and the next notebook, for a notebook's end."""
    stems = sorted(questions)
    at = stems.index(stem)
    before, after = stems[at - 1 : at], stems[at + 1 : at + 2]
    ways = [f"← {link(other)}" for other in before] + [f"{link(other)} →" for other in after]
    rows = [
        f"| {f'**{name(other)}** (here)' if other == stem else link(other)} | {questions[other]} |" for other in stems
    ]
    return "\n".join([END, f"---\n\n{' · '.join(ways)}\n", "| the course | |", "|---|---|", *rows])


def link(stem: str) -> str:
    """A link to a notebook beside this one."""
    return f"[{name(stem)}]({stem}.ipynb)"


def frame(notebook: NotebookNode, stem: str, questions: dict[str, str]) -> NotebookNode:
    """A notebook with its times after the first cell and the map at its end; as it is where it stands alone."""
    if len(questions) < 2:
        return notebook
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(times(stem, prose(notebook))))
    notebook.cells.append(nbformat.v4.new_markdown_cell(course_map(stem, questions)))
    return notebook


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """The learner's version: no folded solutions, no outputs."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub(STUB, cell.source)
        else:
            cell.outputs, cell.execution_count = [], None
    return notebook
