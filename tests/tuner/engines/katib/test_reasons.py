"""Why a trial failed or waits: the best of what its pod, its Job, its node and the metrics collector say."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pytest

from tests.tuner.clusters import (
    all_watched,
    change,
    condition,
    go_on,
    names,
    play,
    play_until,
    told,
    until,
    until_warned,
)
from tests.tuner.engines.katib.test_diagnose import event as warning_event
from tests.tuner.loopback import Loopback
from tuner.engines.base import Event, EventKind
from tuner.engines.katib import KatibEngine
from tuner.errors import Deadline, Forbidden
from tuner.katib.facts import EXPERIMENT_LABEL, SIDECAR, TRIAL_LABEL
from tuner.result import Result, TrialState

TIMED_OUT = "Job was active longer than specified deadline"
KLOG = "2026-11-22T19:15:00Z ??? F1122 19:15:00.788399      15 main.go:425] "
NO_FILE = "Failed to collect logs: open /var/log/katib/metrics.log: no such file or directory"
NO_DATABASE = 'Failed to Report logs: rpc error: code = Unavailable desc = "no such host"'


def ended(code: int) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}


def containers(trainer: dict[str, Any], collector: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "trainer", "state": trainer}, {"name": SIDECAR, "state": collector}]


def fail_pods(server: Loopback, **status: Any) -> None:
    """Replay the failing search, and let its pods have this status instead."""
    server.replay("failing")
    for name in names(server, "pods", "failing-"):
        if "random" not in name:
            change(server, "pods", name, lambda pod: pod["status"].update(status))


def reasons(result: Result) -> set[str]:
    return {trial.reason for trial in result.trials}


def watched(server: Loopback, engine: KatibEngine, reason: str) -> Event:
    """The event by which every trial has `reason`, from a watch of the search while Katib still says Running."""
    go_on(server, "failing")
    return until(engine.watch("failing"), lambda event: reasons(event.result) == {reason})[-1]


def test_deadline_wins_over_exit_code(server: Loopback, engine: KatibEngine) -> None:
    fail_pods(server, containerStatuses=containers(ended(143), ended(255)))
    for name in names(server, "trials"):
        failed = {
            "type": "Failed",
            "status": "True",
            "reason": "TrialFailed. Job reason: DeadlineExceeded",
        }
        failed["message"] = f"Trial has failed. Job message: {TIMED_OUT}"
        change(
            server,
            "trials",
            name,
            lambda item, last=failed: item["status"]["conditions"].append(last),
        )
    assert reasons(engine.result("failing")) == {TIMED_OUT}
    assert watched(server, engine, TIMED_OUT).result.trials


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted: The node was low on resource: memory.",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "EvictionByEvictionAPI",
                        "message": "Eviction API: evicting",
                    }
                ]
            },
            "Evicted through the Eviction API: Eviction API: evicting",
        ),
    ],
)
def test_eviction_wins_over_exit_code(
    server: Loopback, engine: KatibEngine, status: dict[str, Any], reason: str
) -> None:
    fail_pods(server, containerStatuses=containers(ended(143), ended(255)), **status)
    assert reasons(engine.result("failing")) == {reason}
    assert watched(server, engine, reason).result.trials


@pytest.mark.parametrize(
    ("log", "cause", "fix"),
    [
        (
            NO_FILE,
            "the metrics file was never written",
            "metricsCollectorSpec.source.fileSystemPath",
        ),
        (NO_DATABASE, "Katib's DB manager did not take the metrics", "component=db-manager"),
        ("something else", "something else", "gantune logs failing --trial 0"),
    ],
)
def test_collector_failure_names_its_cause(
    server: Loopback, engine: KatibEngine, notes: list[str], log: str, cause: str, fix: str
) -> None:
    fail_pods(server, containerStatuses=containers(ended(0), ended(255)))
    for key in [key for key in server.logs if key.endswith(SIDECAR)]:
        server.logs[key] = f"{KLOG.replace('F1122', 'I1122')}epoch=1 fd=3\n{KLOG}{log}\n"
    result = engine.result("failing")
    (reason,) = reasons(result)
    assert reason.startswith(f"the metrics collector failed: {cause}")
    assert log in reason
    (note,) = [note for note in notes if "trials failed" in note]
    assert fix in note
    assert watched(server, engine, reason).result.trials


def test_logs_show_failed_collector(server: Loopback, engine: KatibEngine) -> None:
    fail_pods(server, containerStatuses=containers(ended(0), ended(255)))
    for key in [key for key in server.logs if key.endswith(SIDECAR)]:
        server.logs[key] = f"{KLOG}{NO_FILE}\n"
    assert list(engine.logs("failing", "0")) == [NO_FILE]


def test_logs_show_failed_trainer(server: Loopback, engine: KatibEngine) -> None:
    server.replay("failing")
    assert list(engine.logs("failing", "0")) == ["step 1", "step 2", "step 3"]


def running_pods(server: Loopback, **status: Any) -> None:
    """The search with its trials at work, and this status of their pods."""
    play_until(server, "failing", lambda step: condition(step, "trials", "Running"))
    for trial in names(server, "trials"):
        change(server, "trials", trial, lambda item: item.update(status={"conditions": [RUNNING]}))
        labels = {TRIAL_LABEL: trial, EXPERIMENT_LABEL: "failing"}
        metadata = {"name": f"{trial}-x", "namespace": "gan", "labels": labels}
        server.put(
            "pods",
            {
                "metadata": metadata,
                "spec": {"nodeName": "lab"},
                "status": {"phase": "Running"} | status,
            },
        )


RUNNING = {
    "type": "Running",
    "status": "True",
    "reason": "TrialRunning",
    "message": "Trial is running",
}


def test_dead_pod_is_not_waiting(server: Loopback, engine: KatibEngine) -> None:
    """Katib marks the trial as failed a moment later."""
    running_pods(server, containerStatuses=containers(ended(2), {"running": {}}))
    count = len(names(server, "trials"))
    nodes = ["lab"] * count
    event = until(
        engine.watch("failing"),
        lambda event: [trial.node for trial in event.result.trials] == nodes,
    )[-1]
    assert reasons(event.result) == {""}


def test_pod_without_successor_is_told(server: Loopback, engine: KatibEngine) -> None:
    running_pods(server, phase="Failed", containerStatuses=containers(ended(2), ended(255)))
    why = "its pod failed and was not replaced: exit code 2 (container trainer)"
    said = until_warned(engine.watch("failing"), why)
    assert "gantune logs failing --trial 0" in said[-1]


def test_node_not_ready_is_told(server: Loopback, engine: KatibEngine) -> None:
    """The node controller sets Ready to False, and leaves what the kubelet said of the containers."""
    ready = [{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "False"}]
    running_pods(
        server, conditions=ready, containerStatuses=containers({"running": {}}, {"running": {}})
    )
    said = until_warned(engine.watch("failing"), "NodeNotReady: node lab does not answer")
    assert "kubectl describe node" in said[-1]


def test_node_that_returns_clears_reason(server: Loopback, engine: KatibEngine) -> None:
    ready = [{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "False"}]
    running_pods(server, conditions=ready)
    watch = engine.watch("failing")
    assert next(event for event in watch if any(trial.reason for trial in event.result.trials))
    ready = [{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "True"}]
    for name in names(server, "pods", "-x"):
        change(server, "pods", name, lambda pod: pod["status"].update(conditions=ready))
    event = until(watch, lambda event: reasons(event.result) == {""})[-1]
    assert {trial.state for trial in event.result.trials} == {TrialState.RUNNING}


@pytest.mark.parametrize("scenario", ["random-ok", "failing", "gpu-unschedulable"])
def test_no_report_before_the_start(server: Loopback, engine: KatibEngine, scenario: str) -> None:
    engine.timeout = 100
    play(server, scenario)
    events = []
    with suppress(Deadline):
        for event in engine.watch(scenario):
            events.append(event)
    started = told(events, EventKind.TRIAL_STARTED)
    assert started
    for event in events:
        if event.kind is EventKind.TRIAL_STARTED and event.trial:
            started.remove(event.trial.name)
        elif event.trial:
            assert event.trial.name not in started


def test_waiting_trial_is_told_next_to_running_ones(server: Loopback, engine: KatibEngine) -> None:
    running_pods(server, containerStatuses=containers({"running": {}}, {"running": {}}))
    waits = names(server, "trials")[0]
    change(server, "trials", waits, lambda item: item["status"].update(conditions=[]))
    refusal = f'jobs.batch "{waits}" is forbidden: failed quota: gan: must specify limits.cpu for: trainer'
    server.put("events", warning_event("Trial", waits, "ReconcileError", refusal))
    event = until(engine.watch("failing"), lambda event: event.kind is EventKind.WARNING)[-1]
    why = "its Job is refused: failed quota: gan: must specify limits.cpu for: trainer"
    assert event.message.startswith(
        f"some trials wait for their Jobs: {why}; set the requests and limits"
    )
    assert {trial.reason for trial in event.result.trials if trial.name == waits} == {why}


def sampler_says(server: Loopback, line: str) -> None:
    """A search without new trials, and this as the last line of its sampler's log."""
    server.replay("nan-objective")
    for name in names(server, "events"):
        server.remove("events", "gan", name)
    (pod,) = [key for key in server.logs if key.endswith("/suggestion")]
    server.logs = {pod: f"2026-11-22T19:17:03.640608435Z {line}\n"}


