"""What the disk and other clients can do to a local study: nothing is lost, or the study is refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner import commandline
from tests.tuner.experiments import TRIALS, experiment, run, table
from tuner.engines.local import LocalEngine, machine
from tuner.errors import StudyDamaged, StudyError
from tuner.result import StudyState, TrialState
from tuner.store.studies import EngineKind, Store

ENVIRONMENT = os.environ | {"PYTHONPATH": str(TRIALS.parents[2])}
NAMESPACE = ["unshare", "-Urm"]
EACH_WRITE = pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def can_mount() -> bool:
    """Whether a mount namespace with a tmpfs can be had."""
    try:
        return (
            subprocess.run(
                [*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], check=False
            ).returncode
            == 0
        )
    except OSError:
        return False


def full_disk(how: str, folder: Path, stride: int) -> int:
    """How many searches were paused by a disk that was full at one write after the other."""
    prefix = NAMESPACE if how == "pages" else []
    argv = [*prefix, sys.executable, "-m", "tests.tuner.full_disk", how, str(folder), str(stride)]
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@EACH_WRITE
def test_limited_files_pause_the_search(tmp_path: Path, stride: int) -> None:
    assert full_disk("bytes", tmp_path, stride) > 10 / stride


@pytest.mark.skipif(not can_mount(), reason="needs a kernel that allows mounts in a user namespace")
@EACH_WRITE
def test_full_disk_pauses_the_search(tmp_path: Path, stride: int) -> None:
    assert full_disk("pages", tmp_path, stride) > 5 / stride


def test_no_trial_starts_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FREE_BYTES", 1 << 62)
    with pytest.raises(
        StudyError, match=r"the search is paused: the disk that holds .* is full"
    ) as caught:
        run(tmp_path, experiment(trials=2))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "local" / "study").glob("trials/*"))
    monkeypatch.undo()
    monkeypatch.chdir(TRIALS)
    assert run(tmp_path, experiment(trials=2)).state is StudyState.SUCCEEDED


def test_trial_without_disk_space_runs_again(tmp_path: Path) -> None:
    """What a trial says of a full disk that has room again when the trial has finished."""
    full = tmp_path / "full"
    full.touch()
    script = f'[ ! -e {full} ] || {{ echo "OSError: [Errno 28] No space left on device"; exit 1; }}; echo fd=1'
    what = experiment(command=["sh", "-c"], args=[script], trials=2)
    with pytest.raises(StudyError, match="study-0 ran out of disk space"):
        run(tmp_path, what, workers=1)
    result = LocalEngine(Store(tmp_path)).result("study")
    assert result.state is StudyState.STOPPED
    assert not any(trial.state.finished for trial in result.trials)
    full.unlink()
    assert [trial.state for trial in run(tmp_path, what).trials] == [TrialState.SUCCEEDED] * 2


def damaged(tmp_path: Path, line: int) -> Path:
    """A finished study with one damaged line."""
    run(tmp_path, experiment(trials=3, parallel=1))
    path = tmp_path / "local" / "study" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b'"op"', b'"oq"')
    path.write_bytes(b"".join(lines))
    return path


def test_repair_keeps_the_intact_records(tmp_path: Path) -> None:
    path = damaged(tmp_path / "repaired", 6)
    broken = path.read_bytes()
    engine = LocalEngine(Store(tmp_path / "repaired"))
    health = engine.check("study")
    assert (health.records, health.finished) == (5, 1)
    assert health.damage.startswith("6: the checksum is wrong")
    assert engine.repair("study") == path.with_name("journal.jsonl.damaged")
    assert path.with_name("journal.jsonl.damaged").read_bytes() == broken
    assert engine.check("study").damage == ""
    assert engine.repair("study") is None
    whole = run(tmp_path / "whole", experiment(trials=3, parallel=1))
    assert table(run(tmp_path / "repaired", experiment(trials=3, parallel=1))) == table(whole)


def test_damaged_header_cannot_be_repaired(tmp_path: Path) -> None:
    path = damaged(tmp_path, 1)
    broken = path.read_bytes()
    with pytest.raises(StudyDamaged, match=r"cannot be repaired.*--fresh"):
        LocalEngine(Store(tmp_path)).repair("study")
    assert path.read_bytes() == broken


def gantune(folder: Path, *argv: str) -> tuple[int, str, str]:
    """Run the command line on the store in `folder`."""
    done = commandline.gantune(TRIALS, *argv, "--store", str(folder))
    return done.returncode, done.stdout, done.stderr


def test_study_without_trials_is_intact(tmp_path: Path) -> None:
    store = Store(tmp_path).of(EngineKind.LOCAL)
    store.submit(experiment(trials=1, parallel=1))
    assert gantune(tmp_path, "check-store")[:2] == (
        0,
        "study: 0 records of 0 finished trials are intact\n",
    )
    run(tmp_path, experiment(trials=1, parallel=1))
    (store.folder("study") / "journal.jsonl").unlink()
    code, _, error = gantune(tmp_path, "check-store")
    assert code == 1
    assert "journal.jsonl is missing: restore it, or start over with --fresh" in error


def test_check_store_says_how_to_recover(tmp_path: Path) -> None:
    damaged(tmp_path, 6)
    run(tmp_path, experiment(trials=1, name="other"))
    Store(tmp_path).of(EngineKind.KATIB).submit(experiment(name="remote"))
    code, out, error = gantune(tmp_path, "check-store")
    assert code == 1
    assert out == "other: 5 records of 1 finished trials are intact\n"
    assert "journal.jsonl:6: the checksum is wrong" in error
    assert "gantune check-store study --repair" in error
    code, _, status = gantune(tmp_path, "status", "study")
    assert code == 2
    assert "gantune check-store study --repair" in status
    code, out, note = gantune(tmp_path, "check-store", "study", "--repair")
    assert code == 0
    assert "study: the damaged file is kept as" in note
    assert "study: 5 records of 1 finished trials are intact" in out
