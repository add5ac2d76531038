"""Reading metrics as Katib's file-metricscollector.go does."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tuner.errors import UnsupportedError
from tuner.experiment.model import Collector, CollectorKind, FileFormat, Strategy
from tuner.metrics import (
    UNDATED,
    JsonLineError,
    MetricsTail,
    ObservationLog,
    compiled,
    observations,
    parse_json,
    parse_text,
)
from tuner.metrics.lines import LINE_LIMIT
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
    assert seen(
        "{metricName: fd, metricValue: 3.5}",
        r"{metricName: ([\w|-]+), metricValue: ((-?\d+)(\.\d+)?)}",
    ) == [("fd", 3.5)]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(\w+)=(\d+)\1*", "invalid escape sequence"),
        (r"(?<=x)(\w+)=(\d+)", "invalid perl operator"),
        (r"(\w+)=(?!0)(\d+)", "invalid perl operator"),
        (r"(\w+)=(\C)", r"\\C"),
        (r"(\w+)=(\d+)\Z", "invalid escape sequence"),
        (r"(\w+)=(\d{1001})", "repetition"),
        (r"(\w+)=\d+", "two groups"),
        (r"(\w+=(\d", "regular expression"),
        ("(a)=(\ud800)", "surrogate"),
    ],
)
def test_filters_that_go_refuses_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        compiled([pattern])


@pytest.mark.parametrize(
    "stamp", ["2026-01-02T03:04:05.123456Z", "2026-01-02T05:04:05.123456+02:00"]
)
def test_time_is_the_first_word(stamp: str) -> None:
    (observation,) = parse_text(f"{stamp} fd=1", METRICS, compiled(()))
    assert observation.time == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    "stamp", ["2026-01-02", "20260102T030405Z", "2026-13-02T03:04:05Z", "2026-01-02T03:04:05"]
)
def test_what_is_no_rfc3339_is_no_time(stamp: str) -> None:
    (observation,) = parse_text(f"{stamp} fd=1", METRICS, compiled(()))
    assert observation.time is None


def test_json_values_count_only_as_text() -> None:
    line = '{"fd": "3.5", "loss": 2, "timestamp": 1767323045.5}'
    (observation,) = parse_json(line, METRICS)
    assert (observation.metric, observation.value) == ("fd", 3.5)
    assert observation.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)  # and 5 ns, as in Katib
    with pytest.raises(JsonLineError, match="one JSON object per line"):
        list(parse_json("fd=3", METRICS))


def aggregate(series: list[Observation], strategy: Strategy) -> dict[str, float]:
    return ObservationLog(series).aggregate({"fd": strategy})


def test_strategies_choose_min_max_or_latest() -> None:
    series = [Observation("fd", value) for value in (5.0, 2.0, math.nan, 3.0)]
    assert aggregate(series, Strategy.MIN) == {"fd": 2.0}
    assert aggregate(series, Strategy.MAX) == {"fd": 5.0}
    assert aggregate(series, Strategy.LATEST) == {"fd": 3.0}
    assert aggregate(series[:3], Strategy.LATEST) == {}


def test_latest_sorts_by_time_with_undated_first() -> None:
    late, early = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    series = [Observation("fd", 1.0, late), Observation("fd", 2.0, early), Observation("fd", 3.0)]
    assert aggregate(series, Strategy.LATEST) == {"fd": 1.0}
    assert aggregate([*series, Observation("fd", 4.0, late)], Strategy.LATEST) == {"fd": 4.0}


def test_aggregates_up_to_a_line() -> None:
    late, early = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    values = [Observation("fd", 1.0), Observation("fd", 4.0, late), Observation("fd", 2.0, early)]
    log = ObservationLog([*values, Observation("loss", 9.0)])
    assert [log.aggregate({}, line) for line in range(5)] == [
        {}, {"fd": 1.0}, {"fd": 4.0}, {"fd": 4.0}, {"fd": 4.0, "loss": 9.0}
    ]  # fmt: skip
    assert log.aggregate({"fd": Strategy.MIN}, 3) == {"fd": 1.0}


def tail(path: Path, *metrics: str, json: bool = False) -> MetricsTail:
    form = FileFormat.JSON if json else FileFormat.TEXT
    return MetricsTail(path, metrics or ("fd",), Collector(CollectorKind.FILE, str(path), form))


def values(reader: MetricsTail) -> list[float]:
    return list(reader.observations.column("fd").values)


def test_growing_file_is_read_once_by_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.log"
    reader = tail(path)
    assert reader.poll() == 0
    path.write_text("fd=1\nfd=2")
    assert reader.poll() == 1
    with path.open("a") as file:
        file.write("5\nfd=3")
    assert reader.poll() == 1
    reader.read_all()
    assert values(reader) == [1.0, 25.0, 3.0]
    assert list(reader.observations.column("fd").lines) == [1, 2, 3]


@pytest.mark.parametrize(
    "later", ["fd=9\n", "fd=147.25\nfd=9\n", "fd=7.125\nfd=8\nfd=123456.789\nfd=9\n"]
)
@pytest.mark.parametrize("how", ["truncate", "rename", "delete"])
def test_rewritten_file_is_read_again(how: str, later: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.log"
    path.write_text("fd=147.50\nfd=8.5\n")
    reader = tail(path)
    reader.poll()
    if how == "truncate":
        path.write_text(later)
    elif how == "rename":
        (tmp_path / "new").write_text(later)
        (tmp_path / "new").replace(path)
    else:
        path.unlink()
        assert reader.poll() == 0
        path.write_text(later)
    expected = [float(line[3:]) for line in later.split()]
    reader.poll()
    assert values(reader) == expected
    assert reader.aggregate({"fd": Strategy.LATEST}) == {"fd": 9.0}
    assert list(reader.curve("fd")) == expected
    reader.read_all()
    assert values(reader) == expected


def test_file_rewritten_each_epoch_counts_its_last_content(tmp_path: Path) -> None:
    path = tmp_path / "output.metrics"
    reader = tail(path, "accuracy", json=True)
    for value in ("0.7667", "0.7333", "0.71"):
        path.write_text(f'{{"accuracy": "{value}", "step": "1"}}')
        reader.poll()
    path.write_text('{"accuracy": "0.7179"}')
    reader.read_all()
    assert reader.aggregate({"accuracy": Strategy.MAX}) == {"accuracy": 0.7179}


def test_json_file_with_another_line_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"fd": "1"}\nhello\n{"fd": "2"}\n')
    reader = tail(path, json=True)
    reader.read_all()
    assert values(reader) == [1.0]
    assert reader.error.startswith("line 2: ")
    assert "'hello'" in reader.error


@pytest.mark.parametrize("content", ["fd=1 " + "x" * 1018 + "\n", "fd = 1, loss=2 "])
def test_reading_takes_turns(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.log"
    path.write_text(content * (2_000_000 // len(content)) + "\nfd=2\n")
    reader, turns = tail(path), 1
    assert 0 < reader.poll(0) < 5000
    while not reader.read_all(0):
        turns += 1
    assert turns > 50
    count = 2_000_000 // len(content) + 1
    assert (len(reader.observations), reader.observations.column("fd").running.latest) == (count, 2)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_column_of_many_values_is_thinned(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observations, "KEPT", 100)
    numbers = [float((index * 7919) % 10_007) for index in range(5001)]
    column = observations.Column()
    for start in range(0, len(numbers), batch):
        part = numbers[start : start + batch]
        column.extend(part, [UNDATED] * len(part), range(start, start + len(part)))
    running = column.running
    assert (running.smallest, running.largest, running.latest) == (0, 10_006, numbers[-1])
    assert (column.count, column.thinned) == (5001, True)
    assert list(column.first) == numbers[:100]
    assert list(column.lines) == list(range(0, 5001, 64))
    points = column.points()
    lowest, highest = numbers.index(0), numbers.index(10_006)
    assert {(0, numbers[0]), (lowest, 0), (highest, 10_006), (5000, numbers[-1])} <= {
        (line, value) for line, _, value in points
    }
    assert [line for line, *_ in points] == sorted({line for line, *_ in points})


def test_aggregate_up_to_a_line_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observations, "KEPT", 10)
    path = tmp_path / "metrics.log"
    path.write_text("".join(f"fd={(index * 7919) % 10_007}\n" for index in range(3000)))
    reader = tail(path)
    assert reader.read_all()
    for last_line in (1, 8, 500, 3000):
        wanted = min((index * 7919) % 10_007 for index in range(last_line))
        assert reader.aggregate({"fd": Strategy.MIN}, last_line) == {"fd": wanted}


def test_long_line_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observations, "KEPT", 1 << 20)
    path = tmp_path / "metrics.log"
    words = [f"loss={index} fd = {index}.5," for index in range(150_000)]
    path.write_text("2026-01-02T03:04:05Z " + "".join(words) + "\nfd=7\n")
    assert path.stat().st_size > 2 * LINE_LIMIT
    reader = tail(path)
    reader.read_all()
    assert values(reader) == [*(index + 0.5 for index in range(150_000)), 7.0]
    column = reader.observations.column("fd")
    assert set(column.times[:-1]) == {datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()}
    assert list(column.lines[-2:]) == [1, 2]


def test_custom_filter_ignores_rest_of_long_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.log"
    path.write_text("fd:1 " + "x" * 3 * LINE_LIMIT + " fd:2\nfd:3\n")
    collector = Collector(CollectorKind.FILE, str(path), FileFormat.TEXT, (r"(\w+):(\d+)",))
    reader = MetricsTail(path, ("fd",), collector)
    reader.read_all()
    assert values(reader) == [1.0, 3.0]


def test_quadratic_filter_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.metrics.lines.FILTER_SECONDS", 0.2)
    path = tmp_path / "metrics.log"
    path.write_text("fd=1 " * (LINE_LIMIT // 5) + "\n")
    reader = MetricsTail(
        path,
        ("fd",),
        Collector(CollectorKind.FILE, str(path), FileFormat.TEXT, (r"(fd)=(\d.*z|\d)",)),
    )
    start = time.thread_time()
    assert reader.read_all()
    assert time.thread_time() - start < 2
    assert reader.error.startswith("line 1: metricsFormat '(fd)=(\\\\d.*z|\\\\d)' takes more than")
    assert reader.poll() == 0


def test_reading_stops_when_it_is_told_to(tmp_path: Path) -> None:
    path = tmp_path / "metrics.log"
    path.write_text("fd=1\n" * 1_000_000)
    asked = itertools.count()
    reader = MetricsTail(
        path, ("fd",), Collector(CollectorKind.FILE, str(path)), lambda: next(asked) < 5
    )
    assert not reader.read_all()
    assert 0 < len(reader.observations) < 1_000_000
    assert reader.poll() == 0


@pytest.mark.parametrize("filters", [(), (r"(fd):\s*(\S+)",)])
@pytest.mark.parametrize("form", [FileFormat.TEXT, FileFormat.JSON])
@pytest.mark.parametrize("byte", [b"\0", b"a"])
def test_line_of_100_mb_uses_bounded_memory(
    byte: bytes, form: FileFormat, filters: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "metrics.log"
    with path.open("wb") as file:
        file.write(b"fd=1 ")
        if byte == b"\0":
            file.truncate(100_000_000)
        else:
            file.writelines(itertools.repeat(byte * 1_000_000, 100))
    code = (
        "import resource, sys; from tuner.manifest import *; from tuner.metrics import MetricsTail\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"collector = Collector(CollectorKind.FILE, '', FileFormat({form.value!r}), {filters!r})\n"
        f"before, reader = peak(), MetricsTail(__import__('pathlib').Path({str(path)!r}), ('fd',), collector)\n"
        "assert reader.read_all(); print(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 64 << 10  # KiB


def test_too_long_json_line_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"fd": "1", "x": "' + "x" * LINE_LIMIT + '"}\n')
    reader = tail(path, json=True)
    reader.read_all()
    assert reader.error.startswith("line 1: longer than 1 MiB")
    assert len(reader.observations) == 0


def test_metric_after_a_progress_bar_is_found() -> None:
    bar = "".join(f"\r{percent}%|###  | loss = 0.5" for percent in range(1000))
    assert seen(f"{bar}\rfd = 12.5 done") == [*[("loss", 0.5)] * 1000, ("fd", 12.5)]


def test_long_word_costs_little() -> None:
    assert seen("fd=1 " + "a" * 10_000_000 + " fd=2") == [("fd", 1.0), ("fd", 2.0)]


def test_posix_classes_and_repeated_groups_work() -> None:
    assert seen("fd=3", r"([[:alpha:]]+)=(\d+)") == [("fd", 3.0)]
    assert seen("fd=3", r"((?:\w+)+)=(\d+)") == [("fd", 3.0)]
    assert seen("a" * 5000 + "!fd", r"(a|a)*b(x)") == []


@pytest.mark.parametrize(
    "line",
    ['{"fd": NaN}', '{"fd": -Infinity}', '{"x": 1e400}', '{"x": 1' + "0" * 400 + "}", '\ufeff{"fd": "1"}',
     '{"fd": "1"} x',
     '{"fd": "a\tb"}', "[]", " ", '{"fd": "1",}', '{"x": 01}'],
)  # fmt: skip
def test_json_that_go_rejects_is_an_error(line: str) -> None:
    with pytest.raises(JsonLineError):
        list(parse_json(line, METRICS))


@pytest.mark.parametrize(
    ("line", "expected"),
    [('{"fd": "1", "fd": "2"}', [2.0]), ("null", []), ('{"fd": "3", "x": 1e-400}\r', [3.0]),
     ('{"fd": "4", "x": "\\ud800"}', [4.0])],
)  # fmt: skip
def test_json_that_go_accepts_is_read(line: str, expected: list[float]) -> None:
    assert [o.value for o in parse_json(line, METRICS)] == expected


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Path.mkdir, "it is not a regular file"),
        (os.mkfifo, "it is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is not a regular file"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_is_an_error(
    make: Callable[[Path], None], why: str, tmp_path: Path
) -> None:
    make(tmp_path / "log")
    tail = MetricsTail(tmp_path / "log", ("fd",), Collector(CollectorKind.STDOUT))
    assert tail.poll() == 0
    assert tail.read_all()
    assert tail.error == f"which cannot be read: {why}"
