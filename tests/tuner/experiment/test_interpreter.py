"""`python` in a manifest is the interpreter of the active environment, or PATH's first."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tuner.experiment import interpreter

MANIFEST = """
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {name: mine}
spec:
  objective: {type: minimize, objectiveMetricName: loss}
  algorithm: {algorithmName: random}
  parallelTrialCount: 1
  maxTrialCount: 1
  maxFailedTrialCount: 1
  parameters:
  - {name: lr, parameterType: double, feasibleSpace: {min: "0.1", max: "1", distribution: uniform}}
  trialTemplate:
    primaryContainerName: main
    trialParameters: [{name: lr, reference: lr}]
    trialSpec:
      apiVersion: batch/v1
      kind: Job
      spec:
        template:
          spec:
            restartPolicy: Never
            containers:
            - {name: main, image: x, command: [COMMAND], args: ["${trialParameters.lr}"]}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the environments `red` and `blue`, and `gantune` in one of its own."""
    tmp_path = tmp_path_factory.mktemp("home")
    for name in ("red", "blue"):
        venv.create(tmp_path / name, symlinks=True, with_pip=False)
        [packages] = (tmp_path / name / "lib").glob("python*/site-packages")
        (packages / f"only_{name}.py").write_text("def main(): print('loss=1')\nmain()\n")
    (tmp_path / "bin").mkdir()
    script = f"#!{sys.executable}\nimport sys\nfrom tuner.cli import main\nsys.exit(main())\n"
    (tmp_path / "bin" / "gantune").write_text(script)
    (tmp_path / "bin" / "gantune").chmod(0o755)
    (tmp_path / "train.py").write_text("import only_red\n")
    return tmp_path


def run(home: Path, command: str, active: str = "", path: str = "") -> tuple[int, str]:
    (home / "m.yaml").write_text(MANIFEST.replace("COMMAND", command))
    names = [*([f"{home}/{path}/bin"] if path else []), f"{home}/bin", os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(names), "NO_COLOR": "1"}
    environment.pop("VIRTUAL_ENV", None)
    if active:
        environment["VIRTUAL_ENV"] = str(home / active)
    done = subprocess.run(
        ["gantune", "run", "m.yaml", "--local", "--fresh"],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_runs_the_first_python_on_path(home: Path) -> None:
    code, text = run(home, "python, train.py", path="red")
    assert code == 0, text
    assert f"trials run with {home}/red/bin/python (the first on PATH), and gantune with" in text


def test_runs_the_active_environment(home: Path) -> None:
    code, text = run(home, "python, -m, only_red", active="red", path="blue")
    assert code == 0, text
    assert f"{home}/red/bin/python (the active virtual environment)" in text


def test_failed_import_names_the_interpreter(home: Path) -> None:
    _, text = run(home, "python, train.py", path="blue")
    assert (
        f"No module named 'only_red', with the interpreter {home}/blue/bin/python (the first"
        in text
    )
    code, text = run(home, "python, -m, only_red", path="blue")
    assert code == 2
    assert f"with the interpreter {home}/blue/bin/python" in text


def test_missing_script_stops_before_a_trial(home: Path) -> None:
    code, text = run(home, "python, trian.py", path="red")
    assert code == 2
    assert f"the script 'trian.py' is not in {home}; did you mean 'train.py'?" in text
    assert "trial 1" not in text


def test_keeps_an_interpreter_that_was_chosen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{home}/red/bin")
    monkeypatch.setattr(sys, "argv", ["search.py"])
    assert interpreter.python() == sys.executable
    monkeypatch.setattr(sys, "argv", [f"{home}/bin/gantune"])
    assert interpreter.python() == sys.executable, "this gantune was started by its path"
    monkeypatch.setenv("PATH", f"{home}/bin:{home}/red/bin")
    assert interpreter.python() == f"{home}/red/bin/python"
    assert interpreter.is_own(sys.executable)
    assert not interpreter.is_own(f"{home}/red/bin/python")
