"""Jobs of a remote model: begin a call, look at what runs, collect the result when it is there."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as w
import pandas as pd
from IPython.display import display

from ..model import SteerableModel
from .controls import html_table, prose
from .runner import Guard, on_loop

KEPT = 3600  # seconds for which a server keeps a result


class JobPanel:
    """The panel of `job_panel`; `result` is what was collected.

    Nothing is sent but by a button, and no button waits: where a job is not finished, Collect says so.
    """

    def __init__(self, lm: SteerableModel, call: Callable[[Any], Any], file: str | Path) -> None:
        self.lm, self.call, self.file = lm, call, file
        self.result: Any = None
        self.table, log = w.HTML(), w.Output()
        texts = {"submit": "Submit", "look": "Look again", "collect": "Collect"}
        tooltips = (
            "Begins the call on the server",
            "Asks the server for the state",
            "Fetches the result if it is there",
        )
        self.buttons = {
            name: w.Button(description=text, tooltip=tooltip, layout=w.Layout(width="auto"))
            for (name, text), tooltip in zip(texts.items(), tooltips, strict=True)
        }
        self.runner = Guard(list(self.buttons.values()), log)
        works = {"submit": self._submit, "look": lambda: "", "collect": self._collect}
        for name, work in works.items():
            self.buttons[name].on_click(on_loop(lambda _, work=work: self.press(work)))
        self.widget = w.VBox([w.HBox([*self.buttons.values(), self.runner.message]), self.table, log])
        self.widget.add_class("steerlab").add_class("steerlab-jobs")
        self.show(self.lm.jobs(self.file) if Path(file).exists() else self.lm.jobs(file).head(0))

    def press(self, work: Callable[[], str]) -> None:
        """Do what a button does, and look again; an error becomes a line."""
        answer = ""

        def run() -> pd.DataFrame:
            nonlocal answer
            answer = work()
            return self.lm.jobs(self.file)

        self.runner.now(run, self.show)
        if answer:
            self.runner.say(answer)

    def show(self, jobs: pd.DataFrame) -> None:
        """Show jobs as a table."""
        self.jobs = jobs
        self.table.value = prose(table(jobs)) if len(jobs) else "No job is on its way."

    def _submit(self) -> str:
        job = self.lm.submit(self.call, self.file)
        return "all is finished: press Collect" if job is None else f"job {job} runs"

    def _collect(self) -> str:
        """Fetch the result if nothing has to be waited for; a call of several requests goes on."""
        job = self.lm.submit(self.call, self.file)
        if job is not None:
            return f"job {job} is not finished: look again"
        self.result = self.lm.collect(self.call, self.file)
        return "collected: <code>panel.result</code>"

    def _ipython_display_(self) -> None:
        """Shown by a cell as its widget, and as the table, which is what is seen without a kernel."""
        data = self.widget._repr_mimebundle_()
        display(data | {"text/plain": "a panel: run this cell to use it", "text/html": self.table.value}, raw=True)  # type: ignore[no-untyped-call]  # IPython has no types here


def table(jobs: pd.DataFrame, now: float | None = None) -> str:
    """Jobs as HTML: state, place in the queue, age, cost, and until when the result is kept at least.

    A server keeps a result for an hour after it is there, which is never before it was sent.

    Args:
        jobs: of `lm.jobs`.
        now: seconds since 1970; the time by default.
    """
    sent = (time.time() if now is None else now) - jobs["age"]
    shown = jobs[["id", "what", "state"]].assign(
        place=jobs["place"].map(_number),
        sent=sent.map(_clock),
        seconds=jobs["seconds"].map(_number),
        gpu_gib=jobs["gpu_gib"].map(_number),
        kept=(sent + KEPT).map(_clock),
    )
    names = {"place": "place in the queue", "gpu_gib": "GPU, GiB", "kept": "kept at least until"}
    return html_table(shown.rename(columns=names))


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M", time.localtime(seconds))


def job_panel(lm: SteerableModel, call: Callable[[Any], Any], file: str | Path) -> JobPanel:
    """A panel on the jobs of one call of a remote model: `lm.submit`, `lm.jobs` and `lm.collect` as buttons.

    Args:
        lm: a remote model.
        call: such as `lambda lm: sl.fit(lm, ...)`; see `lm.submit`.
        file: where the ids of its jobs are kept, by which any kernel can collect the result.

    Raises:
        ValueError: the model is not remote.
    """
    if not lm.runner.at_once:
        raise ValueError("the model runs in this process, not on a server: load it with remote=True")
    return JobPanel(lm, call, file)
