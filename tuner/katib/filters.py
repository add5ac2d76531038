"""Metrics filters with the semantics and the linear time of Go's regexp package, by RE2.

RE2 and Go's package share their syntax and their leftmost-first matches. Three differences are
settled here: Go has no `\\C`, Go reads each invalid byte as U+FFFD, and Go compiles a filter
without checking that it has two groups.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence

import re2

from tuner.errors import UnsupportedError

# metricscollector/v1beta1/common/const.go
DEFAULT_FILTER = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"
_ANY_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\C")
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


def _one_for_each_byte(error: UnicodeError) -> tuple[str, int]:
    """Replace each invalid byte with U+FFFD, as Go does; Python's own handler replaces sequences."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("gantune-go", _one_for_each_byte)


def decode(line: bytes) -> str:
    """The text of a line, with U+FFFD for each invalid byte."""
    return line.decode("utf-8", "gantune-go")


class Filter:
    """One compiled `metricsFormat`.

    Raises UnsupportedError for a pattern that Go cannot compile, or that lacks two groups.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        options = re2.Options()
        options.log_errors = False
        try:
            if _ANY_BYTE.search(pattern):
                raise re2.error("invalid escape sequence: \\C")
            self._regex = re2.compile(pattern.encode(), options)
        except (re2.error, UnicodeEncodeError) as error:
            why = error.args[0] if isinstance(error, re2.error) else "it has an unpaired surrogate"
            text = why.decode("utf-8", "replace") if isinstance(why, bytes) else why
            raise UnsupportedError(
                f"metricsFormat {pattern!r} must be a regular expression in Go's syntax: {text}"
            ) from error
        if self._regex.groups < 2:
            raise UnsupportedError(
                f"metricsFormat {pattern!r} must have two groups, name and value, but it has {self._regex.groups}"
            )

    @property
    def splits(self) -> bool:
        """Whether a long line may be read piece by piece: no match of the default filter reaches beyond a word."""
        return self.pattern == DEFAULT_FILTER

    def find(self, line: bytes, metrics: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
        """Yield the (name, value) pairs of a line; with `metrics`, of these names only."""
        if not line.isascii():
            line = decode(line).encode()
        for match in self._regex.finditer(line):
            name = (match[1] or b"").decode("utf-8", "replace").strip(_SPACE)
            if not metrics or name in metrics:  # Katib trims both groups
                yield name, (match[2] or b"").decode("utf-8", "replace").strip(_SPACE)


def compiled(filters: Sequence[str]) -> tuple[Filter, ...]:
    """The filters of a collector, or the default one.

    Raises UnsupportedError for a pattern that Go cannot compile, or that lacks two groups.
    """
    return tuple(Filter(pattern) for pattern in filters or (DEFAULT_FILTER,))
