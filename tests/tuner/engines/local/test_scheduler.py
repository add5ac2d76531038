"""Truthful endings: what a search says of itself when trials fail, run again, or take the client with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner.engines.local.test_runner import gone, marked
from tests.tuner.experiments import ARGS, TRIALS, events, experiment, run, table
from tuner.engines.base import EventKind
from tuner.engines.local import LocalEngine, pool, scheduler
from tuner.engines.local.journal import Journal
from tuner.errors import StudyChanged, StudyError, StudyNotFound, UnsupportedError
from tuner.experiment.model import Experiment, with_first_trials
from tuner.result import StudyState, TrialState
from tuner.store import curves
from tuner.store.studies import EngineKind, Store

SHELL = ["sh", "-c"]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def warnings(engine: LocalEngine, what: Experiment) -> list[str]:
    """The warnings of a run."""
    return [event.message for event in events(engine, what) if event.kind is EventKind.WARNING]


def test_search_without_any_objective_failed(tmp_path: Path) -> None:
    script = 'case "$KATIB_TRIAL_NAME" in *-0) exit 0;; esac; echo no licence >&2; exit 3'
    result = run(tmp_path, experiment(command=SHELL, args=[script], trials=4), workers=2)
    assert result.state is StudyState.FAILED
    assert result.reason == "no trial gave fd: exit code 3: no licence (3 of 4 trials)"
    again = run(tmp_path, experiment(command=SHELL, args=[script], trials=4))
    assert table(again) == table(result)


def test_one_objective_is_enough_to_succeed(tmp_path: Path) -> None:
    script = 'case "$KATIB_TRIAL_NAME" in *-3) echo fd=1; exit 0;; esac; exit 3'
    result = run(tmp_path, experiment(command=SHELL, args=[script], trials=4))
    assert result.state is StudyState.SUCCEEDED


def failing(tmp_path: Path, algorithm: str = "grid") -> tuple[Experiment, Path]:
    """An Experiment whose trials 1 and 2 fail while a file exists, and print two reports."""
    broken = tmp_path / "broken"
    broken.touch()
    script = (
        f'echo "fd=0.${{trialParameters.bs}}"; echo x >> $KATIB_TRIAL_NAME.runs; case "$KATIB_TRIAL_NAME" in '
        f"*-1|*-2) [ ! -e {broken} ] || exit 5;; esac; echo fd=${{trialParameters.bs}}"
    )
    return experiment(algorithm, command=SHELL, args=[script], trials=5, strategy="min"), broken


def test_retry_gives_the_table_of_a_first_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path / "runs")
    what, broken = failing(tmp_path)
    first = run(tmp_path / "store", what, workers=2)
    assert [trial.state for trial in first.trials[1:3]] == [TrialState.FAILED] * 2
    broken.unlink()
    engine = LocalEngine(Store(tmp_path / "store"))
    assert engine.retry("study", [2]) == [2]
    waiting = engine.result("study")
    assert waiting.state is StudyState.STOPPED
    assert [trial.state for trial in waiting.trials[1:3]] == [TrialState.FAILED, TrialState.WAITING]
    assert (waiting.trials[2].metrics, waiting.trials[2].reason) == ({}, "")
    run(tmp_path / "store", what, workers=2)
    assert engine.retry("study") == [1]
    again = run(tmp_path / "store", what, workers=2)
    assert table(again) == table(run(tmp_path / "whole", what, workers=1))


def test_retry_refuses_what_did_not_fail(tmp_path: Path) -> None:
    what, broken = failing(tmp_path)
    run(tmp_path / "store", what)
    engine = LocalEngine(Store(tmp_path / "store"))
    with pytest.raises(StudyError, match=r"these did not fail: 0 \(Succeeded\), 9 \(none\)"):
        engine.retry("study", [0, 1, 9])
    broken.unlink()
    engine.retry("study")
    assert engine.retry("study") == []  # they wait to run again
    run(tmp_path / "store", what)
    with pytest.raises(StudyError, match="has no failed trials"):
        engine.retry("study")
    with pytest.raises(StudyNotFound):
        engine.retry("nosuch")


def test_retry_continues_a_search_that_failed(tmp_path: Path) -> None:
    what, broken = failing(tmp_path, "random")
    broken.unlink()
    whole = run(tmp_path / "whole", what)
    broken.touch()
    limited = experiment(
        "random", command=SHELL, args=list(what_args(what)), trials=5, strategy="min", failures=1
    )
    ended = run(tmp_path / "store", limited)
    assert ended.state is StudyState.FAILED
    broken.unlink()
    LocalEngine(Store(tmp_path / "store")).retry("study")
    assert table(run(tmp_path / "store", limited)) == table(whole)


def what_args(what: Experiment) -> list[str]:
    """The container's args."""
    containers = what.template.spec["spec"]["template"]["spec"]["containers"]
    return [str(argument) for argument in containers[0]["args"]]


