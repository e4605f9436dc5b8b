"""Panels whose button writes completions: as they come, with what they belong to, until they are stopped."""

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from html import escape
from typing import Any, ClassVar, TypeVar

import pandas as pd
import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from .. import plots
from ..intervention import Intervention
from ..metrics import disfluency
from ..model import SteerableModel
from .controls import SAMPLING, Question, prose, shortened
from .panel import Panel
from .runner import Stopped

Q = TypeVar("Q", bound=Question)
LONG = 2000
"""Tokens from which on a panel asks for a second press."""


class Watch(StoppingCriteria):
    """What `transformers.generate` has written so far; ends all rows when it is told to.

    Args:
        total: tokens that will be written at most.
        halt: set to end the run.
    """

    def __init__(self, total: int, halt: threading.Event) -> None:
        self.total, self.halt = total, halt
        self.began = time.monotonic()
        self.batches: list[Tensor] = []  # new ids [rows, tokens so far] of each batch
        self._prompt = self._width = 0

    def __call__(self, input_ids: Tensor, scores: Tensor, **options: Any) -> Tensor:
        """Whether each row has ended, after each token."""
        if not self.batches or input_ids.shape[1] <= self._width:  # another batch begins
            self._prompt = input_ids.shape[1] - 1
            self.batches.append(input_ids[:, :0])
        self._width = input_ids.shape[1]
        self.batches[-1] = input_ids[:, self._prompt :]
        return torch.full((len(input_ids),), self.halt.is_set(), device=input_ids.device)

    @property
    def done(self) -> int:
        """Tokens written so far."""
        return sum(ids.numel() for ids in self.batches)

    @property
    def pace(self) -> float:
        """Seconds for each token, NaN before the first."""
        return (time.monotonic() - self.began) / self.done if self.done else float("nan")

    def progress(self) -> str:
        """Tokens of all, and the time that the others will take at most."""
        if not self.done:
            return "reading the prompt …"
        left = min(self.pace * (self.total - self.done), 359_999)
        return f"{self.done:,} of {self.total:,} tokens, {duration(left)} left"


