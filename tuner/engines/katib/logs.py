"""A trial's log, from the container that has it. Under the StdOut collector the trainer's own log is empty."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from tuner.commands import gantune
from tuner.engines.katib import objects
from tuner.engines.katib.objects import PodView, containers, name_of
from tuner.errors import ClusterError, NotFound
from tuner.experiment.model import CollectorKind, Experiment
from tuner.katib.facts import SIDECAR, TRIAL_LABEL
from tuner.kube import PODS, Cluster
from tuner.kube.errors import one_line
from tuner.result import Result, Trial, TrialState

# what the sidecar puts before a line
_KLOG = re.compile(r"^(?:\?\?\? )?([IWEF])\d{4} [\d:.]+ +\d+ \S+:\d+\] ")
_FAILURE_TAIL = 20  # lines of the collector's log in which its last error is looked for


def container(experiment: Experiment) -> str:
    """Return the container whose log has the output of the trainer."""
    return (
        SIDECAR
        if experiment.collector.kind is CollectorKind.STDOUT
        else experiment.template.primary_container
    )


def choose(result: Result, which: str | None, *, best: bool) -> Trial:
    """Return the trial of that name or number, or the best, or else the newest running one, or else the newest."""
    if best:
        if result.best is None:
            raise NotFound(
                f"{result.name} has no best trial yet, because no trial has finished with a finite objective"
            )
        return result.best
    if which is not None:
        for trial in result.trials:
            if which in (trial.name, str(trial.number), trial.name.removeprefix(f"{result.name}-")):
                return trial
        raise NotFound(
            f"{result.name} has no trial {which}: `{gantune('status', result.name)}` lists them"
        )
    if not result.trials:
        raise NotFound(f"{result.name} has no trial yet")
    running = [trial for trial in result.trials if trial.state is TrialState.RUNNING]
    return (running or list(result.trials))[-1]


def lines(
    cluster: Cluster, experiment: Experiment, trial: Trial, namespace: str, *, follow: bool
) -> Iterator[str]:
    """The log's lines. Raises NotFound, with the fix, where Katib has removed the pod already."""
    pods = list(cluster.list(PODS, namespace=namespace, labels=f"{TRIAL_LABEL}={trial.name}"))
    if not pods:
        raise NotFound(
            f"trial {trial.name} has no pod"
            + (
                "; Katib removes it at the end, unless trialTemplate.retain is true"
                if trial.state.finished
                else " yet"
            )
        )
    name = container(experiment)
    pod = pod_with(name, pods)
    view = next(objects.pod(item) for item in pods if name_of(item) == pod)
    if view.culprit == SIDECAR:  # the trainer's log does not say why the trial failed
        name = SIDECAR
    yield from read(cluster, pod, name, namespace, follow=follow)


def explained(cluster: Cluster, pod: PodView, namespace: str) -> PodView:
    """Return `pod` with the reason from the metrics collector's log if the collector failed. Sends one request."""
    if pod.culprit != SIDECAR or not (cause := _collector_failure(cluster, pod.name, namespace)):
        return pod
    return replace(pod, reason=f"the metrics collector failed: {cause}")


def _collector_failure(cluster: Cluster, pod: str, namespace: str) -> str:
    """The last error in the collector's log; "" where there is none, or no log any more."""
    try:
        text = cluster.log(pod, SIDECAR, namespace=namespace, tail=_FAILURE_TAIL)
    except ClusterError:
        return ""
    found = [
        (match[1], line[match.end() :])
        for line in text.splitlines()
        if (match := _KLOG.match(line))
    ]
    error = next(
        (one_line(message, 300) for severity, message in reversed(found) if severity in "EF"), ""
    )
    if "Failed to collect logs" in error and "no such file" in error:
        return f"the metrics file was never written ({error})"
    if "Failed to Report logs" in error or "Could not connect to DB manager" in error:
        return f"Katib's DB manager did not take the metrics ({error})"
    return error


def pod_with(container: str, pods: Iterable[dict[str, Any]]) -> str:
    """Return the youngest pod of a trial, if possible one that has the container."""
    created = "creationTimestamp"
    return name_of(
        max(
            pods,
            key=lambda item: (container in containers(item), item["metadata"].get(created, "")),
        )
    )


def read(
    cluster: Cluster, pod: str, container: str, namespace: str, *, follow: bool = False
) -> Iterator[str]:
    """A container's lines, without what the sidecar puts before them."""
    if follow:
        source: Iterator[str] = cluster.log_lines(pod, container, namespace=namespace)
    else:
        source = iter(cluster.log(pod, container, namespace=namespace).splitlines())
    for line in source:
        yield _KLOG.sub("", line) if container == SIDECAR else line
