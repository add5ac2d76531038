"""A trial's log, from the container that has it: under the StdOut collector the trainer's own log is empty."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tuner.engines.katib.objects import SIDECAR, TRIAL_LABEL, containers, name_of
from tuner.errors import NotFound
from tuner.kube import PODS, Cluster
from tuner.manifest import CollectorKind, Experiment
from tuner.result import Result, Trial, TrialState

_KLOG = re.compile(r"^(?:\?\?\? )?[IWEF]\d{4} [\d:.]+ +\d+ \S+:\d+\] ")  # what the sidecar puts before a line


def container(experiment: Experiment) -> str:
    """The container whose log holds what the trainer printed."""
    return SIDECAR if experiment.collector.kind is CollectorKind.STDOUT else experiment.template.primary_container


def choose(result: Result, which: str | None, *, best: bool) -> Trial:
    """The trial of that name or number; the best; else the newest at work; else the newest."""
    if best:
        if result.best is None:
            raise NotFound(f"{result.name} has no best trial yet: no trial has ended with a finite objective")
        return result.best
    if which is not None:
        for trial in result.trials:
            if which in (trial.name, str(trial.number), trial.name.removeprefix(f"{result.name}-")):
                return trial
        raise NotFound(f"{result.name} has no trial {which}: `gantune status {result.name}` lists them")
    if not result.trials:
        raise NotFound(f"{result.name} has no trial yet")
    running = [trial for trial in result.trials if trial.state is TrialState.RUNNING]
    return (running or list(result.trials))[-1]


def lines(cluster: Cluster, experiment: Experiment, trial: Trial, namespace: str, *, follow: bool) -> Iterator[str]:
    """The log's lines. Raises NotFound, with the remedy, where Katib has removed the pod already."""
    pods = list(cluster.list(PODS, namespace=namespace, labels=f"{TRIAL_LABEL}={trial.name}"))
    if not pods:
        raise NotFound(
            f"trial {trial.name} has no pod"
            + ("; Katib removes it at the end, unless trialTemplate.retain is true" if trial.state.ended else " yet")
        )
    name = container(experiment)
    yield from read(cluster, pod_with(name, pods), name, namespace, follow=follow)


def pod_with(container: str, pods: Iterable[dict[str, Any]]) -> str:
    """The youngest of a trial's pods, of those that have the container if any has."""
    created = "creationTimestamp"
    return name_of(max(pods, key=lambda item: (container in containers(item), item["metadata"].get(created, ""))))


def read(cluster: Cluster, pod: str, container: str, namespace: str, *, follow: bool = False) -> Iterator[str]:
    """A container's lines, without what the sidecar puts before them."""
    if follow:
        source: Iterator[str] = cluster.log_lines(pod, container, namespace=namespace)
    else:
        source = iter(cluster.log(pod, container, namespace=namespace).splitlines())
    for line in source:
        yield _KLOG.sub("", line) if container == SIDECAR else line
