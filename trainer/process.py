"""What the commands of this package share: signals, progress, one-line errors, exit codes. Imports no torch.

A signal handler that raises in the middle of an import can print a traceback, or the import can
swallow the exception. GracefulStop therefore only remembers a signal while torch is imported, and
the command checks it afterwards.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

# a Job that retries after a lost volume retries the first, and never the second
FAILED, REFUSED = 1, 2

PROGRESS_SECONDS = 1.0  # between two reports of progress, at least
T = TypeVar("T")


class Stopped(BaseException):
    """SIGTERM or SIGINT arrived. Raised only where nothing is lost by stopping."""


class GracefulStop:
    """A signal handler: remembers the signal, and raises Stopped at once where that is allowed."""

    def __init__(self, outcome: str) -> None:
        self.signal = 0
        self.outcome = outcome
        """What the stop left behind, in words for the user."""
        self._allowed: Callable[[], bool] = lambda: False

    def __call__(self, number: int, _frame: object = None) -> None:
        self.signal = number
        if self._allowed():
            raise Stopped

    def check(self) -> None:
        """Raise Stopped if a signal has arrived."""
        if self.signal:
            raise Stopped

    @contextmanager
    def allowed(self, when: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Raise Stopped from the handler while the block runs and `when()` is true; else only remember the signal."""
        before, self._allowed = self._allowed, when
        try:
            yield
        finally:
            self._allowed = before

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT while the block runs. Only the main thread of a process can set handlers."""
        before: dict[signal.Signals, Any] = {}
        try:
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT):
                    before[number] = signal.signal(number, self)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def report(self, program: str) -> int:
        """Print what stopped the command and what is left of its work. Returns the exit code, 128 + signal."""
        number = signal.Signals(self.signal or signal.SIGINT)
        _say(f"{program}: stopped by {number.name}; {self.outcome}")
        return 128 + number


def progress(items: Collection[T], what: str) -> Iterator[T]:
    """Yield the items, and report on stderr what share of them is done and how long the rest takes.

    On a terminal, one line is updated. Elsewhere, a new line is printed after every tenth of the
    items. Work of less than PROGRESS_SECONDS is not reported.
    """
    terminal, total = sys.stderr.isatty(), len(items)
    start = reported_at = time.monotonic()
    tenth = 0  # the last one that was reported
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        due = terminal or done * 10 // total > tenth
        if due and now - reported_at >= PROGRESS_SECONDS:
            reported_at, tenth = now, done * 10 // total
            left = (now - start) / done * (total - done)
            _say(f"{what}: {done / total:.0%}, {left:.0f} s left", end="" if terminal else "\n")
    if terminal and reported_at > start:
        _say("", end="")


def _say(text: str, end: str = "\n") -> None:
    """Print on stderr. On a terminal, the text replaces an unfinished line."""
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{clear}{text}", end=end, file=sys.stderr, flush=True)


def wait_passively() -> None:
    """Let OpenMP threads sleep at a barrier instead of spinning. Has an effect only before torch is imported.

    Spinning threads keep the core that a busy machine needs for the thread they wait for
    (docs/reference/trainer.md, Threads).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def fail(program: str, error: object, code: int = REFUSED) -> int:
    """Print an error as one line on stderr and return the exit code."""
    _say(f"{program}: {' '.join(str(error).split())}")
    return code
