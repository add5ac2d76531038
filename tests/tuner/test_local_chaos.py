"""Searches that are killed: at random moments (tests.tuner.chaos) and at changes of the disk (tests.tuner.faults)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner import chaos
from tests.tuner.experiments import TRIALS, run, table
from tests.tuner.faults import WHAT

STRIDE = 5  # of the changes of the disk at which the short version dies; pytest --with-slow takes all


@pytest.mark.timeout(240)
def test_killed_searches_end_with_the_true_table(tmp_path: Path) -> None:
    chaos.run(5, int(os.environ.get("CHAOS_SEED", "7")), tmp_path)


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
    for number in range(1, changes + 1, stride):
        for when in ("before", "after"):
            folder = root / "study"
            assert client(folder, number, when).returncode == -9, (number, when)
            assert table(run(folder, WHAT)) == expected, (number, when)
            shutil.rmtree(folder)


@pytest.mark.timeout(240)
def test_client_may_die_at_any_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    die_at_each_change(tmp_path, monkeypatch, STRIDE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_client_may_die_at_every_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    die_at_each_change(tmp_path, monkeypatch, 1)
