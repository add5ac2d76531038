"""Archives: which Experiment a study of the store is, when several have had its name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tuner.experiments import experiment
from tuner.engines.katib.archive import ClusterStudies, Origin
from tuner.errors import StudyDamaged
from tuner.result import Result, StudyState, Trial, TrialState
from tuner.store.records import seal
from tuner.store.studies import Store


def kept(store: ClusterStudies, name: str, uid: str, trials: int = 0) -> None:
    """As the katib engine keeps an Experiment: its name turned to it, its manifest, its result."""
    what = experiment(name=name)
    store.activate(name, uid)
    store.remember(what, Origin(uid, "gan", "https://here"))
    found = tuple(
        Trial(n, f"{uid}-{n}", TrialState.SUCCEEDED, {}, {"fd": 1.0}) for n in range(trials)
    )
    store.save(Result(name, StudyState.RUNNING, what.objective, found), uid)


def uids(store: ClusterStudies) -> dict[str, str]:
    return {name: origin.uid for name in store.names() if (origin := store.origin(name))}


def test_archive_returns_when_its_experiment_is_named(tmp_path: Path) -> None:
    store = ClusterStudies(Store(tmp_path))
    for uid in ("one", "two", "three", "one"):
        kept(store, "big", uid)
    assert uids(store) == {"big": "one", "big.2": "two", "big.3": "three"}
    assert [store.archived(name) for name in ("big", "big.2", "nosuch")] == ["", "big", ""]
    assert store.activate("big", "one") == ""


def test_archive_returns_to_a_free_name(tmp_path: Path) -> None:
    """Someone removed it, or a process ended between the two renames."""
    store = ClusterStudies(Store(tmp_path))
    kept(store, "big", "one", trials=2)
    kept(store, "big", "two")
    shutil.rmtree(tmp_path / "katib" / "big")
    assert store.activate("big", "one") == ""
    assert uids(store) == {"big": "one"}
    assert len(store.result("big").trials) == 2


@pytest.mark.parametrize("damage", [b"{", seal({"engine": "katib", "origin": {"uid": 1}})])
def test_a_damaged_archive_stands_in_nobodys_way(tmp_path: Path, damage: bytes) -> None:
    store = ClusterStudies(Store(tmp_path))
    kept(store, "big", "one")
    kept(store, "big", "two")
    (tmp_path / "katib" / "big.1" / "manifest.json").write_bytes(damage)
    kept(store, "big", "three", trials=1)
    assert len(store.result("big").trials) == 1
    assert store.origin("big.2") == Origin("two", "gan", "https://here")
    with pytest.raises(StudyDamaged, match=r"big\.1"):
        store.archived("big.1")


def test_an_experiment_called_as_an_archive_is_none(tmp_path: Path) -> None:
    store = ClusterStudies(Store(tmp_path))
    kept(store, "big.1", "dotted")
    kept(store, "big", "one")
    kept(store, "big", "two")
    assert uids(store) == {"big": "two", "big.1": "dotted", "big.2": "one"}
    assert [store.archived(name) for name in ("big.1", "big.2")] == ["", "big"]
    kept(store, "big.2", "late")  # the archive makes room, and is found where it went
    kept(store, "big", "one")
    assert uids(store) == {"big": "one", "big.1": "dotted", "big.2": "late", "big.4": "two"}


def test_result_goes_only_to_its_own_study(tmp_path: Path) -> None:
    store, late = (
        ClusterStudies(Store(tmp_path)),
        Result("big", StudyState.DELETED, experiment().objective),
    )
    kept(store, "big", "one", trials=2)
    kept(store, "big", "two", trials=1)
    store.save(late, "one")
    assert [store.result(name).state for name in ("big", "big.1")] == [
        StudyState.RUNNING,
        StudyState.DELETED,
    ]
    shutil.rmtree(tmp_path / "katib" / "big.1")
    store.save(late, "one")
    assert len(store.result("big").trials) == 1
    shutil.rmtree(tmp_path / "katib" / "big")
    store.save(late, "one")
    assert list((tmp_path / "katib").iterdir()) == []
