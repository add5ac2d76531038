"""Reading metrics as Katib's file-metricscollector.go does."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tuner.errors import UnsupportedError
from tuner.manifest import Collector, CollectorKind, FileFormat, Strategy
from tuner.metrics import JsonLineError, MetricsTail, aggregate, compiled, parse_json, parse_text
from tuner.result import Observation

METRICS = ("fd", "loss", "--fid", "fid")


def seen(line: str, *filters: str) -> list[tuple[str, float]]:
    return [(o.metric, o.value) for o in parse_text(line, METRICS, compiled(filters))]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("epoch=1 loss=0.3 fd=12", [("loss", 0.3), ("fd", 12.0)]),
        ("fd = -7.53e-05", [("fd", -7.53e-05)]),
        ("fd=1E0 fd=.98 fd=+2", [("fd", 1.0), ("fd", 0.98), ("fd", 2.0)]),
        ("val/fid=3.2", [("fid", 3.2)]),
        ("gan.fid=3.2", [("fid", 3.2)]),
        ("fd: 3.2", []),
        ("fd=1,234.5", [("fd", 1.0)]),
        ("--fid=9", [("--fid", 9.0)]),
        ("\x1b[1mfd\x1b[0m=3", []),
        ("fdx=3 xfd=4", []),
    ],
)
def test_text_lines_as_katib_reads_them(line: str, expected: list[tuple[str, float]]) -> None:
    assert seen(line) == expected


@pytest.mark.parametrize("value", ["nan", "-inf", "", "NaN", "-", "1e999"])
def test_what_is_no_number_is_kept_as_nan(value: str) -> None:
    ((name, number),) = seen(f"fd={value}")
    assert name == "fd"
    assert math.isnan(number)


def test_custom_filter_with_its_two_groups() -> None:
    assert seen("{metricName: fd, metricValue: 3.5}", r"{metricName: ([\w|-]+), metricValue: ((-?\d+)(\.\d+)?)}") == [
        ("fd", 3.5)
    ]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"((\w+)+)=(\d+)", "exponential"),
        (r"(\w+)=(\d+)\1*", "exponential"),
        (r"(\w+)=\d+", "two groups"),
        (r"(\w+=(\d", "regular expression"),
        (r"([[:alpha:]]+)=(\d+)", "POSIX class"),
        (r"(\w+)=(\d+)\z", "regular expression"),
    ],
)
def test_filters_that_python_cannot_run_safely_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        compiled([pattern])


@pytest.mark.parametrize("stamp", ["2026-01-02T03:04:05.123456Z", "2026-01-02T05:04:05.123456+02:00"])
def test_time_is_the_first_word(stamp: str) -> None:
    (observation,) = parse_text(f"{stamp} fd=1", METRICS, compiled(()))
    assert observation.time == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)


@pytest.mark.parametrize("stamp", ["2026-01-02", "20260102T030405Z", "2026-13-02T03:04:05Z", "2026-01-02T03:04:05"])
def test_what_is_no_rfc3339_is_no_time(stamp: str) -> None:
    (observation,) = parse_text(f"{stamp} fd=1", METRICS, compiled(()))
    assert observation.time is None


def test_json_values_count_only_as_text() -> None:
    line = '{"fd": "3.5", "loss": 2, "timestamp": 1767323045.5}'
    (observation,) = parse_json(line, METRICS)
    assert (observation.metric, observation.value) == ("fd", 3.5)
    assert observation.time == datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)
    with pytest.raises(JsonLineError, match="one object a line"):
        list(parse_json("fd=3", METRICS))


def test_strategies() -> None:
    series = [Observation("fd", value) for value in (5.0, 2.0, math.nan, 3.0)]
    assert aggregate(series, {"fd": Strategy.MIN}) == {"fd": 2.0}
    assert aggregate(series, {"fd": Strategy.MAX}) == {"fd": 5.0}
    assert aggregate(series, {"fd": Strategy.LATEST}) == {"fd": 3.0}
    assert aggregate(series[:3], {"fd": Strategy.LATEST}) == {}


def test_latest_goes_by_time_and_undated_lines_come_first() -> None:
    late, early = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    series = [Observation("fd", 1.0, late), Observation("fd", 2.0, early), Observation("fd", 3.0)]
    assert aggregate(series, {"fd": Strategy.LATEST}) == {"fd": 1.0}


def test_growing_file_is_read_once_and_torn_lines_wait(tmp_path: Path) -> None:
    path = tmp_path / "metrics.log"
    reader = MetricsTail(path, ("fd",), Collector(CollectorKind.FILE, str(path)))
    assert reader.poll() == 0
    path.write_text("fd=1\nfd=2")
    assert reader.poll() == 1
    with path.open("a") as file:
        file.write("5\nfd=3")
    assert reader.poll() == 1
    assert reader.poll(final=True) == 1
    assert [o.value for o in reader.observations] == [1.0, 25.0, 3.0]
    assert reader.lines == [1, 2, 3]


def test_json_file_with_another_line_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"fd": "1"}\nhello\n{"fd": "2"}\n')
    reader = MetricsTail(path, ("fd",), Collector(CollectorKind.FILE, str(path), FileFormat.JSON))
    reader.poll(final=True)
    assert [o.value for o in reader.observations] == [1.0]
    assert "'hello'" in reader.error


def test_metric_after_a_progress_bar_is_found() -> None:
    bar = "".join(f"\r{percent}%|###  | loss = 0.5" for percent in range(1000))
    assert seen(f"{bar}\rfd = 12.5 done") == [*[("loss", 0.5)] * 1000, ("fd", 12.5)]


def test_long_word_costs_little() -> None:
    assert seen("fd=1 " + "a" * 10_000_000 + " fd=2") == [("fd", 1.0), ("fd", 2.0)]
