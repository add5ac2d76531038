"""Odd surroundings of a local search: where its store is, and what the machine has left. One line, or the same table."""

from __future__ import annotations

import json
import os
import pty
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.engines.local.test_runner import gone
from tests.tuner.engines.local.test_storage import NAMESPACE, can_mount
from tests.tuner.experiments import LR, TRIALS, document, experiment, run, table
from tuner.engines.local import LocalEngine
from tuner.errors import StudyDamaged
from tuner.result import StudyState
from tuner.store import records
from tuner.store.studies import Store

SHELL: dict[str, Any] = {
    "command": ["sh", "-c"],
    "args": ["echo fd=${trialParameters.lr}"],
    "parallel": 1,
}
WHAT = experiment(trials=2, **SHELL)
ENVIRONMENT = os.environ | {"PYTHONPATH": str(TRIALS.parents[2])}
CLIENT = """
import sys
from pathlib import Path
from tests.tuner.experiments import experiment, run
from tests.tuner.engines.local.test_surroundings import WHAT
from tuner.errors import StudyError
try: print(run(Path(sys.argv[1]), WHAT, workers=1).state.value)
except StudyError as error: print(error)
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TRIALS)


def test_store_may_have_any_name_and_move(tmp_path: Path) -> None:
    whole = table(run(tmp_path / "plain", WHAT))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for name in ("störe 日本, a:b", "link"):
        assert table(run(tmp_path / name, WHAT)) == whole
    (tmp_path / "real").rename(tmp_path / "moved")
    assert table(LocalEngine(Store(tmp_path / "moved")).result("study")) == whole
    assert len(run(tmp_path / "moved", WHAT, max_trials=3).trials) == 3
    shutil.copytree(tmp_path / "moved", tmp_path / "copied")
    assert len(run(tmp_path / "copied", WHAT, max_trials=3).trials) == 3


def test_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    run(tmp_path, WHAT)
    path = tmp_path / "local" / "study" / "journal.jsonl"
    header = records.read(path).records[0]
    records.Writer.create(path, header | {"format": 99}).close()
    with pytest.raises(StudyDamaged, match="was written by another version of gantune"):
        run(tmp_path, WHAT)


def test_few_file_descriptors_are_enough(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(tmp_path)],
        cwd=TRIALS,
        env=ENVIRONMENT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Succeeded\n", "")


@pytest.mark.skipif(not can_mount(), reason="needs a kernel that allows mounts in a user namespace")
@pytest.mark.parametrize(
    ("options", "problem"),
    [("ro,size=1m", "Read-only file system"), ("size=1m,nr_inodes=20", "is full. Finished trials")],
)
def test_store_without_room_is_one_line(tmp_path: Path, options: str, problem: str) -> None:
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" && exec "$3" -c "$4" "$2/store"'
    arguments = ["sh", options, str(tmp_path), sys.executable, CLIENT]
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", script, *arguments],
        cwd=TRIALS,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert problem in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1


def test_closed_terminal_ends_the_search(tmp_path: Path) -> None:
    args = ["sleep 60; echo fd=${trialParameters.lr}"]
    shape = document(command=["sh", "-c"], args=args, parameters=[LR])
    (tmp_path / "search.yaml").write_text(json.dumps(shape))
    client, terminal = pty.fork()
    if client == 0:
        os.chdir(tmp_path)
        command = [sys.executable, "-m", "tuner", "run", "search.yaml", "--local"]
        os.execve(sys.executable, command, ENVIRONMENT)
    seen = b""
    while b"running" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    until = time.monotonic() + 60
    while not os.waitpid(client, os.WNOHANG)[0]:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert gone(tmp_path / ".gantune" / "local" / "study")
    result = LocalEngine(Store(tmp_path / ".gantune")).result("study")
    assert result.state is StudyState.STOPPED
