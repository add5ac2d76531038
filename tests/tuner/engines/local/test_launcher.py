"""Jobs of the local engine, run for real: init containers, scripts that trials write, warnings, shares."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.experiments import ARGS, document
from tuner import manifest
from tuner.engines.base import Event, EventKind
from tuner.engines.local import LocalEngine, launcher
from tuner.errors import CommandError
from tuner.result import Result, TrialState
from tuner.store.studies import Store

OWN_SCRIPT = """
read -r -d '' SCRIPT << EOM

import sys, time
time.sleep(0.05)
print("fd=" + sys.argv[1])
EOM
printf "%s" "$SCRIPT" > "train.py"
sleep 0.05
python "train.py" "${trialParameters.lr}"
"""


MINIMUM = {
    "type": "minimize",
    "objectiveMetricName": "fd",
    "metricStrategies": [{"name": "fd", "value": "min"}],
}


def run(shape: dict[str, Any], folder: Path, workers: int = 1) -> tuple[Result, list[Event]]:
    """Run an Experiment from `folder`."""
    engine = LocalEngine(Store(folder / ".gantune"), workers=workers, seed=7)
    events = list(engine.run(manifest.from_document(shape)))
    return events[-1].result, events


def warnings_of(events: list[Event]) -> list[str]:
    """The texts of the warnings."""
    return [event.message for event in events if event.kind is EventKind.WARNING]


def volume(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pod with an emptyDir, and a container that mounts it at `path`."""
    return {"volumes": [{"name": "v", "emptyDir": {}}]}, {
        "volumeMounts": [{"name": "v", "mountPath": path}]
    }


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, which holds the user's train.py."""
    (tmp_path / "train.py").write_text("print('the user wrote this')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("overlay", [True, False])
def test_own_scripts_leave_user_file_intact(
    start: Path, monkeypatch: pytest.MonkeyPatch, overlay: bool
) -> None:
    if not overlay:
        monkeypatch.setattr("tuner.engines.local.workspace._overlay_works", lambda *_, **__: False)
    shape = document(trials=6, parallel=2)
    shape["spec"]["trialTemplate"]["trialSpec"] = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "spec": {"trainer": {"command": ["bash", "-c", OWN_SCRIPT]}},
    }
    result, _ = run(shape, start, workers=2)
    assert len(result.trials) == 6
    for trial in result.trials:
        assert trial.metrics["fd"] == float(trial.parameters["lr"])
        script = (
            start / ".gantune" / "local" / "study" / "trials" / trial.name / "files" / "train.py"
        )
        assert "sys.argv[1]" in script.read_text()
    assert (start / "train.py").read_text() == "print('the user wrote this')\n"


@pytest.mark.parametrize("name", ["tuner.py", "signal.py", "tuner/__init__.py"])
def test_user_modules_may_have_any_name(start: Path, name: str) -> None:
    (start / name).parent.mkdir(exist_ok=True)
    (start / name).write_text("VALUE = 2\n")
    module = name.partition("/")[0].removesuffix(".py")
    # Python has its own one already, as with `python -m`
    value = "1" if module == "signal" else "2"
    (start / "mine.py").write_text(
        f"import {module}\ndef main(argv):\n    print('fd=%s' % getattr({module}, 'VALUE', 1))\n"
    )
    result, _ = run(document(command=["python", "-m", "mine"], trials=2, parallel=2), start)
    assert [trial.metrics["fd"] for trial in result.trials] == [float(value)] * 2


def test_init_containers_run_first_and_in_order(start: Path) -> None:
    pod, container = volume("/work")
    first = {"name": "first", "command": ["sh", "-c", "echo 1 > /init/a; echo fd=0"]}
    first["volumeMounts"] = [{"name": "v", "mountPath": "/init"}]  # type: ignore[assignment]
    second = {"name": "second", "command": ["sh", "-c", "echo 2 >> /work/a"], **container}
    command = ["sh", "-c", "cat /work/a; echo fd=$(cat /work/a | wc -l)"]
    shape = document(
        command=command,
        args=[],
        trials=1,
        pod={**pod, "initContainers": [first, second]},
        container=container,
    )
    result, _ = run(shape | {"spec": shape["spec"] | {"objective": MINIMUM}}, start)
    assert result.trials[0].metrics["fd"] == 2  # what an init container prints is no metric
    assert (start / ".gantune/local/study/trials/study-0/init.log").read_text() == "fd=0\n"
    assert (start / ".gantune/local/study/trials/study-0/mounts/work/a").read_text() == "1\n2\n"


def test_failed_init_container_fails_the_trial(start: Path) -> None:
    pod = {"initContainers": [{"name": "fetch", "command": ["sh", "-c", "echo no route; exit 3"]}]}
    result, _ = run(document(command=["echo", "fd=1"], args=[], trials=1, pod=pod), start)
    assert result.trials[0].state is TrialState.FAILED
    assert result.trials[0].reason == "init container fetch: exit code 3: no route"


def test_missing_init_program_is_refused(start: Path) -> None:
    pod = {"initContainers": [{"name": "fetch", "command": ["no-such-program"]}]}
    with pytest.raises(
        CommandError,
        match="container fetch: command 'no-such-program' is not found on this machine",
    ):
        run(document(command=["echo", "fd=1"], args=[], trials=1, pod=pod), start)


def test_shell_operators_run_as_in_katib(start: Path) -> None:
    args = ["fd=${trialParameters.lr}", ">", "out", "&&", "cat", "out"]
    result, _ = run(document(command=["echo"], args=args, trials=1), start)
    assert result.trials[0].metrics["fd"] == float(result.trials[0].parameters["lr"])
    assert not (start / "out").exists()


def test_hidden_data_and_env_sources_are_warned(
    start: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tmp_path_factory.mktemp("data")
    (data / "x.npz").touch()
    pod, container = volume(str(data))
    container["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    args = [*ARGS, f"--dataset={data}/x.npz"]
    _, events = run(
        document(command=["echo", "fd=1"], args=args, trials=1, pod=pod, container=container), start
    )
    found = warnings_of(events)
    assert any(
        f"trials do not see {data}/x.npz" in one and f"Move it out of {data}" in one
        for one in found
    )
    assert any("configMap settings (envFrom)" in one for one in found)


def test_cores_obey_both_cgroup_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert launcher.cores() == 8
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert launcher.cores() == 8
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    assert launcher.cores() == 3
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert launcher.cores() == 2


def test_python_is_this_interpreter(start: Path) -> None:
    line = ["python", "-c", "import sys; print(sys.executable); print('fd=1')"]
    run(document(command=line, args=[], trials=1), start)
    log = (start / ".gantune/local/study/trials/study-0/output.log").read_text()
    assert log.splitlines()[0] == sys.executable


@pytest.mark.parametrize("block", [1, 3, 65536])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"fd=1", b""),
        (b"fd=1\n", b"fd=1\n"),
        (b"a\nb\nfd=0.1", b"a\nb\n"),
        (b"\n", b"\n"),
    ],
)
def test_only_complete_lines_stay(
    before: bytes, after: bytes, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_BLOCK", block)
    log = tmp_path / "output.log"
    log.write_bytes(before)
    launcher._drop_torn_line(log)
    assert log.read_bytes() == after
    launcher._drop_torn_line(tmp_path / "missing")
