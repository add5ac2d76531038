"""Reads an Experiment for a command that runs it, and prints what `gantune check` finds."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.cli.terminal import say
from tuner.errors import ManifestError

if TYPE_CHECKING:
    from tuner.api import Experiment

STDIN_NAME = "<stdin>"


def load(file: Path, name: str | None, *, warnings: bool) -> Experiment:
    """Return the Experiment in `file`, or in standard input for `-`, after a check.

    Problems go to stderr. Warnings are about what Katib does differently: without `warnings` they
    are counted in one line. With them, the faults of Katib's own suggestion services are left out,
    because the engine knows which service will answer.

    Raises:
        ManifestError: The manifest is not YAML, or has an error.
    """
    from tuner.api import read

    try:
        found = (
            read(sys.stdin.buffer.read(), STDIN_NAME)
            if str(file) == "-"
            else read(str(file), str(file))
        )
    except ManifestError as damaged:
        if damaged.rule != "unreadable":  # not YAML: as other errors of the check
            damaged.exit_code = 1
        raise
    errors, others = found.errors, found.warnings(stock_services=not warnings)
    for problem in [*errors[:-1], *(others if warnings or errors else [])]:
        say(str(problem), err=True)
    if errors:
        last = errors[-1]
        error = ManifestError(
            f"{last.message} [{last.rule}]", file=last.file, line=last.line, rule=last.rule
        )
        error.exit_code = 1
        raise error
    if others and not warnings:
        count = f"{len(others)} warning{'s' if len(others) > 1 else ''}"
        say(
            f"{file}: {count} for use on a cluster: gantune check {shlex.quote(str(file))}",
            err=True,
        )
    return found.experiment(name)
