"""How a search is stopped. Katib has no verb for it, and its counts cannot be lowered to the trials that have run.

So a patch of the status subresource completes the Experiment, after which the controller creates no
more trials. Then the running trials are deleted, and their Jobs and pods with them (validator.go).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tuner.engines.katib import objects, spec
from tuner.engines.katib.clock import Clock
from tuner.engines.katib.experiment import LiveExperiment, read_result
from tuner.engines.katib.objects import STOPPED_REASON
from tuner.errors import Conflict, NotFound
from tuner.kube import EXPERIMENTS, TRIALS, Cluster
from tuner.result import StudyState, Trial, TrialState

# the controller writes the status too, and a conflict is read and patched again
_PATCH_ATTEMPTS = 5
# one second apart; the second round finds trials that were created during the first
_DELETE_ROUNDS = 10


def complete(cluster: Cluster, study: LiveExperiment) -> bool:
    """Mark the Experiment as Succeeded, with our reason; return False where it had finished before."""
    for attempt in range(_PATCH_ATTEMPTS):
        item = cluster.get(EXPERIMENTS, study.name, namespace=study.namespace)
        if objects.study_state(item)[0] is not StudyState.RUNNING:
            return False
        try:
            if item["spec"].get("maxTrialCount") is None:
                item = _patch(cluster, study, item, "", {"spec": {"maxTrialCount": _least(item)}})
            status = spec.completed(item, STOPPED_REASON, "Experiment was stopped by gantune stop")
            _patch(cluster, study, item, "status", {"status": status})
        except Conflict:
            if attempt == _PATCH_ATTEMPTS - 1:
                raise
        else:
            break
    return True


def _least(item: dict[str, Any]) -> int:
    """Return the least maxTrialCount that the webhook accepts. Without one, Katib restarts a finished search.

    See experiment_controller.go:201-204 and validator.go:104-136.
    """
    counts = item["spec"].get("parallelTrialCount"), item["spec"].get("maxFailedTrialCount")
    return max(
        int(item.get("status", {}).get("trials", 0)) + 1, *(int(count or 0) for count in counts)
    )


def _patch(
    cluster: Cluster, study: LiveExperiment, item: dict[str, Any], sub: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Patch the status that was read. Raises Conflict if the controller changed it since."""
    body = body | {"metadata": {"resourceVersion": item["metadata"]["resourceVersion"]}}
    return cluster.patch(EXPERIMENTS, study.name, body, namespace=study.namespace, sub=sub)


def end_trials(
    cluster: Cluster,
    study: LiveExperiment,
    known: tuple[Trial, ...],
    notify: Callable[[str], None],
    clock: Clock,
) -> tuple[Trial, ...]:
    """Delete the running trials until none is left, and return all trials as they are then."""
    stopped: set[str] = set()
    for _ in range(_DELETE_ROUNDS):
        known = read_result(cluster, study, known, notify).trials
        running = [
            trial for trial in known if not trial.state.finished and trial.name not in stopped
        ]
        if not running:
            break
        for trial in running:
            stopped.add(trial.name)
            try:
                cluster.delete(TRIALS, trial.name, namespace=study.namespace)
            except NotFound:
                continue
        clock.sleep(1.0)
    else:
        notify(
            f"Katib still creates trials of {study.name}: list them with `kubectl get trials -n {study.namespace}`"
        )
    return tuple(
        replace(trial, state=TrialState.KILLED, reason="stopped")
        if trial.name in stopped
        else trial
        for trial in known
    )
