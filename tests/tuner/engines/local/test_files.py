"""`gantune files` of a local study."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.experiments import experiment, run
from tuner.engines.local import LocalEngine
from tuner.errors import NotFound, StudyNotFound
from tuner.store.studies import Store

SCRIPT = "mkdir -p {0}; echo ${{trialParameters.lr}} > {0}/lr; echo fd=${{trialParameters.lr}}"


def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> LocalEngine:
    (tmp_path / "start").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    what = experiment(
        command=["sh", "-c"],
        args=[f"{SCRIPT.format(folder)} # ${{trialParameters.bs}}"],
        trials=3,
        container={"volumeMounts": [{"name": "output", "mountPath": "/output"}]},
        pod={"volumes": [{"name": "output", "emptyDir": {}}]},
    )
    run(tmp_path / "store", what, workers=1)
    return LocalEngine(Store(tmp_path / "store"))


@pytest.mark.parametrize("folder", ["/output/$KATIB_TRIAL_NAME", "here"])
def test_files_of_the_best_trial(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = searched(tmp_path, monkeypatch, folder)
    trial, [found] = engine.files("study", tmp_path / "out")
    best = engine.result("study").best
    assert best is not None
    assert trial.number == best.number
    assert found.path == ("here/lr" if folder == "here" else "lr")
    assert float((tmp_path / "out" / found.path).read_text()) == best.parameters["lr"]
    other = next(n for n in range(3) if n != best.number)
    assert engine.files("study", tmp_path / "other", str(other))[0].number == other
    with pytest.raises(StudyNotFound, match="has no trial 9"):
        engine.files("study", tmp_path / "none", "9")


def test_trial_without_files_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = searched(tmp_path, monkeypatch, "/output/$KATIB_TRIAL_NAME")
    folder = tmp_path / "store" / "local" / "study" / "trials" / "study-0"
    (folder / "mounts" / "output" / "study-0" / "lr").unlink()
    with pytest.raises(NotFound, match="study-0 wrote no file"):
        engine.files("study", tmp_path / "out", "0")
