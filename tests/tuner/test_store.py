"""The store of studies."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.experiments import TRIALS, experiment, run
from tuner.engines.local import LocalEngine
from tuner.errors import StudyChanged, StudyDamaged, StudyError, StudyLocked, StudyNotFound
from tuner.result import Result, StudyState, Trial, TrialState
from tuner.store import EngineKind, Lock, Origin, Store, Studies


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def test_names_and_near_names(tmp_path: Path) -> None:
    store = Store(tmp_path).of(EngineKind.KATIB)
    assert store.names() == []
    with pytest.raises(StudyNotFound, match="it is empty"):
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
    assert LocalEngine(Store(tmp_path)).collect("study").state is StudyState.STOPPED


def test_budget_may_change_and_the_rest_may_not(tmp_path: Path) -> None:
    store = Store(tmp_path).of(EngineKind.KATIB)
    store.submit(experiment(trials=5))
    store.submit(experiment(trials=8, failures=3))
    assert store.experiment("study").max_trials == 8
    with pytest.raises(StudyChanged, match="parallel_trials: 3 -> 2"):
        store.submit(experiment(trials=8, parallel=2))
    assert store.experiment("study").max_trials == 8


def test_result_of_a_cluster_is_kept_as_a_whole(tmp_path: Path) -> None:
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


def kept(store: Studies, name: str, uid: str, trials: int = 0) -> None:
    """As the katib engine keeps an Experiment: its name turned to it, its manifest, its result."""
    what = experiment(name=name)
    store.activate(name, uid)
    store.submit(what, origin=Origin(uid, "gan", "https://here"))
    found = tuple(Trial(n, f"{uid}-{n}", TrialState.SUCCEEDED, {}, {"fd": 1.0}) for n in range(trials))
    store.save_result(Result(name, StudyState.RUNNING, what.objective, found), uid)


def uids(store: Studies) -> dict[str, str]:
    return {name: origin.uid for name in store.names() if (origin := store.origin(name))}


def test_an_archive_comes_back_when_its_experiment_is_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path).of(EngineKind.KATIB)
    for uid in ("one", "two", "three", "one"):
        kept(store, "big", uid)
    assert uids(store) == {"big": "one", "big.2": "two", "big.3": "three"}
    assert [store.archived(name) for name in ("big", "big.2", "nosuch")] == ["", "big", ""]
    assert store.activate("big", "one") == ""


def test_an_archive_comes_back_where_the_name_is_free(tmp_path: Path) -> None:
    """Someone removed it, or a process ended between the two renames."""
    store = Store(tmp_path).of(EngineKind.KATIB)
    kept(store, "big", "one", trials=2)
    kept(store, "big", "two")
    shutil.rmtree(tmp_path / "katib" / "big")
    assert store.activate("big", "one") == ""
    assert uids(store) == {"big": "one"}
    assert len(store.result("big").trials) == 2


@pytest.mark.parametrize("damage", ["{", '{"engine": "katib", "origin": {"uid": 1}}'])
def test_a_damaged_archive_stands_in_nobodys_way(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path).of(EngineKind.KATIB)
    kept(store, "big", "one")
    kept(store, "big", "two")
    (tmp_path / "katib" / "big.1" / "manifest.json").write_text(damage)
    kept(store, "big", "three", trials=1)
    assert len(store.result("big").trials) == 1
    assert store.origin("big.2") == Origin("two", "gan", "https://here")
    with pytest.raises(StudyDamaged, match=r"big\.1"):
        store.archived("big.1")


def test_an_experiment_called_as_an_archive_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path).of(EngineKind.KATIB)
    kept(store, "big.1", "dotted")
    kept(store, "big", "one")
    kept(store, "big", "two")
    assert uids(store) == {"big": "two", "big.1": "dotted", "big.2": "one"}
    assert [store.archived(name) for name in ("big.1", "big.2")] == ["", "big"]
    kept(store, "big.2", "late")  # the archive makes room, and is found where it went
    kept(store, "big", "one")
    assert uids(store) == {"big": "one", "big.1": "dotted", "big.2": "late", "big.4": "two"}


def test_a_result_goes_to_its_own_experiments_study_or_nowhere(tmp_path: Path) -> None:
    store, late = Store(tmp_path).of(EngineKind.KATIB), Result("big", StudyState.DELETED, experiment().objective)
    kept(store, "big", "one", trials=2)
    kept(store, "big", "two", trials=1)
    store.save_result(late, "one")
    assert [store.result(name).state for name in ("big", "big.1")] == [StudyState.RUNNING, StudyState.DELETED]
    shutil.rmtree(tmp_path / "katib" / "big.1")
    store.save_result(late, "one")
    assert len(store.result("big").trials) == 1
    shutil.rmtree(tmp_path / "katib" / "big")
    store.save_result(late, "one")
    assert list((tmp_path / "katib").iterdir()) == []


def test_lock_is_one_process_and_dies_with_it(tmp_path: Path) -> None:
    assert not Lock.held(tmp_path)
    program = (
        "import sys, pathlib; from tuner.store import Lock; lock = Lock(pathlib.Path(sys.argv[1])); "
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


def test_lock_tells_a_killed_client_from_a_finished_one(tmp_path: Path) -> None:
    program = "import sys, pathlib; from tuner.store import Lock; lock = Lock(pathlib.Path(sys.argv[1])); "
    for last, crashed in (("lock.release()", False), ("import os; os.kill(os.getpid(), 9)", True)):
        subprocess.run([sys.executable, "-c", program + last, str(tmp_path)], cwd=TRIALS.parents[2], check=False)
        with Lock(tmp_path) as lock:
            assert lock.crashed is crashed