@pytest.mark.parametrize(
    "line", ["INFO:root:no error so far", "Failed to load cloudpickle", "INFO:w:retry on Error"]
)
def test_harmless_log_line_is_ignored(server: Loopback, engine: KatibEngine, line: str) -> None:
    sampler_says(server, line)
    assert len(until_warned(engine.watch("nan-objective"), "no new trial")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "ERROR:grpc._server:Exception calling application: boom",
        "ValueError: boom",
        "E1122 19:15:00.1 1 a.go:4] boom",
    ],
)
def test_error_of_the_sampler_is_told(server: Loopback, engine: KatibEngine, line: str) -> None:
    sampler_says(server, line)
    assert "boom" in until_warned(engine.watch("nan-objective"), "")[-1]


def test_outage_is_not_called_a_stall(server: Loopback, engine: KatibEngine) -> None:
    engine.cluster._backoff = 0.001
    sampler_says(server, "ERROR:root:connection to the API server refused")
    watch = engine.watch("nan-objective")
    for event in watch:
        if len(event.result.trials) == 2:
            break
    all_watched(server)
    server.silent = True
    server.cut_watches()
    # after the first looks for a stall
    threading.Timer(2, setattr, (server, "silent", False)).start()
    said = until_warned(watch, "the suggestion service")
    assert all("connection lost, trying again" in message for message in said[:-1])
    assert not server.silent


def test_forbidden_watch_is_not_lost_connection(server: Loopback, engine: KatibEngine) -> None:
    server.replay("gpu-unschedulable")
    body = {"message": 'User "me" cannot watch resource "trials"', "code": 403}
    for _ in range(9):
        server.answer("GET", "/trials?labelSelector", 403, body)
    watch = engine.watch("gpu-unschedulable")
    (refused,) = until_warned(watch, "trying again")
    assert refused.startswith(
        'the cluster refused a request, trying again: User "me" cannot watch resource "trials"'
    )


def test_forbidden_watch_ends_with_the_rule(server: Loopback, engine: KatibEngine) -> None:
    server.replay("gpu-unschedulable")
    body = {"message": 'User "me" cannot watch resource "trials"', "code": 403}
    for _ in range(9):
        server.answer("GET", "/trials?labelSelector", 403, body)
    with pytest.raises(Forbidden, match=r'resources: \["trials"\], verbs: \["list", "watch"\]'):
        list(engine.watch("gpu-unschedulable"))
