"""KatibEngine.watch on the recorded scenarios: events, numbers, reasons, requests."""

from __future__ import annotations

import copy
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.clusters import (
    all_watched,
    change,
    condition,
    engine_on,
    go_on,
    names,
    play,
    play_until,
    told,
    until,
    until_warned,
    warnings,
)
from tests.tuner.engines.katib.test_diagnose import STALLS
from tests.tuner.loopback import SCENARIOS, Loopback, changes, many
from tuner.engines.base import EventKind
from tuner.engines.katib import KatibEngine
from tuner.engines.katib.clock import Clock
from tuner.errors import Deadline
from tuner.result import StudyState, TrialState

ENDINGS = {
    "random-ok": (StudyState.SUCCEEDED, "random-ok-k62kz9k8", 6),
    "bayes-ok": (StudyState.SUCCEEDED, "bayes-ok-m9g7zp6d", None),
    "multivariate-tpe-ok": (StudyState.SUCCEEDED, "multivariate-tpe-ok-tjfn4jbp", 6),
    "early-stopped": (StudyState.SUCCEEDED, None, 12),
    "goal-reached": (StudyState.SUCCEEDED, "goal-reached-csl9h6ml", 2),
    "failing": (StudyState.FAILED, None, 2),
    "oom-killed": (StudyState.FAILED, None, 2),
    "bad-setting": (StudyState.FAILED, None, 0),
}


def test_every_recorded_scenario_is_watched() -> None:
    assert sorted([*ENDINGS, *STALLS]) == SCENARIOS


@pytest.mark.parametrize("scenario", ENDINGS)
def test_watch_follows_search_until_it_finishes(
    server: Loopback, engine: KatibEngine, scenario: str
) -> None:
    state, best, count = ENDINGS[scenario]
    play(server, scenario)
    events = list(engine.watch(scenario))
    assert [event.kind for event in events].count(EventKind.STUDY_ENDED) == 1
    assert events[-1].kind is EventKind.STUDY_ENDED
    result = events[-1].result
    assert result.state is state
    katib = server.objects["experiments", "gan", scenario]["status"].get("currentOptimalTrial", {})
    if best:
        assert result.best is not None
        assert (result.best.name, katib["bestTrialName"]) == (best, best)
    if count is not None:
        assert len(result.trials) == count
    started = {
        event.trial.name
        for event in events
        if event.kind is EventKind.TRIAL_STARTED and event.trial
    }
    ended = [
        event.trial.name for event in events if event.kind is EventKind.TRIAL_ENDED and event.trial
    ]
    assert len(ended) == len(set(ended))
    assert started <= {trial.name for trial in result.trials}
    stored = engine.store.result(scenario)
    assert stored.to_json() == result.to_json()


def test_failed_trials_bear_their_pods_reason(server: Loopback, engine: KatibEngine) -> None:
    play(server, "oom-killed")
    result = list(engine.watch("oom-killed"))[-1].result
    assert {trial.reason for trial in result.trials} == {
        "OOMKilled: container trainer exceeded its memory limit"
    }
    assert {trial.node for trial in result.trials} == {"lab"}


def test_refused_setting_quotes_the_service(server: Loopback, engine: KatibEngine) -> None:
    play(server, "bad-setting")
    result = list(engine.watch("bad-setting"))[-1].result
    assert "acq_func nosuch is not supported" in result.reason


def test_success_survives_immediate_deletion(server: Loopback, engine: KatibEngine) -> None:
    """`kubectl wait && kubectl delete`, a helm upgrade."""
    steps = play_until(server, "random-ok", lambda step: step["kind"] == "experiments")

    def rest() -> None:
        all_watched(server)
        for _ in steps:
            pass
        server.remove("experiments", "gan", "random-ok")

    threading.Thread(target=rest, daemon=True).start()
    result = list(engine.watch("random-ok"))[-1].result
    assert (result.state, result.reason) == (
        StudyState.SUCCEEDED,
        "Experiment has succeeded because max trial count has reached",
    )
    assert all(trial.state.finished for trial in result.trials)
    assert engine.store.result("random-ok") == result


def test_deletion_ends_trials_left_by_search(server: Loopback, engine: KatibEngine) -> None:
    """Katib leaves them running when the goal is reached."""
    server.replay("random-ok")
    trial = names(server, "trials")[0]
    change(
        server,
        "trials",
        trial,
        lambda item: item.update(status={"conditions": item["status"]["conditions"][:1]}),
    )
    result = engine.delete("random-ok")
    assert result.state is StudyState.SUCCEEDED
    assert next(one for one in result.trials if one.name == trial).state is TrialState.KILLED
    assert engine.store.result("random-ok") == result


