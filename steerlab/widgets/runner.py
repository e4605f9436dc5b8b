"""How a panel's work runs: one pending run at a time, errors as one line, and a way to stop."""

import asyncio
import html
import signal
import threading
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from typing import Any

import ipywidgets as w
from IPython.core.getipython import get_ipython

ALERT = "background:#fde7e9;color:#7a0012;padding:3px 8px;border-radius:3px"  # readable on light and dark pages
SPINNER = '<i class="fa fa-spinner fa-spin" aria-label="running"></i>'
TICK = 0.3  # seconds between two looks at what a run has done
SLOW = 1.0  # seconds, after which a run within the event loop says how to end it
HINT = "Stop or Kernel &gt; Interrupt ends this"

_worker = ThreadPoolExecutor(max_workers=1)  # beside the event loop: a model does one thing at a time
_running: "dict[Future[Any], Guard]" = {}  # what the worker was given and has not ended


class Stopped(Exception):
    """The reader has stopped a run."""


class Guard:
    """Runs a panel's work, so that the panel lives on whatever happens.

    While work runs, a spinner turns. An error becomes one line in the panel. With `now`, work runs beside the event
    loop: the controls are disabled, Stop is not. With `request` it runs within the loop, where only JupyterLab, which
    has other threads for messages, hears of Stop; after a second the panel says how to end it. Requests that arrive
    while one is pending replace it, so that dragging a slider never queues more than one run.
    """

    def __init__(self, controls: Sequence[Any], log: AbstractContextManager[Any] | None = None) -> None:
        self.controls, self.log = controls, log
        self.message = w.HTML(layout=w.Layout(min_width="20px", min_height="28px"))
        self.message.add_class("steerlab-message")
        self.halt = threading.Event()
        self.stop = w.Button(description="Stop", icon="stop", disabled=True, layout=w.Layout(width="auto", flex="none"))
        self.stop.tooltip = "Stops the run, as Kernel > Interrupt does; what was written so far stays"
        self.stop.add_class("steerlab-stop")
        self.stop.on_click(lambda _: self._halt())
        self._pending: Callable[[], None] | None = None
        self.busy = False
        self._task: asyncio.Task[None] | None = None

    def request(self, work: Callable[[], None]) -> None:
        """Run soon, in place of what still waits; at once where no event loop runs."""
        waiting = self._pending is not None
        self._pending = work
        if not waiting:
            later(0.02, self._run_pending)

    def now(
        self,
        work: Callable[[], Any],
        show: Callable[[Any], None] = lambda result: None,
        tick: Callable[[], str] = lambda: "running …",
    ) -> None:
        """Run with the controls disabled, for work that takes more than a moment.

        The work runs in a thread beside the event loop, which goes on to hear of the Stop button; where there is no
        loop, or output is caught in a log, it runs here. A second press during the run is dropped.

        Args:
            work: may look at `halt`, which Stop and an interrupt set.
            show: called with what the work returns, by the event loop, as all that changes what the page shows.
            tick: called now and then meanwhile; gives what stands beside the spinner.
        """
        if self.busy:
            return
        self.busy = True
        self.halt.clear()
        enabled = [control for control in self.controls if not control.disabled]
        self._disable(enabled, True)
        if (loop := _loop()) is not None and self.log is None:
            self._task = loop.create_task(self._beside(work, show, tick, enabled))
            return
        self.here(lambda: show(work()), tick())
        later(0.1, lambda: self._release(enabled))

    def here(self, work: Callable[[], None], note: str = "") -> None:
        """Run in this thread: what takes longer than a second says how to end it, from a thread of its own."""
        hint = threading.Timer(SLOW, copy_context().run, [self._offer_stop])  # as if this message had asked for it
        hint.daemon = True
        with self.guarded(note):
            hint.start()
            try:
                work()
            finally:
                hint.cancel()
                hint.join()
                self.stop.disabled = not self.busy

    @contextmanager
    def guarded(self, note: str = "", interrupt: Any = signal.default_int_handler) -> Iterator[None]:
        """Turn an error into one line, and so an interrupt, which would end the kernel's event loop.

        Between two messages ipykernel ignores interrupts: so they have their handler set here, and restored.
        """
        self.say(SPINNER + f" {note}" * bool(note))
        outcome = ""
        with self.log or nullcontext(), _interrupted_by(interrupt):
            try:
                yield
            except (Stopped, KeyboardInterrupt):
                outcome = "stopped"
            except Exception as error:  # whatever it is, the panel must live on
                line = (str(error).strip() or type(error).__name__).splitlines()[0]
                outcome = f'<span role="alert" style="{ALERT}">⚠ {html.escape(line)}</span>'
        self.say(outcome)

    def say(self, text: str) -> None:
        """Put a line of HTML where a screen reader reads it out when it changes."""
        self.message.value = text and f'<span role="status">{text}</span>'

    def _offer_stop(self) -> None:
        self.say(f"{SPINNER} {HINT}")
        self.stop.disabled = False

    def _halt(self) -> None:
        """What Stop does; heard by another thread than the one that works, it interrupts that one."""
        self.halt.set()
        if threading.current_thread() is not threading.main_thread():
            interrupt_main()

    async def _beside(
        self, work: Callable[[], Any], show: Callable[[Any], None], tick: Callable[[], str], enabled: Sequence[Any]
    ) -> None:
        """Work in a thread, and a look at it now and then."""
        _make_cells_wait()
        future = _worker.submit(work)
        _running[future] = self  # from now on, not from when the worker begins: nothing may come in between
        future.add_done_callback(_running.pop)
        with self.guarded(tick(), lambda *_: self.halt.set()):
            running = asyncio.wrap_future(future)
            while not running.done():
                await asyncio.wait([running], timeout=TICK)
                self.say(f"{SPINNER} {tick()}")
            show(running.result())
        await asyncio.sleep(0.1)  # what was pressed meanwhile is dropped
        self._release(enabled)

    def _disable(self, controls: Sequence[Any], disabled: bool) -> None:
        for control in controls:
            control.disabled = disabled
        self.stop.disabled = not disabled

    def _release(self, controls: Sequence[Any]) -> None:
        self.busy = False
        self._disable(controls, False)

    def _run_pending(self) -> None:
        if _running:  # another panel's run has the model
            later(TICK, self._run_pending)
            return
        work, self._pending = self._pending, None
        if work is not None:
            self.here(work)


