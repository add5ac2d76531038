"""Signals during a search: the first Ctrl-C lets running trials finish; the second, SIGTERM and SIGHUP stop them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType

# 128 + the signal's number, as shells have it
STOPPED_BY = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Interrupts:
    """A context manager that turns signals into calls; use it in the main thread.

    `finish` is called at the first Ctrl-C, `stop` at the second, at SIGTERM and at SIGHUP (the
    terminal was closed); both must return at once. A third raises KeyboardInterrupt, in case an
    engine does not listen. `exit_code` is 130, 143 or 129 after a signal, else 0.
    """

    def __init__(self, finish: Callable[[], None], stop: Callable[[], None]) -> None:
        self.finish, self.stop = finish, stop
        self.asked = 0  # 0 nothing, 1 finish, 2 stop
        self.exit_code = 0

    def note(self) -> str:
        """One line on what a signal has set off, for the live table."""
        return (
            "",
            "finishing the running trials; Ctrl-C again to stop them",
            "stopping the running trials",
        )[min(self.asked, 2)]

    def __enter__(self) -> Interrupts:
        # nohup ignores SIGHUP, and so does the search then
        numbers = [each for each in STOPPED_BY if signal.getsignal(each) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = 2 if number != signal.SIGINT and self.asked < 2 else self.asked + 1
        self.exit_code = STOPPED_BY[signal.Signals(number)]
        if self.asked > 2:
            raise KeyboardInterrupt
        (self.finish if self.asked == 1 else self.stop)()
