"""KatibEngine's extend, stop and delete."""

from __future__ import annotations

import copy
import threading

import pytest

from tests.tuner.clusters import FastClock
from tests.tuner.loopback import Loopback
from tuner.engines.katib import KatibEngine
from tuner.errors import UnsupportedError
from tuner.result import StudyState, TrialState


def test_extend_patches_the_count_alone(server: Loopback, engine: KatibEngine) -> None:
    server.replay("gpu-unschedulable")
    before = copy.deepcopy(server.objects["experiments", "gan", "gpu-unschedulable"]["spec"])
    engine.extend("gpu-unschedulable", 50)
    assert server.objects["experiments", "gan", "gpu-unschedulable"]["spec"] == before | {
        "maxTrialCount": 50
    }
    with pytest.raises(
        UnsupportedError, match="maxTrialCount must exceed the 2 trials made so far, got 2"
    ):
        engine.extend("gpu-unschedulable", 2)


def test_extend_of_finished_search_explains_katib(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    with pytest.raises(
        UnsupportedError, match=r"resumePolicy LongRunning or FromVolume \(here Never\)"
    ):
        engine.extend("random-ok", 12)
    server.objects["experiments", "gan", "random-ok"]["spec"]["resumePolicy"] = "LongRunning"
    engine.extend("random-ok", 12)
    assert server.objects["experiments", "gan", "random-ok"]["spec"]["maxTrialCount"] == 12


def test_stop_deletes_only_running_trials(server: Loopback, engine: KatibEngine) -> None:
    for _ in server.steps("random-ok"):
        trials = {key[2]: item for key, item in server.objects.items() if key[0] == "trials"}
        done = [name for name, item in trials.items() if "observation" in item.get("status", {})]
        if len(done) == 3 and len(trials) > 3:
            break
    running = set(trials) - set(done)
    conflict = {"kind": "Status", "message": "the object has been modified", "code": 409}
    server.answer("PATCH", "/status", 409, conflict)  # the controller was quicker once
    engine.stop("random-ok")
    item = server.objects["experiments", "gan", "random-ok"]
    true = {c["type"]: c["reason"] for c in item["status"]["conditions"] if c["status"] == "True"}
    assert true == {"Created": "ExperimentCreated", "Succeeded": "ExperimentStoppedByGantune"}
    assert {key[2] for key in server.objects if key[0] == "trials"} == set(done)
    result = engine.store.result("random-ok")
    assert result.state is StudyState.STOPPED
    assert {trial.name for trial in result.trials if trial.state is TrialState.KILLED} == running
    assert result.best is not None


def test_stop_without_max_trial_count_sets_one_first(server: Loopback, engine: KatibEngine) -> None:
    """Katib restarts whatever has finished without one (experiment_controller.go:203)."""
    server.replay("gpu-unschedulable")
    item = server.objects["experiments", "gan", "gpu-unschedulable"]
    del item["spec"]["maxTrialCount"]
    item["spec"]["maxFailedTrialCount"] = 5
    engine.stop("gpu-unschedulable")
    item = server.objects["experiments", "gan", "gpu-unschedulable"]
    # more than 2 trials, and no less than the other counts
    assert item["spec"]["maxTrialCount"] == 5
    assert item["status"]["conditions"][-1]["reason"] == "ExperimentStoppedByGantune"
    assert engine.store.result("gpu-unschedulable").state is StudyState.STOPPED


def test_stop_ends_what_the_controller_makes_meanwhile(
    server: Loopback, engine: KatibEngine
) -> None:
    server.replay("gpu-unschedulable")
    late = copy.deepcopy(next(item for key, item in server.objects.items() if key[0] == "trials"))
    late["metadata"] |= {"name": "gpu-unschedulable-late", "uid": "late"}
    engine.clock = FastClock(3)

    def controller() -> None:
        key = ("experiments", "gan", "gpu-unschedulable")
        with server.changed:
            server.changed.wait_for(
                lambda: "StoppedByGantune" in str(server.objects[key]["status"]), 10
            )
            server.put("trials", late)

    threading.Thread(target=controller, daemon=True).start()
    engine.stop("gpu-unschedulable")
    assert not [key for key in server.objects if key[0] == "trials"]
    trials = engine.store.result("gpu-unschedulable").trials
    assert {(trial.state, trial.reason) for trial in trials} == {(TrialState.KILLED, "stopped")}
    assert [trial.number for trial in trials] == [0, 1, 2]


def test_stopping_twice_changes_nothing(server: Loopback, engine: KatibEngine) -> None:
    server.replay("random-ok")
    before = copy.deepcopy(server.objects)
    engine.stop("random-ok")
    assert server.objects == before


def test_delete_collects_first(server: Loopback, engine: KatibEngine) -> None:
    server.replay("nan-objective")
    result = engine.delete("nan-objective")
    assert not [key for key in server.objects if key[0] in ("experiments", "trials")]
    assert engine.store.result("nan-objective") == result
    assert (result.state, len(result.trials)) == (StudyState.DELETED, 2)
