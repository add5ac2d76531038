"""Finds metrics in many lines at once, with the results of the default filter.

RE2 needs some microseconds for each match and each line. This module looks for the names instead: a
name that does not follow a character of names is what the default filter finds, because a match of
it starts with its complete name. Where a name does follow such a character, the filter may read
`a=1fd=2` as a and fd, but `xfd=2` as xfd.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPACES = rb"[\t\f\r ]*"  # RE2's \s within a line
_VALUE = rb"([+-]?\d*(?:\.\d+)?(?:[Ee][+-]?\d+)?)"
# the start of a line, with its first word where that may be a time
_STAMP = rb"\n(?:(?=(\d[^ \n]{19,63}) )|)"
_UNLIKE_VALUE = re.compile(r"(?![Ee]\d)[A-Za-z_][\w|-]*", re.ASCII)
_NAME_BYTES = (
    bytes(range(0x30, 0x3A)) + bytes(range(0x41, 0x5B)) + bytes(range(0x61, 0x7B)) + b"_|-"
)
_WORD_LIMIT = 128  # bytes before a name that are searched for the start of its word


class Scanner:
    """Finds the values of `metrics` in lines. `usable` is False for names that may be a part of a value."""

    def __init__(self, metrics: Sequence[str]) -> None:
        self.usable = all(_UNLIKE_VALUE.fullmatch(metric) for metric in metrics)
        names = [re.escape(metric.encode()) for metric in metrics]
        one = rb"(?<![\w|-])(" + rb"|".join(names) + rb")"
        self._regex = re.compile(_STAMP + rb"|" + one + _SPACES + rb"=" + _SPACES + _VALUE)
        self._inside = [
            re.compile(name + rb"(?<=[\w|-]" + name + rb")" + _SPACES + rb"=") for name in names
        ]

    def findall(self, block: bytes) -> list[tuple[bytes, bytes, bytes]]:
        """Return (first word, "", "") for each line that starts in the block, and ("", name, value) for each value."""
        return self._regex.findall(block)

    def ambiguous(self, block: bytes) -> bool:
        """Return whether a name in the block may follow a value directly, so that only the filter itself can tell."""
        return any(
            not _starts_word(block, match.start())
            for regex in self._inside
            for match in regex.finditer(block)
        )


def _starts_word(block: bytes, position: int) -> bool:
    """Return whether the word that holds this position is the complete name of a match: nothing of it is a value.

    A value follows `=` and spaces, and holds no other character before its last word than `.` and
    `+`.
    """
    before = block[max(position - _WORD_LIMIT, 0) : position].rstrip(_NAME_BYTES)
    if not before:
        return False  # the word may be longer
    if before[-1:].isspace():
        return before[-1:] == b"\n" or not (before[-2:-1].isspace() or before[-2:-1] in (b"=", b""))
    return before[-1:] not in (b"=", b".", b"+")
