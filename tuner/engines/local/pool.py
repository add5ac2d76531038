"""Worker processes, one trial each at a time: started, stopped and replaced from the client's side.

A stop is SIGTERM, so that a trainer can write a checkpoint, and SIGKILL for the whole process group after GRACE
seconds. A worker that dies takes its trial with it, not the search: the trial's exit says how, and the next one gets a
new worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.engines.local.outcome import Exit
from tuner.engines.local.worker import Job, encoded
from tuner.errors import CommandError

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
_ROOT = str(Path(__file__).resolve().parents[3])
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from tuner.engines.local.worker import main; main(int(sys.argv[2]), sys.argv[3])"
)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    slot: int
    job: Job | None = None
    group: int = 0  # of the trial's subprocess
    deadline: float | None = None
    kill_at: float | None = None
    error: str = ""
    rest: bytes = b""
    closed: bool = field(default=False)


class Pool:
    """Up to `len(slots)` workers; `slots` are the environments that share out cores and GPUs among them."""

    in_process = False

    def __init__(self, slots: Sequence[Mapping[str, str]], module: str) -> None:
        self._slots = slots
        self._module = module
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def warm(self, count: int) -> None:
        """Have `count` workers, so that they import the module at the same time."""
        while len(self._workers) < min(count, len(self._slots)):
            self._spawn()

    @property
    def idle(self) -> int:
        """How many jobs could start now."""
        return len(self._slots) - sum(worker.job is not None for worker in self._workers)

    def start(self, job: Job) -> None:
        """Run a job on an idle worker."""
        free = [worker for worker in self._workers if worker.job is None]
        worker = free[0] if free else self._spawn()
        worker.job, worker.error, worker.kill_at = job, "", None
        worker.deadline = time.monotonic() + job.deadline if job.deadline else None
        with contextlib.suppress(OSError):  # it died while idle: the closed socket says so below
            worker.channel.sendall(encoded(job))

    def slot_of(self, number: int) -> Mapping[str, str]:
        """The environment of the slot that the next job (`number`) will have."""
        free = [worker.slot for worker in self._workers if worker.job is None]
        used = {worker.slot for worker in self._workers}
        return self._slots[free[0] if free else next(i for i in range(len(self._slots)) if i not in used)]

    def stop(self, number: int, error: str = "") -> None:
        """Ask the trial to end, and see to it that it does; harmless when it has ended, or been asked."""
        for worker in self._workers:
            if worker.job and worker.job.number == number and worker.kill_at is None:
                worker.kill_at, worker.error = time.monotonic() + GRACE, error
                with contextlib.suppress(OSError):
                    worker.channel.sendall(json.dumps({"stop": number}).encode() + b"\n")

    def wait(self, timeout: float) -> list[tuple[int, Exit]]:
        """The trials that ended, waiting `timeout` seconds for the first.

        Raises CommandError where the module cannot be imported.
        """
        ended: list[tuple[int, Exit]] = []
        for key, _ in self._selector.select(timeout):
            ended += self._receive(key.data)
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.job and worker.deadline and now > worker.deadline:
                worker.deadline = None
                seconds = f"{worker.job.deadline:g}"
                self.stop(worker.job.number, f"still running after activeDeadlineSeconds ({seconds} s)")
            if worker.kill_at and now > worker.kill_at:
                self._kill(worker)
        return ended

    def close(self) -> None:
        """End every worker at once, and its trial."""
        for worker in self._workers:
            self._kill(worker)
        for worker in list(self._workers):
            self._remove(worker)
        self._selector.close()

    def _spawn(self) -> _Worker:
        slot = next(i for i in range(len(self._slots)) if all(worker.slot != i for worker in self._workers))
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _PROGRAM, _ROOT, str(theirs.fileno()), self._module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | dict(self._slots[slot]),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        worker = _Worker(process, ours, slot)
        self._workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        return worker

    def _receive(self, worker: _Worker) -> list[tuple[int, Exit]]:
        try:
            data = worker.channel.recv(65536)
        except OSError:
            data = b""
        if not data:
            return self._lost(worker)
        ended: list[tuple[int, Exit]] = []
        *lines, worker.rest = (worker.rest + data).split(b"\n")
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if "broken" in message:
                raise CommandError(f"python -m {self._module} cannot start: {message['broken']}")
            worker.group = int(message.get("pid", worker.group))
            if "done" in message and worker.job:
                code, error = int(message["code"]), worker.error or str(message["error"])
                ended.append((worker.job.number, Exit(code, error)))
                worker.job = worker.kill_at = worker.deadline = None
        return ended

    def _lost(self, worker: _Worker) -> list[tuple[int, Exit]]:
        """The worker has died: what is left of its trial dies too."""
        self._kill(worker)
        job, error = worker.job, worker.error
        self._remove(worker)
        return [(job.number, Exit(worker.process.returncode or 1, error))] if job else []

    def _kill(self, worker: _Worker) -> None:
        worker.kill_at = None
        for group in (worker.group, worker.process.pid):
            if group and (group != worker.process.pid or worker.process.poll() is None):
                with contextlib.suppress(OSError):
                    os.killpg(group, signal.SIGKILL)

    def _remove(self, worker: _Worker) -> None:
        worker.process.wait()
        self._selector.unregister(worker.channel)
        worker.channel.close()
        self._workers.remove(worker)
