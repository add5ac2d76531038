"""What a report shows of a search on a cluster in addition to its result: curves, and images of running trials."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from tuner.engines.katib import images
from tuner.engines.katib.archive import ClusterStudies
from tuner.engines.katib.curves import collect, running
from tuner.errors import ClusterError
from tuner.katib.facts import EXPERIMENT_LABEL, NAMESPACE
from tuner.kube import PODS, Cluster
from tuner.result import TrialState
from tuner.store import curves
from tuner.store.studies import Store


def look(
    store: Store,
    name: str,
    *,
    trials: Collection[str],
    samples: Sequence[str],
    real: Sequence[str],
    context: str | None = None,
    katib_namespace: str = NAMESPACE,
    timeout: float = 3.0,
) -> images.Files:
    """Store the curves of a study, those of running trials included, and return the images that its pods can reach.

    Without a running trial, no pod is asked. What the cluster does not give is missing, and the
    answer says why.

    Args:
        store: Holds the study, as it was collected last.
        name: The name of the study.
        trials: The names of the trials whose images are wanted.
        samples: The names that such a file may have, preferred first.
        real: The names of a file with real images; () where none is wanted.
        context: The kubeconfig's context.
        katib_namespace: Where Katib is installed.
        timeout: Seconds of each request, which is sent once.

    Raises:
        StudyError: The curves cannot be written.
    """
    studies = ClusterStudies(store)
    origin = studies.origin(name)
    if origin is None or studies.archived(name):
        return images.Files()
    experiment, result, folder = (
        studies.experiment(name),
        studies.result(name),
        studies.folder(name),
    )
    namespace = origin.namespace
    try:
        cluster = Cluster.connect(context, timeout=timeout, tries=1)
        if cluster.server != origin.server:
            return images.Files()
        where = {"namespace": namespace, "katib_namespace": katib_namespace, "address": ""}
        no_curves = collect(cluster, experiment, result, folder, **where)
        if not any(trial.state is TrialState.RUNNING for trial in result.trials):
            return images.Files(no_curves=no_curves)
        pods = list(
            cluster.list(PODS, namespace=namespace, labels=f"{EXPERIMENT_LABEL}={experiment.name}")
        )
    except ClusterError as error:
        return images.Files(missing=str(error))
    curves.replace_running(folder, running(cluster, experiment, result.trials, pods, namespace))
    found = images.fetch(
        cluster, experiment, pods, namespace=namespace, trials=trials, samples=samples, real=real
    )
    return replace(found, no_curves=no_curves)
