"""The TensorFlowEvent collector: TensorBoard's event files, as torch writes them."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from torch.utils.tensorboard import SummaryWriter

from tests.tuner.experiments import LR, TRIALS, document
from tuner import manifest
from tuner.check import Severity, check_data
from tuner.engines.local import LocalEngine
from tuner.engines.local.reading import metrics_file
from tuner.errors import UnsupportedError
from tuner.experiment.command import collector_mount
from tuner.experiment.model import Experiment, Strategy
from tuner.metrics.events import FILE_LIMIT, EventFiles
from tuner.result import TrialState
from tuner.store import curves
from tuner.store.studies import Store

FOLDER = "/logs/events"
COLLECTOR = {
    "collector": {"kind": "TensorFlowEvent"},
    "source": {"fileSystemPath": {"kind": "Directory", "path": FOLDER}},
}
LATEST = dict.fromkeys(("fd", "loss", "train/loss", "test/loss", "test/fd"), Strategy.LATEST)


def shape(objective: str, *more: str, args: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    made = document(
        command=["python", "-m", "events_trial"],
        args=["--lr=${trialParameters.lr}", f"--dir={FOLDER}", *args],
        parameters=[LR],
        collector=COLLECTOR,
        **options,
    )
    made["spec"]["objective"] |= {
        "objectiveMetricName": objective,
        "additionalMetricNames": list(more),
        "metricStrategies": [{"name": name, "value": "latest"} for name in (objective, *more)],
    }
    return made


def writing(objective: str, *more: str, **options: Any) -> Experiment:
    return manifest.from_document(shape(objective, *more, **options))


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def test_scalars_of_both_versions_are_metrics(tmp_path: Path) -> None:
    """With two workers, and shown while a trial runs."""
    gate = tmp_path / "gate"
    engine = LocalEngine(Store(tmp_path / "store"), workers=2)
    what = writing("test/fd", "train/loss", "test/loss", args=(f"--gate={gate}",), trials=3)
    for event in engine.run(what):
        if event.trial and event.trial.state is TrialState.RUNNING and event.trial.metrics:
            gate.touch()
    result = engine.result("study")
    assert gate.exists()
    assert [trial.state for trial in result.trials] == [TrialState.SUCCEEDED] * 3, result.trials[
        0
    ].reason
    assert [trial.metrics for trial in result.trials] == [
        {"test/fd": 2.5, "train/loss": 0.25, "test/loss": 2.0}
    ] * 3
    stored = curves.read(tmp_path / "store" / "local" / "study")["study-0"]
    assert [one.value for one in stored["train/loss"]] == [1.0, 0.5, 0.25]
    assert all(one.time is not None for one in stored["train/loss"])


@pytest.mark.parametrize(
    ("collector", "named", "mount"),
    [
        ("/nowhere/logs/test", "--dir=/nowhere/logs", "/nowhere/logs"),
        ("/nowhere/logs/test/", "cd /nowhere/; run", "/nowhere"),
        ("/nowhere/logs/test", "--dir=/nowhere/logs/train", "/nowhere/logs/test"),
        ("/nowhere/logs/test", "--dir=/nowhere/logs-2 x/nowhere", "/nowhere/logs/test"),
        ("/tmp/logs/test", "--data=/tmp", "/tmp/logs/test"),
    ],
)
def test_directory_above_the_collectors_is_the_trials(
    collector: str, named: str, mount: str
) -> None:
    held = shape("test/fd", args=(named,), trials=3)
    held["spec"]["metricsCollectorSpec"]["source"]["fileSystemPath"]["path"] = collector
    what = manifest.from_document(held)
    assert collector_mount(what) == mount
    own = Path("/trial/mounts") / mount.strip("/").replace("/", "-")
    assert metrics_file(what, Path("/trial")) == own / Path(collector).relative_to(mount)


def test_missing_metric_is_explained(tmp_path: Path) -> None:
    write(tmp_path / "train", 1, tag="Loss/odd")
    reader = read(tmp_path, "Loss/odd")
    assert reader.other_names() == ["train/Loss/odd"]
    assert reader.expected("Loss/odd") == "no scalar odd in the event files of a directory Loss"
    assert reader.expected("fd") == "no scalar fd in the event files"


def test_check_accepts_a_metric_with_a_directory() -> None:
    problems = check_data(json.dumps(shape("train/loss", trials=3)).encode(), "search.yaml")
    assert [one for one in problems if one.severity is Severity.ERROR] == []


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.metrics.events.find_spec", lambda name: None)
    with pytest.raises(
        UnsupportedError, match=r"not installed: pip install 'gan-tuner\[tensorboard\]'"
    ):
        LocalEngine(Store(tmp_path)).run(writing("test/fd"))
    assert importlib.util.find_spec("tensorboard") is not None


def write(folder: Path, *values: float, tag: str = "fd") -> Path:
    """Write an event file; returns it."""
    with SummaryWriter(folder) as writer:
        for step, value in enumerate(values):
            writer.add_scalar(tag, value, step)
    return max(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns)


def read(folder: Path, *metrics: str) -> EventFiles:
    reader = EventFiles(folder, metrics or ("fd",))
    assert reader.read_all()
    return reader


@pytest.mark.parametrize(
    ("metric", "count"),
    [("fd", 2), ("train/fd", 1), ("n/fd", 1), ("test/fd", 1), ("f", 2), ("other/fd", 0), ("d", 0)],
)
def test_metric_is_directory_and_start_of_tag(metric: str, count: int, tmp_path: Path) -> None:
    """As Katib's _should_consider has it, `n/fd` in `train` included."""
    write(tmp_path / "train", 1)
    write(tmp_path / "deep" / "test", 2, tag="fd_total")
    assert len(read(tmp_path, metric).observations) == count


