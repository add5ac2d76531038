"""The fork server: one process that imports the trials' module once, and forks a process for each trial.

    python -c "...; from tuner.engines.local.forkserver import main; sys.exit(main(FD, MODULE, START))"      (see pool)

    client ── guard ── server ── trial 3 ── whatever it starts
                             └── trial 4

FD is a socket with one JSON object per line. In: {"run": {...Job}}, {"stop": number}, {"ping":
true}. Out: {"ready": true} or {"broken": why} once MODULE is imported, {"done": number, "code": int,
"error": text, "machine": bool}, {"pong": true}.

The server starts no thread and does not initialise CUDA, because neither survives a fork. It has a
session of its own, so Ctrl-C in the terminal does not reach it. Each trial is the subreaper of what
it starts, as process 1 of a container is. When it finishes, the rest becomes the server's, which
kills every child that is not a trial. If the client dies, the socket closes, and the server ends
all trials and itself. If the server dies, the trials are killed, and the guard, which is small and
does nothing else, kills what they leave. If the guard dies, the server ends.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import Any

from tuner.engines.local import namespace, trial
from tuner.engines.local.processes import adopt_orphans, die_with_parent, kill_descendants
from tuner.engines.local.runner import Job, Step
from tuner.engines.local.workspace import Method

# what a forked process does instead of returning to the server's loop
Continuation = Callable[[], int]
_REPORT_BYTES = 4096  # of a trial's report that are read


def main(descriptor: int, module: str, start: str) -> int:
    """Fork the server, and guard it until it has ended; in the server, serve; in a trial, run it.

    `start` is the directory in which modules are looked for first, as with `python -m`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # of the guard: it ends when the server does
    adopt_orphans()
    guard = os.getpid()
    server = os.fork()
    if server == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.path.insert(0, start)
        _unload_client_modules(start)
        return _Server(socket.socket(fileno=descriptor), module, guard).serve()()
    os.close(descriptor)
    code = os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])
    kill_descendants()
    return code if code >= 0 else 128 - code


def decoded(shape: Mapping[str, Any]) -> Job:
    """Return the Job of its JSON form."""

    def step(held: Mapping[str, Any]) -> Step:
        return Step(**{**held, "argv": tuple(held["argv"])})

    init = tuple(step(held) for held in shape["init"])
    return Job(
        **{**shape, "step": step(shape["step"]), "init": init, "method": Method(shape["method"])}
    )


@dataclass
class _Trial:
    """A running trial as the server knows it. `report` is the pipe on which it says why it could not start."""

    pid: int
    job: Job
    report: int
    due: float | None
    kill_at: float | None = None
    error: str = ""

    def signal(self, number: signal.Signals) -> None:
        """Signal the trial's session; it may not have made that yet."""
        try:
            os.killpg(self.pid, number)
        except OSError:
            with contextlib.suppress(OSError):
                os.kill(self.pid, number)

    def stop(self, error: str = "") -> None:
        """Ask it to finish; `tick` kills it after its grace period."""
        if self.kill_at is None:
            self.error = error
            self.kill_at = time.monotonic() + self.job.grace
            self.signal(signal.SIGTERM)

    def tick(self) -> None:
        """Enforce the deadline and the grace period."""
        now = time.monotonic()
        if self.due is not None and now >= self.due:
            self.due = None
            self.stop(self.job.overdue())
        if self.kill_at is not None and now >= self.kill_at:
            self.kill_at = now + self.job.grace
            self.signal(signal.SIGKILL)


@dataclass(frozen=True)
class _Spare:
    """A process that waits for its job, and its pipes."""

    pid: int
    jobs: int
    report: int


