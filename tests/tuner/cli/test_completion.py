"""The shell completes commands, options and the names of studies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuner import experiments
from tuner.store.studies import EngineKind, Store

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with two local studies and one of a cluster, and another store with one study."""
    for name in ("gan-bayes", "gan-tpe"):
        Store(tmp_path / ".gantune").of(EngineKind.LOCAL).submit(experiments.experiment(name=name))
    Store(tmp_path / ".gantune").of(EngineKind.KATIB).submit(
        experiments.experiment(name="gan-bayes")
    )
    Store(tmp_path / "other").of(EngineKind.LOCAL).submit(experiments.experiment(name="gan-other"))
    return tmp_path


def completed(home: Path, line: str, **env: str) -> list[str]:
    """What bash would offer after `line`."""
    words = line.split(" ")
    asked = {
        "_GANTUNE_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    plain = {name: value for name, value in os.environ.items() if name != "GANTUNE_STORE"}
    done = subprocess.run(
        [sys.executable, "-c", "from tuner.cli import main; main()"],
        cwd=home,
        env=plain | {"PYTHONPATH": str(ROOT)} | asked | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return [each.partition(",")[2] for each in done.stdout.split()]


@pytest.mark.parametrize(
    "command", ["status", "best", "report", "next", "confirm", "export", "retry", "stop", "logs"]
)
def test_completes_names_of_studies(home: Path, command: str) -> None:
    assert completed(home, f"gantune {command} gan") == ["gan-bayes", "gan-tpe"]


def test_completes_from_the_chosen_store(home: Path) -> None:
    assert completed(home, "gantune best --store other gan") == ["gan-other"]
    assert completed(home, "gantune best gan", GANTUNE_STORE="other") == ["gan-other"]
    assert completed(home, "gantune best --store missing gan") == []


def test_completes_commands_and_options(home: Path) -> None:
    assert completed(home, "gantune re") == ["report", "retry"]
    assert completed(home, "gantune export gan-tpe --to c") == ["csv"]
    assert completed(home, "gantune unknown x") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_prints_the_script_of_shell(home: Path, shell: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "_GANTUNE_COMPLETE": f"{shell}_source"}
    command = [sys.executable, "-c", "from tuner.cli import main; main()"]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
    assert (
        "_GANTUNE_COMPLETE" in done.stdout
        or "Shell completion is not supported for Bash" in done.stderr
    )
