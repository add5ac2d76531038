"""One line of a metrics file as observations: TEXT with filters, or JSON as strict as Go's encoding/json."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

from tuner.katib.filters import Filter, decode
from tuner.result import Observation

# As Go's time.Parse reads RFC3339: hours of one digit and a comma before the fraction are accepted.
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\dT)(\d?\d)(:\d\d:\d\d)([.,]\d+)?(Z|[+-]\d\d:(?:[0-5]\d|60))", re.ASCII
)
_DIGITS = r"\d(?:_?\d)*"  # Go allows single underscores between digits
_NUMBER = re.compile(
    rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?", re.ASCII
)
_HEXADECIMAL = re.compile(
    r"[+-]?0[xX](?:[\da-fA-F]+\.?[\da-fA-F]*|\.[\da-fA-F]+)[pP][+-]?\d+", re.ASCII
)


class JsonLineError(ValueError):
    """A line that Go's decoder rejects, which makes Katib's collector fail; the message is one line."""


def parse_text(
    line: str | bytes, metrics: Sequence[str], filters: Sequence[Filter]
) -> Iterator[Observation]:
    """The observations of one line; an RFC3339 time as its first word dates them."""
    raw = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
    if mentions(raw, metrics):
        time = line_time(raw)
        for one in filters:
            for name, value in one.find(raw, metrics):
                yield Observation(name, number(value), time)


def mentions(line: bytes, metrics: Sequence[str]) -> bool:
    """Whether a line holds the name of a metric at all: Katib ignores the others."""
    return any(metric.encode() in line for metric in metrics)


def line_time(line: bytes) -> datetime | None:
    """The RFC3339 time that a line starts with, if any."""
    first, space, _ = line[:64].partition(b" ")
    return time_of(first) if space and first[:1].isdigit() else None


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} does not fit a 64-bit number")
    return value


NESTING = 500
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]')
_DECODER = json.JSONDecoder(parse_constant=_reject, parse_float=_finite, parse_int=_finite)


def _depth(text: str) -> int:
    """The levels of arrays and objects in a JSON text, brackets in strings left out."""
    if text.count("[") + text.count("{") <= NESTING:
        return 0  # at most NESTING, which is all that matters
    depth = most = 0
    for bracket in _BRACKETS.findall(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket, 0)
        most = max(most, depth)
    return most


def json_object(line: str | bytes) -> dict[str, Any]:
    """One JSON line as Go decodes it into a map: NaN, Infinity and numbers beyond 64 bits are errors, null is empty.

    Go accepts 10,000 nested levels. Python's decoder depends on the caller's stack, so NESTING
    levels are the limit.

    Raises:
        JsonLineError: for a line that is not a JSON object.
    """
    text = decode(line) if isinstance(line, bytes) else line
    try:
        if _depth(text) > NESTING:
            raise ValueError("nested too deeply")
        shape = _DECODER.decode(text)
    except ValueError as error:
        raise JsonLineError(
            f"format JSON needs one JSON object per line, got {text[:60]!r}"
        ) from error
    if shape is None:
        return {}
    if not isinstance(shape, dict):
        raise JsonLineError(f"format JSON needs one JSON object per line, got {text[:60]!r}")
    return shape


def parse_json(line: str | bytes, metrics: Sequence[str]) -> Iterator[Observation]:
    """The observations of one JSON line. As in Katib, only text values count; `timestamp` is RFC3339 or epoch seconds.

    Raises:
        JsonLineError: for a line that is neither empty nor a JSON object.
    """
    if not line:
        return
    shape = json_object(line)
    stamp = shape.get("timestamp")
    time = _time(stamp) if isinstance(stamp, str) else _epoch(stamp)
    for metric in metrics:
        if isinstance(value := shape.get(metric), str):
            yield Observation(metric, number(value), time)


def number(value: str) -> float:
    """A number as Go's strconv.ParseFloat reads it, or NaN for anything else: empty, `nan`, `-`, an overflow."""
    if _NUMBER.fullmatch(value):
        result = float(value)
        return result if math.isfinite(result) else math.nan
    try:
        return float.fromhex(value) if _HEXADECIMAL.fullmatch(value) else math.nan
    except OverflowError:
        return math.nan


def time_of(word: bytes) -> datetime | None:
    """The RFC3339 time that a word is, if any."""
    return _time(word.decode("ascii", "replace"))


def _time(value: str) -> datetime | None:
    match = _RFC3339.fullmatch(value)
    if not match:
        return None
    date, hour, rest, fraction, zone = match.groups("")
    try:
        return datetime.fromisoformat(f"{date}{hour:0>2}{rest}{fraction}{zone}")
    except ValueError:  # month 13
        return None


def _epoch(value: object) -> datetime | None:
    """The time of a number as Katib computes it: the digits after the point are a count of nanoseconds.

    So 1.25 is 1 s and 25 ns, which decides the order of values that `latest` goes by.
    """
    if not isinstance(value, float):  # _DECODER makes every number a float
        return None
    seconds, _, digits = format(Decimal(repr(value)), "f").partition(".")
    try:
        return datetime.fromtimestamp(int(seconds), UTC) + timedelta(
            microseconds=int(digits or 0) // 1000
        )
    except (OverflowError, ValueError, OSError):
        return None