class _Server:
    def __init__(self, channel: socket.socket, module: str, guard: int) -> None:
        self._channel, self._module, self._guard = channel, module, guard
        self._main: trial.Main | None = None
        self._rest = b""
        self._trials: dict[int, _Trial] = {}  # by number
        self._spare: _Spare | None = None
        self._wake_pipe: tuple[int, int] = (-1, -1)

    def serve(self) -> Continuation:
        """Return once the client has gone, or, in a forked process, with what that process does."""
        adopt_orphans()
        die_with_parent(signal.SIGTERM, self._guard)
        if self._module and not self._import():
            return lambda: 0
        self._send(ready=True)
        self._wake_pipe = _wake_on(signal.SIGCHLD, signal.SIGTERM)
        woken, _ = self._wake_pipe
        namespace.installed_packages()  # kept for the trials
        gc.collect()
        # the collector would write to every object, and so copy every page, in each trial
        gc.freeze()
        with contextlib.suppress(OSError):
            if (forked := self._prepare()) is not None:
                return forked
        while True:
            times = [
                at
                for each in self._trials.values()
                for at in (each.due, each.kill_at)
                if at is not None
            ]
            wait = max(min(times) - time.monotonic(), 0) if times else None
            ready, _, _ = select.select([self._channel.fileno(), woken], [], [], wait)
            if woken in ready and signal.SIGTERM in os.read(woken, 4096):
                return self._end
            if self._channel.fileno() in ready:
                lines = self._receive()
                if lines is None:
                    return self._end
                for line in lines:
                    if (forked := self._obey(json.loads(line))) is not None:
                        return forked
            for each in list(self._trials.values()):
                each.tick()
            self._reap()

    def _import(self) -> bool:
        try:
            self._main = trial.load(self._module)
        except BaseException as error:
            self._send(broken=trial.describe(error))
            return False
        return True

    def _receive(self) -> list[bytes] | None:
        """The complete lines that have come; None when the client has gone."""
        try:
            data = self._channel.recv(65536)
        except OSError:  # ECONNRESET: the client was killed before it read everything
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines if data else None

    def _obey(self, message: Mapping[str, Any]) -> Continuation | None:
        if "run" in message:
            return self._start(decoded(message["run"]), message["run"])
        if "ping" in message:
            self._send(pong=True)
            return None
        if (one := self._trials.get(message["stop"])) is not None:
            one.stop()
        return None

    def _start(self, job: Job, shape: Mapping[str, Any]) -> Continuation | None:
        """Give the job to the spare process; returns what to do in a new process, None in the server."""
        try:
            if self._spare is None and (forked := self._prepare()) is not None:
                return forked
            assert self._spare is not None  # noqa: S101
            spare, self._spare = self._spare, None
            with os.fdopen(spare.jobs, "wb") as jobs:
                jobs.write(json.dumps(shape).encode())
        except OSError as error:
            self._send(
                done=job.number,
                code=None,
                error=f"cannot start a process: {error.strerror}",
                machine=True,
            )
            return None
        due = time.monotonic() + job.deadline if job.deadline else None
        self._trials[job.number] = _Trial(spare.pid, job, spare.report, due)
        try:
            return self._prepare()  # while the trial runs
        except OSError:
            return None  # the next start tries again, and tells the client

    def _prepare(self) -> Continuation | None:
        """Fork the next trial's process, which waits for its job: with torch imported, a fork takes 12 ms."""
        server = os.getpid()
        pipes: list[int] = []
        # a stop may come before the trial is ready for it
        signal.pthread_sigmask(signal.SIG_BLOCK, trial.SIGNALS)
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            pid = _fork()
        except OSError:
            for pipe in pipes:
                os.close(pipe)
            raise
        finally:
            if os.getpid() == server:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, trial.SIGNALS)
        job, jobs, report, words = pipes
        if pid == 0:
            self._channel.close()
            signal.set_wakeup_fd(-1)
            for pipe in (
                *self._wake_pipe,
                jobs,
                report,
                *(each.report for each in self._trials.values()),
            ):
                os.close(pipe)
            return lambda: self._wait(job, words, server)
        os.close(job)
        os.close(words)
        os.set_blocking(report, False)
        self._spare = _Spare(pid, jobs, report)
        return None

    def _wait(self, job: int, report: int, server: int) -> int:
        """In the spare process: wait for the job, and run it."""
        die_with_parent(signal.SIGKILL, server)
        with os.fdopen(job, "rb") as jobs:
            shape = jobs.read()
        if not shape:  # the server has ended
            os._exit(0)
        trial.leave(trial.run(decoded(json.loads(shape)), self._main, report, server))

    def _reap(self) -> None:
        """Tell the client of the trials that have finished, after everything that they started has ended."""
        finished: list[tuple[_Trial, int]] = []
        for each in self._trials.values():
            pid, status = os.waitpid(each.pid, os.WNOHANG)
            if pid:
                finished.append((each, os.waitstatus_to_exitcode(status)))
        for each, _ in finished:
            del self._trials[each.job.number]
        if finished:
            spare = [self._spare.pid] if self._spare else []
            kill_descendants(frozenset([*spare, *(each.pid for each in self._trials.values())]))
        for each, code in finished:
            self._conclude(each, code)

    def _conclude(self, one: _Trial, code: int) -> None:
        message: dict[str, object] = {"code": code, "error": one.error, "machine": False}
        # a trial may write anything into it
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            told = json.loads(os.read(one.report, _REPORT_BYTES).split(b"\n")[0])
            if code and not one.error:
                message |= {"error": str(told["error"]), "machine": bool(told["machine"])}
        os.close(one.report)
        self._send(done=one.job.number, **message)

    def _end(self) -> int:
        """End all trials: the client has gone, or the guard."""
        kill_descendants()
        os._exit(0)  # a module that left a thread at import must not keep the server

    def _send(self, **message: object) -> None:
        with contextlib.suppress(OSError):
            self._channel.sendall(json.dumps(message).encode() + b"\n")


def _unload_client_modules(start: str) -> None:
    """Let trials import the start directory's own module `tuner`, if it has one, in place of this package."""
    ours = __name__.partition(".")[0]
    spec = PathFinder.find_spec(ours, [start])
    if spec is None or not spec.origin or spec.origin == sys.modules[ours].__file__:
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == ours]:
        del sys.modules[name]


def _wake_on(*numbers: signal.Signals) -> tuple[int, int]:
    """Return a pipe from which the numbers of these signals can be read: its two ends."""
    woken, wake = os.pipe()
    for descriptor in (woken, wake):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return woken, wake


def _fork() -> int:
    """Fork. Python warns where a library has started a thread, which only this process keeps."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
