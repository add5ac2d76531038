"""What a report shows of a study on a cluster, from what the store holds of it."""

from __future__ import annotations

from dataclasses import replace

from tuner.analysis.view import View, commands, curve_names, record
from tuner.commands import gantune
from tuner.engines.katib.archive import ClusterStudies
from tuner.store import curves
from tuner.store.images import REAL_TRIAL, kept
from tuner.store.studies import EngineKind

NO_IMAGES = (
    "The images of trials on a cluster are on the volumes of their pods. `{files}` copies those of "
    "the best trial, and the next report shows them, if the volume is a PersistentVolumeClaim "
    "(manifests/overlays/volume). Or train a trial again on this machine with the command that its "
    "button copies."
)
FROM_FILES = "Images of trials whose files were copied with `{files}`."


def view(studies: ClusterStudies, name: str, *, images: bool = True) -> View:
    """Return what a report shows of the study `name`. No cluster is asked. Raises StudyError."""
    experiment, origin = studies.experiment(name), studies.origin(name)
    service = f"Katib's suggestion service for {experiment.algorithm.name}"
    facts = {"engine": "Katib", "points proposed by": f"{service}, as katib-config names it"}
    if origin:
        facts |= {"cluster": origin.server, "namespace": origin.namespace, "uid": origin.uid}
    facts |= dict(record(experiment))
    result = studies.result(name)
    study = View(
        result,
        experiment,
        EngineKind.KATIB.value,
        curves.read(studies.folder(name), curve_names(experiment), running=True),
        commands=commands(experiment, result),
        record=tuple(facts.items()),
        source=studies.source(name),
    )
    if not images:
        return study
    folder = studies.folder(name)
    found = {trial.number: kept(folder, trial.name) for trial in study.pictured}
    samples = {number: image for number, image in found.items() if image}
    note = FROM_FILES if samples else NO_IMAGES
    files = gantune("files", name, "-o", "DIR")
    return replace(
        study,
        samples=samples,
        real=kept(folder, REAL_TRIAL),
        samples_note=note.format(files=files),
    )
