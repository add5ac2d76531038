"""The fork server: one process that imports the trials' module once, and forks a process for each trial.

    python -c "...; from tuner.engines.local.forkserver import main; sys.exit(main(FD, MODULE))"      (see pool)

    client ── server ── supervisor of trial 3 ── trial 3 ── whatever it starts
                     └─ supervisor of trial 4 ── trial 4

FD is a socket with one JSON object per line. In: {"run": {...Job}}, {"stop": number}. Out: {"ready": true} or
{"broken": why} once MODULE is imported, {"done": number, "code": int, "error": text, "machine": bool}.

The server starts no thread and does not initialise CUDA, because neither survives a fork. It has a session of its own,
so Ctrl-C in the terminal does not reach it. If the client dies, the socket closes; the server then ends all
supervisors and itself. If the server dies, each supervisor receives SIGTERM. A supervisor that receives SIGTERM kills
its trial with everything that the trial started; on SIGUSR1 it asks the trial to finish first.
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
from typing import Any

from tuner.engines.local import trial
from tuner.engines.local.processes import adopt_orphans, child_pids, die_with_parent, kill_descendants
from tuner.engines.local.runner import Job, Step
from tuner.engines.local.workspace import Method

Continuation = Callable[[], int]  # what a forked process does instead of returning to the server's loop
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # end at once; ask the trial to finish
_LAST_WORDS = 4096  # bytes of a trial's report that are read


def main(descriptor: int, module: str) -> int:
    """Serve until the client closes the socket; in a trial's process, run the trial. Returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _Server(socket.socket(fileno=descriptor), module).serve()()


def decoded(shape: Mapping[str, Any]) -> Job:
    """Return the Job of its JSON form."""

    def step(held: Mapping[str, Any]) -> Step:
        return Step(**{**held, "argv": tuple(held["argv"])})

    init = tuple(step(held) for held in shape["init"])
    return Job(**{**shape, "step": step(shape["step"]), "init": init, "method": Method(shape["method"])})


@dataclass
class _Supervised:
    """A supervisor as the server knows it: its process, and what it has said so far."""

    pid: int
    number: int
    said: bytes = b""


class _Server:
    def __init__(self, channel: socket.socket, module: str) -> None:
        self._channel, self._module = channel, module
        self._main: trial.Main | None = None
        self._rest = b""
        self._supervised: dict[int, _Supervised] = {}  # by the read end of its pipe

    def serve(self) -> Continuation:
        """Return once the client has gone, or, in a forked process, with what that process does."""
        adopt_orphans()
        if self._module and not self._import():
            return lambda: 0
        self._send(ready=True)
        gc.collect()
        gc.freeze()  # the collector would write to every object, and so copy every page, in each trial
        while True:
            ready, _, _ = select.select([self._channel.fileno(), *self._supervised], [], [])
            for pipe in set(ready) & self._supervised.keys():
                self._listen(pipe)
            if self._channel.fileno() in ready:
                try:
                    data = self._channel.recv(65536)
                except OSError:  # ECONNRESET: the client was killed before it read everything
                    data = b""
                if not data:
                    return self._end
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    if (forked := self._obey(json.loads(line))) is not None:
                        return forked

    def _import(self) -> bool:
        try:
            self._main = trial.load(self._module)
        except BaseException as error:
            self._send(broken=trial.describe(error))
            return False
        return True

    def _obey(self, message: Mapping[str, Any]) -> Continuation | None:
        if "run" in message:
            return self._fork(decoded(message["run"]))
        for each in self._supervised.values():
            if each.number == message["stop"]:
                with contextlib.suppress(OSError):
                    os.kill(each.pid, signal.SIGUSR1)
        return None

    def _fork(self, job: Job) -> Continuation | None:
        ours, theirs = os.pipe()
        server = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # a stop may come before the supervisor listens
        try:
            pid = fork()
        except OSError as error:
            os.close(ours)
            os.close(theirs)
            self._send(done=job.number, code=None, error=f"cannot start a process: {error.strerror}", machine=True)
            return None
        finally:
            if os.getpid() == server:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if pid == 0:
            self._channel.close()
            for pipe in (ours, *self._supervised):
                os.close(pipe)
            return _Supervisor(job, self._main, theirs, server).run()
        os.close(theirs)
        self._supervised[ours] = _Supervised(pid, job.number)
        return None

    def _listen(self, pipe: int) -> None:
        """Read what a supervisor says; at its end, tell the client."""
        one = self._supervised[pipe]
        if data := os.read(pipe, 65536):
            one.said += data
            return
        os.close(pipe)
        del self._supervised[pipe]
        with contextlib.suppress(OSError):
            os.waitpid(one.pid, 0)
        kill_descendants(frozenset(each.pid for each in self._supervised.values()))
        try:
            self._send(done=one.number, **json.loads(one.said))
        except ValueError:
            self._send(done=one.number, code=None, error="its supervisor was killed", machine=False)

    def _end(self) -> int:
        """End all trials: the client has gone."""
        for each in self._supervised.values():
            with contextlib.suppress(OSError):
                os.kill(each.pid, signal.SIGTERM)
        until = time.monotonic() + 2
        while child_pids() and time.monotonic() < until:
            with contextlib.suppress(OSError):
                os.waitpid(-1, os.WNOHANG)
            time.sleep(0.002)
        kill_descendants()
        os._exit(0)  # a module that left a thread at import must not keep the server

    def _send(self, **message: object) -> None:
        with contextlib.suppress(OSError):
            self._channel.sendall(json.dumps(message).encode() + b"\n")


