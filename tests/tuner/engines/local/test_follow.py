"""A local study that another process runs, followed from its files without its lock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuner.cli.test_cli import MANIFEST, SCRIPT
from tests.tuner.experiments import ARGS, TRIALS, experiment, run
from tuner.engines.base import EventKind
from tuner.engines.local import LocalEngine
from tuner.errors import Deadline, StudyNotFound
from tuner.result import StudyState, TrialState
from tuner.store.lock import Lock
from tuner.store.studies import EngineKind, Store


@pytest.fixture
def search(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A search in another process, whose first two trials run until the file `wait` is removed."""
    (tmp_path / "trial.sh").write_text(SCRIPT)
    (tmp_path / "toy.yaml").write_text(
        MANIFEST.format(name="toy", count=4, script=tmp_path / "trial.sh")
    )
    (tmp_path / "wait").touch()
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[4])}
    # The script looks for ../wait, so the search starts in a directory below.
    (tmp_path / "start").mkdir()
    command = [
        sys.executable,
        "-m",
        "tuner",
        "run",
        "../toy.yaml",
        "--local",
        "--workers",
        "2",
        "--store",
        str(tmp_path),
    ]
    with subprocess.Popen(
        command, cwd=tmp_path / "start", env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def follow(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[4])}
    command = [sys.executable, "-m", "tuner", *argv, "--store", str(folder)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_follows_a_search_in_another_process(tmp_path: Path, search: subprocess.Popen[str]) -> None:
    engine = LocalEngine(Store(tmp_path), timeout=60)
    studies = Store(tmp_path).of(EngineKind.LOCAL)
    while "toy" not in studies.names() or not Lock.held(studies.folder("toy")):
        time.sleep(0.05)
    seen = []
    for event in engine.watch("toy"):
        seen.append(event)
        reported = {
            e.trial.number
            for e in seen
            if e.trial and e.trial.metrics and not e.trial.state.finished
        }
        if len(reported) == 2:
            (tmp_path / "wait").unlink(missing_ok=True)
    ended = [
        event.trial.number for event in seen if event.trial and event.kind is EventKind.TRIAL_ENDED
    ]
    assert sorted(ended) == [0, 1, 2, 3]
    assert any(
        e.trial and e.trial.state is TrialState.RUNNING and "fd" in e.trial.metrics for e in seen
    )
    assert seen[-1].kind is EventKind.STUDY_ENDED
    assert [trial.state for trial in seen[-1].result.trials] == [TrialState.SUCCEEDED] * 4


def test_watch_and_status_follow_local_studies(
    tmp_path: Path, search: subprocess.Popen[str]
) -> None:
    studies = Store(tmp_path).of(EngineKind.LOCAL)
    while "toy" not in studies.names() or not Lock.held(studies.folder("toy")):
        time.sleep(0.05)
    done = follow(tmp_path, "watch", "toy", "--timeout", "0.5")
    assert done.returncode == 5
    assert "still running" in done.stderr
    (tmp_path / "wait").unlink()
    done = follow(tmp_path, "status", "toy", "--follow", "--format", "json")
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["event"] == "study_ended"
    assert last["state"] == "Succeeded"
    assert len(last["result"]["trials"]) == 4


def test_finished_study_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)
    result = run(tmp_path, experiment(args=[*ARGS], trials=3))
    seen = list(LocalEngine(Store(tmp_path)).watch("study"))
    assert [event.kind for event in seen] == [EventKind.TRIAL_ENDED] * 3 + [EventKind.STUDY_ENDED]
    assert seen[-1].result == result
    assert result.state is StudyState.SUCCEEDED


def test_unknown_study_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(StudyNotFound):
        list(LocalEngine(Store(tmp_path)).watch("none"))


def test_timeout_raises_deadline(tmp_path: Path, search: subprocess.Popen[str]) -> None:
    studies = Store(tmp_path).of(EngineKind.LOCAL)
    while "toy" not in studies.names() or not Lock.held(studies.folder("toy")):
        time.sleep(0.05)
    with pytest.raises(Deadline, match="did not finish within"):
        list(LocalEngine(Store(tmp_path), timeout=0.2).watch("toy"))
