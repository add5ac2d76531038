"""The flags of a program, read from what its `--help` prints and from a command line.

Help texts have no standard. This reads the layout that argparse, click, typer, tyro and absl share:
an option at the start of a line, its text after it or below it, and the default in brackets. What
it does not understand, it leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_FRAME = re.compile(r"^[ \t]*[│┃|*] ?|[ \t]*[│┃|][ \t]*$")  # typer and tyro draw boxes
_OPTION = re.compile(r"^ {0,12}(?:\[?-{1,2}[A-Za-z])")
_NAME = re.compile(r"(?<![\w-])(--?[A-Za-z][\w.-]*)")
_DEFAULT = re.compile(
    r"[\[(;,]\s*defaults?\s*(?:is|to|value)?\s*[:=]?\s*(\"[^\"]*\"|'[^']*'|[^\s;,\])]+)",
    re.IGNORECASE,
)
_CHOICES = re.compile(r"\{([^{}]*)\}|\[([^\[\]<>|=]+(?:\|[^\[\]<>|=]+)+)\]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_SUB_COMMANDS = 40  # characters: a longer choice is prose in braces


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of a program.

    Attributes:
        names: Its spellings with dashes, as in `--bs` and `--batch-size`.
        value: The value that the command line gives, else the default; "" where neither is known.
        choices: The values that it accepts, where the help lists them.
        given: Whether the command line gives it.
        integer: Whether the help says that it is a whole number.
    """

    names: tuple[str, ...]
    value: str = ""
    choices: tuple[str, ...] = ()
    given: bool = False
    integer: bool = False

    @property
    def name(self) -> str:
        """The longest spelling without dashes, as a parameter is called: `batch_size`."""
        return (
            max((name.lstrip("-") for name in self.names), key=len)
            .replace("-", "_")
            .replace(".", "_")
        )

    @property
    def number(self) -> float | None:
        """The value as a number; None where it is none."""
        return float(self.value) if is_number(self.value) else None


def is_number(text: str) -> bool:
    """Return whether a text is a finite decimal number."""
    return len(text) < 40 and _NUMBER.fullmatch(text) is not None and abs(float(text)) < 1e300


def from_help(text: str) -> list[Flag]:
    """Return the options that a help text describes, in its order."""
    found: dict[str, Flag] = {}
    for block in _blocks(text):
        flag = _flag(block)
        if flag is not None and not any(name in found for name in flag.names):
            found.update(dict.fromkeys(flag.names, flag))
    return list(dict.fromkeys(found.values()))


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield the lines of each option: the one that starts with it, and those below it."""
    block: list[str] = []
    for raw in _ESCAPE.sub("", text).expandtabs().splitlines():
        line = _FRAME.sub("", raw[:2000]).rstrip()
        if _OPTION.match(line):
            if block:
                yield block
            block = [line]
        elif block and line.strip() and line.startswith(" "):
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _flag(block: Sequence[str]) -> Flag | None:
    head, _, rest = block[0].strip().partition("  ")
    names = tuple(
        dict.fromkeys(name.rstrip(".-") for name in _NAME.findall(_CHOICES.sub("", head)))
    )
    if not names or "--help" in names:
        return None
    text = " ".join([rest, *(line.strip() for line in block[1:])])
    default = _DEFAULT.search(text)
    value = default[1].strip("'\"").rstrip(".") if default else ""
    # absl writes `--lr: the text` and the type below it, as in `(a number)`.
    integer = bool(
        re.search(r"\b(INT|INTEGER|int|integer)\b", f"{head} {text if ': ' in head else ''}")
    )
    return Flag(
        names, "" if value.lower() in ("none", "null") else value, _choices(head), integer=integer
    )


def _choices(head: str) -> tuple[str, ...]:
    """Return the choices in `--opt {adam,sgd}` or `--opt [adam|sgd]`."""
    found = _CHOICES.search(head)
    if found is None:
        return ()
    listed = found[1].split(",") if found[1] is not None else found[2].split("|")
    choices = tuple(dict.fromkeys(choice.strip().strip("'\"") for choice in listed))
    fine = all(0 < len(choice) < _SUB_COMMANDS and not choice.startswith("-") for choice in choices)
    return choices if fine and len(choices) > 1 else ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a command line a flag's value is: the word's index, and what stands before the value in that word."""

    flag: Flag
    index: int
    prefix: str = ""


def given(argv: Sequence[str], known: Sequence[Flag]) -> list[Place]:
    """Return the flags of a command line that have a value, with the place of each value.

    A word after a flag is its value unless it looks like a flag itself, so `--verbose train.csv`
    reads as a value: only flags with a value that can be varied are of interest. A repeated flag
    counts where it is last.
    """
    by_name: Mapping[str, Flag] = {name: flag for flag in known for name in flag.names}
    found: dict[str, Place] = {}
    for index, word in enumerate(argv):
        if not re.match(r"--?[A-Za-z]", word) or (word == "-m" and index == 1):
            continue
        name, equals, value = word.partition("=")
        place = (index, f"{name}=")
        if not equals:
            value, place = (argv[index + 1] if index + 1 < len(argv) else ""), (index + 1, "")
            if not value or (value.startswith("-") and not is_number(value)):
                continue
        flag = replace(by_name.get(name, Flag((name,))), value=value, given=True)
        found.pop(flag.name, None)
        found[flag.name] = Place(flag, *place)
    return list(found.values())