def test_damaged_file_counts_up_to_the_damage(tmp_path: Path) -> None:
    path = write(tmp_path, 1, 2, 3)
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    write(tmp_path / "other", 4)
    assert list(read(tmp_path).curve("fd")) == [1, 2, 4]


@pytest.mark.parametrize(
    "data", [b"", b"text\n" * 99, os.urandom(5000), struct.pack("<Q", 2**62) * 4]
)
def test_file_of_another_kind_is_ignored(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    write(tmp_path, 5)
    assert read(tmp_path).aggregate(LATEST) == {"fd": 5.0}


def test_not_a_number_is_no_value(tmp_path: Path) -> None:
    write(tmp_path, 1, float("nan"))
    reader = read(tmp_path)
    assert list(reader.curve("fd")) == [1]
    assert reader.aggregate(LATEST) == {}


@pytest.mark.parametrize("wall", [float("nan"), float("inf"), -1.0, 1.7e12, 1e300])
def test_odd_time_is_no_time(wall: float, tmp_path: Path) -> None:
    """A program may pass milliseconds; the value counts, before those with a time."""
    with SummaryWriter(tmp_path / "events") as writer:
        writer.add_scalar("fd", 1, 0)
        writer.add_scalar("fd", 2, 1, walltime=wall)
    reader = read(tmp_path / "events")
    assert reader.aggregate(LATEST) == {"fd": 1.0}
    with curves.Writer(tmp_path) as stored:
        stored.add("study-0", reader.observations)
    assert [(one.value, one.time is None) for one in curves.read(tmp_path)["study-0"]["fd"]] == [
        (1, False),
        (2, True),
    ]


def test_tensor_with_dimensions_is_ignored(tmp_path: Path) -> None:
    """Whatever size its shape claims, and without hiding the values after it."""
    tensor = TensorProto(dtype="DT_FLOAT", float_val=[7], tensor_shape={"dim": [{"size": 10**12}]})
    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("fd", 1, 0)
        writer._get_file_writer().add_summary(
            Summary(value=[{"tag": "fd_all", "tensor": tensor}]), 1
        )
        writer.add_scalar("fd", 2, 2)
    reader = read(tmp_path)
    assert list(reader.curve("fd")) == [1, 2]
    assert reader.aggregate(LATEST) == {"fd": 2.0}


def test_too_many_files_are_an_error(tmp_path: Path) -> None:
    for index in range(FILE_LIMIT + 1):
        (tmp_path / str(index)).touch()
    assert (
        read(tmp_path).error
        == f"which holds more than {FILE_LIMIT} files: write other files elsewhere"
    )


def test_poll_reads_what_was_added(tmp_path: Path) -> None:
    reader = EventFiles(tmp_path, ("fd",))
    assert reader.poll() == 0
    with SummaryWriter(tmp_path) as writer:
        for step in range(3):
            writer.add_scalar("fd", step, step)
            writer.flush()
            assert reader.poll() == 1
    assert list(reader.curve("fd")) == [0, 1, 2]
    assert reader.read_all()
    assert list(reader.curve("fd")) == [0, 1, 2]


def test_reading_stops_when_asked(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    assert not EventFiles(tmp_path, ("fd",), lambda: False).read_all()
