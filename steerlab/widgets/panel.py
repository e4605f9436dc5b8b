"""What every panel shares: one pending run at a time, a busy mark, and errors as one line."""

import asyncio
import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as w
from matplotlib.figure import Figure


class Runner:
    """Runs a panel's work, so that the panel lives on whatever happens.

    While work runs, the controls are disabled and a spinner turns. An error becomes one line in the panel. Requests
    that arrive while one is pending replace it, so that dragging a slider never queues more than one run.
    """

    def __init__(self, controls: Sequence[Any]) -> None:
        self.controls = controls
        self.message = w.HTML()
        self.message.add_class("steerlab-message")
        self._pending: Callable[[], None] | None = None

    def request(self, work: Callable[[], None]) -> None:
        """Run soon, in place of what still waits; at once where no event loop runs."""
        waiting = self._pending is not None
        self._pending = work
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._run_pending()
            return
        if not waiting:
            loop.call_later(0.02, self._run_pending)

    def now(self, work: Callable[[], None]) -> None:
        """Run with the controls disabled, for work that takes more than a moment."""
        enabled = [control for control in self.controls if not control.disabled]
        for control in enabled:
            control.disabled = True
        self.message.value = '<i class="fa fa-spinner fa-spin"></i> running …'
        try:
            self._guard(work)
        finally:
            for control in enabled:
                control.disabled = False

    def _run_pending(self) -> None:
        work, self._pending = self._pending, None
        if work is not None:
            self._guard(work)

    def _guard(self, work: Callable[[], None]) -> None:
        """Turn an error into one line."""
        try:
            work()
        except Exception as error:  # whatever it is, the panel must live on
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.message.value = f'<span role="alert">⚠ {html.escape(first)}</span>'
        else:
            self.message.value = ""


def png(figure: Figure) -> bytes:
    """A figure as a PNG, for an image widget."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    return buffer.getvalue()
