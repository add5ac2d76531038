"""What the store holds of a search on a cluster, brought up to date: for every command that reads a study."""

from __future__ import annotations

from tuner.engines.katib.engine import KatibEngine
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
) -> ClusterError | None:
    """Collect NAME where it may have changed; each request is sent once, for `timeout` seconds.

    Returns why the cluster gave nothing, None when all is well. A local study, and a search that has ended with all its
    trials, is left alone; a name that the store does not know is looked for on the cluster. Without a `context`, the
    current one must lead to the cluster that the study is from: another may have an Experiment of the same name.
    """
    if name in store.names():
        if store.engine(name) is EngineKind.LOCAL:
            return None
        held = store.result(name)
        if held.state is not StudyState.RUNNING and all(trial.state.ended for trial in held.trials):
            return None
    try:
        cluster = Cluster.connect(context, timeout=timeout, tries=1)
        origin = store.origin(name)
        if origin and not context and origin.server != cluster.server:
            return NotFound(f"it is on {origin.server}, the current context is for {cluster.server}: pass --context")
        engine = KatibEngine(cluster, store, namespace=namespace, katib_namespace=katib_namespace)
        engine.collect(name, with_curves=False)
    except ClusterError as error:
        return error
    return None