KILLED = """
import os, sys
from pathlib import Path
from tests.tuner.experiments import *
script = 'case "$KATIB_TRIAL_NAME" in *-1) [ ! -e ' + sys.argv[2] + ' ] || kill -9 $CLIENT;; esac; echo fd=1'
if __name__ == "__main__":
    os.environ["CLIENT"] = str(os.getpid())
    run(Path(sys.argv[1]), experiment(command=["sh", "-c"], args=[script], trials=4, parallel=2), workers=2)
"""


def test_killed_client_fails_no_trial(tmp_path: Path) -> None:
    """However often the client is killed: it may be killed by anything, so no trial is at fault."""
    gate, store = tmp_path / "gate", tmp_path / "store"
    gate.touch()
    environment = os.environ | {"PYTHONPATH": str(TRIALS.parents[2])}
    argv = [sys.executable, "-c", KILLED, str(store), str(gate)]
    for _ in range(4):
        assert subprocess.run(argv, env=environment, check=False).returncode == -9
        states = {trial.state for trial in LocalEngine(Store(store)).result("study").trials}
        assert states <= {TrialState.SUCCEEDED, TrialState.WAITING}
    gate.unlink()
    assert subprocess.run(argv, env=environment, check=False).returncode == 0
    trials = LocalEngine(Store(store)).result("study").trials
    assert [trial.state for trial in trials] == [TrialState.SUCCEEDED] * 4


def test_only_the_trial_that_kills_the_server_failed(tmp_path: Path) -> None:
    """Its neighbours run with it at first, and finish when they run alone."""
    script = (
        'case "$KATIB_TRIAL_NAME" in *-1) sleep 0.2; kill -9 $PPID;; esac; sleep 0.3; echo fd=1'
    )
    what = experiment(command=SHELL, args=[script], trials=5, parallel=3)
    told = events(LocalEngine(Store(tmp_path), workers=3), what)
    messages = [event.message for event in told if event.kind is EventKind.WARNING]
    assert messages[0] == (
        "the process that starts trials was killed by SIGKILL; "
        "study-0, study-1, study-2 run again, one at a time"
    )
    states = [trial.state for trial in told[-1].result.trials]
    assert states == [TrialState.SUCCEEDED, TrialState.FAILED, *[TrialState.SUCCEEDED] * 3]
    reason = told[-1].result.trials[1].reason
    assert reason == "the server process died 3 times while only this trial ran"


def test_server_killed_from_outside_fails_no_trial(tmp_path: Path) -> None:
    """Twice within the same trial, the second time while it runs alone."""
    marks = tmp_path / "marks"
    marks.mkdir()
    script = (
        f'cd {marks}; [ "$KATIB_TRIAL_NAME" != study-1 ] || [ -e 1 ] || '
        "{ mkdir $(ls | wc -l); kill -9 $PPID; }; echo fd=1"
    )
    run(tmp_path / "killed", what := experiment(command=SHELL, args=[script], trials=4), workers=2)
    assert len(list(marks.iterdir())) == 2
    assert table(run(tmp_path / "killed", what)) == table(run(tmp_path / "whole", what))


def test_stop_does_not_wait_for_a_server_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "STOP_SECONDS", 0.2)
    monkeypatch.setattr(pool, "_CLOSE_SECONDS", 0.2)
    what = experiment(args=[*ARGS, f"--gate={tmp_path / 'gate'}"], trials=2, parallel=1)
    engine = LocalEngine(Store(tmp_path))
    for event in engine.run(what):
        if event.kind is EventKind.TRIAL_STARTED:
            for pid in marked(tmp_path / "local" / "study"):
                os.kill(pid, signal.SIGSTOP)
            engine.stop("study")
    assert [trial.state for trial in event.result.trials] == [TrialState.WAITING]
    assert gone(tmp_path / "local" / "study")
    (tmp_path / "gate").touch()
    assert [trial.state for trial in run(tmp_path, what).trials] == [TrialState.SUCCEEDED] * 2