@pytest.mark.parametrize("scenario", ["oom-killed", "failing"])
def test_reason_and_node_survive_the_pod(
    server: Loopback, engine: KatibEngine, scenario: str
) -> None:
    """With retain: false Katib removes the pod, and says only that the Job has reached its backoff limit."""
    recorded, _ = changes(scenario)
    gone: set[str] = set()
    begun = threading.Event()

    def run() -> None:
        for step in recorded:
            name, item = step["object"]["metadata"]["name"], step["object"]
            item["metadata"]["namespace"] = "gan"
            if step["type"] == "DELETED" or name in gone:
                continue
            server.put(step["kind"], item)
            if step["kind"] == "experiments":
                begun.set()
            if step["kind"] == "pods" and item.get("status", {}).get("phase") == "Failed":
                gone.add(name)
                time.sleep(0.02)
                server.remove("pods", "gan", name)
            time.sleep(0.002)

    threading.Thread(target=run, daemon=True).start()
    begun.wait(5)
    events = list(engine.watch(scenario))
    result = events[-1].result
    why = "OOMKilled: container trainer exceeded its memory limit"
    if scenario == "failing":
        why = "exit code 3 (container trainer)"
    assert len(gone) == 2
    assert {(trial.reason, trial.node) for trial in result.trials} == {(why, "lab")}
    remedy = (
        "raise resources.limits.memory"
        if scenario == "oom-killed"
        else f"gantune logs {scenario} --trial 0"
    )
    assert any(
        said.startswith(f"2 of 2 trials failed: {why}; ") and remedy in said
        for said in warnings(events)
    )
    assert engine.result(scenario) == result


def test_nan_is_never_best_even_for_katib(
    server: Loopback, engine: KatibEngine, notes: list[str]
) -> None:
    server.replay("nan-objective")
    result = engine.result("nan-objective")
    assert result.best is None
    assert [trial.state for trial in result.trials] == [TrialState.METRICS_UNAVAILABLE] * 2
    (doubt,) = [note for note in notes if "best" in note]
    assert doubt.startswith(
        "Katib reports nan-objective-mtgbzpvf as the best trial, but by the trials' metrics it is none"
    )
    assert doubt.endswith(": a trial without a finite objective misleads Katib")


def test_a_goal_that_no_trial_reached_is_doubted(server: Loopback, engine: KatibEngine) -> None:
    server.replay("goal-reached")
    item = server.objects["experiments", "gan", "goal-reached"]
    item["spec"]["objective"]["goal"] = 0.001
    server.put("experiments", item)
    assert any(
        "no trial's fd reached it" in message
        for message in warnings(list(engine.watch("goal-reached")))
    )


def test_trials_running_after_goal_are_reported(server: Loopback, engine: KatibEngine) -> None:
    for _ in server.steps("goal-reached"):
        item = server.objects.get(("experiments", "gan", "goal-reached"), {})
        if any(c["type"] == "Succeeded" for c in item.get("status", {}).get("conditions", [])):
            break
    (warning,) = warnings(list(engine.watch("goal-reached")))
    assert (
        warning
        == "the search has finished, but 1 of its trials still run: stop them with `gantune stop goal-reached`"
    )


def test_two_thousand_trials_are_few_requests(server: Loopback, engine: KatibEngine) -> None:
    for plural, item in many(2000):
        if plural == "experiments":
            item["status"]["conditions"] = item["status"]["conditions"][:1]
        server.put(plural, item)
    engine.clock, engine.timeout = Clock(), 8
    watch = engine.watch("big")
    event = next(
        one for one in watch if sum(trial.state.finished for trial in one.result.trials) == 2000
    )
    assert event.result.best is not None
    assert event.result.best.name == "big-00001999"
    at_rest = len(server.requests)
    assert at_rest <= 1 + 1 + 8 + 1 + 3  # the Experiment, three lists in pages, three watches
    with pytest.raises(Deadline):
        list(watch)
    assert len(server.requests) == at_rest  # while it went on watching


def test_trial_numbers_stay_from_event_to_store(server: Loopback, engine: KatibEngine) -> None:
    play(server, "random-ok")
    numbers: dict[str, int] = {}
    for event in engine.watch("random-ok"):
        for trial in event.result.trials:
            assert numbers.setdefault(trial.name, trial.number) == trial.number
    assert sorted(numbers.values()) == list(range(6))
    again = engine.result("random-ok")
    assert {trial.name: trial.number for trial in again.trials} == numbers


def test_stopped_trials_are_known_after_deletion(server: Loopback, engine: KatibEngine) -> None:
    server.replay("gpu-unschedulable")
    engine.stop("gpu-unschedulable")
    assert [trial.state for trial in engine.delete("gpu-unschedulable").trials] == [
        TrialState.KILLED
    ] * 2


