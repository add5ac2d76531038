"""What the store holds of a search on a cluster, brought up to date: for every command that reads a study."""

from __future__ import annotations

from collections.abc import Callable

from tuner.engines.katib.engine import KatibEngine
from tuner.engines.katib.experiment import fetch_live
from tuner.errors import ClusterError, NotFound
from tuner.kube import Cluster
from tuner.result import StudyState
from tuner.store import EngineKind, Store


def refresh(
    store: Store,
    name: str,
    *,
    namespace: str = "",
    context: str | None = None,
    katib_namespace: str = "kubeflow",
    timeout: float = 3.0,
    notify: Callable[[str], None] = lambda message: None,
) -> ClusterError | None:
    """Collect NAME where it may have changed; each request is sent once, for `timeout` seconds.

    Returns why the cluster gave nothing, None when all is well. A local study is left alone. Of a search that has ended
    with all its trials the cluster is asked no more than whether it is still the same, and no answer is no error. A
    name that the store does not know is looked for on the cluster. Raises the error where `namespace` or `context` ask
    for another Experiment than the store's, whose results must not stand for it.
    """
    origin, ended = None, False
    if name in store.names():
        if store.archived(name):
            return None
        if store.engine(name) is EngineKind.LOCAL:
            if namespace or context:
                store.expect(name, EngineKind.KATIB)  # raises: the cluster's is not kept here
            return None
        origin, held = store.origin(name), store.result(name)
        ended = held.state is not StudyState.RUNNING and all(trial.state.ended for trial in held.trials)
    moved = bool(origin and namespace and namespace != origin.namespace)
    elsewhere = moved or bool(origin and context)
    try:
        cluster = Cluster.connect(context, timeout=timeout, tries=1)
        if origin and not context and origin.server != cluster.server:  # the current context has changed since
            raise NotFound(f"it is on {origin.server}, the current context is for {cluster.server}: pass --context")
        elsewhere = moved or bool(origin and origin.server != cluster.server)
        engine = KatibEngine(cluster, store, namespace=namespace, katib_namespace=katib_namespace, notify=notify)
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
