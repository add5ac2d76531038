"""What a report gathers of a study: curves, rules, the seed that was used, images and the trainer's own record."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.tuner.experiments import ARGS, TRIALS, experiment, run
from tests.tuner.samples import search
from tuner.client import Client
from tuner.engines.katib.archive import ClusterStudies, Origin
from tuner.report import View, page
from tuner.store.studies import EngineKind, Store


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def ran(tmp_path: Path, **changes: object) -> View:
    made = experiment(args=[*ARGS, "--reports=4"], trials=4, parallel=1, **changes)  # type: ignore[arg-type]
    run(tmp_path, made, seed=23)
    return Client(tmp_path).view("study", EngineKind.LOCAL)


def test_shows_curves_and_the_seed_that_was_used(tmp_path: Path) -> None:
    found = ran(tmp_path)
    assert dict(found.record)["seed"] == "23"
    assert found.experiment.algorithm.settings["random_state"] == "7"
    for trial in found.result.trials:
        assert len(found.curve(trial, "fd")) == 4
    text = page([found])
    assert re.search(r">seed<[^0-9]*>23<", text)


def test_shows_early_stopping_rules(tmp_path: Path) -> None:
    found = ran(tmp_path, early_stopping={"start_step": "2", "min_trials_required": "2"})
    assert found.cuts
    assert {step for cuts in found.cuts.values() for step, _ in cuts} == {2}
    assert "early stopping" in dict(found.record)


def test_shows_images_and_the_trainer_s_record(tmp_path: Path) -> None:
    before = ran(tmp_path)
    for trial in before.result.trials:
        folder = tmp_path / "local" / "study" / "trials" / trial.name / "files" / "out"
        folder.mkdir(parents=True)
        Image.new("L", (64, 64), 10 * trial.number).save(folder / "samples.png")
        Image.new("L", (64, 64), 255).save(folder / "real.png")
        (folder / "run.json").write_text(
            json.dumps({"data_sha256": "ab<c", "versions": {"x": "1"}, "device": 3})
        )
    found = Client(tmp_path).view("study", EngineKind.LOCAL)
    assert set(found.samples) == {0, 1, 2, 3}
    assert found.real is not None
    assert dict(found.record)["data sha256"] == "ab<c"
    assert dict(found.record)["trainer's versions"] == "x 1"
    text = page([found])
    assert text.count("data:image/jpeg;base64,") == 5
    order = [
        text.index(f'alt="Images: trial {t.number}')
        for t in sorted(found.result.trials, key=lambda t: t.metrics["fd"])
    ]
    assert order == sorted(order)


def test_images_of_user_are_not_collected(tmp_path: Path) -> None:
    """A copied working directory holds the user's own files, with their old dates."""
    import os

    before = ran(tmp_path)
    path = (
        tmp_path
        / "local"
        / "study"
        / "trials"
        / before.result.trials[0].name
        / "files"
        / "samples.png"
    )
    Image.new("L", (8, 8)).save(path)
    os.utime(path, (1e9, 1e9))
    assert Client(tmp_path).view("study", EngineKind.LOCAL).samples == {}


def test_cluster_study_says_how_to_get_images(tmp_path: Path) -> None:
    studies = ClusterStudies(Store(tmp_path))
    origin = Origin("uid-1", "gan", "https://cluster")
    studies.remember(replace(experiment(), name="study"), origin)
    studies.save_result(replace(search(5), name="study"))
    found = Client(tmp_path).view("study", EngineKind.KATIB)
    assert dict(found.record)["cluster"] == "https://cluster"
    assert "gantune files study -o DIR" in page([found])
