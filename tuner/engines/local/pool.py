"""The client's side of the fork server: it starts the server, sends it jobs and hears how they finished."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tuner.engines.local.processes import MARKER, child_pids, sweep
from tuner.engines.local.runner import Exit, Job
from tuner.errors import CommandError

_ROOT = str(Path(__file__).resolve().parents[3])
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from tuner.engines.local.forkserver import main; sys.exit(main(int(sys.argv[2]), *sys.argv[3:]))"
)
_CLOSE_SECONDS = 1.5  # for the server to end its trials, and for its own end after it was killed
_PING_SECONDS = 2.0  # between two questions whether the server still answers
_WAKE_SECONDS = 5.0  # without an answer: a trial may have stopped the server, so it is continued
_ANSWER_SECONDS = 30.0  # without an answer: the server has failed


class ForkServer:
    """A Runner with up to `len(slots)` trials at once.

    Args:
        slots: The environments that share out cores and GPUs, one for each trial that runs at the
        same time.
        module: What the server imports, "" where trials are other programs.
        start: The directory in which the module is looked for first.
        study: The study's directory, by which a later run finds processes that are left over.
    """

    def __init__(
        self, slots: Sequence[Mapping[str, str]], module: str, start: Path, study: Path
    ) -> None:
        self._slots, self._module, self._start, self._study = slots, module, start, study
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._rest = b""
        self._running: dict[int, int] = {}  # slot by trial number
        self._ready = False  # the module is imported, which may take any time
        self._heard = self._asked = 0.0  # when the server last answered, and was last asked

    @property
    def idle(self) -> int:
        """How many jobs could start now."""
        return len(self._slots) - len(self._running)

    def warm(self) -> None:
        """Start the server, which then imports the module."""
        if self._process is not None:
            return
        ours, theirs = socket.socketpair()
        shared = {
            name: value for name, value in self._slots[0].items() if name != "CUDA_VISIBLE_DEVICES"
        }
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                # -P: the start directory may hold modules with the names of ours, or of the
                # standard library
                [
                    sys.executable,
                    "-P",
                    "-c",
                    _PROGRAM,
                    _ROOT,
                    str(theirs.fileno()),
                    self._module,
                    str(self._start),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._start,
                env=os.environ | shared | {MARKER: str(self._study.absolute())},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._channel, self._rest, self._ready = ours, b"", False

    def slot_of(self, number: int) -> Mapping[str, str]:
        """The environment of the slot that the next job gets."""
        return self._slots[self._free()]

    def start(self, job: Job) -> None:
        """Send a job to the server."""
        self.warm()
        self._running[job.number] = self._free()
        self._send(run=asdict(job))

    def stop(self, number: int) -> None:
        """Ask a trial to finish, and see to it that it does."""
        if number in self._running:
            self._send(stop=number)

    def wait(self, timeout: float) -> list[tuple[int, Exit]]:
        """The trials that finished; see Runner.wait."""
        self.warm()
        channel = self._channel
        if channel is None:
            return []
        if not select.select([channel], [], [], timeout)[0]:
            return self._check_alive()
        try:
            data = channel.recv(65536)
        except OSError:
            data = b""
        if not data:
            return self._lost("")
        self._heard = time.monotonic()
        finished: list[tuple[int, Exit]] = []
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if "broken" in message:
                raise CommandError(f"python -m {self._module} cannot start: {message['broken']}")
            self._ready = True
            if (
                "done" in message
                and self._running.pop(number := int(message["done"]), None) is not None
            ):
                finished.append(
                    (number, Exit(message["code"], str(message["error"]), bool(message["machine"])))
                )
        return finished

    def close(self) -> None:
        """End all trials and the server."""
        if self._process is None:
            return
        if self._channel is not None:
            self._channel.close()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill(self._process)
        self._process = self._channel = None
        self._running.clear()

    def _free(self) -> int:
        used = set(self._running.values())
        return next(index for index in range(len(self._slots)) if index not in used)

    def _send(self, **message: object) -> None:
        if self._channel is not None:
            # the server has died: `wait` finds the closed socket
            with contextlib.suppress(OSError):
                self._channel.sendall(json.dumps(message).encode() + b"\n")

    def _check_alive(self) -> list[tuple[int, Exit]]:
        """Ask the server for an answer from time to time; all trials are lost if it gives none."""
        assert self._process is not None  # noqa: S101
        now = time.monotonic()
        if self._ready and self._asked <= self._heard and now - self._heard > _PING_SECONDS:
            self._asked = now
            self._send(ping=True)
        waited = now - self._asked if self._ready and self._asked > self._heard else 0.0
        if waited > _ANSWER_SECONDS:
            return self._lost(f"did not answer for {_ANSWER_SECONDS:.0f} s")
        if waited > _WAKE_SECONDS:
            self._continue(self._process)
        return []

    @staticmethod
    def _continue(guard: subprocess.Popen[bytes]) -> None:
        """Continue the guard and the server, which are one process group, if they are stopped."""
        with contextlib.suppress(OSError):
            os.killpg(guard.pid, signal.SIGCONT)

    def _kill(self, guard: subprocess.Popen[bytes]) -> None:
        """Kill the server, so that the guard kills the rest; kill the guard too if it does not exit."""
        for pid in child_pids(guard.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._continue(guard)
        try:
            guard.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
            sweep(self._study)

    def _lost(self, how: str) -> list[tuple[int, Exit]]:
        """Return the trials of a server that died or, as `how` says, failed; the next job gets a new server."""
        assert self._process is not None  # noqa: S101
        guard, numbers = self._process, list(self._running)
        self.close()
        # of the guard itself, or of the server, as the guard tells it
        number = -guard.returncode if guard.returncode < 0 else guard.returncode - 128
        if not how and number > 0:
            how = f"was killed by {signal.Signals(number).name}"
        how = how or f"ended with exit code {guard.returncode}"
        if not numbers:
            raise CommandError(f"the process that starts trials {how}")
        end = Exit(None, f"the process that starts trials {how}", machine=True, crash=True)
        return [(number, end) for number in numbers]
