"""KatibEngine.watch when something goes wrong between client and server, or is taken away under it."""

from __future__ import annotations

import itertools
import random
import threading
import time

import pytest

from tests.tuner.clusters import (
    all_watched,
    condition,
    play,
    play_until,
    told,
    until,
    warnings,
)
from tests.tuner.loopback import RESPONSES, Loopback, changes
from tuner.engines.base import EventKind
from tuner.engines.katib import KatibEngine
from tuner.errors import ClusterError, Deadline, Forbidden, NotFound
from tuner.result import StudyState, TrialState


def test_a_cut_connection_and_a_410_lose_nothing(server: Loopback, engine: KatibEngine) -> None:
    """Every trial's end comes from the watch itself: the Experiment ends only when all have been told."""
    steps = play_until(server, "random-ok", lambda step: step["kind"] == "trials")
    told_all = threading.Event()

    def rest() -> None:
        for turn, step in enumerate(steps):
            if condition(step, "experiments", "Succeeded"):
                told_all.wait(20)
            if turn % 15 == 7:
                (server.expire if turn % 2 else server.cut_watches)()
            time.sleep(0.003)

    threading.Thread(target=rest, daemon=True).start()
    events = []
    for event in engine.watch("random-ok"):
        events.append(event)
        if len(told(events, EventKind.TRIAL_ENDED)) == 6:
            told_all.set()
    assert told_all.is_set()
    assert sorted(told(events, EventKind.TRIAL_ENDED)) == sorted(
        told(events, EventKind.TRIAL_STARTED)
    )
    assert len(set(told(events, EventKind.TRIAL_ENDED))) == 6
    assert events[-1].result.best is not None


def test_watch_waits_for_an_absent_server(server: Loopback, engine: KatibEngine) -> None:
    engine.cluster._backoff = 0.001
    recorded, _ = changes("random-ok")
    success = next(
        i for i, step in enumerate(recorded) if condition(step, "experiments", "Succeeded")
    )
    begun = next(i for i, step in enumerate(recorded) if condition(step, "trials", "Running"))
    steps = play_until(server, "random-ok", lambda step: condition(step, "trials", "Running"))
    watch = engine.watch("random-ok")
    seen = [next(watch)]
    all_watched(server)
    server.silent = True
    server.cut_watches()
    list(itertools.islice(steps, success - begun - 1))
    threading.Timer(0.4, setattr, (server, "silent", False)).start()
    for event in watch:
        seen.append(event)
        if len(told(seen, EventKind.TRIAL_ENDED)) == 6:  # all six, before the search has ended
            for _ in steps:
                pass
    assert any("connection lost, trying again" in message for message in warnings(seen))
    assert seen[-1].result.state is StudyState.SUCCEEDED
    assert len(told(seen, EventKind.TRIAL_ENDED)) == 6


@pytest.mark.parametrize("seed", range(3))
def test_events_out_of_order_give_the_same_trials(
    server: Loopback, engine: KatibEngine, seed: int
) -> None:
    """The trials' states come shuffled over the stream, with the resourceVersions that they had."""
    recorded = [change for change in changes("random-ok")[0] if change["kind"] == "trials"]
    server.replay("random-ok")
    for key in [key for key in server.objects if key[0] == "trials"]:
        del server.objects[key]
    final = server.objects["experiments", "gan", "random-ok"]
    conditions = final["status"]["conditions"]
    final["status"]["conditions"] = conditions[:1]
    random.Random(seed).shuffle(recorded)
    newest: dict[str, dict] = {}

    def shuffled() -> None:
        time.sleep(0.2)
        for step in recorded:
            item = step["object"]
            item["metadata"]["namespace"] = "gan"
            name, version = item["metadata"]["name"], int(item["metadata"]["resourceVersion"])
            if version > int(newest.get(name, {}).get("metadata", {}).get("resourceVersion", 0)):
                newest[name] = item
            with server.changed:
                server.version += 1
                server.history.append((server.version, "trials", "gan", "MODIFIED", item))
                server.changed.notify_all()
        with server.changed:
            server.objects.update({("trials", "gan", name): item for name, item in newest.items()})
        time.sleep(0.2)
        final["status"]["conditions"] = conditions
        server.put("experiments", final)

    threading.Thread(target=shuffled, daemon=True).start()
    events = list(engine.watch("random-ok"))
    last = events[-2].result
    assert {trial.state for trial in last.trials} == {TrialState.SUCCEEDED}
    assert len([event for event in events if event.kind is EventKind.TRIAL_ENDED]) == 6
    assert last.best is not None
    assert last.best.name == "random-ok-k62kz9k8"


def test_deletion_ends_watch_and_keeps_trials(server: Loopback, engine: KatibEngine) -> None:
    for step in server.steps("random-ok"):
        trials = [item for key, item in server.objects.items() if key[0] == "trials"]
        if (
            step["kind"] == "trials"
            and sum("observation" in t.get("status", {}) for t in trials) == 3
        ):
            break
    threading.Timer(0.3, server.remove, ("experiments", "gan", "random-ok")).start()
    events = list(engine.watch("random-ok"))
    result = events[-1].result
    assert (result.state, result.reason) == (
        StudyState.DELETED,
        "it was deleted on the cluster during the watch",
    )
    assert {trial.state for trial in result.trials} == {TrialState.SUCCEEDED, TrialState.KILLED}
    assert sorted(told(events, EventKind.TRIAL_ENDED)) == sorted(
        trial.name for trial in result.trials
    )
    assert result.best is not None
    assert engine.store.result("random-ok").best == result.best