def test_numbers_go_by_creation_and_logs_knows_them(
    server: Loopback, engine: KatibEngine, tmp_path: Path
) -> None:
    """The API server lists by name; a watch that begins late numbers as one that saw them come."""
    play_until(server, "random-ok", lambda step: condition(step, "experiments", "Succeeded"))
    go_on(server, "random-ok")
    started = until(engine.watch("random-ok"), lambda event: len(event.result.trials) == 6)[
        -1
    ].result.trials
    created = [
        server.objects["trials", "gan", trial.name]["metadata"]["creationTimestamp"]
        for trial in started
    ]
    assert created == sorted(created)
    assert [trial.name for trial in started] != sorted(trial.name for trial in started)
    server.logs |= {f"{pod}/trainer": "" for pod in names(server, "pods")}
    # with what the watch stored, and without
    for one in (engine, engine_on(tmp_path / "elsewhere")):
        for trial in started:
            server.requests.clear()
            list(one.logs("random-ok", str(trial.number)))
            assert server.count("GET", f"/pods/{trial.name}-") == 1


@pytest.mark.parametrize("backwards", [False, True])
def test_tied_trials_are_numbered_by_name(
    server: Loopback, engine: KatibEngine, backwards: bool
) -> None:
    """The trials of one reconciliation share their creation second, and arrive one by one in any order."""
    play_until(server, "random-ok", lambda step: condition(step, "trials", "Running"))
    model = server.objects["trials", "gan", names(server, "trials")[0]]
    for name in names(server, "trials"):
        server.remove("trials", "gan", name)

    def create() -> None:
        all_watched(server)
        for name in sorted(("random-ok-a", "random-ok-b", "random-ok-c"), reverse=backwards):
            server.put(
                "trials",
                copy.deepcopy(
                    model | {"metadata": model["metadata"] | {"name": name, "uid": name}}
                ),
            )

    threading.Thread(target=create, daemon=True).start()
    result = until(engine.watch("random-ok"), lambda event: len(event.result.trials) == 3)[
        -1
    ].result
    assert [trial.name for trial in result.trials] == ["random-ok-a", "random-ok-b", "random-ok-c"]


def test_a_pods_reason_goes_with_it(server: Loopback, engine: KatibEngine) -> None:
    server.replay("gpu-unschedulable")
    watch = engine.watch("gpu-unschedulable")
    for event in watch:
        if len(event.result.trials) == 2 and all(trial.reason for trial in event.result.trials):
            break
    trial = event.result.trials[0]
    server.remove("pods", "gan", *names(server, "pods", trial.name))
    for event in watch:
        if event.trial and event.trial.name == trial.name:
            break
    assert event.trial.reason == ""
    watch.close()


def test_a_search_that_was_extended_is_watched_on(server: Loopback, engine: KatibEngine) -> None:
    """Katib's controller has not come to it yet: the condition still says Succeeded."""
    server.replay("random-ok")
    change(
        server,
        "experiments",
        "random-ok",
        lambda item: item["spec"].update(resumePolicy="LongRunning"),
    )
    engine.result("random-ok")
    assert engine.store.result("random-ok").state is StudyState.SUCCEEDED
    engine.extend("random-ok", 12)
    assert engine.store.result("random-ok").state is StudyState.RUNNING
    assert len(engine.store.result("random-ok").trials) == 6
    engine.timeout = 15
    with pytest.raises(Deadline):
        list(engine.watch("random-ok"))


def test_an_extension_from_elsewhere_is_heard(server: Loopback, engine: KatibEngine) -> None:
    """All trials of the old count have ended and none new comes: with the old count nothing would be missing."""
    server.replay("random-ok")
    go_on(server, "random-ok")
    watch = engine.watch("random-ok")
    for event in watch:
        if len(told([event], EventKind.TRIAL_ENDED)) and len(event.result.trials) == 6:
            break
    change(server, "experiments", "random-ok", lambda item: item["spec"].update(maxTrialCount=12))
    until_warned(watch, "all 6 trials have finished and no new trial was created since")


def test_reason_why_nothing_was_stopped_is_a_warning(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    settings = [{"name": "not_stopped", "value": "no trial is stopped: add stopped"}]
    asked = [{"name": "stop_factors", "value": '{"2": 1.5}'}]

    def asks(item: dict[str, Any]) -> None:
        item["spec"]["algorithm"]["algorithmSettings"] = asked

    change(server, "experiments", "random-ok", asks)
    change(
        server,
        "suggestions",
        "random-ok",
        lambda item: item["status"].update(algorithmSettings=settings),
    )
    events = list(engine.watch("random-ok"))
    assert any("no trial is stopped: add stopped" in event.message for event in events)
