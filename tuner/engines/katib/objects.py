"""Converts the API server's dicts to Trial, StudyState and PodView. Pure; sends no request."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuner.engines.base import Overview
from tuner.experiment.early_stopping import STOPPED_METRIC
from tuner.experiment.model import Experiment, Strategy
from tuner.katib.facts import SIDECAR, TRIAL_LABEL, UNAVAILABLE_METRIC
from tuner.metrics import number
from tuner.result import StudyState, Trial, TrialState
from tuner.samplers.labels import LONGEST_NUMBER, NUMBER_LABEL
from tuner.space import Double, Int, Parameter, Value

Object = Mapping[str, Any]
# the reason under which `gantune stop` completes an Experiment
STOPPED_REASON = "ExperimentStoppedByGantune"
_TRIAL_ORDER = (  # a stopped trial still has Running=True, so what ended it comes first
    ("EarlyStopped", TrialState.EARLY_STOPPED),
    ("Killed", TrialState.KILLED),
    ("Failed", TrialState.FAILED),
    ("MetricsUnavailable", TrialState.METRICS_UNAVAILABLE),
    ("Succeeded", TrialState.SUCCEEDED),
    ("Running", TrialState.RUNNING),
)
_QUIET = ("ContainerCreating", "PodInitializing")  # every pod passes through these
_IMAGE_PULL = ("ErrImagePull", "ImagePullBackOff")  # a pod alternates between the two
_IMAGE = re.compile(r'image "([^"]+)"')
# the Job controller's words for activeDeadlineSeconds
DEADLINE = "active longer than specified deadline"
_TRIAL_FAILED = "Trial has failed. Job message: "  # what Katib writes before the Job's own message
# reasons of the pod condition DisruptionTarget, which says why a pod is being removed
_DISRUPTIONS = {
    "EvictionByEvictionAPI": "Evicted through the Eviction API",
    "DeletionByTaintManager": "Evicted because of a taint",
    "TerminationByKubelet": "Evicted by the kubelet",
    "PreemptionByScheduler": "Preempted",
    "DeletionByPodGC": "Deleted because its node is gone",
}


def name_of(item: Object) -> str:
    """metadata.name."""
    return str(item["metadata"]["name"])


def number_label(item: Object) -> int | None:
    """The number that our suggestion service gave a Trial; None for a trial of another service."""
    text = str((item["metadata"].get("labels") or {}).get(NUMBER_LABEL, ""))
    return int(text) if text.isascii() and text.isdigit() and len(text) < LONGEST_NUMBER else None


def conditions(item: Object) -> dict[str, Object]:
    """The conditions of an object that are True, by type."""
    found = item.get("status", {}).get("conditions") or ()
    return {
        condition["type"]: condition for condition in found if condition.get("status") == "True"
    }


def time_of(text: str | None) -> datetime | None:
    """An RFC3339 time of the API server, aware; None for none."""
    try:
        return datetime.fromisoformat(text) if text else None
    except (ValueError, TypeError):  # TypeError: no text at all
        return None


def version_of(item: Object) -> int:
    """resourceVersion as a number, by which an older state of the same object is told from a newer; -1 if opaque."""
    text = str(item.get("metadata", {}).get("resourceVersion", ""))
    return int(text) if text.isdigit() else -1


def trial(item: Object, experiment: Experiment, number_: int) -> Trial:
    """One Katib Trial.

    Here a Succeeded one whose objective is no finite number is MetricsUnavailable, and one that has
    stopped itself is EarlyStopped.
    """
    status = item.get("status", {})
    true = conditions(item)
    state = next((state for kind, state in _TRIAL_ORDER if kind in true), TrialState.WAITING)
    metrics = observed(status.get("observation") or {}, experiment)
    reason = ""
    if state is TrialState.SUCCEEDED and experiment.objective.metric not in metrics:
        state = TrialState.METRICS_UNAVAILABLE
        reason = f"{experiment.objective.metric} is not a finite number, although Katib reports the trial as Succeeded"
    elif state is TrialState.SUCCEEDED and metrics.get(STOPPED_METRIC) == 1:
        state, reason = TrialState.EARLY_STOPPED, "it missed a threshold and stopped itself"
    elif state is TrialState.FAILED:
        reason = str(true["Failed"].get("message", "")).removeprefix(_TRIAL_FAILED)
    assignments = item.get("spec", {}).get("parameterAssignments") or ()
    kinds = {parameter.name: parameter for parameter in experiment.parameters}
    return Trial(
        number=number_,
        name=name_of(item),
        state=state,
        parameters={a["name"]: _value(str(a["value"]), kinds.get(a["name"])) for a in assignments},
        metrics=metrics,
        started=time_of(status.get("startTime")),
        ended=time_of(status.get("completionTime")),
        reason=reason,
    )


def observed(observation: Object, experiment: Experiment) -> dict[str, float]:
    """The finite value of each metric under its strategy, as Katib's getObjectiveMetricValue reads it.

    Texts such as "", "unavailable" and "nan" are left out.
    """
    found: dict[str, float] = {}
    for metric in observation.get("metrics") or ():
        strategy = experiment.strategies.get(metric["name"], Strategy.LATEST)
        text = str(metric.get(strategy.value, ""))
        if text == UNAVAILABLE_METRIC and strategy is not Strategy.LATEST:
            text = str(metric.get("latest", ""))
        if math.isfinite(value := number(text)):
            found[metric["name"]] = value
    named = [
        name
        for name in (experiment.objective.metric, *experiment.additional_metrics)
        if name in found
    ]
    # Katib gives them in any order
    return {name: found[name] for name in dict.fromkeys([*named, *found])}


def study_state(item: Object) -> tuple[StudyState, str]:
    """An Experiment's state, and Katib's reason. Restarting, or about to restart, is Running."""
    true = conditions(item)
    if "Succeeded" in true and _extended(item):
        return StudyState.RUNNING, ""
    if "Succeeded" in true:
        stopped = true["Succeeded"].get("reason") == STOPPED_REASON
        return StudyState.STOPPED if stopped else StudyState.SUCCEEDED, str(
            true["Succeeded"].get("message", "")
        )
    if "Failed" in true:
        return StudyState.FAILED, str(true["Failed"].get("message", ""))
    return StudyState.RUNNING, ""


def overview(item: Object) -> Overview:
    """What an Experiment says of itself, without its trials."""
    status = item.get("status") or {}
    counts = (
        "trialsSucceeded",
        "trialsFailed",
        "trialsKilled",
        "trialsEarlyStopped",
        "trialMetricsUnavailable",
    )
    finished = sum(int(status.get(name) or 0) for name in counts)
    most = (item.get("spec") or {}).get("maxTrialCount")
    created = time_of(item["metadata"].get("creationTimestamp"))
    return Overview(name_of(item), study_state(item)[0], finished, most, created)


def restartable(item: Object) -> bool:
    """Whether Katib restarts a finished Experiment when its maxTrialCount is raised (status_util.go)."""
    at_count = conditions(item).get("Succeeded", {}).get("reason") == "ExperimentMaxTrialsReached"
    return at_count and item["spec"].get("resumePolicy") in ("LongRunning", "FromVolume")


def _extended(item: Object) -> bool:
    """Whether maxTrialCount was raised and the controller did not react yet (experiment_controller.go:201)."""
    asked, made = item["spec"].get("maxTrialCount"), item["status"].get("trials", 0)
    return asked is not None and asked > made and restartable(item)


@dataclass(frozen=True, slots=True)
class PodView:
    """The facts of a pod that the client uses. `reason` says why it does not run, or why it failed, else empty."""

    name: str
    trial: str  # the trial it runs; "" for the suggestion service's pod
    created: str  # RFC3339 in UTC, so that texts sort as times
    node: str
    phase: str
    reason: str
    running: tuple[str, ...]  # the containers that run
    culprit: str = ""  # the container that failed

    @property
    def failed(self) -> bool:
        """Whether `reason` says how the pod failed, instead of why it waits."""
        return bool(self.culprit) or self.phase == "Failed"


def pod(item: Object) -> PodView:
    """A pod of an Experiment: a trial's, or the suggestion service's."""
    status, metadata = item.get("status", {}), item["metadata"]
    trial = str((metadata.get("labels") or {}).get(TRIAL_LABEL, ""))
    running = tuple(
        c["name"]
        for c in status.get("containerStatuses") or ()
        if "running" in (c.get("state") or {})
    )
    return PodView(
        name=name_of(item),
        trial=trial,
        created=str(metadata.get("creationTimestamp", "")),
        node=str(item.get("spec", {}).get("nodeName", "")),
        phase=str(status.get("phase", "")),
        reason=_pod_reason(status) or _node_reason(item) or ("" if trial else _restarts(status)),
        running=running,
        culprit=_culprit(status),
    )


def containers(item: Object) -> set[str]:
    """The names of a pod's containers."""
    listed = [
        *(item.get("spec", {}).get("containers") or ()),
        *(item.get("status", {}).get("containerStatuses") or ()),
    ]
    return {str(container["name"]) for container in listed}


