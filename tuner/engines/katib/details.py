"""What a report shows of a study on a cluster, from what the store holds of it."""

from __future__ import annotations

from dataclasses import replace

from tuner.analysis.view import View, commands, curve_names, record
from tuner.commands import gantune
from tuner.engines.katib.archive import ClusterStudies
from tuner.engines.katib.observations import collect, running
from tuner.errors import ClusterError
from tuner.katib.facts import EXPERIMENT_LABEL, NAMESPACE
from tuner.kube import PODS, Cluster
from tuner.result import TrialState
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


def fetch_curves(
    cluster: Cluster, studies: ClusterStudies, name: str, *, katib_namespace: str = NAMESPACE
) -> str:
    """Store the curves of a study that are new on the cluster, those of running trials included.

    Returns which curves are missing, and why; "" if none is. Raises StudyError where they cannot be
    written.
    """
    origin = studies.origin(name)
    if origin is None or studies.archived(name) or cluster.server != origin.server:
        return ""
    experiment, result = studies.experiment(name), studies.result(name)
    folder, namespace = studies.folder(name), origin.namespace
    missing = collect(
        cluster,
        experiment,
        result,
        folder,
        namespace=namespace,
        katib_namespace=katib_namespace,
        address="",
    )
    if any(trial.state is TrialState.RUNNING for trial in result.trials):
        try:
            pods = list(
                cluster.list(
                    PODS, namespace=namespace, labels=f"{EXPERIMENT_LABEL}={experiment.name}"
                )
            )
        except ClusterError as error:
            return missing or f"the curves of running trials could not be read: {error}"
        logged = running(cluster, experiment, result.trials, pods, namespace)
        curves.replace_running(folder, logged)
    return missing
