"""Searches that are killed at random moments (tests.tuner.chaos), and at changes of the disk.

tests.tuner.faults kills the client, and tests/tuner/trials/fault_trial.py the server, a trial or
its trainer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner import chaos
from tests.tuner.experiments import LR, TRIALS, experiment, run, table
from tests.tuner.faults import WHAT
from tuner.engines.local import LocalEngine
from tuner.errors import CommandError, StudyError
from tuner.result import Result
from tuner.store.studies import Store

# of the changes of the disk at which the short version dies; pytest --with-slow takes all
STRIDE = 5
WHEN = ("before", "after")


def moments(changes: int, stride: int) -> list[tuple[int, str]]:
    """Return the changes to die at, each before and after; the short version alternates between both."""
    numbers = range(1, changes + 1, stride)
    if stride == 1:
        return [(number, when) for number in numbers for when in WHEN]
    return [(number, WHEN[index % 2]) for index, number in enumerate(numbers)]


@pytest.mark.timeout(240)
def test_killed_searches_end_with_the_true_table(tmp_path: Path) -> None:
    chaos.run(3, int(os.environ.get("CHAOS_SEED", "7")), tmp_path)


def client(folder: Path, fatal: int, when: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.tuner.faults", str(folder), str(fatal), when]
    env = os.environ | {"PYTHONPATH": str(TRIALS.parents[2])}
    return subprocess.run(argv, cwd=TRIALS, env=env, capture_output=True, text=True, check=False)


def die_at_each_change(root: Path, monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    """Let a client die at every `stride`th change of the disk, and compare the search that follows."""
    monkeypatch.chdir(TRIALS)
    whole = client(root / "whole", 0, "after")
    assert whole.returncode == 0, whole.stderr
    changes = int(whole.stdout)
    assert changes > 10
    expected = table(run(root / "whole", WHAT))
    for number, when in moments(changes, stride):
        folder = root / "study"
        assert client(folder, number, when).returncode == -9, (number, when)
        assert table(run(folder, WHAT)) == expected, (number, when)
        shutil.rmtree(folder)


PATH = "/var/log/katib/metrics.log"
FILE = {
    "collector": {"kind": "File"},
    "source": {"fileSystemPath": {"kind": "File", "path": PATH, "format": "TEXT"}},
}
FAULTY = experiment(
    command=["python", "-m", "fault_trial"],
    args=["--lr=${trialParameters.lr}", f"--metrics-file={PATH}"],
    parameters=[LR],
    trials=3,
    parallel=1,
    collector=FILE,
)


def die_in_trials(root: Path, monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    """Let the server or a trial die at every `stride`th change of the disk, and compare the search that follows."""
    monkeypatch.chdir(TRIALS)
    monkeypatch.setenv("FAULT_NOTE", str(root / "note"))
    monkeypatch.setenv("FAULT_NUMBER", "0")
    expected = table(run(root / "whole", FAULTY))
    changes = int((root / "note").read_text())  # of the server and its last trial
    assert changes > 20
    for number, when in moments(changes, stride):
        monkeypatch.setenv("FAULT_NUMBER", str(number))
        monkeypatch.setenv("FAULT_WHEN", when)
        (root / "note").unlink(missing_ok=True)
        folder = root / f"{number}-{when}"
        result = finish(folder)
        assert (root / "note").exists(), (number, when)
        assert table(result) == expected, (number, when)
        for trial in result.trials:
            file = folder / "local/study/trials" / trial.name / "mounts/var-log-katib/metrics.log"
            assert (
                float(file.read_text().splitlines()[-1].rpartition("=")[2]) == trial.metrics["fd"]
            )


def finish(folder: Path) -> Result:
    """Run the search until it has finished. What was killed as a trial runs again."""
    while True:
        try:
            result = run(folder, FAULTY)
        except (StudyError, CommandError):  # the server died
            continue
        if not any("killed by SIGKILL" in trial.reason for trial in result.trials):
            return result
        LocalEngine(Store(folder)).retry("study")


@pytest.mark.timeout(240)
def test_server_and_trials_may_die_at_any_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_in_trials(tmp_path, monkeypatch, STRIDE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_server_and_trials_may_die_at_every_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_in_trials(tmp_path, monkeypatch, 1)


@pytest.mark.timeout(240)
def test_client_may_die_at_any_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    die_at_each_change(tmp_path, monkeypatch, STRIDE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_client_may_die_at_every_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    die_at_each_change(tmp_path, monkeypatch, 1)