def test_suspects_are_kept_over_a_restart(tmp_path: Path) -> None:
    script = 'case "$KATIB_TRIAL_NAME" in *-1) kill -9 $PPID;; esac; echo fd=1'
    what = experiment(command=SHELL, args=[script], trials=3, parallel=1)
    for count in (1, 2):
        engine = LocalEngine(Store(tmp_path))
        for event in engine.run(what):
            if event.kind is EventKind.WARNING:
                engine.stop("study")
        journal = Journal(tmp_path / "local" / "study")
        assert journal.suspects == {1: count}
    result = run(tmp_path, what)
    assert [trial.state.value for trial in result.trials] == ["Succeeded", "Failed", "Succeeded"]
    LocalEngine(Store(tmp_path)).retry("study")
    assert Journal(tmp_path / "local" / "study").suspects == {}


def test_stopped_trial_that_exits_cleanly_runs_again(tmp_path: Path) -> None:
    """A trainer that handles SIGTERM has not finished, whatever its exit code."""
    script = "trap 'exit 0' TERM; echo fd=9; while [ ! -e GATE ]; do sleep 0.02; done; echo fd=1"
    args = [script.replace("GATE", str(tmp_path / "gate"))]
    what = experiment(command=["sh", "-c"], args=args, trials=2, parallel=1)
    engine = LocalEngine(Store(tmp_path))
    for event in engine.run(what):
        if event.kind is EventKind.TRIAL_REPORTED:
            engine.stop("study")
    assert [trial.state for trial in event.result.trials] == [TrialState.WAITING]
    (tmp_path / "gate").touch()
    assert [trial.metrics["fd"] for trial in run(tmp_path, what).trials] == [1.0, 1.0]


def test_stopping_is_not_a_crash(tmp_path: Path) -> None:
    what = experiment(args=[*ARGS, f"--gate={tmp_path / 'gate'}"], trials=2, parallel=1)
    for _ in range(3):
        engine = LocalEngine(Store(tmp_path), workers=2)
        for event in engine.run(what):
            if event.kind is EventKind.TRIAL_STARTED:
                engine.stop("study")
    (tmp_path / "gate").touch()
    assert [trial.state for trial in run(tmp_path, what).trials] == [TrialState.SUCCEEDED] * 2


def test_fixed_options_of_started_study_are_explained(tmp_path: Path) -> None:
    what = experiment(trials=3)
    run(tmp_path, experiment(trials=2, name="other"))
    run(tmp_path, what, seed=3)
    assert warnings(LocalEngine(Store(tmp_path), seed=3), what) == []
    assert warnings(LocalEngine(Store(tmp_path), seed=4), what) == [
        "--seed 4 has no effect: the study continues with its own seed 3. Start over with --fresh to use another one"
    ]
    assert warnings(LocalEngine(Store(tmp_path), warm_start="other"), what) == [
        "--warm-start other has no effect: the study already began without an earlier study. "
        "Start over with --fresh to use it"
    ]
    assert warnings(LocalEngine(Store(tmp_path), max_trials=2), what) == [
        "--max-trials 2 adds no trials: the study already has 3"
    ]
    assert warnings(LocalEngine(Store(tmp_path), max_trials=4), what) == [
        "--max-trials 4: the study has 3 trials and continues"
    ]


def test_added_first_trials_belong_to_the_study(tmp_path: Path) -> None:
    what, added = experiment("tpe", trials=4), [{"lr": "1e-3", "bs": "64"}]
    whole = run(tmp_path / "whole", experiment("tpe", trials=6), first=added)
    assert whole.trials[0].parameters == {"lr": 1e-3, "bs": 64}
    run(tmp_path / "cut", what, first=added)
    # resumed without the option
    assert table(run(tmp_path / "cut", what, max_trials=6))[1:] == table(whole)[1:]
    for other in ([{"lr": "2e-3", "bs": "64"}], [*added, {"lr": "2e-3", "bs": "64"}]):
        with pytest.raises(
            StudyChanged, match=r"another manifest \(first_trials: .*start over with --fresh"
        ):
            LocalEngine(Store(tmp_path / "cut"), first=other).run(what)
    again = run(tmp_path / "cut", what, fresh=True)
    assert again.trials[0].parameters != {"lr": 1e-3, "bs": 64}


def test_changed_first_trials_of_the_manifest_are_refused(tmp_path: Path) -> None:
    what = experiment(trials=2)
    run(tmp_path, with_first_trials(what, [{"lr": "1e-3", "bs": "64"}]))
    with pytest.raises(StudyChanged, match="first_trials"):
        LocalEngine(Store(tmp_path)).run(what)


