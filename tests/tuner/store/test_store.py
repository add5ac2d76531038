"""The store of studies."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.experiments import TRIALS, experiment, run
from tuner.engines.local import LocalEngine
from tuner.errors import StudyChanged, StudyDamaged, StudyError, StudyLocked, StudyNotFound
from tuner.result import Result, StudyState, Trial, TrialState
from tuner.store.lock import Lock
from tuner.store.studies import EngineKind, Store


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def test_names_and_near_names(tmp_path: Path) -> None:
    store = Store(tmp_path).of(EngineKind.KATIB)
    assert store.names() == []
    with pytest.raises(StudyNotFound, match="begin one with `gantune run FILE`"):
        store.result("study")
    store.submit(experiment(name="gan-bayes"))
    assert store.names() == ["gan-bayes"]
    with pytest.raises(StudyNotFound, match="did you mean gan-bayes"):
        store.result("gan-bayse")
    with pytest.raises(StudyNotFound, match="letters, digits"):
        store.result("../etc")


def test_submitted_experiment_is_read_back(tmp_path: Path) -> None:
    store, what = Store(tmp_path).of(EngineKind.LOCAL), experiment("tpe", goal=3.0)
    store.submit(what)
    assert replace(store.experiment("study"), file="") == what
    assert store.result("study").state is StudyState.RUNNING
    assert LocalEngine(Store(tmp_path)).result("study").state is StudyState.STOPPED


def test_budget_may_change_and_the_rest_may_not(tmp_path: Path) -> None:
    store = Store(tmp_path).of(EngineKind.KATIB)
    store.submit(experiment(trials=5))
    store.submit(experiment(trials=8, failures=3))
    assert store.experiment("study").max_trials == 8
    with pytest.raises(StudyChanged, match="parallel_trials: 3 -> 2"):
        store.submit(experiment(trials=8, parallel=2))
    assert store.experiment("study").max_trials == 8


def test_study_of_an_earlier_version_may_continue(tmp_path: Path) -> None:
    store = Store(tmp_path).of(EngineKind.LOCAL)
    store.submit(experiment())
    path = store.folder("study") / "manifest.json"
    held = json.loads(path.read_text())
    del held["experiment"]["stop_factors"]  # a field that the earlier version did not have
    del held["crc"]  # nor did it have checksums
    path.write_text(json.dumps(held))
    store.submit(replace(experiment(), required_files=(("a.npz", "make a.npz"),)))
    with pytest.raises(StudyChanged, match=r"another manifest \(stop_factors: "):
        store.submit(replace(experiment(), stop_factors=((1, 1.5),)))


def test_cluster_result_is_stored_completely(tmp_path: Path) -> None:
    store, what = Store(tmp_path).of(EngineKind.KATIB), experiment()
    store.submit(what)
    assert store.result("study").state is StudyState.RUNNING
    trial = Trial(0, "study-abc", TrialState.SUCCEEDED, {"lr": 0.1}, {"fd": 2.0})
    result = Result("study", StudyState.SUCCEEDED, what.objective, (trial,))
    store.save_result(result)
    assert store.result("study") == result
    (tmp_path / "katib" / "study" / "result.json").write_text("{")
    with pytest.raises(StudyDamaged, match=r"result\.json cannot be read"):
        store.result("study")


def test_engines_may_share_a_name(tmp_path: Path) -> None:
    store, what = Store(tmp_path), experiment()
    assert store.find("study") is None
    store.of(EngineKind.KATIB).submit(what)
    assert store.find("study") is EngineKind.KATIB
    assert store.find("study", EngineKind.LOCAL) is None
    store.of(EngineKind.LOCAL).submit(experiment("tpe"))
    assert store.all() == [("study", EngineKind.KATIB), ("study", EngineKind.LOCAL)]
    with pytest.raises(StudyError, match="choose one with --local or --cluster"):
        store.find("study")
    assert store.find("study", EngineKind.LOCAL) is EngineKind.LOCAL
    store.of(EngineKind.LOCAL).submit(experiment("tpe"), fresh=True)
    assert store.of(EngineKind.KATIB).experiment("study").algorithm == what.algorithm


def test_lock_is_one_process_and_dies_with_it(tmp_path: Path) -> None:
    assert not Lock.held(tmp_path)
    program = (
        "import sys, pathlib; from tuner.store.lock import Lock; lock = Lock(pathlib.Path(sys.argv[1])); "
        "print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=TRIALS.parents[2],
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert Lock.held(tmp_path)
        with pytest.raises(StudyLocked, match=f"process {other.pid}"):
            Lock(tmp_path)
        other.kill()
    with Lock(tmp_path):
        assert Lock.held(tmp_path)


def test_delete_removes_everything(tmp_path: Path) -> None:
    run(tmp_path, experiment(trials=2, parallel=1))
    Store(tmp_path).of(EngineKind.LOCAL).delete("study")
    assert list((tmp_path / "local").iterdir()) == []


def test_removal_refuses_a_linked_study(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    Store(tmp_path / "real").of(EngineKind.LOCAL).submit(experiment())
    (tmp_path / "real" / "local" / "study").rename(target)
    store = Store(tmp_path / "store").of(EngineKind.LOCAL)
    store.root.mkdir(parents=True)
    store.folder("study").symlink_to(target)
    before = sorted(target.iterdir())
    with pytest.raises(StudyError, match="is a symbolic link"):
        store.submit(experiment(), fresh=True)
    with pytest.raises(StudyError, match="is a symbolic link"):
        store.delete("study")
    assert sorted(target.iterdir()) == before


def test_owner_is_never_a_stale_process(tmp_path: Path) -> None:
    """Between the lock and the new id, the file holds that of a killed client, which may be another program's now."""
    Store(tmp_path).of(EngineKind.LOCAL).submit(experiment())
    folder = tmp_path / "local" / "study"
    with subprocess.Popen(["sleep", "100"]) as innocent, Lock(folder):
        (folder / "lock").write_text(f"{innocent.pid:<8}")
        assert Lock.owner(folder) == 0
        with pytest.raises(StudyError, match="is not found on this machine"):
            LocalEngine(Store(tmp_path)).stop("study")
        assert innocent.poll() is None
        innocent.kill()


def test_looking_never_blocks_a_client(tmp_path: Path) -> None:
    """`Lock.held` has the lock for an instant, in which no other client may be refused."""
    with Lock(tmp_path):
        pass
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            Lock.held(tmp_path)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(500):
            with Lock(tmp_path):
                pass
    finally:
        stop.set()
        watcher.join()
