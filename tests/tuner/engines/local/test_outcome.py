"""What is recorded of a finished trial, and the reason where the objective is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.experiments import experiment
from tuner.engines.local.journal import TrialRecord
from tuner.engines.local.outcome import judge
from tuner.engines.local.runner import Exit
from tuner.experiment.model import Collector, CollectorKind, FileFormat
from tuner.metrics import MetricsTail
from tuner.result import TrialState


def judged(
    path: Path, content: str | None, form: FileFormat = FileFormat.TEXT, code: int = 0
) -> TrialRecord:
    if content is not None:
        path.write_text(content)
    reader = MetricsTail(path, ("fd", "loss"), Collector(CollectorKind.FILE, str(path), form))
    reader.read_all()
    entry = TrialRecord(0, "study-0", {})
    judge(experiment(), None, entry, reader, Exit(code), path)
    return entry


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "fd was not reported: no such file (metrics.log)"),
        ("", "fd was not reported: the file is empty (metrics.log)"),
        (
            "epoch 1: fd: 3\n",
            "fd was not reported, but the output has `epoch 1: fd: 3`; add this filter: "
            r"metricsFormat: ['\b(fd)\s*:\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)']",
        ),
        ("hello\n", "fd was not reported: no fd=<number> in metrics.log"),
        (
            "val_elbo=3 recon=2 kl=1\nval_elbo=2 recon=nan\n",
            "fd was not reported; seen: val_elbo, recon, kl",
        ),
        (
            " ".join(f"m{i}={i}" for i in range(20)),
            "fd was not reported; seen: m0, m1, m2, m3, m4, m5, m6, m7",
        ),
        ("loss=1\nfd=nan\n", "the value of fd that counts is not a finite number"),
    ],
)
def test_missing_objective_says_what_was_seen(
    content: str | None, reason: str, tmp_path: Path
) -> None:
    entry = judged(tmp_path / "metrics.log", content)
    assert (entry.state, entry.metrics, entry.reason) == (
        TrialState.METRICS_UNAVAILABLE,
        {},
        reason,
    )


def test_json_error_names_its_line(tmp_path: Path) -> None:
    entry = judged(tmp_path / "metrics.json", '{"fd": "1"}\n{"loss": NaN}\n', FileFormat.JSON)
    assert entry.state is TrialState.METRICS_UNAVAILABLE
    assert entry.reason.startswith("metrics.json, line 2: ")


def test_json_names_are_seen(tmp_path: Path) -> None:
    entry = judged(tmp_path / "metrics.json", '{"accuracy": "0.5", "kl": "2"}\n', FileFormat.JSON)
    assert entry.reason == "fd was not reported; seen: accuracy, kl"


def test_failed_trial_keeps_no_metrics(tmp_path: Path) -> None:
    entry = judged(tmp_path / "metrics.log", "fd=1\n", code=3)
    assert (entry.state, entry.metrics, entry.curve) == (TrialState.FAILED, {}, ())
    assert entry.reason == "exit code 3: fd=1"


def test_cut_keeps_the_line_of_the_report(tmp_path: Path) -> None:
    path = tmp_path / "metrics.log"
    path.write_text("fd=nan\nfd=1 loss=1\nfd=2 loss=2\nloss=3\nfd=3\n")
    reader = MetricsTail(path, ("fd", "loss"), Collector(CollectorKind.FILE, str(path)))
    reader.read_all()
    line = reader.observations.line_of("fd", 2)
    assert line == 3
    assert reader.aggregate({}, line) == {"fd": 2.0, "loss": 2.0}
    assert reader.aggregate({}) == {"fd": 3.0, "loss": 3.0}