def test_first_trial_takes_the_rest_from_the_manifest(tmp_path: Path) -> None:
    what = with_first_trials(experiment(trials=2), [{"lr": "1e-3", "bs": "64"}])
    trials = run(tmp_path, what, first=[{"bs": "32"}]).trials
    assert [trial.parameters for trial in trials] == [
        {"lr": 1e-3, "bs": 64},
        {"lr": 1e-3, "bs": 32},
    ]


def test_warns_of_first_trials_beyond_the_budget(tmp_path: Path) -> None:
    what = with_first_trials(experiment(trials=2), [{"lr": "1e-3", "bs": "64"}])
    engine = LocalEngine(Store(tmp_path), first=[{"bs": "32"}, {"bs": "33"}])
    assert warnings(engine, what) == [
        "only 2 of the 3 first trials run, because maxTrialCount is 2; set it to 3 or more (--max-trials)"
    ]
    assert warnings(LocalEngine(Store(tmp_path), max_trials=3), what) == [
        "--max-trials 3: the study has 2 trials and continues"
    ]
    assert [
        trial.parameters["bs"] for trial in LocalEngine(Store(tmp_path)).result("study").trials
    ] == [64, 32, 33]


def test_more_trials_do_not_continue_beyond_a_goal(tmp_path: Path) -> None:
    what = experiment(command=SHELL, args=["echo fd=1"], goal=5, trials=3, parallel=1)
    first = run(tmp_path, what)
    told = events(LocalEngine(Store(tmp_path), max_trials=9), what)
    assert told[0].message == "--max-trials 9 has no effect: trial 0 reached the goal 5"
    assert table(told[-1].result) == table(first)


def test_unknown_study_to_warm_start_from_is_refused(tmp_path: Path) -> None:
    run(tmp_path, experiment(name="first", trials=2))
    with pytest.raises(StudyNotFound, match=r"no study 'frist' in .*: did you mean first"):
        LocalEngine(Store(tmp_path), warm_start="frist").run(experiment(name="second"))
    assert Store(tmp_path).of(EngineKind.LOCAL).names() == ["first"]


def test_logs_extend_and_delete_work_on_local_studies(tmp_path: Path) -> None:
    script = 'echo "$KATIB_TRIAL_NAME"; echo fd=${trialParameters.lr}; printf unfinished'
    what = experiment(command=SHELL, args=[script], trials=2)
    result, engine = run(tmp_path, what), LocalEngine(Store(tmp_path))
    assert result.best
    assert next(iter(engine.logs("study", "1"))) == "study-1"
    assert next(iter(engine.logs("study", best=True))) == result.best.name
    assert list(engine.logs("study"))[-1] == "unfinished"
    with pytest.raises(StudyNotFound, match="study has no trial 7"):
        list(engine.logs("study", "7"))
    with pytest.raises(UnsupportedError, match="must exceed the 2 trials"):
        engine.extend("study", 2)
    engine.extend("study", 3)
    assert len(list(engine.run(what))[-1].result.trials) == 3
    assert engine.delete("study").name == "study"
    assert list((tmp_path / "local").iterdir()) == []


def test_followed_log_continues_until_the_trial_finished(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo fd=5; while [ ! -e {gate} ]; do sleep 0.01; done; echo fd=3"
    engine = LocalEngine(Store(tmp_path), workers=1)
    watching = engine.run(experiment(command=SHELL, args=[script], trials=1))
    next(watching)
    lines = LocalEngine(Store(tmp_path)).logs("study", follow=True)
    assert next(lines) == "fd=5"
    gate.touch()
    list(watching)
    assert list(lines) == ["fd=3"]


def test_each_finished_trial_has_its_curve(tmp_path: Path) -> None:
    script = (
        'echo fd=3; echo "fd=2 loss=7"; case "$KATIB_TRIAL_NAME" in *-1) exit 3;; esac; echo fd=1'
    )
    what = experiment(command=SHELL, args=[script], trials=2)
    run(tmp_path, what)
    stored = curves.read(Store(tmp_path).of(EngineKind.LOCAL).folder("study"))
    values = {trial: [seen.value for seen in metrics["fd"]] for trial, metrics in stored.items()}
    assert values == {"study-0": [3.0, 2.0, 1.0], "study-1": [3.0, 2.0]}
    assert [seen.value for seen in stored["study-0"]["loss"]] == [7.0]
