"""The Push collector: trials report with `katib.report_metrics` of Katib's SDK, to a DB manager on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from tests.tuner.experiments import ARGS, LR, TRIALS, document, experiment, run
from tuner.engines.base import EventKind
from tuner.engines.local import LocalEngine
from tuner.engines.local.details import running_curves
from tuner.engines.local.push import server
from tuner.engines.local.push.sockets import Sockets
from tuner.errors import StudyError, UnsupportedError
from tuner.experiment.model import Experiment
from tuner.katib.messages import katib_messages
from tuner.result import Result, Trial, TrialState
from tuner.store import curves
from tuner.store.studies import Store

PUSH = {"collector": {"kind": "Push"}}
MODULE = ["python", "-m", "push_trial"]
SDK = ["python", "-m", "sdk_trial"]
SECONDS = 60.0  # for what is waited for


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def pushing(*args: str, command: list[str] | None = None, **options: Any) -> Experiment:
    """An Experiment whose trials push."""
    options = {"trials": 1, **options}
    return experiment(command=command or MODULE, args=[*ARGS, *args], collector=PUSH, **options)


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
    assert not (tmp_path / "local" / "study" / "push-sockets").is_symlink()


def test_any_program_with_the_sdk_reports(tmp_path: Path) -> None:
    """As `sh -c` starts it, with a PYTHONPATH of the manifest and a sitecustomize of the environment."""
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.customized = True\n")
    (tmp_path / "own_module.py").write_text("print('imported')\n")
    script = "python -c 'import own_module; print(customized)' && exec python -m sdk_trial --lr=$0"
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


def test_name_of_another_trial_is_refused(tmp_path: Path) -> None:
    trial = run(tmp_path, pushing("--do=pretend")).trials[0]
    assert trial.state is TrialState.FAILED
    assert trial.reason.startswith(
        "a report was refused: this address takes the metrics of trial study-0, got those of 'study-7': "
        "report under the name in KATIB_TRIAL_NAME"
    )
    assert (folder(tmp_path) / "pushed.jsonl").read_bytes() == b""


def test_oversized_report_fails_its_trial_alone(tmp_path: Path) -> None:
    large = run(tmp_path / "large", pushing("--do=large", command=SDK)).trials[0]
    assert large.state is TrialState.FAILED
    assert "RESOURCE_EXHAUSTED" in (folder(tmp_path / "large") / "output.log").read_text()


def test_garbage_on_the_socket_is_harmless(tmp_path: Path) -> None:
    check(run(tmp_path, pushing("--do=garbage", trials=4), workers=2), 4)


def test_reports_survive_sigkill_of_the_client(tmp_path: Path) -> None:
    gate, store = tmp_path / "gate", tmp_path / "store"
    shape = document(
        command=MODULE, args=[*ARGS, f"--gate={gate}"], trials=2, parallel=2, collector=PUSH
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
    engine = LocalEngine(Store(store), workers=2)
    result = list(engine.watch("study"))[-1].result
    check(result, 2)
    stored = curves.read(store / "local" / "study")["study-0"]["fd"]
    lr = result.trials[0].metrics["fd"] / 2
    # the first one was reported before the kill
    assert [one.value for one in stored] == [lr, lr, 2 * lr]


def test_trials_of_a_killed_server_run_again(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    what = pushing(f"--gate={gate}", trials=3)
    engine = LocalEngine(Store(tmp_path), workers=1)
    watched = engine.watch(engine.submit(what))
    next(event for event in watched if event.trial and event.trial.metrics)
    sockets = (tmp_path / "local" / "study" / "push-sockets").resolve()
    assert [path.name for path in sockets.iterdir()] == ["0"]
    found = psutil.Process().children(recursive=True)
    next(one for one in found if "push.server" in str(one.cmdline())).kill()
    warning = next(event.message for event in watched if event.kind is EventKind.WARNING)
    assert warning == (
        "the process that receives pushed metrics was killed by SIGKILL; study-0 runs again"
    )
    gate.touch()
    check(list(watched)[-1].result, 3)
    assert not sockets.exists()


def test_leftover_sockets_are_removed(tmp_path: Path) -> None:
    """As after a kill of all processes at once, with somebody else's directory in between."""
    left, other = Sockets(tmp_path).create(), tmp_path / "other"
    (left / "0").touch()
    other.mkdir()
    fresh = Sockets(tmp_path).create()
    assert fresh != left
    assert not left.exists()
    Sockets(tmp_path).remove()
    assert not fresh.exists()
    (tmp_path / "push-sockets").symlink_to(other)
    Sockets(tmp_path).remove()
    assert other.exists()


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