class Writer(Panel[Q]):
    """A panel with a button that writes completions under several conditions, all drawn with the same noise."""

    on_button = SAMPLING
    lm: SteerableModel
    words: Sequence[str] = ()
    conditions: Sequence[str]
    aside: ClassVar[frozenset[str]] = frozenset()  # fields of the state on which completions do not depend
    pace: float = float("nan")
    _names: Sequence[str] = ()
    _warned: Any = None
    _written: Any = None
    _page = _code = ""

    @abstractmethod
    def steers(self) -> dict[str, Intervention | None]:
        """What is compared, by the name of its column."""

    def samples(self, **options: Any) -> pd.DataFrame:
        """Completions of each condition, with the same noise; `options` are those of `lm.generate`."""
        s, steers = self.state, self.steers()
        self._names = list(steers)
        frame = self.lm.generate([s.asked] * len(steers), list(steers.values()), **s.options(), **options)
        return frame.assign(condition=frame["row"].map(dict(enumerate(steers))))

    def page(self, frame: pd.DataFrame) -> str:
        """Completions as HTML."""
        return side_by_side(self.lm, frame.drop(columns="prompt"), self.words, frame["prompt"])

    def press(self) -> None:
        """Write completions; where they are very many, on the second press; none while some are being written."""
        if self.runner.busy:
            return
        s = self.state
        total = len(self.conditions) * s.n * s.max_new_tokens
        if total > LONG and self._warned != s:
            self._warned = s
            took = f"about {duration(self.pace * total)}" if self.pace == self.pace else "which may take minutes"
            self.runner.say(f"up to <b>{total:,} tokens</b>, {took}: press again to begin")
            return
        self._warned, self._written, self._code = None, s, self.code()
        watch = Watch(total, self.runner.halt)
        if self.remote:
            self.runner.now(self._write_remotely, self.show)
        else:
            self.runner.now(lambda: self._write(watch), self.show, lambda: self._tick(watch))

    def show(self, page: str) -> None:
        """Show completions, with the setting that they belong to."""
        self._page = page
        self.mark()

    def mark(self) -> None:
        """Fade completions of another setting than that of the controls; they bring their own code then."""
        if not self._page:
            return
        now, written = (self._setting(state) for state in (self.state, self._written))
        old = now != written
        setting = ", ".join(f"{name} {_short(value)}" for name, value in written.items())
        head = f"<p>Setting: {escape(setting)}.</p>"
        if old:
            head = f"<p><b>The controls have changed: press {self.button.description} for new ones.</b></p>" + head
            head += f"<details><summary>code of these</summary><pre>{escape(self._code)}</pre></details>"
        self.completions.value = prose(head) + self._page
        (self.completions.add_class if old else self.completions.remove_class)("steerlab-old")

    def _setting(self, state: Any) -> dict[str, Any]:
        """What completions depend on."""
        return {field.name: getattr(state, field.name) for field in fields(state) if field.name not in self.aside}

    def _write(self, watch: Watch) -> str:
        """Completions as a page, unless they are stopped."""
        frame = self.samples(stopping_criteria=StoppingCriteriaList([watch]))
        self.pace = watch.pace
        if self.runner.halt.is_set():
            raise Stopped
        return self.page(frame)

    def _write_remotely(self) -> str:
        """Picture and completions, which share requests; a server takes no criterion of ours."""
        remote = self.lm

        def lent(work: Callable[[], Any]) -> Callable[[SteerableModel], Any]:
            def run(lm: SteerableModel) -> Any:
                self.lm = lm
                return work()

            return run

        try:
            _, frame = remote.together([lent(self.refresh), lent(self.samples)])
        finally:
            self.lm = remote
        self.show_code()  # with the notebook's name of the model
        return self.page(frame)

    def _tick(self, watch: Watch) -> str:
        """Show what is written so far."""
        texts = [self.lm.tokenizer.decode(row, skip_special_tokens=True) for ids in watch.batches for row in ids]
        if texts and any(texts):
            names = [name for name in self._names for _ in range(self.state.n)][: len(texts)]
            frame = pd.DataFrame({"condition": names, "completion": texts})
            self.show(prose(plots.completions_html(frame, self.words, limit=12).data))
        return watch.progress()


def side_by_side(
    lm: SteerableModel, frame: pd.DataFrame, words: Iterable[str], prompts: Iterable[str] | None = None
) -> str:
    """Completions by condition as HTML, with the median perplexity of each under the unsteered model.

    The perplexity would be another request to a server, so a remote model is not asked for it.

    Args:
        lm: the model that wrote them.
        frame: `completion` and `condition`; `prompt` is shown in front where it is there.
        words: to mark.
        prompts: of the completions, where the frame has none.
    """
    perplexity = "" if lm.runner.at_once else _perplexity(lm, frame, prompts)
    table = plots.completions_html(frame, words, against="unsteered", limit=12).data
    return prose(f"<p>{perplexity}Underlined: differs from unsteered.</p>" + table)


def _perplexity(lm: SteerableModel, frame: pd.DataFrame, prompts: Iterable[str] | None) -> str:
    """The median of each condition, as a sentence."""
    given = list(frame["prompt"] if prompts is None else prompts)
    scored = frame.assign(perplexity=disfluency(lm, list(frame["completion"]), given))
    medians = scored.groupby("condition", sort=False)["perplexity"].median()
    values = " · ".join(f"{escape(str(name))} <b>{value:.1f}</b>" for name, value in medians.items())
    return f"Perplexity under the unsteered model, median: {values}. "


def _short(value: Any) -> str:
    """A value of a setting, at most a line of it."""
    return shortened(f"{value:g}" if isinstance(value, float) else repr(value), 60)


def duration(seconds: float) -> str:
    """Seconds in the largest unit that suits."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