def _pod_reason(status: Object) -> str:
    if status.get("reason"):  # Evicted, NodeLost, DeadlineExceeded
        return f"{status['reason']}: {status.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions") or ():
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            why = _DISRUPTIONS.get(
                str(condition.get("reason", "")), str(condition.get("reason", ""))
            )
            return f"{why}: {condition.get('message', '')}".rstrip(": ")
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = (
                str(condition.get("message", "")).split(". ")[0].partition(" nodes are available: ")
            )
            return f"{condition.get('reason', 'Unschedulable')}: {message[2] or message[0]}"
    return next((reason for reason in map(_container_reason, _statuses(status)) if reason), "")


def _statuses(status: Object) -> list[Object]:
    """The statuses of all containers; the collector's is last, because the trainer's own reason says more."""
    found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return sorted(found, key=lambda container: container["name"] == SIDECAR)


def _culprit(status: Object) -> str:
    """The container that failed; "" where none has, or where one waits to start again."""
    for container in _statuses(status):
        if _container_reason(container):
            return str(container["name"]) if "terminated" in (container.get("state") or {}) else ""
    return ""


def _node_reason(item: Object) -> str:
    """Why a pod whose containers run is not ready: the node controller marks it when its node stops answering."""
    status, spec = item.get("status", {}), item.get("spec", {})
    ready = {condition["type"]: condition["status"] for condition in status.get("conditions") or ()}
    if status.get("phase") != "Running" or spec.get("readinessGates"):
        return ""
    if (ready.get("Ready"), ready.get("ContainersReady")) != ("False", "True"):
        return ""
    return f"NodeNotReady: node {spec.get('nodeName', '')} does not answer"


