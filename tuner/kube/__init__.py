"""The connection to the Kubernetes API. No other package imports kubernetes.

Those imports take about half a second, so they are made inside the functions that need them:
importing `tuner.kube` costs nothing. Objects are plain dicts. Every failure is a ClusterError
(tuner.errors).

    cluster = Cluster.connect(context=None)
    cluster.get(EXPERIMENTS, "gan-bayes", namespace="gan-tuner")
"""

from tuner.kube.client import Cluster, has_katib, plain
from tuner.kube.resources import (
    CONFIG_MAPS,
    EVENTS,
    EXPERIMENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    SUGGESTIONS,
    TRIALS,
    Resource,
    quantity,
)

__all__ = [
    "CONFIG_MAPS",
    "EVENTS",
    "EXPERIMENTS",
    "JOBS",
    "NAMESPACES",
    "NODES",
    "PODS",
    "SUGGESTIONS",
    "TRIALS",
    "Cluster",
    "Resource",
    "has_katib",
    "plain",
    "quantity",
]
