"""Updates what the store holds of a search on a cluster, for every command that reads a study."""

from __future__ import annotations

from collections.abc import Callable

from tuner.engines.katib.archive import ClusterStudies
from tuner.engines.katib.engine import KatibEngine
from tuner.engines.katib.experiment import fetch_live
from tuner.errors import ClusterError, NotFound
from tuner.katib.facts import NAMESPACE
from tuner.kube import Cluster
from tuner.result import StudyState
from tuner.store.studies import Store


def refresh(
    store: Store,
    name: str,
    *,
    namespace: str = "",
    context: str | None = None,
    katib_namespace: str = NAMESPACE,
    timeout: float = 3.0,
    notify: Callable[[str], None] = lambda message: None,
) -> ClusterError | None:
    """Collect NAME where it may have changed; each request is sent once, for `timeout` seconds.

    Returns why the cluster gave nothing, None when all is well. Of a search that has finished with
    all its trials, the cluster is only asked whether it is still the same one, and no answer is no
    error. A name that the store does not know is looked up on the cluster. Raises the error where
    `namespace` or `context` ask for another Experiment than the store's, whose results must not be
    used for it.
    """
    studies = ClusterStudies(store)
    origin, ended = None, False
    if name in studies.names():
        if studies.archived(name):
            return None
        origin, held = studies.origin(name), studies.result(name)
        ended = held.state is not StudyState.RUNNING and all(
            trial.state.finished for trial in held.trials
        )
    moved = bool(origin and namespace and namespace != origin.namespace)
    elsewhere = moved or bool(origin and context)
    try:
        cluster = Cluster.connect(context, timeout=timeout, tries=1)
        # the current context has changed since
        if origin and not context and origin.server != cluster.server:
            raise NotFound(
                f"it is on {origin.server}, but the current context is for {cluster.server}: pass --context"
            )
        elsewhere = moved or bool(origin and origin.server != cluster.server)
        engine = KatibEngine(
            cluster, store, namespace=namespace, katib_namespace=katib_namespace, notify=notify
        )
        if origin and ended and not elsewhere:
            now = fetch_live(cluster, name, origin.namespace)
            if now.uid == origin.uid and now.state is not StudyState.RUNNING:
                return None
        engine.collect(name, with_curves=False)
    except ClusterError as error:
        if elsewhere:
            raise
        return None if ended else error
    return None