def test_full_disk_pauses_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of files, which the kernel enforces like a full disk; the trial itself writes little."""
    monkeypatch.setattr("tuner.engines.local.push.runner._PROGRAM", LIMITED)
    with pytest.raises(
        StudyError,
        match=r"could not run \(.*pushed.jsonl cannot be written: No space left on device",
    ):
        run(tmp_path, pushing("--do=many"))
    text = (folder(tmp_path) / "pushed.jsonl").read_text()
    assert 0 < len(text) <= 4096
    assert all("timestamp" in json.loads(line) for line in text.splitlines())


LIMITED = """\
import resource, signal, sys
sys.path.append(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from tuner.engines.local.push.server import main
main(int(sys.argv[2]), sys.argv[3])
"""


@pytest.fixture
def reports(tmp_path: Path) -> server.Reports:
    return server.Reports("study-0", tmp_path / "pushed.jsonl", katib_messages())


def request(*values: tuple[str, str, str]) -> Any:
    """A report of study-0: (time, name, value)."""
    api = katib_messages()
    made = api.ReportObservationLogRequest(trial_name="study-0")
    for time_, name, value in values:
        made.observation_log.metric_logs.add(
            time_stamp=time_, metric=api.Metric(name=name, value=value)
        )
    return made


NOW = "2026-11-26T10:00:00Z"
REFUSED = {
    "time": (
        (("yesterday", "fd", "1"),),
        grpc.StatusCode.INVALID_ARGUMENT,
        "the time of 'fd' is not RFC 3339",
    ),
    "name": (
        ((NOW, "f" * 2000, "1"),),
        grpc.StatusCode.INVALID_ARGUMENT,
        "at most 1024 characters, got 'ffff",
    ),
    "value": (
        ((NOW, "fd", "1" * 2000),),
        grpc.StatusCode.INVALID_ARGUMENT,
        "at most 1024 characters, got 'fd'='1111",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_report_leaves_nothing(case: str, reports: server.Reports, tmp_path: Path) -> None:
    values, code, text = REFUSED[case]
    with pytest.raises(server.Refused, match=text) as caught:
        reports.add(request((NOW, "loss", "1"), *values))
    assert caught.value.code is code
    assert (tmp_path / "pushed.jsonl").read_bytes() == b""


def test_one_trial_reports_a_limited_amount(
    reports: server.Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LARGEST_FILE", 60)
    reports.add(request((NOW, "fd", "1")))
    with pytest.raises(
        server.Refused, match="trial study-0 has reported 0 MiB of metrics, which is the limit"
    ):
        reports.add(request((NOW, "fd", "2")))
    assert len((tmp_path / "pushed.jsonl").read_text().splitlines()) == 1


def test_value_without_a_time_is_ignored(reports: server.Reports, tmp_path: Path) -> None:
    reports.add(request(("", "fd", "1"), (NOW, "timestamp", "5"), (NOW, "fd", "2")))
    lines = (tmp_path / "pushed.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"timestamp": NOW, "fd": "2"}]


@pytest.mark.parametrize("kind", ["pipe", "link", "directory"])
def test_odd_file_of_an_earlier_attempt_is_replaced(kind: str, tmp_path: Path) -> None:
    path, other = tmp_path / "pushed.jsonl", tmp_path / "other"
    other.write_text("kept")
    {
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(other),
        "directory": path.mkdir,
    }[kind]()
    server.Reports("study-0", path, katib_messages()).add(request((NOW, "fd", "1")))
    assert path.read_text() == json.dumps({"timestamp": NOW, "fd": "1"}) + "\n"
    assert other.read_text() == "kept"


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "tuner.engines.local.push.runner.find_spec",
        lambda name: None if name == "grpc" else find(name),
    )
    with pytest.raises(UnsupportedError, match=r"not installed: pip install 'gan-tuner\[tune\]'"):
        LocalEngine(Store(tmp_path)).submit(pushing())


def test_running_trial_shows_its_reports(tmp_path: Path) -> None:
    gate, what = tmp_path / "gate", pushing(f"--gate={tmp_path / 'gate'}")
    engine = LocalEngine(Store(tmp_path))
    for event in engine.watch(engine.submit(what)):
        if event.trial and event.trial.state is TrialState.RUNNING and event.trial.metrics:
            found = running_curves(what, tmp_path / "local" / "study", [event.trial])["study-0"]
            assert found["fd"][0].value == event.trial.metrics["fd"]
            followed = LocalEngine(Store(tmp_path)).follow("study", timeout=SECONDS)
            shown = next(
                each.trial.metrics for each in followed if each.trial and each.trial.metrics
            )
            assert shown == event.trial.metrics
            gate.touch()
    assert gate.exists()
