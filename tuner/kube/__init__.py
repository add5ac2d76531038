"""The way to the Kubernetes API: the only package that imports kubernetes.

Those imports take about half a second, so they are made inside the functions that need them: importing `tuner.kube`
costs nothing. Objects go in and out as plain dicts; every failure is one of tuner.errors' ClusterError tree.

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
