"""Runs a program that is not known: for its `--help`, and until it has printed its metrics.

The program gets an argument list and no shell, no standard input, and a time limit. Its output is
read up to a limit. When enough is known, its process group receives SIGTERM and then SIGKILL, so
nothing that it started in that group is left. It runs in the current directory, as it does when a
person starts it.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import CommandError
from tuner.experiment import interpreter
from tuner.init.objective import is_counter, is_score
from tuner.katib.filters import DEFAULT_FILTER, Filter

OUTPUT_LIMIT = 1 << 20  # bytes of output that are read
HELP_SECONDS = 60.0  # a program may import torch first
SETTLE_SECONDS = 3.0  # how long further names may follow the first ones
LOOK_SECONDS = 0.1  # between two looks at the output, which may come one line at a time
GRACE = 2.0  # seconds between SIGTERM and SIGKILL
# `accuracy: 0.93` is not what Katib's default filter reads; the drafted manifest then states this
# filter.
COLON_FILTER = r"([\w|-]+)\s*:\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"
_CLOCK = re.compile(r"\d{1,4}[:-]\d\d[:-]\d\d")


@dataclass(frozen=True, slots=True)
class Output:
    """What a program printed. `code` is its exit code, None where it was stopped."""

    text: str
    code: int | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of a program, in the order of their first values, and the filter that finds them ("" is Katib's)."""

    names: tuple[str, ...]
    filter: str = ""


def help_of(argv: Sequence[str]) -> str:
    """Return what the program prints for `--help`; "" where it fails.

    Raises CommandError where the program is not found.
    """
    output = _run([*argv, "--help"], HELP_SECONDS, lambda text: False)
    return output.text if output.code == 0 else ""


def metrics_of(argv: Sequence[str], settings: Collection[str], limit: float) -> Metrics:
    """Run the program until it has printed its metrics, at most `limit` seconds.

    Args:
        argv: The command line.
        settings: Names that are flags and no metrics: many programs print `lr=0.001` when they
        start.
        limit: Seconds.

    Raises:
        CommandError: The program is not found, fails before it prints a metric, or prints none.
    """
    watch = _Watch(frozenset(settings))
    output = _run(argv, limit, watch.enough)
    names = watch.names(output.text + "\n", DEFAULT_FILTER)
    if names:
        return Metrics(tuple(names))
    if colon := watch.names(output.text + "\n", COLON_FILTER):
        return Metrics(tuple(colon), COLON_FILTER)
    last = " ".join((output.text.strip().splitlines() or [""])[-1].split())[:200]
    said = f" Its last line is {last!r}." if last else " It printed nothing."
    if output.code:
        raise CommandError(
            f"the program failed with exit code {output.code} before it printed a metric.{said}"
        )
    how = "finished" if output.code == 0 else f"ran for {limit:g} s"
    raise CommandError(
        f"the program {how} and printed no metric.{said} Print each metric as name=value, for example with "
        "print(f'accuracy={accuracy}')"
    )


class _Watch:
    """Decides when a run has shown all its metrics: a name comes a second time, or no new one comes for a while."""

    def __init__(self, settings: frozenset[str]) -> None:
        self._settings = settings
        self._count, self._since = 0, 0.0

    def enough(self, text: str) -> bool:
        """Return whether the metrics are known; `text` is the output so far."""
        complete = text[: text.rfind("\n") + 1]
        names = self.names(complete, DEFAULT_FILTER) or self.names(complete, COLON_FILTER)
        if any(lines > 1 and not is_counter(name) for name, lines in names.items()):
            return True
        if not any(map(is_score, names)):
            return False  # perhaps only what the program says about itself
        if len(names) > self._count:
            self._count, self._since = len(names), time.monotonic()
        return time.monotonic() - self._since > SETTLE_SECONDS

    def names(self, text: str, pattern: str) -> dict[str, int]:
        """Return the metric names of a text, each with the number of lines that have it."""
        one, found = Filter(pattern), dict[str, int]()
        for line in text.splitlines():
            if pattern == COLON_FILTER:
                line = _CLOCK.sub(" ", line)  # noqa: PLW2901 - a time of day is no metric
            listed = {
                name: None
                for name, value in one.find(line.encode("utf-8", "replace"))
                if _finite(value)
            }
            for name in listed:
                if (
                    re.fullmatch(r"[A-Za-z_][\w|-]*", name)
                    and name.replace("-", "_").lower() not in self._settings
                ):
                    found[name] = found.get(name, 0) + 1
        return found


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _run(argv: Sequence[str], limit: float, enough: Callable[[str], bool]) -> Output:
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
            env={**os.environ, **plain, "KATIB_TRIAL_NAME": "gantune-init"},
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
