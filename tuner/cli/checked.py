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
    """The Experiment in `file`, or of standard input for `-`, checked.

    Problems go to stderr, and errors end it with ManifestError. Warnings are about what Katib would do differently.
    Without `warnings` they are counted in one line. With them, the faults of Katib's own suggestion services are left
    to the engine, which knows the service that will answer.
    """
    from tuner import manifest, yamlfile
    from tuner.check import STOCK_SERVICE_RULES, Severity, check_documents

    data = sys.stdin.buffer.read() if str(file) == "-" else yamlfile.read_bytes(file)
    try:
        documents = yamlfile.parse(data, STDIN_NAME if str(file) == "-" else str(file))
    except ManifestError as damaged:  # not YAML: as other errors of the check
        damaged.exit_code = 1
        raise
    problems = check_documents(documents)
    if warnings:
        problems = [problem for problem in problems if problem.rule not in STOCK_SERVICE_RULES]
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    others = [problem for problem in problems if problem.severity is not Severity.ERROR]
    for problem in [*errors[:-1], *(others if warnings or errors else [])]:
        say(str(problem), err=True)
    if errors:
        last = errors[-1]
        error = ManifestError(f"{last.message} [{last.rule}]", file=last.file, line=last.line, rule=last.rule)
        error.exit_code = 1
        raise error
    if others and not warnings:
        count = f"{len(others)} warning{'s' if len(others) > 1 else ''}"
        say(f"{file}: {count} for use on a cluster: gantune check {shlex.quote(str(file))}", err=True)
    return manifest.choose(documents, documents[0].file if documents else str(file), name, checked=True)
