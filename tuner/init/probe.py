"""Runs a program that is not known: for its `--help`, and until it has printed its metrics.

The program gets an argument list and no shell, no standard input, and a time limit. Its output is
read up to a limit. When enough is known, its process group receives SIGTERM and then SIGKILL, so
nothing that it started in that group is left. It runs in the current directory, as it does when a
person starts it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import CommandError
from tuner.experiment import interpreter
from tuner.init.objective import candidates
from tuner.init.sources import Source, Written
from tuner.metrics.names import Role, is_loss, is_score
from tuner.metrics.reports import Report, Reports

OUTPUT_LIMIT = 1 << 20  # bytes of output that are read
HELP_SECONDS = 60.0  # a program may import torch first
SETTLE_SECONDS = 3.0  # how long further names may follow the first ones
FILE_SECONDS = 2.0  # between two looks at the files that the program writes
LOOK_SECONDS = 0.1  # between two looks at the output, which may come one line at a time
GRACE = 2.0  # seconds between SIGTERM and SIGKILL
LONGER_SECONDS = 20.0  # the same, while no score of held-out data has come


@dataclass(frozen=True, slots=True)
class Output:
    """What a program printed. `code` is its exit code, None where it was stopped."""

    text: str
    code: int | None


@dataclass(frozen=True)
class Metrics:
    """The metrics of a program, and the file that holds them, None where it prints them."""

    reports: Reports
    source: Source | None = None


def help_of(argv: Sequence[str]) -> str:
    """Return what the program prints for `--help`; "" where it fails.

    Raises CommandError where the program is not found.
    """
    output = _run([*argv, "--help"], HELP_SECONDS, lambda text: False)
    return output.text if output.code == 0 else ""


def metrics_of(
    argv: Sequence[str],
    settings: Collection[str],
    limit: float,
    variables: Mapping[str, str] | None = None,
) -> Metrics:
    """Run the program until it has reported its metrics, at most `limit` seconds.

    Args:
        argv: The command line.
        settings: Names that are flags and no metrics: many programs print `lr=0.001` when they
            start.
        limit: Seconds.
        variables: Environment variables to set.

    Raises:
        CommandError: The program is not found, fails before it reports a metric, or reports none.
    """
    watch = _Watch(settings)
    output = _run(argv, limit, watch.enough, variables or {})
    watch.read(output.text + "\n")
    if watch.scores:
        return Metrics(watch.reports)
    if sources := watch.written.sources(settings):
        return Metrics(sources[0].reports, sources[0])
    if candidates(watch.reports.all):
        return Metrics(watch.reports)
    last = " ".join((output.text.strip().splitlines() or [""])[-1].split())[:200]
    said = f" Its last line is {last!r}." if last else " It printed nothing."
    if "ModuleNotFoundError" in last:
        said += f" The interpreter is {interpreter.described(interpreter.python())}."
    if output.code:
        raise CommandError(
            f"the program failed with exit code {output.code} before it printed a metric.{said}"
        )
    how = "finished" if output.code == 0 else f"ran for {limit:g} s"
    raise CommandError(
        f"the program {how} and printed no metric.{said} Print each metric as name=value, for "
        "example with print(f'accuracy={accuracy}')"
    )


class _Watch:
    """Decides when a run has shown its metrics: no new one comes for a while after a score."""

    def __init__(self, settings: Collection[str]) -> None:
        self.reports, self.written = Reports(settings), Written()
        self._settings = settings
        self._read = 0  # characters of the output
        self._count, self._since = 0, 0.0
        self._looked = time.monotonic()  # at the files

    @property
    def scores(self) -> list[Report]:
        """The metrics that score a model."""
        return [report for report in self.reports.all if is_score(report.name)]

    def read(self, text: str) -> None:
        """Read the complete lines of the output so far."""
        end = text.rfind("\n") + 1
        self.reports.read(text[self._read : end])
        self._read = max(self._read, end)

    def enough(self, text: str) -> bool:
        """Return whether the metrics are known; `text` is the output so far."""
        self.read(text)
        scores = self.scores
        if any(one.count > 1 and one.data.held_out and not is_loss(one.name) for one in scores):
            return True
        found = self.reports.all
        if not scores:
            return self._written_enough()
        if len(found) > self._count:
            self._count, self._since = len(found), time.monotonic()
        useful = any(not is_loss(one.name) and one.data is not Role.TRAINING for one in scores)
        useful = useful or any(one.data.held_out for one in scores)
        return time.monotonic() - self._since > (SETTLE_SECONDS if useful else LONGER_SECONDS)

    def _written_enough(self) -> bool:
        """Return whether a file holds several values of a held-out score."""
        if time.monotonic() < self._looked + FILE_SECONDS:
            return False
        self._looked = time.monotonic()
        sources = self.written.sources(self._settings)
        return any(
            one.count > 1 and one.data.held_out for source in sources for one in source.reports.all
        )


def _run(
    argv: Sequence[str],
    limit: float,
    enough: Callable[[str], bool],
    variables: Mapping[str, str] | None = None,
) -> Output:
    """Run a program and return its output, until it exits, `enough` says so, or time or output exceed their limits."""
    path = interpreter.search_path()
    known = argv[0] in interpreter.NAMES
    program = interpreter.python() if known else shutil.which(argv[0], path=path)
    if program is None:
        if Path(argv[0]).is_file():
            raise CommandError(
                f"{argv[0]!r} is not executable: chmod +x it, or name its interpreter, as in python {argv[0]}"
            )
        raise CommandError(
            f"the program {argv[0]!r} is not found on this machine: check its name and PATH"
        )
    plain = {
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "160",
        "NO_COLOR": "1",
        "TERM": "dumb",
    }
    try:
        process = subprocess.Popen(  # noqa: S603 - a list, no shell
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **plain, **(variables or {}), "KATIB_TRIAL_NAME": "gantune-init"},
            start_new_session=True,  # its own process group, which can be ended as a whole
        )
    except (OSError, ValueError) as error:
        raise CommandError(
            f"{argv[0]!r} cannot be started: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        return _read(process, time.monotonic() + limit, enough)
    finally:
        _end(process)


def _read(process: subprocess.Popen[bytes], until: float, enough: Callable[[str], bool]) -> Output:
    assert process.stdout is not None  # noqa: S101
    data, looked = bytearray(), 0.0
    while (left := until - time.monotonic()) > 0 and len(data) < OUTPUT_LIMIT:
        ready, _, _ = select.select([process.stdout], [], [], min(left, 0.2))
        if ready:
            block = os.read(process.stdout.fileno(), 1 << 16)
            if not block:  # the program has exited, or closed its output
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, until - time.monotonic()))
                return Output(_text(data), process.returncode)
            data += block
        if time.monotonic() > looked + LOOK_SECONDS:
            if enough(_text(data)):
                return Output(_text(data), None)
            looked = time.monotonic()
        # it has exited, but a child still has its output
        if not ready and process.poll() is not None:
            return Output(_text(data), process.returncode)
    return Output(_text(data), None)


def _text(data: bytearray) -> str:
    return data.decode("utf-8", "replace").replace("\r", "\n")  # a progress bar rewrites its line


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program's process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE if number == signal.SIGTERM else None)
    if process.stdout is not None:
        process.stdout.close()
