"""Annotations of ours on an Experiment. Katib ignores them.

gan-tuner/first-trials   the trials that run first (tuner.samplers.first)
gan-tuner/stop-factors   '{"2": 1.8, "4": 1.5}': at its second report, a trial is stopped if its best objective so far
                         is more than 1.8 times the best that an earlier trial had by then
gan-tuner/required-files '{"data/a.npz": "python prepare.py"}': files that a local trial reads, each with the command
                         that creates it; gantune prints the command and never runs it
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tuner.errors import ManifestError, UnsupportedError
from tuner.katib.yamlfile import show
from tuner.samplers.first import FIRST_ANNOTATION, parse, read_json
from tuner.samplers.transform import Dimension, clipped

STOP_ANNOTATION = "gan-tuner/stop-factors"
FILES_ANNOTATION = "gan-tuner/required-files"
LONGEST_COMMAND = 200  # characters of a path or a command: a message has one line
# (number of the report, from 1; the factor), by number
Factors: TypeAlias = tuple[tuple[int, float], ...]
# (path, the command that creates the file)
Files: TypeAlias = tuple[tuple[str, str], ...]


def fields(annotations: Mapping[str, Any], dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """Return the fields of an Experiment that its annotations set. Raises ManifestError with the annotation's path."""
    found: dict[str, Any] = {}
    for name, field, read in (
        (FIRST_ANNOTATION, "first_trials", lambda text: parse(text, dimensions)),
        (STOP_ANNOTATION, "stop_factors", stop_factors),
        (FILES_ANNOTATION, "required_files", required_files),
    ):
        where = ("metadata", "annotations", name)
        text = annotations.get(name) or ""
        if not isinstance(text, str):
            message = f"{show(where)} must be text (quote it), got {str(text)[:60]}"
            raise ManifestError(message, path=show(where), where=where, rule="wrong-type")
        try:
            found[field] = read(text) if text else ()
        except UnsupportedError as error:
            raise ManifestError(
                str(error), path=show(where), where=where, rule=name.partition("/")[2]
            ) from error
    return found


def stop_factors(text: str) -> Factors:
    """Return the stop factors that a text names. Raises UnsupportedError for an invalid one."""
    try:
        listed = read_json(text)
    except ValueError as error:
        raise UnsupportedError(
            f'the stop factors must be a JSON object, such as {{"4": 1.5}}: {error}'
        ) from error
    if not isinstance(listed, dict):
        raise UnsupportedError('the stop factors must be a JSON object, such as {"4": 1.5}')
    for report, factor in listed.items():
        if not re.fullmatch(r"[1-9][0-9]{0,8}", report):
            raise UnsupportedError(
                f"a report's number must be a whole number from 1 to 999999999, got {clipped(report)}"
            )
        shown = f"the text {clipped(factor)}" if isinstance(factor, str) else clipped(str(factor))
        number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not number or not 1 < factor < math.inf:
            raise UnsupportedError(
                f"the stop factor of report {report} must be a number above 1, got {shown}"
            )
    return tuple(sorted((int(report), float(factor)) for report, factor in listed.items()))


def required_files(text: str) -> Files:
    """Return the files that a text names, with their commands. Raises UnsupportedError for an invalid text."""
    rule = "the required files must be a JSON object of paths and commands"
    try:
        listed = read_json(text)
    except ValueError as error:
        raise UnsupportedError(f"{rule}: {error}") from error
    if not isinstance(listed, dict):
        raise UnsupportedError(f'{rule}, such as {{"data/a.npz": "python prepare.py"}}')
    for path, command in listed.items():
        for part in (path, command):
            if not isinstance(part, str) or not part.isprintable() or not part.strip():
                raise UnsupportedError(f"{rule}, each one line of text, got {clipped(str(part))}")
            if len(part) > LONGEST_COMMAND:
                limit = f"at most {LONGEST_COMMAND} characters"
                raise UnsupportedError(f"{rule}, each of {limit}, got {clipped(part)}")
    return tuple(listed.items())


def missing_file(files: Files) -> str:
    """Return one line about the first of the files that is not on this machine; "" if there is none.

    A relative path starts at the current directory, as for a trial.
    """
    for path, command in files:
        if not Path(path).exists():
            return f"{path} does not exist. Local trials read it. Create it with: {command}"
    return ""
