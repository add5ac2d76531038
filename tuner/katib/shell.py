"""The shell that Katib adds to a command: when a command relies on it, and how values are embedded in its line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from tuner.katib.facts import SHELLS

_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_OPERATOR = re.compile(r"&&|\|\|?|;|&|(\d?|&)(>>?|<)(&?\d|&?[^=>&|]+)?|[^-=]+;")


def relies_on_shell(items: Sequence[str]) -> bool:
    """Return whether a command means what it says only in the `sh -c` that Katib adds.

    It does if an item is an operator (`&&`, `||`, `|`, `;`, `&`, a redirection such as `>`, `2>&1`
    or `>log`, or a word that ends with `;`), if the program contains spaces, or if the item after
    `python` is a line: a script or `-m` together with its arguments. A `sh -c` of the manifest
    needs no other shell.
    """
    if not items or is_shell(items):
        return False
    first = items[1] if len(items) > 1 and is_python(items[0]) else ""
    line = len(first.split()) > 1 and (not first.startswith("-") or first.startswith("-m "))
    return len(items[0].split()) > 1 or line or any(_OPERATOR.fullmatch(item) for item in items)


def is_python(program: str) -> bool:
    """Return whether a program is a Python interpreter, by its name."""
    return _PYTHON.fullmatch(PurePosixPath(program).name) is not None


def is_shell(argv: Sequence[str]) -> bool:
    """Return whether a command is `sh -c LINE` or `bash -c LINE`."""
    return len(argv) > 2 and PurePosixPath(argv[0]).name in SHELLS and argv[1] == "-c"


def embedded(
    line: str,
    pattern: re.Pattern[str],
    value: Callable[[re.Match[str]], str | None],
    raw: Callable[[re.Match[str]], str] = lambda found: found[0],
) -> str:
    """Replace matches in a shell line by values, each quoted for its place; where `value` is None, by `raw`'s text."""
    escapes: Mapping[str, Callable[[str], str]] = {
        "": shlex.quote,
        "'": lambda text: text.replace("'", "'\"'\"'"),
        '"': lambda text: re.sub(r'([\\"$`])', r"\\\1", text),
    }
    parts, quote, at = [], "", 0
    for found in pattern.finditer(line):
        literal = line[at : found.start()]
        quote = _quote_after(literal, quote)
        new = value(found)
        parts += [literal, raw(found) if new is None else escapes[quote](new)]
        at = found.end()
    return "".join([*parts, line[at:]])


def _quote_after(text: str, quote: str) -> str:
    """Return the quotation mark that is open after `text`, if `quote` is open before it."""
    for found in re.finditer(r"\\.|['\"]", text, re.DOTALL):
        mark = found.group()
        if len(mark) == 2:
            if quote == "'" and mark[1] == "'":  # a backslash has no meaning in single quotes
                quote = ""
        elif not quote:
            quote = mark
        elif quote == mark:
            quote = ""
    return quote
