"""Why a search does not move, though Katib says Created or Running: found in pods, events, Jobs and the sampler's log.

Each rule stands for something that was seen on a live cluster (KATIB.md sections 12 and 13; tests/tuner/recordings).
A look costs one to three requests, and is taken only when nothing has happened for a while.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tuner.engines.katib.objects import PodView, conditions, name_of
from tuner.errors import ClusterError
from tuner.kube import EVENTS, JOBS, Cluster
from tuner.manifest import Experiment
from tuner.result import StudyState, Trial, TrialState

_NAN = re.compile(r"could not convert string to float: ''|parsing \"\": invalid syntax|contains NaN|float: 'nan'")
_ERROR = re.compile(r"(?:ERROR|Error|error|Exception|panic)")
_LOG_TAIL = 60


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a watch knows when it asks."""

    experiment: Experiment
    namespace: str
    state: StudyState
    trials: tuple[Trial, ...]
    pods: tuple[PodView, ...]


@dataclass(slots=True)
class Findings:
    """`reasons` by trial name; `warnings` about the whole, each with its remedy."""

    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def blocked(snapshot: Snapshot) -> Iterator[str]:
    """Warnings that need no request: every running trial waits, and why."""
    running = [trial for trial in snapshot.trials if trial.state is TrialState.RUNNING]
    reasons = {trial.reason for trial in running}
    if not running or "" in reasons:
        return
    for reason in sorted(reasons):
        yield f"no trial is at work, though Katib says Running: {reason}; {_remedy(reason)}"


def diagnose(cluster: Cluster, snapshot: Snapshot) -> Findings:
    """Look at what has not moved. A request that is forbidden or fails is passed over: what is known is said."""
    findings = Findings()
    for look in (_suggestion_pod, _pods_refused, _suspended, _sampler):
        try:
            look(cluster, snapshot, findings)
        except ClusterError as error:
            findings.warnings.append(f"cannot say why nothing moves: {error}")
    return findings


def _suggestion_pods(snapshot: Snapshot) -> list[PodView]:
    return [pod for pod in snapshot.pods if not pod.trial]


