"""Learning curves in a study's directory: written once for each trial, read back whatever else the file holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tuner.errors import StudyDamaged, StudyError
from tuner.metrics import ObservationLog
from tuner.result import Observation
from tuner.store import curves, records

TIME = datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)


def log(*values: float, metric: str = "fd") -> ObservationLog:
    return ObservationLog(Observation(metric, value, TIME) for value in values)


def values(folder: Path, trial: str) -> list[float]:
    return [seen.value for seen in curves.read(folder)[trial]["fd"]]


def test_returns_what_was_written(tmp_path: Path) -> None:
    both = ObservationLog(
        [Observation("fd", 2.0, TIME), Observation("sw", 1.0), Observation("fd", 1.5, TIME)]
    )
    with curves.Writer(tmp_path) as writer:
        assert writer.add("t-0", both)
        assert not writer.add("t-1", ObservationLog())
    assert curves.read(tmp_path) == {
        "t-0": {
            "fd": (Observation("fd", 2.0, TIME), Observation("fd", 1.5, TIME)),
            "sw": (Observation("sw", 1.0),),
        }
    }


def test_study_without_curves_has_none(tmp_path: Path) -> None:
    assert curves.read(tmp_path) == {}


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    with curves.Writer(tmp_path) as writer:
        writer.add("t-0", log(1.0, float("nan"), float("inf"), 2.0))
    assert values(tmp_path, "t-0") == [1.0, 2.0]


def test_lines_after_the_last_one_do_not_count(tmp_path: Path) -> None:
    with curves.Writer(tmp_path) as writer:
        writer.add("t-0", log(3.0, 2.0, 1.0), last_line=2)
    assert values(tmp_path, "t-0") == [3.0, 2.0]


def test_trial_that_runs_again_replaces_its_curve(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        with curves.Writer(tmp_path) as writer:
            writer.add("t-0", log(value))
    assert values(tmp_path, "t-0") == [2.0]


def test_unfinished_line_is_cut_off(tmp_path: Path) -> None:
    with curves.Writer(tmp_path) as writer:
        writer.add("t-0", log(1.0))
    with (tmp_path / curves.FILE).open("ab") as file:
        file.write(b'{"crc":"0')
    assert list(curves.read(tmp_path)) == ["t-0"]
    with curves.Writer(tmp_path) as writer:
        writer.add("t-2", log(3.0))
    assert list(curves.read(tmp_path)) == ["t-0", "t-2"]


@pytest.mark.parametrize("lost", [9, 200, None])
def test_lost_end_is_found_and_repaired(tmp_path: Path, lost: int | None) -> None:
    with curves.Writer(tmp_path) as writer:
        writer.add("t-0", log(1.0))
        first = len((tmp_path / curves.FILE).read_bytes())
        writer.add("t-1", log(2.0))
    file = tmp_path / curves.FILE
    data = file.read_bytes()
    file.write_bytes(data[: -lost if lost else first])
    for reading in (curves.read, curves.Writer):
        with pytest.raises(StudyDamaged, match=r"curves\.jsonl:\d: the last \d+ bytes are missing"):
            reading(tmp_path)
    saved = curves.repair(tmp_path)
    assert saved is not None
    assert saved.read_bytes() in data
    assert set(curves.read(tmp_path)) <= {"t-0"}
    assert curves.repair(tmp_path) is None


@pytest.mark.parametrize("record", [{"metrics": {}}, {"trial": "t", "metrics": {"fd": [1]}}])
def test_records_of_another_version_are_refused(record: dict[str, Any], tmp_path: Path) -> None:
    log = records.Writer.open(tmp_path / curves.FILE)
    log.append([record])
    log.close()
    with pytest.raises(StudyDamaged, match="another version of gantune"):
        curves.read(tmp_path)


def test_running_curves_have_a_checksum(tmp_path: Path) -> None:
    curves.replace_running(tmp_path, {"t-0": log(1.0), "t-1": ObservationLog()})
    assert list(curves.read(tmp_path, running=True)) == ["t-0"]
    file = tmp_path / curves.RUNNING
    file.write_bytes(file.read_bytes().replace(b"1.0", b"2.0"))
    with pytest.raises(StudyDamaged, match=r"running-curves\.json is damaged"):
        curves.read(tmp_path, running=True)


def test_long_curves_are_thinned_evenly(tmp_path: Path) -> None:
    with curves.Writer(tmp_path) as writer:
        writer.add("t-0", log(*map(float, range(12_345))))
    found = values(tmp_path, "t-0")
    assert (len(found), found[0], found[-1]) == (curves.MAX_VALUES - 2, 0.0, 12_344.0)
    steps = {b - a for a, b in pairwise(found)}
    assert max(steps) - min(steps) <= 4.0  # of 12.4; only every second value was kept
    shape = json.loads((tmp_path / curves.FILE).read_bytes())
    assert shape["reported"] == {"fd": 12_345}


def test_long_curve_keeps_its_extremes(tmp_path: Path) -> None:
    spikes = [float(index % 7) for index in range(50_001)]
    spikes[4321], spikes[33_333] = -1.0, 99.0
    with curves.Writer(tmp_path) as writer:
        writer.add("t-0", log(*spikes))
    found = values(tmp_path, "t-0")
    assert {-1.0, 99.0} <= set(found)
    assert len(found) <= curves.MAX_VALUES


def test_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / curves.FILE).mkdir()
    with pytest.raises(StudyError, match=r"curves\.jsonl cannot be written \(Is a directory\)"):
        curves.Writer(tmp_path)


def test_each_line_is_one_trial(tmp_path: Path) -> None:
    with curves.Writer(tmp_path) as writer:
        writer.add("t-0", log(1.0))
    shape = json.loads((tmp_path / curves.FILE).read_bytes())
    assert shape.pop("crc")
    assert shape == {"trial": "t-0", "metrics": {"fd": [["2026-01-02T03:04:05.123456+00:00", 1.0]]}}