class _Supervisor:
    """Forks one trial, waits for it, ends everything that it started, and says how it finished."""

    def __init__(self, job: Job, main: trial.Main | None, pipe: int, server: int) -> None:
        self._job, self._main, self._pipe, self._server = job, main, pipe, server
        self._status: int | None = None
        self._trial = 0

    def run(self) -> Continuation:
        """Return what this process does at last: in the trial's process the trial, in the supervisor nothing."""
        own = os.getpid()
        os.setpgid(0, 0)
        woken, wake = os.pipe()
        for descriptor in (woken, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (*_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # the number arrives through the pipe
        adopt_orphans()
        die_with_parent(signal.SIGTERM, self._server)
        words, report = os.pipe()
        os.set_blocking(words, False)
        os.set_blocking(report, False)
        self._trial = fork()
        if self._trial == 0:
            for descriptor in (self._pipe, woken, words):
                os.close(descriptor)
            signal.set_wakeup_fd(-1)
            os.close(wake)
            return lambda: trial.run(self._job, self._main, report, own)
        os.close(report)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        error = self._watch(woken)
        kill_descendants()
        self._reap()
        self._say(words, error)
        os._exit(0)

    def _watch(self, woken: int) -> str:
        """Wait until the trial has finished; returns why it was stopped, if that was the deadline."""
        due = time.monotonic() + self._job.deadline if self._job.deadline else None
        kill_at: float | None = None
        error = ""
        while self._status is None:
            times = [at for at in (due, kill_at) if at is not None]
            select.select([woken], [], [], max(min(times) - time.monotonic(), 0) if times else None)
            with contextlib.suppress(BlockingIOError):
                numbers = os.read(woken, 4096)
                if signal.SIGTERM in numbers:
                    self._signal(signal.SIGKILL)
                    return error
                if signal.SIGUSR1 in numbers and kill_at is None:
                    kill_at = time.monotonic() + self._job.grace
                    self._signal(signal.SIGTERM)
            now = time.monotonic()
            if due is not None and now >= due:
                due, error = None, self._job.overdue()
                if kill_at is None:
                    kill_at = now + self._job.grace
                    self._signal(signal.SIGTERM)
            if kill_at is not None and now >= kill_at:
                kill_at = None
                self._signal(signal.SIGKILL)
            self._reap()
        return error

    def _signal(self, number: signal.Signals) -> None:
        """Signal the trial's session; it may not have made that yet."""
        with contextlib.suppress(OSError):
            os.killpg(self._trial, number)
            return
        with contextlib.suppress(OSError):
            os.kill(self._trial, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except OSError:
                return
            if pid == 0:
                return
            if pid == self._trial:
                self._status = os.waitstatus_to_exitcode(status)

    def _say(self, words: int, error: str) -> None:
        message: dict[str, object] = {"code": self._status, "error": error, "machine": False}
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(os.read(words, _LAST_WORDS).split(b"\n")[0])
            if not error and self._status:
                message |= {"error": told["error"], "machine": told["machine"]}
        with contextlib.suppress(OSError):
            os.write(self._pipe, json.dumps(message).encode())


def fork() -> int:
    """Fork. Python warns where a library has started a thread, which only this process keeps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