def test_replaced_experiment_counts_as_deleted(server: Loopback, engine: KatibEngine) -> None:
    steps = server.steps("random-ok")
    next(step for step in steps if step["kind"] == "experiments")
    item = dict(server.objects["experiments", "gan", "random-ok"])
    item["metadata"] = dict(item["metadata"], uid="another")
    threading.Timer(0.2, server.put, ("experiments", item)).start()
    assert list(engine.watch("random-ok"))[-1].result.state is StudyState.DELETED


def test_timeout_ends_watch_but_not_search(server: Loopback, engine: KatibEngine) -> None:
    engine.timeout = 15
    server.replay("gpu-unschedulable")
    with pytest.raises(
        Deadline, match=r"gpu-unschedulable did not finish within 15 s and is still running"
    ):
        list(engine.watch("gpu-unschedulable"))
    assert len(engine.store.result("gpu-unschedulable").trials) == 2
    assert ("experiments", "gan", "gpu-unschedulable") in server.objects


def test_watching_what_does_not_exist_is_not_found(server: Loopback, engine: KatibEngine) -> None:
    with pytest.raises(
        NotFound, match=r'experiments\.kubeflow\.org "nosuch" not found in namespace gan'
    ):
        list(engine.watch("nosuch"))


def test_missing_right_to_trials_names_the_rule(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    server.objects["experiments", "gan", "random-ok"]["status"]["conditions"] = []
    server.recorded("GET", "/trials", "forbidden-list-403")
    with pytest.raises(Forbidden, match=r'resources: \["trials"\], verbs: \["list", "watch"\]'):
        list(engine.watch("random-ok"))


def test_watch_continues_without_right_to_pods(server: Loopback, engine: KatibEngine) -> None:
    server.answer("GET", "/pods", 403, {"message": 'User "me" cannot list resource "pods"'})
    play(server, "random-ok")
    events = list(engine.watch("random-ok"))
    (said,) = [message for message in warnings(events) if "pods" in message]
    assert said.startswith(
        'nodes and the reasons of waiting pods are not shown: User "me" cannot list resource "pods"; '
    )
    assert said.endswith(
        'the RBAC rule to add: {apiGroups: [""], resources: ["pods"], verbs: ["list", "watch"]}'
    )
    assert events[-1].result.state is StudyState.SUCCEEDED


def test_missed_finishes_come_before_the_last_event(server: Loopback, engine: KatibEngine) -> None:
    """The Experiment's stream may be ahead of the trials'."""
    steps = play_until(server, "random-ok", lambda step: condition(step, "trials", "Running"))
    watch = engine.watch("random-ok")
    events = [next(watch)]
    for step in steps:
        if step["kind"] == "trials":  # they change, and no stream says so
            server.history[:] = [entry for entry in server.history if entry[1] != "trials"]
    events += list(watch)
    result = events[-1].result
    assert sorted(told(events, EventKind.TRIAL_ENDED)) == sorted(
        trial.name for trial in result.trials
    )
    assert sorted(told(events, EventKind.TRIAL_STARTED)) == sorted(
        trial.name for trial in result.trials
    )
    assert events[-1].kind is EventKind.STUDY_ENDED


def test_failed_last_poll_keeps_results(server: Loopback, engine: KatibEngine) -> None:
    steps = play_until(server, "random-ok", lambda step: condition(step, "trials", "Running"))
    watch = engine.watch("random-ok")
    events = [next(watch)]
    server.answer("GET", "/experiments/random-ok", 403, RESPONSES["forbidden-list-403"]["body"])
    for _ in steps:
        pass
    events += list(watch)
    assert any(
        said.startswith("these are the results of the watch, because the final read failed: ")
        for said in warnings(events)
    )
    assert (events[-1].kind, events[-1].result.state) == (
        EventKind.STUDY_ENDED,
        StudyState.SUCCEEDED,
    )


def test_a_thread_that_dies_ends_the_watch(server: Loopback, engine: KatibEngine) -> None:
    play_until(server, "random-ok", lambda step: step["kind"] == "trials")
    # a list without metadata, from something in between
    server.answer("GET", "/trials", 200, {"items": []})
    with pytest.raises(
        ClusterError, match="the watch of trials failed: KeyError: 'resourceVersion'"
    ):
        list(engine.watch("random-ok"))


def test_ctrl_c_keeps_results_and_leaves_no_thread(server: Loopback, engine: KatibEngine) -> None:
    server.replay("gpu-unschedulable")
    watch = engine.watch("gpu-unschedulable")
    for event in watch:
        if len(event.result.trials) == 2:
            break
    with pytest.raises(KeyboardInterrupt):
        watch.throw(KeyboardInterrupt())
    stored = engine.store.result("gpu-unschedulable")
    assert (stored.state, len(stored.trials)) == (StudyState.RUNNING, 2)
    end = time.monotonic() + 5
    while any("_follow" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("what", ["trial", "experiment"])
def test_what_was_deleted_while_disconnected_is_noticed(
    server: Loopback, engine: KatibEngine, what: str
) -> None:
    engine.cluster._backoff = 0.001
    server.replay("gpu-unschedulable")
    watch = engine.watch("gpu-unschedulable")
    for event in watch:
        if len(event.result.trials) == 2:
            break
    all_watched(server)
    server.silent = True
    server.cut_watches()
    trial = event.result.trials[0].name
    server.remove(f"{what}s", "gan", trial if what == "trial" else "gpu-unschedulable")
    threading.Timer(0.1, setattr, (server, "silent", False)).start()
    if what == "trial":
        events = until(watch, lambda event: event.kind is EventKind.TRIAL_ENDED)
        assert (events[-1].trial.name, events[-1].trial.state) == (trial, TrialState.KILLED)
    else:
        assert len(told(list(watch), EventKind.TRIAL_ENDED)) == 2
        assert engine.store.result("gpu-unschedulable").state is StudyState.DELETED
