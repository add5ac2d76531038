"""Where a command is code for a shell or an interpreter, and which text may be inserted there."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

from tuner.katib.facts import SHELLS

_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_OPERATOR = re.compile(r"&&|\|\|?|;|&|(\d?|&)(>>?|<)(&?\d|&?[^=>&|]+)?|[^-=]+;")
# An interpreter's name, and the option whose operand is code.
_INTERPRETERS = (
    (r"(ba|da|a|k|mk|z|fi|c|tc)?sh|(python|pypy)[\d.]*", r"[-+]\w*c"),
    (r"perl|ruby|node|Rscript|julia|lua", r"-\w*[eE]|-p|--(eval|print)"),
)
_TAKES_VALUE = re.compile(r"[-+]\w*[oO]|-[XW]|--(rc|init-)file")  # options
PUNCTUATION = "_.,:/=+@%-"  # of plain text
_PLAIN = re.compile(rf"[A-Za-z0-9\x80-\xff{PUNCTUATION}]*".encode("latin-1"))


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


def script(argv: Sequence[str]) -> str:
    """Return the script that an interpreter runs, as in `python train.py`; "" where it runs none."""
    name = PurePosixPath(argv[0]).name
    if len(argv) < 2 or not any(re.fullmatch(names, name) for names, _ in _INTERPRETERS):
        return ""
    return "" if argv[1].startswith(("-", "+")) or len(argv[1].split()) != 1 else argv[1]


def is_plain(text: str) -> bool:
    """Return whether a text is never code, wherever in a shell line it is inserted.

    Quotation marks, comments and substitutions around it make no difference, because it has no
    character that ends or begins one. It has no spaces either: after `opt=`, a second word would be
    a command. Bytes above 127 mean nothing to a shell.
    """
    return _PLAIN.fullmatch(text.encode(sys.getfilesystemencoding(), "replace")) is not None


def code_items(argv: Sequence[str]) -> set[int]:
    """Return the indices of the items that a shell or an interpreter reads as code.

    They are the operand after `-c` of a shell or of Python, and after `-e` of Perl, Ruby, Node, R,
    Julia or Lua, also behind another program, as in `timeout 60 bash -ec LINE`.
    """
    found: set[int] = set()
    for at, program in enumerate(argv):
        name = PurePosixPath(program).name
        options = [option for names, option in _INTERPRETERS if re.fullmatch(names, name)]
        expected = False
        for index in range(at + 1, len(argv) if options else 0):
            if argv[index].startswith(("-", "+")):
                if re.match(options[0], argv[index]):
                    expected = True
                    found.add(index)  # code may follow at once, as in `-cCODE`
            elif not _TAKES_VALUE.fullmatch(argv[index - 1]):
                if not expected:
                    break
                expected = False
                found.add(index)
    return found


def ends_here_document(before: str, after: str) -> bool:
    """Return whether inserted text makes a line the delimiter of a here-document: the rest is code.

    Args:
        before: The shell line without the text.
        after: The shell line with it, with the same number of lines.
    """
    bare = [re.sub(r"\\\n|['\"\\]", "", text) for text in (before, after)]
    for old, new in zip(*(text.split("\n") for text in bare), strict=True):
        delimiter = re.escape(new.strip(" \t)`"))
        if old != new and re.search(rf"<<-?+[ \t]*+{delimiter}(?!\w)", bare[1]):
            return True
    return False
