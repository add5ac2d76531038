"""`gantune init` drafts a right manifest for each common way to take and to report values.

docs/bring-your-own.md lists the same forms.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tuner.commandline import gantune
from tuner.manifest import load
from tuner.result import Goal
from tuner.store.studies import EngineKind, Store

PROGRAMS = Path(__file__).with_name("programs")

# what follows `gantune init`, the parameter, the objective, and its value at 0.1
FORMS = {
    "flag value": ("python flags.py --lr 0.1", "lr", "val_acc", 0.75),
    "flag=value": ("python flags.py --lr=0.1", "lr", "val_acc", 0.75),
    "flag of the help": ("python flags.py", "lr", "val_acc", 0.75),
    "group.key=value": (
        "python overrides.py +optimizer.lr=0.1", "optimizer_lr", "val_acc", 0.8
    ),
    "tuned key": (
        "--tune optimizer.lr python overrides.py optimizer.lr=0.1", "optimizer_lr", "val_acc", 0.8
    ),
    "positional": ("python prose.py 0.1", "lr", "Test accuracy", 85.9),
    "tuned positional": ("--tune lr python prose.py 0.1", "lr", "Test accuracy", 85.9),
    "click": ("python clicked.py", "lr", "val_loss", 0.9),
    "variable": ("--tune env:LR python variables.py", "LR", "val_loss", 0.9),
    "variable=value": ("--tune env:LR=0.1 python variables.py", "LR", "val_loss", 0.9),
    "variable first": ("LR=0.1 python variables.py", "LR", "val_loss", 0.9),
    "env": ("env LR=0.1 python variables.py", "LR", "val_loss", 0.9),
    "yaml": ("--tune lr python configured.py config.yaml", "optimizer_lr", "f1", 0.9),
    "json": (
        "--tune config.json:optimizer.lr python configured.py config.json",
        "optimizer_lr", "f1", 0.9,
    ),
    "event files": ("python events.py --lr=0.1", "lr", "val_acc", 0.9),
    "shell script": ("--tune env:LR sh train.sh", "LR", "accuracy", 0.9),
    "awk": ("awk -v lr=0.1 -f split.awk", "lr", "acc", 0.8),
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(PROGRAMS, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize("form", FORMS)
def test_program_runs_without_an_edit(home: Path, form: str) -> None:
    line, parameter, objective, value = FORMS[form]
    drafted = gantune(home, "init", "--trials", "1", "-o", "made.yaml", *line.split())
    assert drafted.returncode == 0, drafted.stderr
    made = load(home / "made.yaml")
    assert [each.name for each in made.parameters] == [parameter]
    assert made.objective.metric == objective
    goal = Goal.MINIMIZE if "loss" in objective else Goal.MAXIMIZE
    assert made.objective.goal_type is goal
    checked = gantune(home, "check", "--strict", "made.yaml")
    assert checked.returncode == 0, checked.stdout
    ran = gantune(home, "run", "made.yaml", "--local")
    assert ran.returncode == 0, ran.stderr + (home / "made.yaml").read_text()
    [trial] = Store(home / ".gantune").of(EngineKind.LOCAL).result(made.name).trials
    assert trial.metrics[objective] == pytest.approx(value)


@pytest.mark.parametrize("form", ["variable", "event files"])
def test_files_of_the_draft_run_do_not_count(home: Path, form: str) -> None:
    line, parameter, objective, _ = FORMS[form]
    drafted = gantune(home, "init", "--trials", "2", "-o", "made.yaml", *line.split())
    assert drafted.returncode == 0, drafted.stderr
    ran = gantune(home, "run", "made.yaml", "--local")
    assert ran.returncode == 0, ran.stderr
    name = load(home / "made.yaml").name
    first, second = Store(home / ".gantune").of(EngineKind.LOCAL).result(name).trials
    assert first.parameters != second.parameters
    for trial in (first, second):
        assert trial.metrics[objective] == pytest.approx(1 - float(trial.parameters[parameter]))
