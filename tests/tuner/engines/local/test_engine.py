"""The local engine as its users meet it: real workers, real signals, real files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.experiments import ARGS, TRIALS, events, experiment, run, table
from tuner.engines.base import Event, EventKind
from tuner.engines.local import LocalEngine, launcher
from tuner.engines.local.launcher import auto_workers, share
from tuner.errors import CommandError, StudyChanged, StudyDamaged, StudyLocked, UnsupportedError
from tuner.result import StudyState, TrialState
from tuner.store.lock import Lock
from tuner.store.studies import Store

FILE = {
    "collector": {"kind": "File"},
    "source": {
        "fileSystemPath": {"path": "/var/log/katib/metrics.log", "kind": "File", "format": "TEXT"}
    },
}
SHELL = ["sh", "-c"]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_events_tell_the_story_of_every_trial(tmp_path: Path) -> None:
    told = events(
        LocalEngine(Store(tmp_path), workers=2), experiment(args=[*ARGS, "--reports=2"], trials=4)
    )
    assert told[-1].kind is EventKind.STUDY_ENDED
    for number in range(4):
        kinds = [event.kind for event in told if event.trial and event.trial.number == number]
        assert kinds[0] is EventKind.TRIAL_STARTED
        assert kinds[-1] is EventKind.TRIAL_ENDED
    best = told[-1].result.best
    assert best is not None
    assert best.metrics["fd"] == min(trial.metrics["fd"] for trial in told[-1].result.trials)
    assert LocalEngine(Store(tmp_path)).result("study") == told[-1].result


def test_running_trials_report_their_metrics(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo fd=5; while [ ! -e {gate} ]; do sleep 0.01; done; echo fd=3"
    engine = LocalEngine(Store(tmp_path), workers=1)
    seen: list[Event] = []
    for event in engine.run(experiment(command=SHELL, args=[script], trials=1)):
        seen.append(event)
        if event.kind is EventKind.TRIAL_REPORTED:
            gate.touch()
    reported = next(event for event in seen if event.kind is EventKind.TRIAL_REPORTED)
    assert reported.trial is not None
    assert reported.trial.metrics == {"fd": 5.0}
    assert seen[-1].result.trials[0].metrics == {"fd": 3.0}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_trial_has_its_own_files(workers: int, tmp_path: Path) -> None:
    args = [*ARGS, "--metrics-file=/var/log/katib/metrics.log"]
    result = run(tmp_path, experiment(args=args, collector=FILE, trials=4), workers=workers)
    assert [trial.state for trial in result.trials] == [TrialState.SUCCEEDED] * 4
    files = sorted(tmp_path.glob("local/study/trials/*/mounts/var-log-katib/metrics.log"))
    assert len(files) == 4
    assert not Path("/var/log/katib/metrics.log").exists()
    logs = [(path.parents[2] / "output.log").read_text() for path in files]
    assert all("fd=" in log for log in logs)


@pytest.mark.parametrize("workers", [1, 2])
def test_failures_say_why_and_search_continues(workers: int, tmp_path: Path) -> None:
    result = run(tmp_path, experiment(args=[*ARGS, "--fail-above=1e-3"]), workers=workers)
    failed = [trial for trial in result.trials if trial.state is TrialState.FAILED]
    assert failed
    assert all("RuntimeError: lr" in trial.reason and trial.metrics == {} for trial in failed)
    assert result.state is StudyState.SUCCEEDED


def test_killed_worker_costs_one_trial(tmp_path: Path) -> None:
    result = run(tmp_path, experiment(args=[*ARGS, "--kill-above=1e-3"]), workers=2)
    states = {trial.parameters["lr"] > 1e-3: trial for trial in result.trials}  # type: ignore[operator]
    assert states[True].state is TrialState.FAILED
    assert states[True].reason == "killed by SIGKILL (out of memory?)"
    assert states[False].state is TrialState.SUCCEEDED


@pytest.mark.parametrize(
    ("strategy", "state"),
    [("latest", TrialState.METRICS_UNAVAILABLE), ("min", TrialState.SUCCEEDED)],
)
def test_nan_is_never_best(strategy: str, state: TrialState, tmp_path: Path) -> None:
    what = experiment(command=SHELL, args=["echo fd=4; echo fd=nan"], trials=1, strategy=strategy)
    result = run(tmp_path, what)
    assert result.trials[0].state is state
    assert (result.best is None) == (strategy == "latest")


def test_goal_ends_the_search_and_the_running_trials(tmp_path: Path) -> None:
    """The same table with one worker as with three, where later trials were running or had ended."""
    lr = {
        "name": "lr",
        "parameterType": "categorical",
        "feasibleSpace": {"list": [str(n) for n in range(1, 9)]},
    }
    script = "echo fd=${trialParameters.lr}; [ ${trialParameters.lr} -le 3 ] || sleep 0.1"
    what = experiment(command=SHELL, args=[script], parameters=[lr], goal=3, trials=8)
    results = [run(tmp_path / str(n), what, workers=n) for n in (1, 3)]
    assert table(results[0]) == table(results[1])
    assert "reached the goal 3" in results[0].reason
    last = next(trial for trial in results[0].trials if trial.metrics.get("fd", 9) <= 3)
    later = results[0].trials[last.number + 1 :]
    assert [trial.state for trial in later] == [TrialState.KILLED] * len(later)


def test_goal_stops_a_trial_that_would_never_end(tmp_path: Path) -> None:
    lr = {"name": "lr", "parameterType": "categorical", "feasibleSpace": {"list": ["1", "2"]}}
    script = 'if [ "$KATIB_TRIAL_NAME" = study-0 ]; then echo fd=1; else sleep 1000; fi'
    result = run(
        tmp_path,
        experiment(command=SHELL, args=[script], parameters=[lr], goal=5, trials=2, parallel=2),
        workers=2,
    )
    assert [trial.state for trial in result.trials] == [TrialState.SUCCEEDED, TrialState.KILLED]


def test_failure_limit_counts_in_trial_order(tmp_path: Path) -> None:
    what = experiment(command=SHELL, args=["echo why >&2; exit 3"], failures=2)
    results = [run(tmp_path / str(n), what, workers=n) for n in (1, 3)]
    assert table(results[0]) == table(results[1])
    assert results[0].state is StudyState.FAILED
    assert (
        results[0].reason == "2 trials failed, maxFailedTrialCount is 2; the last: exit code 3: why"
    )


@pytest.mark.parametrize(("workers", "hang"), [(1, "python"), (1, "sleep"), (2, "python")])
def test_deadline_ends_a_hanging_trial(workers: int, hang: str, tmp_path: Path) -> None:
    what = experiment(args=[*ARGS, f"--hang={hang}"], trials=2, deadline=1)
    result = run(tmp_path, what, workers=workers)
    assert [trial.state for trial in result.trials] == [TrialState.FAILED] * 2
    assert "still running after activeDeadlineSeconds (1 s)" in result.trials[0].reason


def test_deadline_ends_a_subprocess_that_ignores_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "GRACE", 0.2)
    what = experiment(
        command=SHELL, args=["trap '' TERM; while :; do sleep 0.05; done"], trials=1, deadline=1
    )
    assert "activeDeadlineSeconds" in run(tmp_path, what).trials[0].reason


RUN = """
import sys
from pathlib import Path
from tests.tuner.experiments import *
if __name__ == "__main__":
    run(Path(sys.argv[1]), experiment(sys.argv[2], args=[*ARGS, *sys.argv[4:]]), workers=int(sys.argv[3]))
