"""KatibEngine.watch on the recorded scenarios, and on what can go wrong between client and server."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tuner.loopback import SCENARIOS, Loopback, changes, many
from tuner.engine import Event, EventKind
from tuner.engines.katib import KatibEngine
from tuner.errors import Forbidden, NotFound, Timeout
from tuner.kube import Cluster
from tuner.result import StudyState, TrialState
from tuner.store import Store

PACE = 0.02  # of the real waits: the first look for a stall after 0.4 s instead of 20
NOWHERE = "127.0.0.1:9"  # no DB manager


@pytest.fixture
def engine(kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KatibEngine:
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    return KatibEngine(Cluster.connect(), Store(tmp_path / "store"), pace=PACE, deadline=60, db_manager=NOWHERE)


def play(server: Loopback, scenario: str) -> threading.Thread:
    """Begin a scenario, and go on with it in the background."""
    steps = server.steps(scenario)
    next(step for step in steps if step["kind"] == "experiments")

    def rest() -> None:
        for _ in steps:
            time.sleep(0.001)

    thread = threading.Thread(target=rest, daemon=True)
    thread.start()
    return thread


def warnings(events: list[Event]) -> list[str]:
    return [event.message for event in events if event.kind is EventKind.WARNING]


def until(events: Iterator[Event], good: Callable[[Event], bool]) -> list[Event]:
    """Events up to the first that is `good`; the watch is closed then."""
    seen = []
    for event in events:
        seen.append(event)
        if good(event):
            events.close()
            return seen
    raise AssertionError(f"never came; last {seen[-1:]}")


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
STALLS = {
    "nan-objective": ("the sampler fails on a trial without a finite fd", "gantune stop nan-objective"),
    "gpu-unschedulable": ("Unschedulable: 1 Insufficient nvidia.com/gpu", "lower parallelTrialCount"),
    "image-pull-error": ("ImagePullBackOff", "check the image's name"),
    "suspended-jobs": ("its Job is suspended (queued by Kueue, or by hand)", "when the queue admits it"),
    "restricted-early-stopping": ("pod is refused: violates PodSecurity", "remove earlyStopping"),
}


def test_every_recorded_scenario_is_watched() -> None:
    assert sorted([*ENDINGS, *STALLS]) == SCENARIOS


@pytest.mark.parametrize("scenario", ENDINGS)
def test_a_search_that_ends_is_followed_to_its_end(server: Loopback, engine: KatibEngine, scenario: str) -> None:
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
    started = {event.trial.name for event in events if event.kind is EventKind.TRIAL_STARTED and event.trial}
    ended = [event.trial.name for event in events if event.kind is EventKind.TRIAL_ENDED and event.trial]
    assert len(ended) == len(set(ended))
    assert started <= {trial.name for trial in result.trials}
    stored = engine.store.result(scenario)
    assert stored.to_json() == result.to_json()


@pytest.mark.parametrize("scenario", STALLS)
def test_a_search_that_cannot_move_says_why_and_the_remedy(
    server: Loopback, engine: KatibEngine, scenario: str
) -> None:
    why, remedy = STALLS[scenario]
    play(server, scenario)
    events = until(engine.watch(scenario), lambda event: event.kind is EventKind.WARNING and why in event.message)
    assert remedy in events[-1].message
    assert len(warnings(events)) == len(set(warnings(events))) == 1
    assert server.objects["experiments", "gan", scenario]["status"]["conditions"][-1]["type"] in ("Created", "Running")


def test_a_stall_is_said_within_a_minute() -> None:
    from tuner.engines.katib.watching import _LOOKS

    assert _LOOKS[0] + 30 <= 60  # the first look, and the requests that it makes


def test_failed_trials_bear_their_pods_reason(server: Loopback, engine: KatibEngine) -> None:
    play(server, "oom-killed")
    result = list(engine.watch("oom-killed"))[-1].result
    assert {trial.reason for trial in result.trials} == {"OOMKilled: container trainer passed its memory limit"}
    assert {trial.node for trial in result.trials} == {"lab"}


def test_a_refused_setting_is_told_in_the_services_words(server: Loopback, engine: KatibEngine) -> None:
    play(server, "bad-setting")
    result = list(engine.watch("bad-setting"))[-1].result
    assert "acq_func nosuch is not supported" in result.reason


def test_a_nan_is_never_best_and_katibs_claim_is_contradicted(server: Loopback, engine: KatibEngine) -> None:
    server.replay("nan-objective")
    result = engine.collect("nan-objective")
    assert result.best is None
    assert [trial.state for trial in result.trials] == [TrialState.METRICS_UNAVAILABLE] * 2
    (doubt,) = engine.doubts("nan-objective", result)
    assert doubt.startswith("Katib names nan-objective-mtgbzpvf the best trial; by the trials' own values it is none")


def test_a_goal_that_no_trial_reached_is_doubted(server: Loopback, engine: KatibEngine) -> None:
    server.replay("goal-reached")
    item = server.objects["experiments", "gan", "goal-reached"]
    item["spec"]["objective"]["goal"] = 0.001
    server.put("experiments", item)
    assert any("no trial's fd did" in message for message in warnings(list(engine.watch("goal-reached"))))


def test_trials_that_still_run_after_the_goal_are_told(server: Loopback, engine: KatibEngine) -> None:
    for _ in server.steps("goal-reached"):
        item = server.objects.get(("experiments", "gan", "goal-reached"), {})
        if any(c["type"] == "Succeeded" for c in item.get("status", {}).get("conditions", [])):
            break
    (warning,) = warnings(list(engine.watch("goal-reached")))
    assert warning == "the search has ended, 1 of its trials still run: `gantune stop goal-reached` ends them"


def test_a_cut_connection_and_a_410_lose_nothing(server: Loopback, engine: KatibEngine) -> None:
    thread = play(server, "random-ok")

    def trouble() -> None:
        for turn in range(6):
            time.sleep(0.05)
            (server.expire if turn % 2 else server.cut_watches)()

    threading.Thread(target=trouble, daemon=True).start()
    events = list(engine.watch("random-ok"))
    thread.join()
    ended = [event.trial.name for event in events if event.kind is EventKind.TRIAL_ENDED and event.trial]
    assert len(ended) == len(set(ended))
    assert len(events[-1].result.trials) == 6
    assert events[-1].result.best is not None


def test_a_server_that_goes_away_for_a_while_is_waited_for(server: Loopback, engine: KatibEngine) -> None:
    engine.cluster._backoff = 0.001
    steps = server.steps("random-ok")
    next(step for step in steps if step["kind"] == "experiments")
    events = engine.watch("random-ok")

    def restart() -> None:
        time.sleep(0.3)
        server.silent = True
        server.cut_watches()
        time.sleep(0.4)
        server.silent = False
        for _ in steps:
            pass

    threading.Thread(target=restart, daemon=True).start()
    seen = list(events)
    assert any("connection lost, trying again" in message for message in warnings(seen))
    assert seen[-1].result.state is StudyState.SUCCEEDED
    assert len(seen[-1].result.trials) == 6


@pytest.mark.parametrize("seed", range(3))
def test_events_out_of_order_give_the_same_trials(server: Loopback, engine: KatibEngine, seed: int) -> None:
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
        for change in recorded:
            item = change["object"]
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


def test_an_experiment_deleted_under_way_ends_the_watch_and_keeps_its_trials(
    server: Loopback, engine: KatibEngine
) -> None:
    for step in server.steps("random-ok"):
        trials = [item for key, item in server.objects.items() if key[0] == "trials"]
        if step["kind"] == "trials" and sum("observation" in t.get("status", {}) for t in trials) == 3:
            break
    threading.Timer(0.3, server.remove, ("experiments", "gan", "random-ok")).start()
    events = list(engine.watch("random-ok"))
    result = events[-1].result
    assert (result.state, result.reason) == (StudyState.STOPPED, "deleted on the cluster while it was watched")
    assert result.best is not None
    assert engine.store.result("random-ok").best == result.best


def test_another_experiment_under_the_same_name_is_a_deletion(server: Loopback, engine: KatibEngine) -> None:
    steps = server.steps("random-ok")
    next(step for step in steps if step["kind"] == "experiments")
    item = dict(server.objects["experiments", "gan", "random-ok"])
    item["metadata"] = dict(item["metadata"], uid="another")
    threading.Timer(0.2, server.put, ("experiments", item)).start()
    assert list(engine.watch("random-ok"))[-1].result.state is StudyState.STOPPED


def test_the_deadline_ends_the_watch_and_not_the_search(server: Loopback, engine: KatibEngine) -> None:
    engine.deadline = 0.3
    server.replay("gpu-unschedulable")
    with pytest.raises(Timeout, match=r"gpu-unschedulable has not ended within 0\.3 s; it goes on"):
        list(engine.watch("gpu-unschedulable"))
    assert len(engine.store.result("gpu-unschedulable").trials) == 2
    assert ("experiments", "gan", "gpu-unschedulable") in server.objects


def test_watching_what_does_not_exist_is_not_found(server: Loopback, engine: KatibEngine) -> None:
    with pytest.raises(NotFound, match=r'experiments\.kubeflow\.org "nosuch" not found in namespace gan'):
        list(engine.watch("nosuch"))


def test_without_the_right_to_list_trials_the_rule_is_named(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    server.objects["experiments", "gan", "random-ok"]["status"]["conditions"] = []
    server.recorded("GET", "/trials", "forbidden-list-403")
    with pytest.raises(Forbidden, match=r'resources: \["trials"\], verbs: \["list"\]'):
        list(engine.watch("random-ok"))


def test_without_the_right_to_list_pods_the_watch_goes_on(server: Loopback, engine: KatibEngine) -> None:
    for _ in range(3):
        server.answer("GET", "/pods", 403, {"message": "pods is forbidden"})
    play(server, "random-ok")
    events = list(engine.watch("random-ok"))
    assert any("no reasons for waiting pods" in message for message in warnings(events))
    assert events[-1].result.state is StudyState.SUCCEEDED


def test_two_thousand_trials_are_few_requests(server: Loopback, engine: KatibEngine) -> None:
    for plural, item in many(2000):
        if plural == "experiments":
            item["status"]["conditions"] = item["status"]["conditions"][:1]
        server.put(plural, item)
    engine.pace = 1.0
    seen = until(engine.watch("big"), lambda event: sum(trial.state.ended for trial in event.result.trials) == 2000)
    assert seen[-1].result.best is not None
    assert seen[-1].result.best.name == "big-00001999"
    at_rest = len(server.requests)
    assert at_rest <= 1 + 1 + 8 + 1 + 3  # the Experiment, three lists in pages, three watches
    time.sleep(2)
    assert len(server.requests) - at_rest <= 3


def test_numbers_stay_from_the_first_event_to_the_store(server: Loopback, engine: KatibEngine) -> None:
    play(server, "random-ok")
    numbers: dict[str, int] = {}
    for event in engine.watch("random-ok"):
        for trial in event.result.trials:
            assert numbers.setdefault(trial.name, trial.number) == trial.number
    assert sorted(numbers.values()) == list(range(6))
    again = engine.collect("random-ok")
    assert {trial.name: trial.number for trial in again.trials} == numbers


def test_what_was_stopped_is_still_known_when_it_is_deleted(server: Loopback, engine: KatibEngine) -> None:
    server.replay("gpu-unschedulable")
    engine.stop("gpu-unschedulable")
    assert [trial.state for trial in engine.delete("gpu-unschedulable").trials] == [TrialState.KILLED] * 2
