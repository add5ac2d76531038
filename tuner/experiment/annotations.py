"""Annotations of ours on an Experiment. Katib ignores them.

gan-tuner/first-trials   the trials that run first (tuner.samplers.first)
gan-tuner/stop-factors   '{"2": 1.8, "4": 1.5}': at its second report, a trial is stopped if its best objective so far
                         is more than 1.8 times the best that an earlier trial had by then
gan-tuner/required-files '{"data/a.npz": "python prepare.py"}': files that a local trial reads, each with the command
                         that creates it; gantune prints the command and never runs it
gan-tuner/seed-noise     '0.04': by which share the objective differs between two trainings that
                         differ only in their seed
gan-tuner/cost-metric    'train_seconds': the metric that says what a trial cost; without it, its
                         wall time does
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from tuner.errors import ManifestError, UnsupportedError
from tuner.katib.yamlfile import show
from tuner.samplers.first import FIRST_ANNOTATION, parse, read_json
from tuner.samplers.transform import Dimension, clipped
from tuner.space import Value

STOP_ANNOTATION = "gan-tuner/stop-factors"
NOISE_ANNOTATION = "gan-tuner/seed-noise"
COST_ANNOTATION = "gan-tuner/cost-metric"
FILES_ANNOTATION = "gan-tuner/required-files"
LONGEST_COMMAND = 200  # characters of a path or a command: a message has one line
# (number of the report, from 1; the factor), by number
Factors: TypeAlias = tuple[tuple[int, float], ...]
# (path, the command that creates the file)
Files: TypeAlias = tuple[tuple[str, str], ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Annotations:
    """What the annotations of an Experiment say."""

    first_trials: tuple[Mapping[str, Value], ...] = ()
    stop_factors: Factors = ()
    required_files: Files = ()
    seed_noise: float | None = None
    cost_metric: str = ""


def read(annotations: Mapping[str, Any], dimensions: Sequence[Dimension]) -> Annotations:
    """Return our annotations. Raises ManifestError with the annotation's path."""

    def value(name: str, parsed: Callable[[str], T], default: T) -> T:
        where = ("metadata", "annotations", name)
        text = annotations.get(name) or ""
        if not isinstance(text, str):
            message = f"{show(where)} must be text (quote it), got {str(text)[:60]}"
            raise ManifestError(message, path=show(where), where=where, rule="wrong-type")
        try:
            return parsed(text) if text else default
        except UnsupportedError as error:
            rule = name.partition("/")[2]
            raise ManifestError(str(error), path=show(where), where=where, rule=rule) from error

    return Annotations(
        first_trials=value(FIRST_ANNOTATION, lambda text: parse(text, dimensions), ()),
        stop_factors=value(STOP_ANNOTATION, stop_factors, ()),
        required_files=value(FILES_ANNOTATION, required_files, ()),
        seed_noise=value(NOISE_ANNOTATION, seed_noise, None),
        cost_metric=value(COST_ANNOTATION, str, ""),
    )


def seed_noise(text: str) -> float:
    """Return the seed noise that a text names, a share. Raises UnsupportedError for an invalid one."""
    try:
        noise = float(text)
    except ValueError:
        noise = math.nan
    if not 0 < noise < 1:
        raise UnsupportedError(
            f"the seed noise must be a share between 0 and 1, such as '0.04', got {clipped(text)}"
        )
    return noise


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
