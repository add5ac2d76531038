"""What a rule is, and what it finds.

A rule is a function from a View (one Experiment as written, read safely) to findings, with the reason and the upstream
source beside it. The tables at the end of spec.py, space.py, template.py, command.py, settings.py, extensions.py and
portable.py are all there is to registering one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from tuner.check.view import View
from tuner.yamlfile import Path, show

Finding: TypeAlias = tuple[Path, str]  # where, and one line: what holds, what was found, what to write


class Severity(StrEnum):
    """An error: Katib refuses the Experiment or fails on it. A warning: it does something else than it seems."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `gantune check --explain NAME` prints `why` and `source`.

    A `strict` rule is about style: breaking it does not change the result, so `check` applies it on request only.
    """

    name: str
    severity: Severity
    why: str
    source: str
    find: Callable[[View], Iterable[Finding]]
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding with its place in a file. Line 0 where the file has none (it cannot be read)."""

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
        """The shape of `gantune check --format json`."""
        return {
            "file": self.file,
            "line": self.line,
            "severity": self.severity.value,
            "rule": self.rule,
            "path": show(self.where),
            "message": self.message,
        }


def error(name: str, why: str, source: str, find: Callable[[View], Iterable[Finding]]) -> Rule:
    """A rule whose breach is an error."""
    return Rule(name, Severity.ERROR, why, source, find)


def warning(name: str, why: str, source: str, find: Callable[[View], Iterable[Finding]]) -> Rule:
    """A rule whose breach is a warning."""
    return Rule(name, Severity.WARNING, why, source, find)


def style(name: str, why: str, source: str, find: Callable[[View], Iterable[Finding]]) -> Rule:
    """A warning about style, which only `gantune check --strict` prints."""
    return Rule(name, Severity.WARNING, why, source, find, strict=True)
