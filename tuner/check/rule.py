"""The types of rules and problems.

A rule has a function from a View (one Experiment as written) to findings, a reason and an upstream
source. To register a rule, add it to the table at the end of spec.py, space.py, template.py,
command.py, settings.py, annotations.py or portable.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from tuner.check.view import View
from tuner.katib.yamlfile import Path, show

Finding: TypeAlias = tuple[Path, str]  # the path, and one line: the rule, the value, the fix


class Severity(StrEnum):
    """An error: Katib refuses the Experiment or fails on it. A warning: it does not do what it seems to do."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. `gantune check --explain NAME` prints `why` and `source`.

    A `strict` rule is about style. It does not affect the result, so `check` applies it only on
    request.
    """

    name: str
    severity: Severity
    why: str
    source: str
    find: Callable[[View], Iterable[Finding]]
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding with its place in a file. The line is 0 if the file cannot be read."""

    file: str
    line: int
    severity: Severity
    rule: str
    message: str
    where: Path = ()

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.severity}: {self.message} [{self.rule}]"

    def to_json(self) -> dict[str, Any]:
        """Return what `gantune check --format json` prints."""
        return {
            "file": self.file,
            "line": self.line,
            "severity": self.severity.value,
            "rule": self.rule,
            "path": show(self.where),
            "message": self.message,
        }


def error(name: str, why: str, source: str, find: Callable[[View], Iterable[Finding]]) -> Rule:
    """Return a rule that reports errors."""
    return Rule(name, Severity.ERROR, why, source, find)


def warning(name: str, why: str, source: str, find: Callable[[View], Iterable[Finding]]) -> Rule:
    """Return a rule that reports warnings."""
    return Rule(name, Severity.WARNING, why, source, find)


def style(name: str, why: str, source: str, find: Callable[[View], Iterable[Finding]]) -> Rule:
    """Return a rule about style, which only `gantune check --strict` prints."""
    return Rule(name, Severity.WARNING, why, source, find, strict=True)
