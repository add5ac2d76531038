"""Why a search does not move: the recorded stalls, and others made from recordings."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest

from tests.tuner.clusters import (
    FastClock,
    change,
    condition,
    names,
    play,
    play_until,
    until,
    until_warned,
    warnings,
)
from tests.tuner.loopback import RESPONSES, Loopback
from tuner.engines.base import EventKind
from tuner.engines.katib import KatibEngine, objects
from tuner.errors import Deadline
from tuner.katib.facts import EXPERIMENT_LABEL, TRIAL_LABEL

STALLS = {
    "nan-objective": (
        "the suggestion service fails on a trial without a finite fd",
        "gantune stop nan-objective",
    ),
    "gpu-unschedulable": (
        "Unschedulable: 1 Insufficient nvidia.com/gpu",
        "lower parallelTrialCount",
    ),
    "image-pull-error": (
        "ImagePullBackOff: registry.invalid/gan-trainer:1",
        "check the image's name",
    ),
    "suspended-jobs": ("its Job is suspended (by Kueue, or by hand)", "when the queue admits it"),
    "restricted-early-stopping": ("pod is refused: violates PodSecurity", "remove earlyStopping"),
}
LATER = "2026-11-22T23:00:00Z"  # after everything that was recorded


def event(kind: str, name: str, reason: str, message: str, count: int = 9) -> dict[str, Any]:
    about = {"kind": kind, "name": name, "namespace": "gan"}
    shape = {
        "metadata": {"name": f"{name}.{count}", "namespace": "gan"},
        "involvedObject": about,
        "type": "Warning",
    }
    return shape | {"reason": reason, "message": message, "count": count, "lastTimestamp": LATER}


def no_events(server: Loopback) -> None:
    for name in names(server, "events"):
        server.remove("events", "gan", name)


@pytest.mark.parametrize("scenario", STALLS)
def test_stuck_search_says_why_and_the_fix(
    server: Loopback, engine: KatibEngine, scenario: str
) -> None:
    why, remedy = STALLS[scenario]
    play(server, scenario).join()
    said = until_warned(engine.watch(scenario), why)
    assert remedy in said[-1]
    assert len(said) == 1
    assert server.objects["experiments", "gan", scenario]["status"]["conditions"][-1]["type"] in (
        "Created",
        "Running",
    )


@pytest.mark.parametrize("scenario", ["gpu-unschedulable", "image-pull-error", "nan-objective"])
def test_stall_is_reported_exactly_once(
    server: Loopback, engine: KatibEngine, scenario: str
) -> None:
    """Through the second look and the third, while a pod goes to and fro between ErrImagePull and its back-off."""
    play(server, scenario)
    engine.timeout = 150
    watch = engine.watch(scenario)
    next(one for one in watch if one.kind is EventKind.WARNING)
    with pytest.raises(Deadline):
        raise AssertionError(next(one for one in watch if one.kind is EventKind.WARNING).message)


@pytest.mark.parametrize("scenario", [*STALLS, "silent"])
def test_every_stall_is_said_within_a_minute(
    server: Loopback, engine: KatibEngine, scenario: str
) -> None:
    """Of the last change, by a watch whose clock is 20 times as fast; the second look comes last."""
    words = STALLS.get(
        scenario, ("all 2 trials have finished and no new trial was created since", "")
    )[0]
    server.replay(scenario if scenario in STALLS else "nan-objective")
    if scenario not in STALLS:
        no_events(server)
        server.logs.clear()
    engine.clock = FastClock(20)
    began = engine.clock.now()
    said = until_warned(engine.watch(scenario if scenario in STALLS else "nan-objective"), words)
    took = engine.clock.now() - began
    assert took < 60
    assert scenario in STALLS or took > 40, said  # a slow sampler is given twice the patience


def test_starting_suggestion_pod_is_no_stall(server: Loopback, engine: KatibEngine) -> None:
    """On every fresh cluster its image is pulled for longer than the first look waits."""
    rest = play_until(
        server, "random-ok", lambda step: step["kind"] == "pods" and "'waiting'" in str(step)
    )
    engine.clock = FastClock(10)  # the first look comes after 2 s, the second after 5

    def made() -> None:
        for _ in rest:
            pass

    threading.Timer(3, made).start()
    assert warnings(list(engine.watch("random-ok"))) == []
    assert server.count("GET", "/log?container=suggestion") == 0
    assert server.count("GET", "/events") > 0  # it did look


def pod_of_the_sampler(server: Loopback, **container: Any) -> None:
    """Up to the moment when the suggestion service runs, and then its container is as given."""
    play_until(
        server, "random-ok", lambda step: step["kind"] == "pods" and "'running'" in str(step)
    )
    (name,) = names(server, "pods")
    change(
        server, "pods", name, lambda pod: pod["status"]["containerStatuses"][0].update(container)
    )


KILLED = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


@pytest.mark.parametrize(
    ("container", "why", "remedy"),
    [
        (
            {"lastState": KILLED, "restartCount": 4},
            "OOMKilled: container suggestion, 4 restarts so far",
            "512Mi",
        ),
        (
            {
                "lastState": KILLED,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "restartCount": 4,
            },
            "CrashLoopBackOff: container suggestion failed repeatedly (OOMKilled)",
            "raise resources.limits.memory of random in katib-config",
        ),
        (
            {
                "lastState": {"terminated": {"reason": "Error", "exitCode": 1}},
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            },
            "CrashLoopBackOff: container suggestion failed repeatedly (exit code 1)",
            "kubectl logs --previous",
        ),
    ],
)
def test_killed_or_crashed_sampler_is_reported(
    server: Loopback, engine: KatibEngine, container: dict[str, Any], why: str, remedy: str
) -> None:
    pod_of_the_sampler(server, **container)
    said = until_warned(engine.watch("random-ok"), why)
    assert remedy in said[-1]


def test_nan_is_found_in_log_without_events(server: Loopback, engine: KatibEngine) -> None:
    server.replay("nan-objective")
    no_events(server)
    until_warned(
        engine.watch("nan-objective"), "the suggestion service fails on a trial without a finite fd"
    )
    assert server.count("GET", "/log?container=suggestion") == 1


def test_past_nan_does_not_stop_the_search(server: Loopback, engine: KatibEngine) -> None:
    """optuna's and skopt's services err once on such a trial, and go on."""
    server.replay("nan-objective")
    no_events(server)
    (name,) = [key for key in server.logs if key.endswith("/suggestion")]
    server.logs[name] += "2026-11-22T19:17:03.640608435Z INFO: 1 suggestion\n"
    said = until_warned(
        engine.watch("nan-objective"),
        "all 2 trials have finished and no new trial was created since",
    )
    assert len(said) == 1


def test_completed_pod_with_ignored_metrics_is_reported(
    server: Loopback, engine: KatibEngine
) -> None:
    """Katib asks every second, without an event: no collector ran, or its DB manager is out of reach."""
    play_until(server, "random-ok", lambda step: condition(step, "trials", "Running"))
    (trial,) = [
        name
        for name in names(server, "trials")
        if "Running" in str(server.objects["trials", "gan", name])
    ]
    for other in names(server, "trials"):
        if other != trial:
            server.remove("trials", "gan", other)
    labels = {TRIAL_LABEL: trial, EXPERIMENT_LABEL: "random-ok"}
    server.put(
        "pods",
        {
            "metadata": {"name": "p", "namespace": "gan", "labels": labels},
            "status": {"phase": "Succeeded"},
        },
    )
    said = until_warned(
        engine.watch("random-ok"), "its pod has completed, but Katib did not record its metrics"
    )
    assert "primaryPodLabels" in said[-1]
    server.put(
        "events",
        event("Trial", trial, "ReconcileError", "rpc error: katib-db-manager: no such host"),
    )
    said = until_warned(engine.watch("random-ok"), "Katib did not record its metrics: rpc error")
    assert "DB manager" in said[-1]


def test_a_standstill_without_a_reason_is_said_once(server: Loopback, engine: KatibEngine) -> None:
    server.replay("nan-objective")
    no_events(server)
    server.logs.clear()
    engine.timeout = 250  # the looks after the one that says it come at 110 and 230
    watch = engine.watch("nan-objective")
    next(one for one in watch if one.kind is EventKind.WARNING)
    with pytest.raises(Deadline):
        raise AssertionError(next(one for one in watch if one.kind is EventKind.WARNING).message)


def test_forbidden_events_alone_are_no_stall(server: Loopback, engine: KatibEngine) -> None:
    """Between two waves a healthy search is quiet for longer than the first look waits."""
    server.replay("nan-objective")
    server.logs.clear()
    for _ in range(9):
        server.answer("GET", "/events", 403, RESPONSES["forbidden-list-403"]["body"])
    engine.clock = FastClock(20)
    began = engine.clock.now()
    until_warned(engine.watch("nan-objective"), "")
    assert engine.clock.now() - began > 40


def test_nan_is_found_in_log_despite_forbidden_events(
    server: Loopback, engine: KatibEngine
) -> None:
    server.replay("nan-objective")
    server.answer("GET", "/events", 403, RESPONSES["forbidden-list-403"]["body"])
    until_warned(
        engine.watch("nan-objective"), "the suggestion service fails on a trial without a finite fd"
    )


def test_where_nothing_may_be_read_that_is_said(server: Loopback, engine: KatibEngine) -> None:
    server.replay("restricted-early-stopping")
    for kind in ("/events", "/suggestions/") * 9:
        server.answer("GET", kind, 403, RESPONSES["forbidden-list-403"]["body"])
    said = until_warned(
        engine.watch("restricted-early-stopping"),
        "the search is stuck, and the reason could not be read: ",
    )
    assert (
        'the RBAC rule to add: {apiGroups: [""], resources: ["events"], verbs: ["list"]}'
        in said[-1]
    )


def test_deployment_reports_refused_suggestion_pod(server: Loopback, engine: KatibEngine) -> None:
    server.replay("restricted-early-stopping")
    no_events(server)
    said = until_warned(engine.watch("restricted-early-stopping"), "no trial was created since")
    assert "(its Deployment says: violates PodSecurity" in said[-1]
    assert (
        "kubectl logs -n gan -l katib.kubeflow.org/suggestion=restricted-early-stopping" in said[-1]
    )


def test_quota_of_suggestion_pod_names_resources(server: Loopback, engine: KatibEngine) -> None:
    server.replay("restricted-early-stopping")
    for key in names(server, "events"):
        found = server.objects["events", "gan", key]
        if found["reason"] == "FailedCreate":
            refusal = (
                'pods "x" is forbidden: failed quota: gan: must specify limits.cpu for: suggestion'
            )
            change(server, "events", key, lambda item, said=refusal: item.update(message=said))
    (said,) = until_warned(
        engine.watch("restricted-early-stopping"), "the suggestion service's pod is refused"
    )
    assert "set the resources that the quota asks for in katib-config" in said
    assert "raise the namespace's quota" not in said


def test_a_controller_that_is_down_is_told(server: Loopback, engine: KatibEngine) -> None:
    play_until(server, "random-ok", lambda step: step["kind"] == "experiments")
    said = until_warned(engine.watch("random-ok"), "it probably does not run")
    assert "kubectl get pods -A -l katib.kubeflow.org/component=controller" in said[-1]


def no_trial_yet(server: Loopback) -> None:
    """Up to the moment when the sampler is asked for the first time."""
    play_until(server, "random-ok", lambda step: condition(step, "suggestions", "Running"))
    for name in names(server, "trials"):
        server.remove("trials", "gan", name)


def test_a_sampler_that_never_answers_is_told(server: Loopback, engine: KatibEngine) -> None:
    no_trial_yet(server)
    said = until_warned(engine.watch("random-ok"), "no trial was created since")
    assert "(its Suggestion says: Suggestion is running)" in said[-1]


def test_controller_error_is_reported_but_no_conflict(
    server: Loopback, engine: KatibEngine
) -> None:
    no_trial_yet(server)
    conflict = (
        "Operation cannot be fulfilled: the object has been modified; please apply your changes"
    )
    server.put("events", event("Experiment", "random-ok", "ReconcileError", conflict, 7))
    server.put(
        "events",
        event("Suggestion", "random-ok", "ReconcileError", "rpc error: no such setting", 8),
    )
    server.put("events", event("Suggestion", "another", "ReconcileError", "not ours"))
    said = until_warned(engine.watch("random-ok"), "Katib's controller fails repeatedly")
    assert (
        "rpc error: no such setting; see `kubectl describe suggestion -n gan random-ok`" in said[-1]
    )


def test_job_refused_by_quota_is_the_reason(server: Loopback, engine: KatibEngine) -> None:
    play_until(server, "random-ok", lambda step: condition(step, "trials", "Created"))
    trial = next(
        n
        for n in names(server, "trials")
        if "conditions" in str(server.objects["trials", "gan", n])
    )
    for other in names(server, "trials"):
        if other != trial:
            server.remove("trials", "gan", other)
    refusal = "exceeded quota: gan, limited: count/jobs.batch=0"
    message = f'Failed to reconcile: jobs.batch "{trial}" is forbidden: {refusal}'
    server.put("events", event("Trial", trial, "ReconcileError", message))
    events = until(engine.watch("random-ok"), lambda one: "quota" in one.message)
    assert "get resourcequota" in events[-1].message
    (stuck,) = events[-1].result.trials
    assert stuck.reason == f"its Job is refused: {refusal}"


def test_refused_pod_is_the_trial_reason(server: Loopback, engine: KatibEngine) -> None:
    server.replay("suspended-jobs")
    for name in names(server, "jobs"):
        change(server, "jobs", name, lambda job: job["spec"].update(suspend=False))
        refusal = f'Error creating: pods "{name}-x7k2p" is forbidden: violates PodSecurity "restricted:latest"'
        server.put("events", event("Job", name, "FailedCreate", refusal))
    said = until_warned(engine.watch("suspended-jobs"), "pod refused: violates PodSecurity")
    assert "give the trial's containers a restricted securityContext" in said[-1]


def test_events_of_an_earlier_experiment_are_ignored(server: Loopback, engine: KatibEngine) -> None:
    server.replay("suspended-jobs")
    for name in names(server, "jobs"):
        old = event("Job", name, "FailedCreate", "pods is forbidden: long ago")
        server.put("events", old | {"lastTimestamp": "2026-11-22T18:00:00Z"})
    said = until_warned(engine.watch("suspended-jobs"), "its Job is suspended")
    assert len(said) == 1


def test_kueues_queue_is_named(server: Loopback, engine: KatibEngine) -> None:
    server.replay("suspended-jobs")
    label = {"kueue.x-k8s.io/queue-name": "team-a"}
    for name in names(server, "jobs"):
        change(server, "jobs", name, lambda job: job["metadata"]["labels"].update(label))
    until_warned(
        engine.watch("suspended-jobs"),
        "queued by Kueue in team-a; it starts when the queue admits it",
    )


def test_a_queued_trainjob_is_looked_at_too(server: Loopback, engine: KatibEngine) -> None:
    server.replay("suspended-jobs")
    kind = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob"}
    change(
        server,
        "experiments",
        "suspended-jobs",
        lambda it: it["spec"]["trialTemplate"]["trialSpec"].update(kind),
    )
    for name in names(server, "jobs"):
        job = copy.deepcopy(server.remove("jobs", "gan", name))
        server.put("trainjobs", job)
    until_warned(engine.watch("suspended-jobs"), "its TrainJob is suspended")
    assert server.count("GET", "/apis/trainer.kubeflow.org/v1alpha1/namespaces/gan/trainjobs") == 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            "Evicted: low on memory",
        ),
        (
            {
                "containerStatuses": [
                    {"name": "t", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
                ]
            },
            "CrashLoopBackOff: container t failed repeatedly (exit code ?)",
        ),
        (
            {
                "containerStatuses": [
                    {"name": "t", "state": {"waiting": {"reason": "ContainerCreating"}}}
                ]
            },
            "",
        ),
        (
            {
                "containerStatuses": [
                    {"name": "t", "state": {"running": {}}, "lastState": KILLED, "restartCount": 1}
                ]
            },
            "",
        ),
    ],
)
def test_the_reason_of_a_trials_pod(status: dict[str, Any], reason: str) -> None:
    labels = {TRIAL_LABEL: "a-trial"}
    assert (
        objects.pod({"metadata": {"name": "p", "labels": labels}, "status": status}).reason
        == reason
    )
