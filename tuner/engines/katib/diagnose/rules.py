"""Says why a search is stuck while Katib still reports Created or Running.

The reasons are found in pods, events, Jobs and the log of the suggestion service. Each rule covers
a case that was seen on a live cluster (tests/tuner/recordings) or that follows from Katib's source.
The rules run only when nothing has changed for a while. They cost no request where a trial runs,
else one to seven.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuner.commands import gantune
from tuner.engines.katib import trials
from tuner.engines.katib.diagnose.fixes import fix, refusal_fix, suggestion_fix
from tuner.engines.katib.diagnose.snapshot import Findings, Snapshot
from tuner.engines.katib.objects import conditions, name_of, time_of
from tuner.errors import ClusterError, NotFound
from tuner.katib.facts import COMPONENT_LABEL, SUGGESTION_CONTAINER, SUGGESTION_LABEL
from tuner.kube import EVENTS, JOBS, SUGGESTIONS, Cluster, Resource
from tuner.result import Trial, TrialState

DEPLOYMENTS = Resource("apps", "v1", "deployments")
# seconds that a healthy sampler may take: a Gaussian process's call, then a wave of pods
SLOW_SUGGESTION = 40.0
_NAN = re.compile(
    r"could not convert string to float: ''|parsing \"\": invalid syntax|contains NaN|float: 'nan'"
)
_ERROR = re.compile(r"^(?:ERROR\b|CRITICAL\b|[EF]\d{4} |panic: |[\w.]*(?:Error|Exception)\b)")
# two controllers wrote at the same time; the next attempt succeeds
_CONFLICT = "the object has been modified"
# a controller tries again within seconds, so fewer may be of a service that was starting
_MINIMUM_FAILURES = 3
_LOG_LINES = 60  # of the suggestion service's log, in which its last error is looked for


def blocked(snapshot: Snapshot) -> Iterator[str]:
    """Warnings that need no request: no trial is running, and why; or which trials wait for their Jobs, and why."""
    kinds = (TrialState.WAITING,) if snapshot.at_work else (TrialState.WAITING, TrialState.RUNNING)
    waiting: dict[str, list[Trial]] = {}
    for trial in snapshot.trials:
        if trial.reason and trial.state in kinds:
            waiting.setdefault(trial.reason, []).append(trial)
    for reason in sorted(waiting):
        what = "no trial is running, although Katib reports Running"
        if snapshot.at_work:
            what = "some trials wait for their Jobs"
        retain = snapshot.experiment.template.retain
        what_to_do = fix(reason, snapshot.experiment.name, waiting[reason][0], retain=retain)
        yield f"{what}: {reason}; {what_to_do}"


def diagnose(cluster: Cluster, snapshot: Snapshot) -> Findings:
    """Apply every rule. Where a request is forbidden or fails, the other rules still report what they find."""
    findings, failed = Findings(), ""
    for rule in (
        _suggestion_pod, _failed_pods, _pods_refused, _suspended, _unreported, _controllers_errors, _sampler_log,
        _standstill,
    ):  # fmt: skip
        try:
            rule(cluster, snapshot, findings)
        except ClusterError as error:
            failed = failed or str(error)
    if failed and not findings and not snapshot.at_work and snapshot.quiet >= SLOW_SUGGESTION:
        findings.warnings.append(f"the search is stuck, and the reason could not be read: {failed}")
    return findings


def _suggestion_pod(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    for pod in snapshot.suggestion_pods:
        recovering = snapshot.at_work and pod.running  # it was killed once, and may work now
        if pod.reason and pod.phase != "Succeeded" and not recovering:
            what = suggestion_fix(pod.reason, snapshot.experiment.algorithm.name)
            findings.warnings.append(
                f"the suggestion service's pod {pod.name} cannot serve: {pod.reason}; {what}"
            )


def _failed_pods(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    """Running trials whose pod has failed and was not replaced: the Job waits before it tries again."""
    pods = trials.youngest(snapshot.pods)
    for trial in snapshot.trials:
        if trial.state is TrialState.RUNNING and trial.name in pods and pods[trial.name].failed:
            findings.reasons[trial.name] = (
                f"its pod failed and was not replaced: {pods[trial.name].reason}"
            )


def _pods_refused(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    """Find pods that were never created: FailedCreate events of the suggestion's ReplicaSet or of a trial's Job."""
    service_waits = not snapshot.suggestion_pods and not snapshot.at_work
    if not service_waits and not snapshot.podless:
        return
    service = f"{snapshot.experiment.name}-{snapshot.experiment.algorithm.name}-"
    for event in _events(cluster, snapshot, "FailedCreate", snapshot.created):
        if event.kind == "ReplicaSet" and event.name.startswith(service) and service_waits:
            # reported once: each attempt leaves an event with another pod's name
            service_waits = False
            what = refusal_fix(
                event.message, early_stopping=snapshot.experiment.early_stopping is not None
            )
            findings.warnings.append(
                f"the suggestion service's pod is refused: {_refusal(event.message)}; {what}"
            )
        elif event.name in snapshot.podless and event.kind != "ReplicaSet":
            findings.reasons[event.name] = f"pod refused: {_refusal(event.message)}"


def _suspended(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    """Find trials whose Job is suspended, as in a queue of Kueue. Katib reports them as Running."""
    waiting = snapshot.podless - findings.reasons.keys()
    if not waiting:
        return
    template = snapshot.experiment.template.spec
    for job in cluster.list(_resource(template), namespace=snapshot.namespace):
        spec = job["spec"]
        if name_of(job) in waiting and (
            spec.get("suspend") or (spec.get("runPolicy") or {}).get("suspend")
        ):
            queue = (job["metadata"].get("labels") or {}).get("kueue.x-k8s.io/queue-name", "")
            what = f"its {template.get('kind', 'Job')} is suspended (by Kueue, or by hand)"
            findings.reasons[name_of(job)] = f"queued by Kueue in {queue}" if queue else what


def _resource(template: Mapping[str, Any]) -> Resource:
    """The resource of the trials' Jobs, PyTorchJobs or TrainJobs."""
    kind, (group, _, version) = (
        str(template.get("kind", "Job")),
        str(template.get("apiVersion", "")).rpartition("/"),
    )
    return JOBS if kind == "Job" else Resource(group, version, f"{kind.lower()}s")


