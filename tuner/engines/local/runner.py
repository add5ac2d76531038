"""What runs trials on this machine: the Runner protocol, the Job that it takes and the Exit that it returns.

Every implementation passes tests/tuner/runner_contract.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tuner.engines.local.workspace import Method
from tuner.katib.facts import SHARED_BYTES

GRACE = 5.0  # seconds between SIGTERM and SIGKILL, enough for a checkpoint


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a trial.

    Attributes:
        argv: The program and its arguments; for a step with a module, the arguments of its `main`
        alone.
        module: MODULE of `python -m MODULE`, where it has a `main(argv)` to call; "" for any other
        program.
        env: Environment variables in addition to those of the client.
        cwd: The working directory; "" for the trial's own.
        name: The name of its container.
    """

    argv: tuple[str, ...]
    module: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One trial, ready to run.

    Attributes:
        number: The trial's number in its study.
        directory: The trial's own directory, an absolute path below the study's.
        start: The directory whose files the trial sees as its working directory
        (tuner.engines.local.workspace).
        method: How the working directory is made.
        step: The primary container's command.
        init: The init containers' commands, which run first and in order.
        log: The file that receives what the trial prints.
        deadline: Seconds after which the trial is stopped; None for no limit.
        grace: Seconds between SIGTERM and SIGKILL when the trial is stopped.
        shared_memory: The limit of its /dev/shm in bytes; None for half of the machine's memory.
    """

    number: int
    directory: str
    start: str
    method: Method
    step: Step
    log: str
    init: tuple[Step, ...] = ()
    deadline: float | None = None
    grace: float = GRACE
    shared_memory: int | None = SHARED_BYTES

    def overdue(self) -> str:
        """The error of a trial that reached its deadline."""
        return f"still running after activeDeadlineSeconds ({self.deadline:g} s)"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a trial's command finished.

    Attributes:
        code: Its exit code; negative for a signal; None where it has none.
        error: What went wrong instead, in one line; "" where the exit code says it all.
        machine: True where this machine failed and not the trial (a full disk): the trial runs
        again.
        crash: True where the process that starts trials died, which this or another trial may have
        caused.
    """

    code: int | None = 0
    error: str = ""
    machine: bool = False
    crash: bool = False


class Runner(Protocol):
    """Runs trials, each isolated from the client and from every other trial."""

    @property
    def idle(self) -> int:
        """How many jobs could start now."""
        ...

    def warm(self) -> None:
        """Prepare to run trials, for example import the module; `wait` reports a module that cannot be imported."""
        ...

    def slot_of(self, number: int) -> Mapping[str, str]:
        """Return the environment (its share of cores and GPUs) that the next job, `number`, gets."""
        ...

    def start(self, job: Job) -> None:
        """Start a job. There must be an idle slot."""
        ...

    def stop(self, number: int) -> None:
        """Ask a trial to finish (SIGTERM), then end it (SIGKILL) after its grace period. Harmless when repeated."""
        ...

    def wait(self, timeout: float) -> list[tuple[int, Exit]]:
        """Return the trials that finished, waiting at most `timeout` seconds for the first.

        Raises:
            CommandError: The module of the trial's command cannot be imported.
        """
        ...

    def close(self) -> None:
        """End all trials and everything that they started."""
        ...
