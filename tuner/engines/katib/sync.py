"""Updates what the store holds of a study on a cluster, before a command reads it."""

from __future__ import annotations

from collections.abc import Callable

from tuner.engines.katib.archive import ClusterStudies
from tuner.engines.katib.engine import KatibEngine
from tuner.engines.katib.experiment import fetch_live
from tuner.engines.katib.observations import collect, running
from tuner.errors import ClusterError, NotFound
from tuner.katib.facts import EXPERIMENT_LABEL, NAMESPACE
from tuner.kube import PODS, Cluster
from tuner.result import StudyState, TrialState
from tuner.store import curves as stored
from tuner.store.studies import Store


def refresh(
    store: Store,
    name: str,
    *,
    namespace: str = "",
    context: str | None = None,
    katib_namespace: str = NAMESPACE,
    timeout: float = 3.0,
    curves: bool = False,
    notify: Callable[[str], None] = lambda message: None,
) -> ClusterError | None:
    """Collect NAME where it may have changed; each request is sent once, for `timeout` seconds.

    Of a search that has finished with all its trials, the cluster is only asked whether it is still
    the same one, and no answer is no error. A name that the store does not know is looked up on the
    cluster. With `curves`, new learning curves are stored too, and `notify` receives which are
    missing.

    Returns:
        Why the cluster gave nothing; None when all is well.

    Raises:
        ClusterError: `namespace` or `context` ask for another Experiment than the store's, whose
            results must not be used for it.
    """
    studies = ClusterStudies(store)
    origin, ended = None, False
    if name in studies.names():
        if studies.archived(name):
            return None
        origin, stored = studies.origin(name), studies.result(name)
        ended = stored.state is not StudyState.RUNNING and all(
            trial.state.finished for trial in stored.trials
        )
    moved = bool(origin and namespace and namespace != origin.namespace)
    elsewhere = moved or bool(origin and context)
    try:
        cluster = Cluster.connect(context, timeout=timeout, tries=1)
        # the current context has changed since
        if origin and not context and origin.server != cluster.server:
            raise NotFound(
                f"it is on {origin.server}, but the current context is for {cluster.server}: "
                "pass --context"
            )
        elsewhere = moved or bool(origin and origin.server != cluster.server)
        engine = KatibEngine(
            cluster, store, namespace=namespace, katib_namespace=katib_namespace, notify=notify
        )
        unchanged = False
        if origin and ended and not elsewhere:
            now = fetch_live(cluster, name, origin.namespace)
            unchanged = now.uid == origin.uid and now.state is not StudyState.RUNNING
        if not unchanged:
            engine.result(name, with_curves=False)
        if curves and (
            missing := fetch_curves(cluster, studies, name, katib_namespace=katib_namespace)
        ):
            notify(f"{name}: {missing}")
    except ClusterError as error:
        if elsewhere:
            raise
        return None if ended else error
    return None


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
        stored.replace_running(folder, logged)
    return missing
