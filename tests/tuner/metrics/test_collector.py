"""Verdicts of Katib's collector and of plain RE2, compared with ours.

tests/tuner/collector_cases.py says how the table was recorded.
"""

from __future__ import annotations

import base64
import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import re2

from tests.tuner import collector_cases
from tuner.errors import UnsupportedError
from tuner.experiment.model import Collector, CollectorKind
from tuner.katib.filters import DEFAULT_FILTER
from tuner.metrics import (
    JsonLineError,
    MetricsTail,
    compiled,
    number,
    observations,
    parse_json,
    parse_text,
)
from tuner.metrics.lines import LINE_LIMIT
from tuner.result import Observation

TABLE = Path(__file__).parents[1] / "data" / "collector.jsonl"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DIFFERENT = {  # each is listed in tuner/metrics/__init__.py
    "(fd)=\\d": "fewer than two groups",
    "+24:00": "Python has no such offset",
    "0000-01-01": "Python has no such year",
    "[" * 900: "Python's decoder does not nest as deeply",
    '{"a":' * 900: "Python's decoder does not nest as deeply",
}


def recorded() -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each case of the table with the content of its file."""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        yield case, base64.b64decode(case["content"])


def read(case: dict[str, Any], content: bytes) -> Iterator[Observation]:
    """What this package reads from the file of a case."""
    filters = compiled(case.get("filters", ()))
    for line in content.split(b"\n"):
        if case["format"] == "JSON":
            yield from parse_json(line, case["metrics"])
        else:
            yield from parse_text(line, case["metrics"], filters)


def verdict(case: dict[str, Any], content: bytes) -> list[list[object]] | str:
    """Name, number and time in microseconds of each observation, or "error"."""
    try:
        seen = list(read(case, content))
    except (UnsupportedError, JsonLineError):
        return "error"
    times = [(o.time - EPOCH) // timedelta(microseconds=1) if o.time else None for o in seen]
    return [
        [o.metric, o.value if math.isfinite(o.value) else None, time]
        for o, time in zip(seen, times, strict=True)
    ]


def test_verdicts_match_those_of_go() -> None:
    differences = []
    for case, content in recorded():
        text = content.decode("utf-8", "replace") + "".join(case.get("filters", ()))
        expected = (
            "error" if case.get("error") else [[one[0], *one[2:]] for one in case.get("found", ())]
        )
        if verdict(case, content) != expected:
            reasons = [reason for part, reason in DIFFERENT.items() if part in text]
            assert reasons, (case, expected, verdict(case, content))
            differences += reasons
    assert set(differences) == set(DIFFERENT.values())


def test_table_holds_every_case() -> None:
    keys = ("format", "metrics", "filters", "content")
    shown = [tuple(json.dumps(case.get(key, [])) for key in keys) for case, _ in recorded()]
    assert shown == [
        tuple(json.dumps(case[key]) for key in keys) for case in collector_cases.cases()
    ]
    assert len(shown) == 557


PLAIN = re2.compile(DEFAULT_FILTER.encode())


def plain(line: bytes, metric: str) -> Iterator[float]:
    """The values of a metric that RE2 finds in a line with the default filter."""
    # one character for each invalid byte
    text = line.decode("utf-8", "surrogateescape").encode("utf-8", "replace")
    for match in PLAIN.finditer(text):
        if match[1].decode() == metric:
            yield number(match[2].decode())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "metrics", [("fd",), ("fd", "loss"), ("--fid", "fd"), ("loss", "é"), ("E5", "fd"), ("2fd",)]
)
def test_reader_finds_what_re2_finds(metrics: tuple[str, ...], seed: int, tmp_path: Path) -> None:
    lines = list(collector_cases.lines(random.Random(f"{seed} {metrics}"), 800))
    path = tmp_path / "metrics.log"
    path.write_bytes(b"\n".join(lines))
    reader = MetricsTail(path, metrics, Collector(CollectorKind.FILE, str(path)))
    reader.read_all()
    for metric in metrics:
        column = reader.observations.column(metric)
        expected = [
            (index, value) for index, line in enumerate(lines, 1) for value in plain(line, metric)
        ]
        # NaN is not equal to NaN
        assert repr(list(zip(column.lines, column.values, strict=True))) == repr(expected)


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("train_loss=1 loss=2 ", "loss"),
        ("a=1fd=2 ", "fd"),
        ("a= fd=3,fd=4 ", "fd"),
        ("x-fd=5;fd=6 ", "fd"),
    ],
)
def test_long_line_reads_as_re2_reads_it(
    text: str, metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observations, "KEPT", 1 << 20)
    line = (text + "." * 1000).encode() * (5 * LINE_LIMIT // 4 // (len(text) + 1000)) + (
        text * 5000
    ).encode()
    path = tmp_path / "metrics.log"
    path.write_bytes(line)
    reader = MetricsTail(path, ("fd", "loss"), Collector(CollectorKind.FILE, str(path)))
    reader.read_all()
    assert list(reader.observations.column(metric).values) == list(plain(line, metric))