"""


KILLS = [("tpe", 1, (4, 15, 25)), ("cmaes", 2, (15,)), ("grid", 2, (4, 25))]
MORE_KILLS = [("cmaes", 2, (4, 15, 25)), ("grid", 2, (4, 15, 25))]


@pytest.mark.parametrize(
    ("algorithm", "workers", "kills"),
    [*KILLS, *(pytest.param(*one, marks=pytest.mark.slow) for one in MORE_KILLS)],
)
def test_search_killed_anywhere_reaches_same_table(
    algorithm: str, workers: int, kills: tuple[int, ...], tmp_path: Path
) -> None:
    """kill -9 at these lines of the journal: the table is that of an uninterrupted run, and no trial ran needlessly."""
    whole = run(
        tmp_path / "whole", experiment(algorithm, args=[*ARGS, "--fail-above=4e-3"]), workers=1
    )
    note, root = tmp_path / "runs", tmp_path / "killed"
    journal = root / "local" / "study" / "journal.jsonl"
    environment = os.environ | {"PYTHONPATH": str(TRIALS.parents[2])}
    for lines in kills:
        arguments = [str(root), algorithm, str(workers), "--fail-above=4e-3", f"--note={note}"]
        process = subprocess.Popen([sys.executable, "-c", RUN, *arguments], env=environment)
        while process.poll() is None and not (
            journal.exists() and journal.read_bytes().count(b"\n") >= lines
        ):
            time.sleep(0.002)
        process.kill()
        process.wait()
        journal.write_bytes(journal.read_bytes() + b'{"op_code": 8, "torn')
    result = run(
        root,
        experiment(algorithm, args=[*ARGS, "--fail-above=4e-3", f"--note={note}"]),
        workers=workers,
    )
    assert table(result) == table(whole)
    names = [line.split()[0] for line in note.read_text().splitlines()]
    assert set(names) == {trial.name for trial in whole.trials}
    assert len(names) <= 9 + len(kills) * workers


def test_workers_die_with_a_killed_client(tmp_path: Path) -> None:
    note = tmp_path / "runs"
    arguments = [str(tmp_path), "random", "2", "--hang=sleep", f"--note={note}"]
    environment = os.environ | {"PYTHONPATH": str(TRIALS.parents[2])}
    process = subprocess.Popen([sys.executable, "-c", RUN, *arguments], env=environment)
    while not note.exists() or note.read_text().count("\n") < 2:
        time.sleep(0.01)
    process.kill()
    process.wait()
    for line in note.read_text().splitlines():
        with contextlib.suppress(ProcessLookupError):
            while (
                Path(f"/proc/{line.split()[1]}/stat").exists()
                and " Z " not in Path(f"/proc/{line.split()[1]}/stat").read_text()
            ):
                time.sleep(0.01)


def test_finish_lets_running_trials_end_and_resumes(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", experiment())
    engine = LocalEngine(Store(tmp_path / "cut"), workers=2)
    for event in engine.run(experiment()):
        if event.kind is EventKind.TRIAL_ENDED and event.trial and event.trial.number == 2:
            engine.stop("study", drain=True)
    assert event.kind is EventKind.STUDY_ENDED
    assert event.result.state is StudyState.STOPPED
    assert all(
        trial.state in (TrialState.SUCCEEDED, TrialState.WAITING) for trial in event.result.trials
    )
    assert table(run(tmp_path / "cut", experiment(), workers=2)) == table(whole)


SLOW_RELEASE = """
import os, signal, sys, time
from pathlib import Path
from tuner.store.lock import Lock
lock = Lock(Path(sys.argv[1]))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("held", flush=True)
signal.sigwait([signal.SIGTERM])
os.truncate(Path(sys.argv[1]) / "lock", 0)
time.sleep(0.3)
"""


def test_stop_waits_until_the_lock_is_free(tmp_path: Path) -> None:
    """The process empties the lock's file first, and releases the lock an instant later."""
    run(tmp_path, experiment(trials=1))
    folder = tmp_path / "local" / "study"
    command = [sys.executable, "-c", SLOW_RELEASE, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(TRIALS.parents[2])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        LocalEngine(Store(tmp_path)).stop("study")
        assert not Lock.held(folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_stop_ends_running_trials_and_resumes(workers: int, tmp_path: Path) -> None:
    """stop() comes from a signal handler in the main thread, as the command line's second Ctrl-C does."""
    gate, note = tmp_path / "gate", tmp_path / "runs"
    engine = LocalEngine(Store(tmp_path), workers=workers)
    what = experiment(args=[*ARGS, f"--gate={gate}", f"--note={note}"], trials=4)
    usual = signal.signal(signal.SIGUSR1, lambda *_: engine.stop("study"))

    def second_ctrl_c() -> None:
        while not note.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=second_ctrl_c)
    thread.start()
    try:
        *_, last = engine.run(what)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, usual)
    assert last.result.state is StudyState.STOPPED
    assert not any(trial.state.finished for trial in last.result.trials)
    gate.touch()
    assert run(tmp_path, what, workers=workers).state is StudyState.SUCCEEDED


