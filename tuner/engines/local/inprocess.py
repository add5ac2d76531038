"""One worker that is this very process, so that breakpoints, profilers and debuggers see the trial.

The trial has the main thread; a second thread follows its metrics and watches its deadline, and ends it by a signal
whose handler raises in the trial. C code that never returns cannot be ended that way: the trial is then recorded as
Failed and the client ends, for this process cannot be saved (docs/local.md: more than one worker can).
"""

from __future__ import annotations

import contextlib
import os
import pdb
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from tuner.engines.local.outcome import Exit
from tuner.engines.local.worker import Job, Stopped, call, describe, load
from tuner.errors import CommandError

TICK = 0.1  # seconds between two looks at the metrics
HANG = 10.0  # seconds after the deadline at which C code counts as hanging


class InProcess:
    """The interface of tuner.engines.local.pool.Pool, with the trial in `wait`.

    `tick(number)` is called while a trial runs and returns True where it is to stop; `hang(number, error)` when it
    cannot be ended.
    """

    in_process = True

    def __init__(
        self, slot: Mapping[str, str], module: str, tick: Callable[[int], bool], hang: Callable[[int, str], None]
    ) -> None:
        self._slot, self._module, self._tick, self._hang = slot, module, tick, hang
        self._main: Callable[[list[str]], Any] | None = None
        self._job: Job | None = None
        self._error = ""
        self._inside = False

    def warm(self, count: int) -> None:
        """Import the module, `count` or not; CommandError where it cannot be."""
        os.environ.update({key: value for key, value in self._slot.items() if key not in os.environ})
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
        try:
            self._main = load(self._module)
        except (KeyboardInterrupt, Stopped):
            raise
        except BaseException as error:
            raise CommandError(f"python -m {self._module} cannot start: {describe(error)}") from error

    @property
    def idle(self) -> int:
        """1, or 0 when a job is there."""
        return 0 if self._job else 1

    def slot_of(self, number: int) -> Mapping[str, str]:
        """The environment that shares out cores and GPUs."""
        return self._slot

    def start(self, job: Job) -> None:
        """Take a job; `wait` runs it."""
        self._job = job

    def stop(self, number: int, error: str = "") -> None:
        """Raise Stopped inside the trial; from a signal handler in the main thread, or from any other thread."""
        if not self._inside or self._job is None or self._job.number != number:
            return
        self._error = self._error or error
        if threading.current_thread() is threading.main_thread():
            raise Stopped
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def wait(self, timeout: float) -> list[tuple[int, Exit]]:
        """Run the job to its end."""
        if self._job is None:
            time.sleep(timeout)
            return []
        job, self._error = self._job, ""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(job, done), daemon=True)
        previous = signal.signal(signal.SIGALRM, self._interrupt)
        code, error = -int(signal.SIGTERM), ""
        try:
            watcher.start()
            code, error = self._run(job)
        except Stopped:
            pass
        finally:
            done.set()
            self._inside = False
            watcher.join()
            signal.signal(signal.SIGALRM, previous)
            self._job = None
        return [(job.number, Exit(code, self._error or error))]

    def close(self) -> None:
        """Nothing to end: a trial has the main thread, so none is running when this is called."""

    def _run(self, job: Job) -> tuple[int, str]:
        assert self._main is not None  # noqa: S101
        hook, terminal = sys.breakpointhook, sys.stdout

        def breakpoint_here(*_: object, **__: object) -> None:
            pdb.Pdb(stdout=terminal).set_trace(sys._getframe(1))

        with Path(job.log).open("a", buffering=1, encoding="utf-8", errors="replace") as log:
            if hook is sys.__breakpointhook__:
                sys.breakpointhook = breakpoint_here
            try:
                with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                    self._inside = True
                    return call(self._main, job)
            finally:
                self._inside = False
                sys.breakpointhook = hook

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._inside:
            raise Stopped

    def _watch(self, job: Job, done: threading.Event) -> None:
        start = time.monotonic()
        while not done.wait(TICK):
            passed = time.monotonic() - start
            if job.deadline and passed > job.deadline:
                error = f"still running after activeDeadlineSeconds ({job.deadline:g} s)"
                if passed > job.deadline + HANG:
                    self._hang(job.number, error)
                self.stop(job.number, error)
            elif self._tick(job.number):
                self.stop(job.number)