def _unreported(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    """Find trials whose pod has completed while Katib silently waits for metrics."""
    findings.reasons |= dict.fromkeys(
        snapshot.unreported, "its pod has completed, but Katib did not record its metrics"
    )


def _controllers_errors(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    """Find what Katib's controllers repeatedly fail on: a refused Job, or an error of the suggestion service."""
    whole = not (findings or snapshot.at_work or snapshot.explained)
    if not whole and not snapshot.jobless | snapshot.unreported:
        return
    failures = []
    for event in _events(cluster, snapshot, "ReconcileError", snapshot.created):
        if _CONFLICT in event.message:
            continue
        if event.kind == "Trial" and event.name in snapshot.jobless:
            findings.reasons[event.name] = f"its Job is refused: {_refusal(event.message)}"
        elif event.kind == "Trial" and event.name in snapshot.unreported:
            findings.reasons[event.name] = (
                f"Katib did not record its metrics: {_brief(event.message)}"
            )
        elif event.kind in ("Experiment", "Suggestion") and event.name == snapshot.experiment.name:
            recent = not event.last or not snapshot.changed or event.last >= snapshot.changed
            failures += [event] if recent else []
    if not whole or sum(event.count for event in failures) < _MINIMUM_FAILURES:
        return
    if any(_NAN.search(event.message) for event in failures):
        findings.warnings.append(_nan(snapshot))
    else:
        last = failures[-1]
        see = f"`kubectl describe {last.kind.lower()} -n {snapshot.namespace} {last.name}`"
        findings.warnings.append(
            f"Katib's controller fails repeatedly: {_brief(last.message)}; see {see}"
        )


def _sampler_log(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    """The suggestion service fails, and its log says why (events are deleted after an hour)."""
    if findings or snapshot.explained or not snapshot.drained:
        return
    for pod in snapshot.suggestion_pods:
        if SUGGESTION_CONTAINER not in pod.running:  # a container that has not started has no log
            continue
        log = cluster.log(
            pod.name,
            SUGGESTION_CONTAINER,
            namespace=snapshot.namespace,
            tail=_LOG_LINES,
            since=snapshot.quiet,  # earlier errors did not stop the search
        )
        errors = [line for line in log.splitlines() if _ERROR.search(line)]
        if _NAN.search(log):
            findings.warnings.append(_nan(snapshot))
        elif errors and snapshot.quiet >= SLOW_SUGGESTION:
            findings.warnings.append(
                f"the suggestion service fails, so no new trials are created: {_brief(errors[-1])}; {_see(snapshot)}"
            )


def _standstill(cluster: Cluster, snapshot: Snapshot, findings: Findings) -> None:
    """No other rule found a reason: say since when, what Katib reports, and where to look."""
    if findings or snapshot.at_work or snapshot.explained or snapshot.quiet < SLOW_SUGGESTION:
        return
    if not snapshot.touched:
        findings.warnings.append(
            f"Katib's controller did not process the Experiment{snapshot.since}, so it probably does not run: see "
            f"`kubectl get pods -A -l {COMPONENT_LABEL}=controller`"
        )
        return
    count = len(snapshot.trials)
    what = "no trial was created"
    if count:
        what = (
            f"all {count} trials have finished and no new trial was created"
            if snapshot.drained
            else "no trial is running"
        )
    says = _suggestion_says(cluster, snapshot)
    findings.warnings.append(f"{what}{snapshot.since} ({says}): {_see(snapshot)}")


def _suggestion_says(cluster: Cluster, snapshot: Snapshot) -> str:
    """The newest condition of the Suggestion, or why its Deployment is not ready."""
    name, namespace = snapshot.experiment.name, snapshot.namespace
    try:
        suggestion = cluster.get(SUGGESTIONS, name, namespace=namespace)
    except NotFound:
        return "no Suggestion exists"
    said = suggestion.get("status", {}).get("conditions") or [{"message": "it has no status"}]
    if said[-1].get("type") == "DeploymentReady" and said[-1].get("status") != "True":
        deployment = cluster.get(
            DEPLOYMENTS, f"{name}-{snapshot.experiment.algorithm.name}", namespace=namespace
        )
        failure = conditions(deployment).get("ReplicaFailure")
        if failure:
            return f"its Deployment says: {_refusal(str(failure.get('message', '')))}"
    return f"its Suggestion says: {said[-1].get('message', '')}"


@dataclass(frozen=True, slots=True)
class _Event:
    kind: str
    name: str
    message: str
    count: int
    last: datetime | None


def _events(
    cluster: Cluster, snapshot: Snapshot, reason: str, since: datetime | None
) -> Iterator[_Event]:
    """Events of the namespace with this reason, but for those of an earlier Experiment of the same name."""
    for event in cluster.list(EVENTS, namespace=snapshot.namespace, fields=f"reason={reason}"):
        last = time_of(event.get("lastTimestamp") or event["metadata"].get("creationTimestamp"))
        if since is None or last is None or last >= since:
            about = event.get("involvedObject") or {}
            kind, name = str(about.get("kind", "")), str(about.get("name", ""))
            yield _Event(
                kind, name, str(event.get("message", "")), int(event.get("count") or 1), last
            )


def _nan(snapshot: Snapshot) -> str:
    metric, name = snapshot.experiment.objective.metric, snapshot.experiment.name
    bad = next((f" ({trial.name})" for trial in snapshot.trials if metric not in trial.metrics), "")
    return (
        f"the suggestion service fails on a trial without a finite {metric}{bad}, so no new trials "
        f"are created and Katib reports Running forever: `{gantune('stop', name)}` keeps the "
        "results; "
        "let the trainer print a finite, bad value instead"
    )


def _see(snapshot: Snapshot) -> str:
    name = snapshot.experiment.name
    pending = any(pod.phase == "Pending" for pod in snapshot.suggestion_pods)
    verb = "describe pods" if pending else "logs"
    pods = f"`kubectl {verb} -n {snapshot.namespace} -l {SUGGESTION_LABEL}={name}`"
    return f"see {pods}; `{gantune('stop', name)}` keeps the results"


def _refusal(message: str) -> str:
    """An event's message without the name of what was refused, which changes with each attempt."""
    return _brief(message.partition(" is forbidden: ")[2] or message)


def _brief(message: str) -> str:
    folded = " ".join(message.split())
    return folded if len(folded) <= 240 else folded[:237] + "..."
