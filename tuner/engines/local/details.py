"""What a report shows of a local study, from its files. No lock is needed, so it may still run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.analysis.view import View, commands, curve_names, record
from tuner.engines.local.adapt import adapt
from tuner.engines.local.journal import Journal, result_of
from tuner.engines.local.reading import metrics_reader
from tuner.experiment.model import Experiment
from tuner.result import Observation, Trial, TrialState
from tuner.store import curves
from tuner.store.curves import Curves
from tuner.store.images import REAL, SAMPLES, Thumbnail, find, thumbnail
from tuner.store.studies import EngineKind, Studies

# what a trainer may write: {"versions": {...}, "data_sha256": ..., "device_name": ...}
RUN_RECORD = "run.json"
RECORD_BYTES = 256 << 10  # larger files are ignored
REAL_TRIALS = 3  # the best trials that are searched for real images


def view(studies: Studies, name: str, *, images: bool = True) -> View:
    """Return what a report shows of the study `name`.

    Args:
        studies: The local studies of a store.
        name: The name of the study.
        images: Whether to read the images of the trials.

    Raises:
        StudyError: There is no such study, or its files cannot be read.
    """
    experiment, folder = studies.experiment(name), studies.folder(name)
    journal = Journal(folder, identity=studies.identity(name))
    result = result_of(journal, experiment)
    running = [trial for trial in result.trials if trial.state is TrialState.RUNNING]
    stored = curves.read(folder, curve_names(experiment), running=True)
    study = View(
        result,
        experiment,
        EngineKind.LOCAL.value,
        stored | running_curves(experiment, folder, running),
        {entry.number: entry.cuts for entry in journal.entries if entry.cuts},
        commands=commands(experiment, result),
        record=tuple(_record(experiment, journal, folder, result.best).items()),
        source=studies.source(name),
    )
    if not images:
        return study
    shown = study.pictured
    found = {trial.number: _image(folder, trial, SAMPLES) for trial in shown}
    real = (_image(folder, trial, REAL) for trial in shown[:REAL_TRIALS])
    return replace(
        study,
        samples={number: image for number, image in found.items() if image},
        real=next((image for image in real if image), None),
    )


def running_curves(
    experiment: Experiment, folder: Path, trials: Iterable[Trial]
) -> dict[str, Curves]:
    """Return what running trials have reported so far, by their names."""
    metrics = (experiment.objective.metric, *experiment.additional_metrics)
    found: dict[str, Curves] = {}
    adapted, _ = adapt(experiment)
    for trial in trials:
        tail = metrics_reader(adapted, folder / "trials" / trial.name)
        tail.poll()
        reported = {
            metric: tuple(Observation(metric, value) for value in tail.curve(metric))
            for metric in metrics
        }
        found[trial.name] = {metric: curve for metric, curve in reported.items() if curve}
    return found


def _record(
    experiment: Experiment, journal: Journal, folder: Path, best: Trial | None
) -> dict[str, str]:
    """Return what is needed to repeat the search."""
    sampler = "the sampler on this machine (gan-tuner with Optuna)"
    facts = {"engine": "local", "points proposed by": sampler, **dict(record(experiment))}
    if "image" in facts:
        facts["image"] += " (on a cluster; the trials of this search ran without it)"
    header = journal.header
    if header.get("seed") is not None:
        facts["seed"] = str(header["seed"])
    if origin := header.get("warm_start"):
        facts["warm start"] = f"{len(header.get('known', ()))} trials of {origin}"
    return facts | (_trainer(_directories(folder, best)) if best else {})


def _directories(folder: Path, trial: Trial) -> list[Path]:
    """Return the directories that a trial may have written to: its mounts, and where it ran."""
    return [folder / "trials" / trial.name / name for name in ("mounts", "files")]


def _image(folder: Path, trial: Trial, names: tuple[str, ...]) -> Thumbnail | None:
    # a copy of the user's own file is older
    since = trial.started.timestamp() - 1 if trial.started else 0.0
    found = find(_directories(folder, trial), names, since=since)
    return thumbnail(found) if found else None


def _trainer(folders: list[Path]) -> dict[str, str]:
    """Return what a trainer wrote about itself: versions, device, hashes of data and extractor."""
    shape = _run_record(folders)
    facts = {
        key.replace("_", " "): value for key, value in shape.items() if key.endswith("_sha256")
    }
    facts |= {"device": shape.get("device_name") or shape.get("device")}
    versions = shape.get("versions")
    if isinstance(versions, dict):
        facts["trainer's versions"] = ", ".join(
            f"{name} {version}" for name, version in versions.items()
        )
    return {name: value[:300] for name, value in facts.items() if isinstance(value, str)}


def _run_record(folders: list[Path]) -> dict[str, Any]:
    found = find(folders, (RUN_RECORD,))
    try:
        shape = json.loads(found) if found and len(found) <= RECORD_BYTES else {}
    except (ValueError, RecursionError):
        return {}
    return shape if isinstance(shape, dict) else {}
