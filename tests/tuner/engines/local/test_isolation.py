"""No trial changes another one's result: the same trials in two orders, with 1, 2 and 3 workers, and each one alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.engines.local.test_runner import gone
from tests.tuner.experiments import TRIALS, document, experiment, run
from tuner.result import StudyState, TrialState
from tuner.store.studies import EngineKind, Store

DEEDS = (
    "nothing", "thread", "patch", "close", "change", "fork", "daemon", "leave", "handlers", "segfault", "kill", "group",
    "limits", "words", "mute",
)  # fmt: skip
FAILED = {"segfault", "kill", "words", "mute"}
COMMAND = ["python", "-m", "odd_trial"]


def deeds(*names: str, seed: int = 1, **options: Any) -> dict[str, Any]:
    """A grid over the deeds, in the order that `seed` gives."""
    parameter = {
        "name": "do",
        "parameterType": "categorical",
        "feasibleSpace": {"list": list(names)},
    }
    given = {
        "parameters": [parameter],
        "trials": len(names),
        "args": ["--do=${trialParameters.do}"],
        "parallel": 3,
    }
    return {"command": COMMAND, "settings": {"random_state": str(seed)}, **given, **options}


def outcomes(root: Path, workers: int, seed: int, *names: str) -> dict[str, tuple[Any, ...]]:
    """State, metrics and reason of each deed."""
    result = run(root, experiment("grid", **deeds(*names, seed=seed)), workers=workers)
    return {str(t.parameters["do"]): (t.state, dict(t.metrics), t.reason) for t in result.trials}


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("original")
    (tmp_path / "odd_trial.py").write_text((TRIALS / "odd_trial.py").read_text())
    monkeypatch.chdir(tmp_path)


@cache
def alone(root: Path) -> dict[str, tuple[Any, ...]]:
    """Each deed in a search of its own."""
    found: dict[str, tuple[Any, ...]] = {}
    for deed in DEEDS:
        found |= outcomes(root / "alone" / deed, 1, 1, deed)
    return found


@pytest.fixture(scope="module")
def solo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    """The outcomes of single runs."""
    root = tmp_path_factory.mktemp("solo")
    (root / "notes.txt").write_text("original")
    (root / "odd_trial.py").write_text((TRIALS / "odd_trial.py").read_text())
    before = Path.cwd()
    os.chdir(root)
    try:
        return alone(root)
    finally:
        os.chdir(before)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("workers", "seed"),
    [
        (1, 1),
        (2, 2),
        (3, 1),
        *(pytest.param(*pair, marks=SLOW) for pair in ((1, 2), (2, 1), (3, 2))),
    ],
)
def test_each_trial_equals_its_solo_run(
    tmp_path: Path, workers: int, seed: int, solo: dict[str, tuple[Any, ...]]
) -> None:
    found = outcomes(tmp_path / "store", workers, seed, *DEEDS)
    assert found == solo
    assert {deed for deed, (state, *_) in found.items() if state is TrialState.FAILED} == FAILED
    assert (tmp_path / "notes.txt").read_text() == "original"
    assert gone(Store(tmp_path / "store").of(EngineKind.LOCAL).folder("study"))


@pytest.mark.parametrize("deed", ["leave", "fork", "segfault", "close"])
def test_client_exit_code_is_truthful(tmp_path: Path, deed: str) -> None:
    (tmp_path / "search.yaml").write_text(json.dumps(document("grid", **deeds(deed, parallel=1))))
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "run", "search.yaml", "--local", "--workers", "1"],
        env=os.environ | {"PYTHONPATH": str(TRIALS.parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (1 if deed in FAILED else 0), done.stderr
    assert done.stdout.count("trial 0 started") == 1
    assert "Traceback" not in done.stderr


def test_ctrl_c_lets_trials_finish_unharmed(tmp_path: Path) -> None:
    """SIGINT to the terminal's process group reaches the client alone; running trials finish, none is marked Failed."""
    search = deeds("waits", "nothing", parallel=1)
    (tmp_path / "search.yaml").write_text(json.dumps(document("grid", **search)))
    client = subprocess.Popen(
        [sys.executable, "-m", "tuner", "run", "search.yaml", "--local", "--workers", "1"],
        env=os.environ | {"PYTHONPATH": str(TRIALS.parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert client.stdout
    line = client.stdout.readline()
    assert "trial 0 started" in line
    os.killpg(client.pid, signal.SIGINT)
    out, err = client.communicate(timeout=60)
    assert "failed" not in out
    assert client.returncode == 130, err
    result = run(tmp_path / ".gantune", experiment("grid", **search))
    assert result.state is StudyState.SUCCEEDED
    assert [t.state for t in result.trials] == [TrialState.SUCCEEDED] * 2


def test_fork_server_starts_with_one_thread() -> None:
    """A process with NumPy's threads cannot enter a user namespace (unshare)."""
    code = (
        "import os, sys, tuner.engines.local.forkserver\n"
        "assert 'numpy' not in sys.modules\n"
        "assert len(os.listdir('/proc/self/task')) == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
