"""The Push collector: trials report with `katib.report_metrics` of Katib's SDK, into a file of theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tuner.experiments import ARGS, LR, TRIALS, document, experiment, run
from tuner.engines.local import LocalEngine
from tuner.engines.local.details import running_curves
from tuner.errors import StudyError, UnsupportedError
from tuner.experiment.model import Experiment
from tuner.manifest import load
from tuner.result import Result, Trial, TrialState
from tuner.store import curves
from tuner.store.studies import Store

PUSH = {"collector": {"kind": "Push"}}
SDK = ["python", "-m", "push_trial"]
SECONDS = 60.0  # for what is waited for


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def pushing(*args: str, command: list[str] | None = None, **options: Any) -> Experiment:
    """An Experiment whose trials push."""
    options = {"trials": 1, **options}
    return experiment(command=command or SDK, args=[*ARGS, *args], collector=PUSH, **options)


def folder(root: Path, trial: int = 0) -> Path:
    return root / "local" / "study" / "trials" / f"study-{trial}"


def expected(trial: Trial) -> dict[str, float]:
    return {"fd": float(trial.parameters["lr"]) * 2, "loss": -1.0}


def check(result: Result, count: int) -> None:
    """Each trial has its own last values."""
    assert [trial.state for trial in result.trials] == [TrialState.SUCCEEDED] * count, (
        result.trials[0].reason
    )
    assert [trial.metrics for trial in result.trials] == [
        expected(trial) for trial in result.trials
    ]


def wait_for(path: Path, text: str) -> None:
    until = time.monotonic() + SECONDS
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < until, path
        time.sleep(0.01)


def test_each_worker_reports_for_itself(tmp_path: Path) -> None:
    result = run(tmp_path, pushing(command=SDK, trials=6), workers=2)
    check(result, 6)
    stored = curves.read(tmp_path / "local" / "study")
    first = result.trials[0]
    assert [one.value for one in stored[first.name]["fd"]] == [
        first.metrics["fd"] / 2,
        first.metrics["fd"],
    ]
    assert [one.value for one in stored[first.name]["loss"]] == [0, -1]
    assert all(one.time is not None for one in stored[first.name]["fd"])


def test_any_program_with_the_sdk_reports(tmp_path: Path) -> None:
    """As `sh -c` starts it, with a PYTHONPATH of the manifest and a sitecustomize of the environment."""
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.customized = True\n")
    (tmp_path / "own_module.py").write_text("print('imported')\n")
    script = "python -c 'import own_module; print(customized)' && exec python -m push_trial --lr=$0"
    what = experiment(
        command=["sh", "-c"],
        args=[script, "${trialParameters.lr}"],
        parameters=[LR],
        trials=1,
        collector=PUSH,
        container={"env": [{"name": "PYTHONPATH", "value": str(tmp_path)}]},
    )
    root = tmp_path / "store"
    check(run(root, what), 1)
    assert (folder(root) / "output.log").read_text().startswith("imported\nTrue\n")


def test_debug_reports_too(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.tuner.engines.local.test_push import SDK, check, pushing, run\n"
        "check(run(Path(sys.argv[1]), pushing(command=SDK, trials=2), debug=True), 2)\n"
    )
    env = os.environ | {"PYTHONPATH": f"{TRIALS.parents[2]}"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=env, check=True)


def test_printed_metrics_do_not_count(tmp_path: Path) -> None:
    what = experiment(
        command=["sh", "-c"], args=["echo fd=1 # ${trialParameters.lr}"], parameters=[LR], trials=1
    )
    printed = experiment(
        command=["sh", "-c"],
        args=["echo fd=1 # ${trialParameters.lr}"],
        parameters=[LR],
        trials=1,
        collector=PUSH,
    )
    assert run(tmp_path / "StdOut", what).trials[0].state is TrialState.SUCCEEDED
    trial = run(tmp_path / "Push", printed).trials[0]
    assert trial.state is TrialState.METRICS_UNAVAILABLE
    assert trial.reason == "fd was not reported: the trial pushed no metrics"


def test_reports_survive_sigkill_of_the_client(tmp_path: Path) -> None:
    gate, store = tmp_path / "gate", tmp_path / "store"
    shape = document(
        command=SDK, args=[*ARGS, f"--gate={gate}"], trials=2, parallel=2, collector=PUSH
    )
    (tmp_path / "search.yaml").write_text(json.dumps(shape))
    command = [
        sys.executable,
        "-m",
        "tuner",
        "run",
        str(tmp_path / "search.yaml"),
        "--local",
        "--workers=2",
    ]
    env = os.environ | {"PYTHONPATH": str(TRIALS.parents[2])}
    client = subprocess.Popen([*command, "--store", str(store)], env=env, stdout=subprocess.DEVNULL)
    for number in range(2):
        wait_for(folder(store, number) / "pushed.jsonl", "loss")
    others = psutil.Process(client.pid).children(recursive=True)
    client.kill()
    client.wait()
    assert psutil.wait_procs(others, SECONDS)[1] == []
    gate.touch()
    result = run(store, load(tmp_path / "search.yaml"), workers=2)
    check(result, 2)
    stored = curves.read(store / "local" / "study")["study-0"]["fd"]
    lr = result.trials[0].metrics["fd"] / 2
    # the first one was reported before the kill
    assert [one.value for one in stored] == [lr, lr, 2 * lr]


def test_wrong_report_fails_its_trial(tmp_path: Path) -> None:
    trial = run(tmp_path, pushing("--do=wrong")).trials[0]
    assert trial.state is TrialState.FAILED
    assert "Invalid value high" in trial.reason


def test_full_disk_pauses_the_search(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="ran out of disk space"):
        run(tmp_path, pushing("--do=full"))


def test_metric_named_timestamp_hides_no_time(tmp_path: Path) -> None:
    run(tmp_path, pushing("--do=timestamp"))
    text = (folder(tmp_path) / "pushed.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {name for line in lines for name in line} == {"timestamp", "fd", "loss"}
    assert all(line["timestamp"].startswith("20") for line in lines)


def test_script_of_the_katib_sdk_runs_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `KatibClient.tune` makes of a function, with metrics_collector_config={"kind": "Push"}."""
    from kubeflow.katib.utils import utils

    monkeypatch.setattr("linecache.checkcache", lambda *_: None)

    def objective(parameters: dict[str, str]) -> None:
        from kubeflow import katib

        for step in range(2):
            katib.report_metrics({"fd": float(parameters["lr"]) * (step + 1), "loss": -step})

    script = utils.get_exec_script_from_objective(
        objective, "python -u", {"lr": "${trialParameters.lr}"}, None
    )
    what = experiment(
        command=["bash", "-c"], args=[script], parameters=[LR], trials=1, collector=PUSH
    )
    check(run(tmp_path, what), 1)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.engines.local.push.find_spec", lambda _: None)
    with pytest.raises(UnsupportedError, match=r"pip install 'gan-tuner\[cluster\]'"):
        LocalEngine(Store(tmp_path)).run(pushing())


def test_running_trial_shows_its_reports(tmp_path: Path) -> None:
    gate, what = tmp_path / "gate", pushing(f"--gate={tmp_path / 'gate'}")
    engine = LocalEngine(Store(tmp_path))
    for event in engine.run(what):
        if event.trial and event.trial.state is TrialState.RUNNING and event.trial.metrics:
            found = running_curves(what, tmp_path / "local" / "study", [event.trial])["study-0"]
            assert found["fd"][0].value == event.trial.metrics["fd"]
            followed = LocalEngine(Store(tmp_path), timeout=SECONDS).watch("study")
            shown = next(
                each.trial.metrics for each in followed if each.trial and each.trial.metrics
            )
            assert shown == event.trial.metrics
            gate.touch()
    assert gate.exists()
