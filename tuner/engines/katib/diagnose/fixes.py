"""The fix for a reason that a pod, an event or a log gives: one line each."""

from __future__ import annotations

from tuner.commands import gantune
from tuner.katib.facts import COMPONENT_LABEL
from tuner.result import Trial

_FIXES = {
    "failed calling webhook": (
        f"Katib's controller does not answer: see `kubectl get pods -A -l {COMPONENT_LABEL}=controller`, and "
        "docs/how-to/outages.md if its pod is missing"
    ),
    "Insufficient": (
        "lower parallelTrialCount, or what a trial asks for, or add nodes (a pool may take minutes to scale up)"
    ),
    "Unschedulable": "check nodeSelector, affinity and tolerations against `kubectl get nodes --show-labels`",
    "ImagePull": "check the image's name, its tag and imagePullSecrets",
    "InvalidImageName": "check the image's name",
    "suspended": "it starts when the queue admits it (`kubectl get workloads`)",
    "queued": "it starts when the queue admits it (`kubectl get workloads`)",
    "must specify": "set the requests and limits that the quota asks for in every container of the trialTemplate",
    "quota": "raise the namespace's quota (`kubectl get resourcequota`), or lower parallelTrialCount or the request",
    "PodSecurity": "give the trial's containers a restricted securityContext",
    "OOMKilled": "raise resources.limits.memory of that container in the trialTemplate, or make the trial smaller",
    "Config": "check the ConfigMaps and Secrets that the pod names",
    "never written": "let the trainer write its metrics to the file of metricsCollectorSpec.source.fileSystemPath",
    "did not take the metrics": (
        f"check Katib's DB manager with `kubectl get pods -A -l {COMPONENT_LABEL}=db-manager`"
    ),
    "not record its metrics": (
        "check that a collector ran in the pod (primaryPodLabels must match it, the namespace needs Katib's label) and "
        "that Katib's DB manager runs"
    ),
    "NodeNotReady": "check the node with `kubectl describe node`; Kubernetes evicts the pod after five minutes",
    "Eviction API": "set backoffLimit in the trialTemplate so that an evicted trial runs again",
    "taint": "set backoffLimit in the trialTemplate so that an evicted trial runs again",
    "active longer than": "raise activeDeadlineSeconds in the trialTemplate, or make the trial shorter",
    "Evicted": "the node ran out of a resource: request what a trial needs (memory, ephemeral-storage)",
}


def fix(reason: str, experiment: str, trial: Trial, *, retain: bool) -> str:
    """For a trial that does not run, or has failed. `retain` is the trialTemplate's."""
    if known := next((text for key, text in _FIXES.items() if key in reason), ""):
        return known
    if "refused" in reason:  # there is no pod, and so no log
        return "change the trialTemplate, or the policy or the quota that refuses it"
    if trial.state.finished and not retain:
        return "set trialTemplate.retain to true, so that its pod and its log are kept"
    return f"see `{gantune('logs', experiment, '--trial', trial.number)}`"


def suggestion_fix(reason: str, algorithm: str) -> str:
    """For the pod of the suggestion service."""
    if "OOMKilled" in reason:
        return (
            f"raise resources.limits.memory of {algorithm} in katib-config to 512Mi or more (the default of 100Mi "
            "is too small) and delete the pod"
        )
    if "ImagePull" in reason or "InvalidImageName" in reason:
        return (
            f"an administrator of Katib must correct the image of {algorithm} in the ConfigMap katib-config and delete "
            "the pod"
        )
    if "CrashLoop" in reason:
        return "see its log with `kubectl logs --previous`"
    return next(
        (text for key, text in _FIXES.items() if key in reason), "see `kubectl describe pod`"
    )


def refusal_fix(message: str, *, early_stopping: bool) -> str:
    """For a pod of the suggestion service that was never created."""
    if "must specify" in message:
        return "set the resources that the quota asks for in katib-config, for the algorithm's suggestion service"
    if "PodSecurity" not in message:
        return "see the quota and the policies of the namespace"
    if early_stopping:
        return (
            "early stopping cannot run under Pod Security `restricted`, since katib-config has no securityContext for "
            "it: remove earlyStopping, or use a namespace with `baseline`"
        )
    return (
        "give katib-config a securityContext per suggestion and injectSecurityContext: true (the katib overlay of "
        "manifests/), or use a namespace with `baseline`"
    )
