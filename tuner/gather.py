"""Gathers what a report shows of a study: from the store, and from what its engine keeps there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner import snapshot
from tuner.errors import CommandError
from tuner.experiment.model import Experiment
from tuner.katib.containers import primary_container
from tuner.report import View
from tuner.report.plots import overfitting
from tuner.result import Trial, TrialState
from tuner.store import curves
from tuner.store.curves import Curves
from tuner.store.images import REAL, SAMPLES, Thumbnail, find, thumbnail
from tuner.store.studies import EngineKind, Store

# what a trainer may write: {"versions": {...}, "data_sha256": ..., "device_name": ...}
RUN_RECORD = "run.json"
RECORD_BYTES = 256 << 10
FROM_PODS = "Images of trials on a cluster are read while pods run, so an image may be older than the trial's result."
NO_PODS = (
    "The images of trials on a cluster are on the volumes of their pods. A report reads them while trials run, and no "
    "report has found one. Keep them on a PersistentVolumeClaim (manifests/overlays/spot) and copy them with "
    "kubectl cp, or train a trial again on this machine with the command that its button copies."
)


def gather(store: Store, name: str, kind: EngineKind, *, images: bool = True) -> View:
    """Return what a report shows of the study `name`, with or without images. Raises StudyError."""
    return _local(store, name, images) if kind is EngineKind.LOCAL else _katib(store, name, images)


def _katib(store: Store, name: str, images: bool) -> View:
    from tuner.engines.katib.archive import ClusterStudies

    studies = ClusterStudies(store)
    experiment, origin = studies.experiment(name), studies.origin(name)
    record = {"engine": "Katib", "points proposed by": _service(experiment)}
    record |= (
        {"cluster": origin.server, "namespace": origin.namespace, "uid": origin.uid}
        if origin
        else {}
    )
    record |= dict(_common(experiment))
    study = View(
        studies.result(name),
        experiment,
        EngineKind.KATIB.value,
        _curves(experiment, studies.folder(name)),
        record=tuple(record.items()),
        source=studies.source(name),
    )
    if not images:
        return study
    kept = snapshot.read(studies.folder(name), snapshot.shown(study))
    note = FROM_PODS if kept.samples else NO_PODS
    if kept.missing:
        note += f" The last report could not read them all: {kept.missing}"
    return replace(study, samples=kept.samples, real=kept.real, samples_note=note)


def _local(store: Store, name: str, images: bool) -> View:
    from tuner.engines.local.details import details, directories, running_curves

    studies = store.of(EngineKind.LOCAL)
    experiment, folder = studies.experiment(name), studies.folder(name)
    facts = details(folder, studies.identity(name), experiment)
    running = [trial for trial in facts.result.trials if trial.state is TrialState.RUNNING]
    study = View(
        facts.result,
        experiment,
        EngineKind.LOCAL.value,
        _curves(experiment, folder) | running_curves(experiment, folder, running),
        facts.cuts,
        source=studies.source(name),
    )
    record = {
        "engine": "local",
        "points proposed by": "the sampler on this machine (gan-tuner with Optuna)",
    }
    record |= dict(_common(experiment))
    if "image" in record:
        record["image"] += " (on a cluster; the trials of this search ran without it)"
    if facts.seed is not None:
        record["seed"] = str(facts.seed)
    if facts.warm_start:
        record["warm start"] = f"{facts.known} trials of {facts.warm_start}"
    if best := facts.result.best:
        record |= _trainer(directories(folder, best.name))
    chosen = snapshot.shown(study) if images else []
    found = {
        t.number: image
        for t in chosen
        if (image := _image(directories(folder, t.name), SAMPLES, t))
    }
    real = next(
        (image for t in chosen[:3] if (image := _image(directories(folder, t.name), REAL, t))), None
    )
    return replace(study, record=tuple(record.items()), samples=found, real=real)


def _curves(experiment: Experiment, folder: Path) -> dict[str, Curves]:
    """The curves that the page draws: the objective's, and the one to compare it with."""
    objective = experiment.objective.metric
    return curves.read(folder, {objective, f"{overfitting.PREFIX}{objective}"}, running=True)


def _image(folders: list[Path], names: tuple[str, ...], trial: Trial) -> Thumbnail | None:
    # a copy of the user's own file is older
    since = trial.started.timestamp() - 1 if trial.started else 0.0
    found = find(folders, names, since=since)
    return thumbnail(found) if found else None


def _common(experiment: Experiment) -> Iterator[tuple[str, str]]:
    algorithm = experiment.algorithm
    settings = ", ".join(f"{name} {value}" for name, value in algorithm.settings.items())
    yield "algorithm", f"{algorithm.name} ({settings})" if settings else algorithm.name
    if early := experiment.early_stopping:
        yield (
            "early stopping",
            ", ".join([early.name, *(f"{name} {value}" for name, value in early.settings.items())]),
        )
    yield "parallel trials", str(experiment.parallel_trials)
    yield "max trials", str(experiment.max_trials or "no limit")
    try:
        container = primary_container(
            experiment.template.spec, experiment.template.primary_container
        )
    except CommandError:
        return
    if image := container.get("image"):
        yield "image", str(image)


def _service(experiment: Experiment) -> str:
    return f"Katib's suggestion service for {experiment.algorithm.name}, as katib-config names it"


def _trainer(folders: list[Path]) -> dict[str, str]:
    """What the trainer of the best trial wrote about itself: versions, device, and hashes of data and extractor."""
    shape = _run_record(folders)
    record = {
        key.replace("_", " "): value for key, value in shape.items() if key.endswith("_sha256")
    }
    record |= {"device": shape.get("device_name") or shape.get("device")}
    versions = shape.get("versions")
    if isinstance(versions, dict):
        record["trainer's versions"] = ", ".join(
            f"{name} {version}" for name, version in versions.items()
        )
    return {name: value[:300] for name, value in record.items() if isinstance(value, str)}


def _run_record(folders: list[Path]) -> dict[str, Any]:
    found = find(folders, (RUN_RECORD,))
    try:
        shape = json.loads(found) if found and len(found) <= RECORD_BYTES else {}
    except (ValueError, RecursionError):
        return {}
    return shape if isinstance(shape, dict) else {}