def test_closing_the_generator_frees_the_study(tmp_path: Path) -> None:
    engine = LocalEngine(Store(tmp_path), workers=2)
    watching = engine.run(experiment())
    next(watching)
    watching.close()  # type: ignore[attr-defined]
    assert run(tmp_path, experiment(), workers=2).state is StudyState.SUCCEEDED


def test_second_process_is_told_of_the_first(tmp_path: Path) -> None:
    running = LocalEngine(Store(tmp_path)).run(experiment())
    next(running)
    with pytest.raises(StudyLocked, match=rf"in use by process {os.getpid()}"):
        LocalEngine(Store(tmp_path)).run(experiment())
    running.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("option", ["workers", "max_trials"])
@pytest.mark.parametrize("count", [0, -1])
def test_counts_below_one_are_refused(option: str, count: int, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=f"^{option} must be at least 1, got {count}$"):
        LocalEngine(Store(tmp_path), **{option: count})  # type: ignore[arg-type]


def test_refused_second_process_changes_nothing(tmp_path: Path) -> None:
    """Not the number of trials, and not the study's id, which the first process writes at the same time."""
    running = LocalEngine(Store(tmp_path)).run(experiment())
    next(running)
    stored = (tmp_path / "local" / "study" / "manifest.json").read_bytes()
    for options in ({"max_trials": 50}, {"fresh": True}):
        with pytest.raises(StudyLocked):
            LocalEngine(Store(tmp_path), **options).run(experiment())  # type: ignore[arg-type]
    assert (tmp_path / "local" / "study" / "manifest.json").read_bytes() == stored
    running.close()  # type: ignore[attr-defined]