def _restarts(status: Object) -> str:
    """Why a service that runs at the moment cannot serve: it is killed repeatedly."""
    for container in status.get("containerStatuses") or ():
        last = (container.get("lastState") or {}).get("terminated") or {}
        if container.get("restartCount") and last.get("reason") == "OOMKilled":
            return f"OOMKilled: container {container['name']}, {container['restartCount']} restarts so far"
    return ""


def _container_reason(container: Object) -> str:
    state, last = container.get("state") or {}, container.get("lastState") or {}
    killed = (last.get("terminated") or {}).get("reason", "")
    if waiting := state.get("waiting"):
        reason = str(waiting.get("reason", ""))
        if reason in _QUIET:
            return ""
        if reason in _IMAGE_PULL:
            image = _IMAGE.search(str(waiting.get("message", "")))
            return f"{_IMAGE_PULL[-1]}: {image[1] if image else 'container ' + container['name']}"
        if reason == "CrashLoopBackOff":
            code = (last.get("terminated") or {}).get("exitCode", "?")
            why = killed if killed == "OOMKilled" else f"exit code {code}"
            return f"{reason}: container {container['name']} failed repeatedly ({why})"
        return f"{reason}: {waiting.get('message', '')}".rstrip(": ")
    if ended := state.get("terminated"):
        if ended.get("reason") == "OOMKilled":
            return f"OOMKilled: container {container['name']} exceeded its memory limit"
        if ended.get("exitCode"):
            return f"exit code {ended['exitCode']} (container {container['name']})"
    return ""


def _value(text: str, parameter: Parameter | None) -> Value:
    if isinstance(parameter, Double | Int) and math.isfinite(value := number(text)):
        return int(value) if isinstance(parameter, Int) else value
    return text