def _suggestion_pod(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    for pod in _suggestion_pods(snapshot):
        if pod.reason and pod.phase != "Succeeded":
            findings.warnings.append(
                f"the suggestion service's pod {pod.name} does not run: {pod.reason}; "
                f"{_suggestion_remedy(pod.reason, snapshot.experiment.algorithm.name)}"
            )


def _pods_refused(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    """Pods that were never made: FailedCreate events of the suggestion's ReplicaSet or of a trial's Job."""
    has_pod = {pod.trial for pod in snapshot.pods}
    waiting = {t.name for t in snapshot.trials if t.state is TrialState.RUNNING and t.name not in has_pod}
    if "" in has_pod and not waiting:
        return
    service = f"{snapshot.experiment.name}-{snapshot.experiment.algorithm.name}-"
    for event in cluster.list(EVENTS, namespace=snapshot.namespace, fields="reason=FailedCreate"):
        about = event.get("involvedObject") or {}
        message, name = str(event.get("message", "")), str(about.get("name", ""))
        if about.get("kind") == "ReplicaSet" and name.startswith(service) and "" not in has_pod:
            has_pod.add("")  # said once: each attempt leaves an event with another pod's name
            remedy = _refusal_remedy(message, snapshot)
            findings.warnings.append(f"the suggestion service's pod is refused: {_refusal(message)}; {remedy}")
        elif about.get("kind") == "Job" and name in waiting:
            findings.reasons[name] = f"pod refused: {_refusal(message)}"


def _suspended(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    """Trials whose Job is suspended, as Kueue leaves it while it queues: Katib calls them Running."""
    has_pod = {pod.trial for pod in snapshot.pods}
    waiting = {t.name for t in snapshot.trials if t.state is TrialState.RUNNING and t.name not in has_pod}
    if not waiting - findings.reasons.keys():
        return
    for job in cluster.list(JOBS, namespace=snapshot.namespace):
        if name_of(job) in waiting and job["spec"].get("suspend"):
            queue = (job["metadata"].get("labels") or {}).get("kueue.x-k8s.io/queue-name", "")
            where = f"queued by Kueue in {queue}" if queue else "its Job is suspended (queued by Kueue, or by hand)"
            findings.reasons[name_of(job)] = where


def _sampler(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    """All trials have ended, fewer than maxTrialCount, none new: the sampler errs, and only its log says so."""
    experiment, trials = snapshot.experiment, snapshot.trials
    if findings.warnings or any(not trial.state.ended for trial in trials):
        return
    if experiment.max_trials is not None and len(trials) >= experiment.max_trials and trials:
        return
    for pod in _suggestion_pods(snapshot):
        log = cluster.log(pod.name, "suggestion", namespace=snapshot.namespace, tail=_LOG_TAIL)
        bad = [trial.name for trial in trials if experiment.objective.metric not in trial.metrics]
        if _NAN.search(log):
            findings.warnings.append(
                f"the sampler fails on a trial without a finite {experiment.objective.metric}"
                f"{f' ({bad[0]})' if bad else ''}, so no new trial comes and Katib stays Running for ever: "
                f"`gantune stop {experiment.name}` keeps the results; let the trainer print a finite, bad value instead"
            )
            return
        errors = [line for line in log.splitlines() if _ERROR.search(line)]
        if errors:
            findings.warnings.append(f"the sampler errs, so no new trial comes: {_brief(errors[-1])}")
            return
    if trials:
        findings.warnings.append(
            f"all {len(trials)} trials have ended and none new has come: see "
            f"`kubectl logs -n {snapshot.namespace} -l katib.kubeflow.org/suggestion={experiment.name}`; "
            f"`gantune stop {experiment.name}` keeps the results"
        )


def suggestion_failure(suggestion: Mapping[str, object]) -> str:
    """Why a Suggestion is Failed, in the service's words; "" when it is not."""
    failed = conditions(suggestion).get("Failed")
    return str(failed.get("message", "")) if failed else ""


def _refusal_remedy(message: str, snapshot: Snapshot) -> str:
    if "PodSecurity" not in message:
        return "see the quota and the policies of the namespace"
    if snapshot.experiment.early_stopping:
        return (
            "early stopping cannot run under Pod Security `restricted`, since katib-config has no securityContext for "
            "it: remove earlyStopping, or use a namespace with `baseline`"
        )
    return (
        "give katib-config a securityContext per suggestion and injectSecurityContext: true (the katib overlay of "
        "manifests/), or use a namespace with `baseline`"
    )


def _suggestion_remedy(reason: str, algorithm: str) -> str:
    if "OOMKilled" in reason:
        return (
            f"raise resources.limits.memory of {algorithm} in katib-config to 512Mi or more (the default of 100Mi "
            "does not last) and delete the pod"
        )
    return _remedy(reason)


def _remedy(reason: str) -> str:
    remedies = {
        "Insufficient": "lower parallelTrialCount or the request, or add nodes (a pool may take minutes to scale up)",
        "Unschedulable": "check nodeSelector, affinity and tolerations against `kubectl get nodes --show-labels`",
        "ImagePull": "check the image's name, its tag and imagePullSecrets",
        "InvalidImageName": "check the image's name",
        "queued": "it starts when the queue admits it (`kubectl get workloads`)",
        "suspended": "it starts when the queue admits it (`kubectl get workloads`)",
        "PodSecurity": "give the trial's containers a restricted securityContext",
        "Config": "check the ConfigMaps and Secrets that the pod names",
        "CrashLoop": "see its log with `kubectl logs --previous`",
    }
    return next((text for key, text in remedies.items() if key in reason), "see `kubectl describe pod`")


def _refusal(message: str) -> str:
    """An event's message without the name of the pod, which changes with each attempt."""
    return _brief(message.partition(" is forbidden: ")[2] or message)


def _brief(message: str) -> str:
    folded = " ".join(message.split())
    return folded if len(folded) <= 240 else folded[:237] + "..."