def test_damaged_journal_is_named_with_its_line(tmp_path: Path) -> None:
    run(tmp_path, experiment())
    journal = tmp_path / "local" / "study" / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([*lines[:3], b"rubbish", *lines[3:]]))
    with pytest.raises(StudyDamaged, match=r"journal\.jsonl:4: the checksum is wrong"):
        LocalEngine(Store(tmp_path)).run(experiment())
    assert run(tmp_path, experiment(), fresh=True).state is StudyState.SUCCEEDED


def test_changed_manifest_is_refused_with_the_difference(tmp_path: Path) -> None:
    run(tmp_path, experiment())
    with pytest.raises(StudyChanged, match=r'algorithm\.name: "random" -> "tpe"'):
        LocalEngine(Store(tmp_path)).run(experiment("tpe"))


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_more_trials_extend_to_what_one_run_gives(algorithm: str, tmp_path: Path) -> None:
    run(tmp_path / "twice", experiment(algorithm, trials=5), workers=2)
    extended = run(tmp_path / "twice", experiment(algorithm, trials=5), max_trials=14, workers=2)
    assert table(extended) == table(run(tmp_path / "once", experiment(algorithm, trials=14)))


def test_finished_study_runs_nothing_again(tmp_path: Path) -> None:
    first = run(tmp_path, experiment())
    told = events(LocalEngine(Store(tmp_path)), experiment())
    assert [event.kind for event in told] == [EventKind.STUDY_ENDED]
    assert told[0].result == first


def test_earlier_study_warms_the_sampler(tmp_path: Path) -> None:
    run(tmp_path, experiment(name="first", trials=12))
    told = events(
        LocalEngine(Store(tmp_path), warm_start="first"), experiment("tpe", name="second")
    )
    assert told[0].message == "12 trials of first are known to the sampler"
    cold = run(tmp_path, experiment("tpe", name="third"))
    warm = told[-1].result
    assert [t.parameters for t in warm.trials] != [t.parameters for t in cold.trials]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["python", "-m", "no_such_module"], "No module named 'no_such_module'"),
        (
            ["python", "-m", "broken_trial"],
            "python -m broken_trial cannot start: RuntimeError: no licence",
        ),
        (["no-such-program"], "command 'no-such-program' is not found"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_command_that_cannot_run_is_one_line(
    command: list[str], message: str, workers: int, tmp_path: Path
) -> None:
    with pytest.raises(CommandError, match=message) as caught:
        run(tmp_path, experiment(command=command), workers=workers)
    assert "\n" not in str(caught.value)
    assert not LocalEngine(Store(tmp_path)).result("study").best


def test_values_are_arguments_and_no_shell_sees_them(tmp_path: Path) -> None:
    text = "; touch /tmp/owned $(id) \"' *"
    note = {"name": "note", "parameterType": "categorical", "feasibleSpace": {"list": [text, "b"]}}
    program = ["python", "-c", "import sys; print('got', sys.argv[1:]); print('fd=1')"]
    what = experiment(
        command=program, args=["${trialParameters.note}"], parameters=[note], trials=2
    )
    result = run(tmp_path, what)
    named = next(trial.name for trial in result.trials if trial.parameters["note"] == text)
    assert (
        f"got {[text]!r}"
        in (tmp_path / "local" / "study" / "trials" / named / "output.log").read_text()
    )


def test_custom_collector_without_a_file_is_refused(tmp_path: Path) -> None:
    container = {"name": "own", "image": "x"}
    what = experiment(collector={"collector": {"kind": "Custom", "customCollector": container}})
    with pytest.raises(
        UnsupportedError,
        match="Custom without a fileSystemPath does not run locally, because no cont",
    ):
        LocalEngine(Store(tmp_path)).run(what)


def test_gpus_and_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert auto_workers(8) == 2
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in share(2)] == ["4", "7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("tuner.engines.local.launcher.cores", lambda: 8)
    assert auto_workers(3) == 3
    assert {slot["OMP_NUM_THREADS"] for slot in share(3)} == {"2"}


def test_missing_required_file_stops_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = replace(
        experiment(command=SHELL, args=["echo fd=1"], trials=1),
        required_files=(("data/a.npz", "python prepare.py"),),
    )
    message = "data/a.npz does not exist.*Create it with: python prepare.py"
    with pytest.raises(CommandError, match=message):
        LocalEngine(Store(tmp_path / "store")).run(wanted)
    assert list(tmp_path.iterdir()) == []  # nothing was created
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.npz").touch()
    assert run(tmp_path / "store", wanted).state is StudyState.SUCCEEDED
