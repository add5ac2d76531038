"""The debug runner: trials in the client's own process and terminal, one at a time, so that breakpoints work.

It is used with `--debug` alone. Trials are not isolated: they share the process and the directory
that the search was started from, so what one leaves behind is there for the next, and a trial that
ends the process ends the client. Deadlines and early stopping do not end a trial.
"""

from __future__ import annotations

import bdb
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from tuner.engines.local.runner import Exit, Job
from tuner.engines.local.trial import Main, describe, load
from tuner.errors import CommandError, UnsupportedError


class DebugRunner:
    """A Runner whose trials run in `wait`. `interrupted` is called when Ctrl-C or the debugger ended a trial."""

    def __init__(
        self, slot: Mapping[str, str], module: str, start: Path, interrupted: Callable[[], None]
    ) -> None:
        if not module:
            raise UnsupportedError(
                "--debug needs a trial of the form `python -m MODULE`, where MODULE has `def main(argv)`: "
                "run without --debug"
            )
        if threading.current_thread() is not threading.main_thread():
            raise UnsupportedError(
                "debug needs the main thread: run the search there, or without debug"
            )
        self._slot, self._module, self._start, self._interrupted = slot, module, start, interrupted
        self._main: Main | None = None
        self._job: Job | None = None

    @property
    def idle(self) -> int:
        """One, or none while a job waits."""
        return int(self._job is None)

    def warm(self) -> None:
        """Import the module."""
        os.environ.update(
            {key: value for key, value in self._slot.items() if key not in os.environ}
        )
        if str(self._start) not in sys.path:
            sys.path.insert(0, str(self._start))
        try:
            self._main = load(self._module)
        except Exception as error:
            raise CommandError(
                f"python -m {self._module} cannot start: {describe(error)}"
            ) from error

    def slot_of(self, number: int) -> Mapping[str, str]:
        """The environment that shares out cores and GPUs."""
        return self._slot

    def start(self, job: Job) -> None:
        """Take a job; `wait` runs it."""
        self._job = job

    def stop(self, number: int) -> None:
        """Forget a job that has not started. One that runs has this thread, so nothing can stop it but Ctrl-C."""

    def wait(self, timeout: float) -> list[tuple[int, Exit]]:
        """Run the job."""
        job, self._job = self._job, None
        if job is None:
            time.sleep(timeout)
            return []
        if self._main is None:
            self.warm()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with _surroundings(job):
                return [(job.number, self._call(job))]
        finally:
            signal.signal(signal.SIGINT, before)

    def close(self) -> None:
        """Nothing to end: no trial runs outside `wait`."""

    def _call(self, job: Job) -> Exit:
        assert self._main is not None  # noqa: S101
        try:
            value = self._main(list(job.step.argv))
        except (KeyboardInterrupt, bdb.BdbQuit):  # `q` of the debugger ends the search too
            self._interrupted()
            return Exit(-int(signal.SIGINT))
        except SystemExit as exit_:
            value = exit_.code
        except BaseException as error:
            traceback.print_exc()
            return Exit(1, describe(error))
        return (
            Exit(int(value or 0))
            if value is None or isinstance(value, int)
            else Exit(1, str(value)[:300])
        )


class _Tee:
    """A text stream that writes to the log and to the terminal."""

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self._terminal, self._log = terminal, log

    def write(self, text: str) -> int:
        self._log.write(text)
        self._log.flush()
        return self._terminal.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)


@contextlib.contextmanager
def _surroundings(job: Job) -> Iterator[None]:
    """argv, environment, directory and streams of a trial, and afterwards those of the client again."""
    argv, env, cwd = sys.argv, dict(os.environ), Path.cwd()
    with Path(job.log).open("a", encoding="utf-8", errors="replace") as log:
        out, err = _Tee(sys.stdout, log), _Tee(sys.stderr, log)
        try:
            sys.argv = [job.step.module, *job.step.argv]
            os.environ.update(job.step.env)
            if job.step.cwd:
                os.chdir(job.step.cwd)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield
        finally:
            sys.argv = argv
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(env)