def _make_cells_wait() -> None:
    """Let no cell begin while a panel has the model."""
    shell = get_ipython()
    if shell is not None:
        shell.events.register("pre_run_cell", _wait)


def _wait(info: Any) -> None:
    """Until the model is free; an interrupt of the cell that waits stops what runs."""
    try:
        wait(list(_running))
    except KeyboardInterrupt:
        for guard in list(_running.values()):
            guard.halt.set()
        wait(list(_running))


@contextmanager
def _interrupted_by(handler: Any) -> Iterator[None]:
    """Another handler of SIGINT, where there may be one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def on_loop(handler: Callable[..., None]) -> Callable[..., None]:
    """A widget's handler that runs in the event loop of now, whichever thread its message comes to.

    JupyterLab sends messages of widgets to other threads of the kernel, too ("subshells"). There a second run of the
    model could begin beside the first, and no interrupt would be heard.
    """
    loop, home = _loop(), threading.get_ident()

    def handle(*args: Any) -> None:
        if loop is None or threading.get_ident() == home or not loop.is_running():
            handler(*args)
        else:
            loop.call_soon_threadsafe(handler, *args)

    return handle


def later(seconds: float, work: Callable[[], None]) -> None:
    """Run when the messages that wait have come in; at once where no event loop runs."""
    loop = _loop()
    if loop is None:
        work()
    else:
        loop.call_later(seconds, work)
