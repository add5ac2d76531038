r"""Finds the metrics in what a program prints, whatever its style, with the filters that read them.

Katib's collector reads `name=value`, and with a filter anything whose first group is the metric's
name, as it is printed, and whose second group is the value (tuner.katib.filters). So a metric that
is printed as `Test accuracy: 86.0%` has the name `Test accuracy`. This reads:

    val_acc=0.86, val_acc: 0.86         also with several words, as in `Test accuracy: 86.0%`
    {"val_acc": 0.86}                   JSON, and Python's dictionaries
    | val_acc | 0.86 |                  a table
    accuracy 0.86, accuracy is 0.86     only where a word names a score
    Test: loss=0.3 acc=0.86             `acc` of the lines that say Test

A name that is printed for training data and for held-out data, as in the last line, is two metrics.
They differ by the word before the name, which the filter then contains.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from tuner.metrics.names import Role, is_counter, is_score, role, role_word, slug

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LINE = 2000  # characters of a line that are read
_MATCHES = 30  # of a line
_NAME = 70  # characters of a name
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CLOCK = re.compile(r"\d{4}-\d\d-\d\d[T ]|\d{1,4}[:-]\d\d[:-]\d\d\S*")
_EXPLICIT = re.compile(rf"(['\"]?)\s*(=>|->|[:=|│])\s*(['\"]?)({NUMBER})(?![\w.]|:\d)")
_LOOSE = re.compile(
    rf"(?<![\w/.-])((?:[A-Za-z_][\w/.-]*[ ]){{0,3}}[A-Za-z_][\w/.-]*)(\s+(?:is|was|of)\s+|\s+)({NUMBER})(?![\w.]|:\d)"
)
# what a name does not contain
_DELIMITER = re.compile(r"[:=|│,;\[\]{}<>\t]|\s{2,}|\s-+\s|(?<!\w)['\"(]|['\")](?!\w)|^\W+")
_COUNT = re.compile(r".*(?:^|\s)#?\d[\d./%]*\s+(?=[A-Za-z_])")  # `Epoch 3/10 ` before a name
_TRAILING = re.compile(r"\s+#?\d[\d./%]*$")  # `loss after epoch 3`


@dataclass
class Report:
    """A metric of a program.

    Attributes:
        name: As it is printed.
        line: A line that holds it.
        label: The word before the name that tells it from a metric of the same name, as in `Test`.
        count: The number of lines that hold it.
        whole: Whether every value is a whole number.
        equals: Whether it is printed as `name=value`.
    """

    name: str
    line: str
    label: str = ""
    quote: str = ""
    separator: str = ""
    quoted_value: str = ""
    count: int = 0
    whole: bool = True
    data: Role = Role.UNKNOWN
    values: set[str] = field(default_factory=set)

    @property
    def equals(self) -> bool:
        """Whether it is printed as `name=value`."""
        return self.separator == r"\s*=\s*" and not self.quote

    @property
    def shown(self) -> str:
        """The name for people, with what tells it from others."""
        return f"{self.label} {self.name}" if self.label else self.name


class Reports:
    """The metrics of the lines so far, in the order of their first values."""

    def __init__(self, settings: Iterable[str] = ()) -> None:
        self._settings = frozenset(settings)
        self._found: dict[tuple[str, Role], Report] = {}
        self._section = Role.UNKNOWN  # of the last line without a metric
        self._sections: dict[str, set[Role]] = {}

    def read(self, text: str) -> None:
        """Read more lines."""
        for line in text.splitlines():
            self._read_line(line)

    def _read_line(self, raw: str) -> None:
        line = re.sub(r" {3,}", "  ", _CLOCK.sub(" ", _ESCAPE.sub("", raw[:_LINE])))
        found = list(islice(_explicit(line), _MATCHES))
        if not any(is_score(report.name) for report, _, _ in found):
            found += islice(_loose(line), _MATCHES)
        if not found and (said := role(line)) is not Role.UNKNOWN:
            self._section = said
        for report, start, value in found:
            if report.name.replace("-", "_").lower() in self._settings:
                continue
            report.data = role(report.name)
            if report.data is Role.UNKNOWN:
                report.label = role_word(line[:start])
                report.data = role(report.label)
                if is_counter(report.name):
                    report.label, report.data = "", Role.UNKNOWN
                elif report.data is Role.UNKNOWN:
                    self._sections.setdefault(report.name, set()).add(self._section)
            one = self.add(report)
            one.line = " ".join(raw.split())[:160]
            one.count += 1
            one.whole = one.whole and re.fullmatch(r"[+-]?\d+", value) is not None
            if len(one.values) < 3:
                one.values.add(value)

    def add(self, report: Report) -> Report:
        """Add a metric unless it is known; returns the known one."""
        report.data = report.data or role(report.name)
        return self._found.setdefault((report.name, report.data), report)

    @property
    def all(self) -> list[Report]:
        """The metrics."""
        names = [name for name, _ in self._found]
        for report in self._found.values():  # a word before a name that is printed only there
            if names.count(report.name) == 1:
                report.label = ""
        return list(self._found.values())

    def sections(self, name: str) -> bool:
        """Whether a name is below a heading of training data and one of held-out data."""
        kinds = self._sections.get(name, set())
        return Role.TRAINING in kinds and any(kind.held_out for kind in kinds)


def filters(reports: Sequence[Report], others: Sequence[Report] = ()) -> list[str]:
    """Return the filters that read these metrics, [] where Katib's default filter does.

    `others` are metrics of the program that are not read: none of them may be taken for these.
    """
    every = {id(report): report for report in (*reports, *others)}.values()
    names = [re.split(r"[^\w|-]", report.name)[-1] for report in every]
    plain = all(
        report.equals
        and not report.label
        and re.fullmatch(r"[\w|-]+", report.name)
        and names.count(report.name) == 1
        for report in reports
    )
    if plain:
        return []
    alike: dict[tuple[str, ...], list[str]] = {}
    for report in reports:
        # a line has one match of a filter that begins with its label
        alone = report.name if report.label else ""
        key = (report.label, report.quote, report.separator, report.quoted_value, alone)
        alike.setdefault(key, []).append(report.name)
    made = []
    for (label, quote, separator, value, _), listed in alike.items():
        choice = "|".join(map(_escape, sorted(listed, key=len, reverse=True)))
        before = rf"\b{_escape(label)}\b.*?" if label else ""
        edge = quote or r"\b"
        made.append(f"{before}{edge}({choice}){quote}{separator}{value}({NUMBER})")
    return made


def hint(text: str, metric: str) -> str:
    """Return how a program prints a metric that was not found, and what reads it, or ""."""
    reports = Reports()
    reports.read(text)
    found = [each for each in reports.all if slug(each.shown) == slug(metric)]
    if len(found) != 1:
        return ""
    [report] = found
    read = filters(found, [other for other in reports.all if other is not report])
    todo = [] if report.name == metric else [f"set objectiveMetricName to {report.name!r}"]
    todo += [f"add this filter: metricsFormat: ['{read[0]}']"] if read else []
    return f"the output has `{report.line}`; {' and '.join(todo)}" if todo else ""


def _escape(name: str) -> str:
    return re.sub(r"([.^$*+?()\[\]{}|\\])", r"\\\1", name)


def _explicit(line: str) -> Iterable[tuple[Report, int, str]]:
    """Yield what is before a separator and a number, with its place and the number."""
    end = 0
    for match in _EXPLICIT.finditer(line):
        quote, separator, value_quote, value = match.groups()
        before = line[end : match.start()]
        end = match.end()
        if quote:
            name = before[before.rfind(quote) + 1 :]
        else:
            # `F1 (macro): 0.8` keeps its parenthesis
            body = before.rstrip()
            last = body.rfind("(") if body.endswith(")") else len(body)
            cuts = [cut.end() for cut in _DELIMITER.finditer(body[: max(last, 0)])]
            name = body[cuts[-1] if cuts else 0 :].strip()
        if len(name) > 2 * _NAME:
            continue
        gap, name = "", _COUNT.sub("", name) if is_score(_COUNT.sub("", name)) else name
        if (tail := _TRAILING.search(name)) and is_score(name):
            kept = name[: tail.start()]
            while len(kept.split()) > 1 and not is_score(kept.split()[-1]):
                kept = kept.rsplit(maxsplit=1)[0]
            name, gap = kept, r"\s[^:=]*"
        name = re.sub(r"^\W+", "", name)
        if _is_name(name):
            start = match.start() - len(before) + before.rfind(name)
            pattern = gap + r"\s*" + _escape(separator) + r"\s*"
            quotes = "['\"]?" if value_quote else ""
            yield Report(name, line, "", quote, pattern, quotes), start, value


def _loose(line: str) -> Iterable[tuple[Report, int, str]]:
    """Yield names of scores that only a space, or `is`, separates from a number."""
    for match in _LOOSE.finditer(line):
        name, between, value = match.groups()
        if (verb := re.search(r" (is|was|of)$", name)) is not None:
            name, between = name[: verb.start()], verb[0]
        if is_score(name) and _is_name(name):
            word = between.strip()
            separator = rf"\s+{word}\s+" if word else r"\s+"
            yield Report(name, line, "", "", separator), match.start(), value


def _is_name(name: str) -> bool:
    return len(name) <= _NAME and re.match(r"[A-Za-z_]", name) is not None and ";" not in name
