"""The parameters of a program, read from what its `--help` prints and from a command line.

Help texts have no standard. This reads the layout that argparse, click, typer, tyro and absl share:
an option at the start of a line, its text after it or below it, and the default in brackets. What
it does not understand, it leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tuner.katib.shell import code_items, script

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_FRAME = re.compile(r"^[ \t]*[│┃|*] ?|[ \t]*[│┃|][ \t]*$")  # typer and tyro draw boxes
_OPTION = re.compile(r"^ {0,12}(?:\[?-{1,2}[A-Za-z])")
_NAME = re.compile(r"(?<![\w-])(--?[A-Za-z][\w.-]*)")
_DEFAULT = re.compile(
    r"(?:[\[(;,]|^|\s)\s*defaults?\s*(?:is\b|to\b|value\b)?\s*[:=]?\s*(\"[^\"]*\"|'[^']*'|[^\s;,\])]+)",
    re.IGNORECASE,
)
_CHOICES = re.compile(r"\{([^{}]*)\}|\[([^\[\]<>|=]+(?:\|[^\[\]<>|=]+)+)\]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_KEY = re.compile(r"\+{0,2}[A-Za-z_][\w./@-]*")  # as Hydra writes them: `+model.lr=0.1`
_LISTED = re.compile(
    r"(?:choices|one of|options)\s*(?:are|is)?\s*:?\s*[\[({]?((?:['\"]?[\w.+-]+['\"]?\s*(?:,|\||\bor\b)\s*)+"
    r"['\"]?[\w.+-]+)",
    re.IGNORECASE,
)
_BOUND = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_BETWEEN = re.compile(
    rf"\b(?:between|from)\s+{_BOUND}\s+(?:and|to)\s+{_BOUND}|\bin\s+[\[(]\s*{_BOUND}\s*,\s*{_BOUND}\s*[\])]"
    rf"|(?<![\w.]){_BOUND}\s*<=?\s*[a-zA-Z]\w*\s*<=?\s*{_BOUND}",
    re.IGNORECASE,
)
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
        bounds: The lowest and the highest value, where the help states them.
    """

    names: tuple[str, ...]
    value: str = ""
    choices: tuple[str, ...] = ()
    given: bool = False
    integer: bool = False
    bounds: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The longest spelling without dashes, as a parameter is called: `batch_size`."""
        return (
            max((name.lstrip("-") for name in self.names), key=len)
            .replace("-", "_")
            .replace(".", "_")
            .replace("/", "_")
            .replace("@", "_")
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
    bounds = _bounds(text)
    # a default outside of the stated bounds says nothing about the scale
    if bounds and is_number(value) and not bounds[0] <= float(value) <= bounds[1]:
        value = ""
    return Flag(
        names,
        "" if value.lower() in ("none", "null") else value,
        _choices(head) or _listed_choices(text),
        integer=integer,
        bounds=bounds,
    )


def _bounds(text: str) -> tuple[float, float] | None:
    """Return the bounds in `between 0 and 1`, `in [0, 1]` or `0<=x<=1`."""
    found = _BETWEEN.search(text)
    if found is None:
        return None
    low, high = (float(group) for group in found.groups() if group is not None)
    return (low, high) if low < high else None


def _listed_choices(text: str) -> tuple[str, ...]:
    """Return the choices in `one of adam, sgd`."""
    found = _LISTED.search(text)
    if found is None:
        return ()
    return tuple(dict.fromkeys(re.findall(r"(?!or\b)[\w.+-]+", found[1])))


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
    """Where a parameter's value goes.

    Attributes:
        flag: The parameter.
        index: The word of the command line, -1 where it is elsewhere.
        prefix: What stands before the value in that word.
        variable: The environment variable.
        file: The configuration file.
        span: Where in that file's text the value is.
        named: Whether the program gives it a name; a number alone has none.
    """

    flag: Flag
    index: int = -1
    prefix: str = ""
    variable: str = ""
    file: str = ""
    span: tuple[int, int] = (0, 0)
    named: bool = True


def given(argv: Sequence[str], known: Sequence[Flag], operands: Sequence[str] = ()) -> list[Place]:
    """Return the parameters of a command line that have a value, with the place of each value.

    These are `--flag value`, `--flag=value`, `key=value` and numbers alone. A word after a flag is
    its value unless it looks like a flag itself, so `--verbose train.csv` reads as a value: only
    flags with a value that can be varied are of interest. A repeated flag counts where it is last.

    Args:
        argv: The command line.
        known: The options of the help.
        operands: The names of the positional arguments, as the help lists them.
    """
    by_name: Mapping[str, Flag] = {name: flag for flag in known for name in flag.names}
    found: dict[str, Place] = {}
    code, values = code_items(argv), set[int]()
    start = 2 if script(argv) else 3 if argv[1:2] == ["-m"] else 1
    alone = 0
    for index, word in enumerate(argv):
        if index in code or index in values or (word == "-m" and index == 1):
            continue
        name, equals, value = word.partition("=")
        place = (index, f"{name}=")
        if re.match(r"--?[A-Za-z]", word):
            if not equals:
                value, place = (argv[index + 1] if index + 1 < len(argv) else ""), (index + 1, "")
                if not value or (value.startswith("-") and not is_number(value)):
                    continue
                key, key_equals, _ = value.partition("=")
                if key_equals and _KEY.fullmatch(key):  # `awk -v lr=0.1`
                    continue
                values.add(index + 1)
            flag = replace(by_name.get(name, Flag((name,))), value=value, given=True)
        elif equals and _KEY.fullmatch(name) and value:
            flag = replace(by_name.get(name, Flag((name.lstrip("+"),))), value=value, given=True)
        elif index >= start:
            alone += 1
            if not is_number(word):
                continue
            title = operands[alone - 1] if alone <= len(operands) else f"arg{alone}"
            flag, place = Flag((title,), word, given=True), (index, "")
            found[title] = Place(flag, *place, named=alone <= len(operands))
            continue
        else:
            continue
        found.pop(flag.name, None)
        found[flag.name] = Place(flag, *place)
    return list(found.values())


def with_defaults(flags: Sequence[Flag], source: str) -> list[Flag]:
    """Return the flags with the defaults of a Python source, which argparse's help does not show."""
    made = []
    for flag in flags:
        if not flag.value:
            name = re.escape(max(flag.names, key=len))
            found = re.search(
                rf"['\"]{name}['\"](?:[^()]|\([^()]*\))*?\bdefault\s*=\s*['\"]?([\w.+-]+)", source
            )
            flag = replace(flag, value=found[1]) if found else flag  # noqa: PLW2901
        made.append(flag)
    return made


def operands(text: str) -> list[str]:
    """Return the names of the positional arguments that a help text lists, in their order."""
    plain = "\n".join(_FRAME.sub("", line).rstrip() for line in _ESCAPE.sub("", text).splitlines())
    if block := re.search(r"^positional arguments:\n((?:  .*\n?)+)", plain, re.MULTILINE):
        return re.findall(r"^  ([A-Za-z][\w-]*)(?:\s|$)", block[1], re.MULTILINE)
    if usage := re.search(r"^\s*Usage: \S+.*?\[OPTIONS\]([ A-Z_0-9\[\].]*)$", plain, re.MULTILINE):
        return [name.lower() for name in re.findall(r"[A-Z][A-Z_0-9]*", usage[1])]
    return []
