"""Kill a search again and again, and compare: `python -m tests.tuner.chaos [--kills 200] [--seed N]`, or `make chaos`.

A search with a File collector runs as `gantune run` in a separate process. At a random moment one
of its processes is killed with SIGKILL (the client, the guard, the server, a trial, or all of them
at once), and the same command runs again, until the search has finished. Then the table must equal
that of an uninterrupted run, each recorded fd must be the one in the last line of the trial's file,
and no process may be left. Then the next search starts, until enough kills were made.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.tuner.experiments import LR, TRIALS, document
from tuner.engines.local import LocalEngine
from tuner.engines.local.processes import MARKER
from tuner.result import Result, StudyState
from tuner.store.studies import EngineKind, Store

COUNT = 6
BLAMED = re.compile(
    "killed by SIGKILL|the search was killed 2 times while this trial ran"
)  # reasons that kills explain
VICTIMS = ("client", "guard", "server", "trial", "all")
ROOT = TRIALS.parents[2]


def search(folder: Path) -> list[str]:
    """Write the manifest; returns the command."""
    path = "/var/log/katib/metrics.log"
    collector = {
        "collector": {"kind": "File"},
        "source": {"fileSystemPath": {"kind": "File", "path": path, "format": "TEXT"}},
    }
    shape = document(
        parameters=[LR],
        command=["python", "-m", "chaos_trial"],
        args=["--lr=${trialParameters.lr}", f"--metrics-file={path}"],
        trials=COUNT,
        parallel=2,
        collector=collector,
    )
    (folder / "search.yaml").write_text(json.dumps(shape))
    shutil.copy(TRIALS / "chaos_trial.py", folder)
    return [sys.executable, "-m", "tuner", "run", "search.yaml", "--local", "--workers", "2"]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Run the search."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        search(folder),
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def tree(folder: Path) -> dict[str, list[int]]:
    """The processes of the running search by what they are, found through the study's mark."""
    wanted = f"{MARKER}={study(folder)}".encode()
    found: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = int(
                    (entry / "stat").read_text().rpartition(")")[2].split()[1]
                )
    guards = [pid for pid, parent in found.items() if parent not in found]
    servers = [pid for pid, parent in found.items() if parent in guards]
    return {
        "guard": guards,
        "server": servers,
        "trial": [pid for pid, parent in found.items() if parent in servers],
    }


def study(folder: Path) -> Path:
    """The study's directory."""
    store = Store(folder / ".gantune").of(EngineKind.LOCAL)
    return store.folder("study").absolute()


def kill(client: subprocess.Popen[bytes], folder: Path, victim: str) -> None:
    """Kill one part of the search, or all of it."""
    parts = tree(folder) | {"client": [client.pid]}
    everyone = [pid for pids in parts.values() for pid in pids]
    for pid in everyone if victim == "all" else parts[victim][:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def once(folder: Path, rng: random.Random, kills: int) -> int:
    """One search to its end, with at most `kills` kills; returns how many there were."""
    done = 0
    while True:
        client = start(folder)
        if done < kills:
            time.sleep(rng.choice((rng.uniform(0.3, 1.2), rng.uniform(0.6, 2.5))))
            if client.poll() is None:
                kill(client, folder, rng.choice(VICTIMS))
                done += 1
        _, err = client.communicate(timeout=120)
        if b"Traceback" in err:
            raise AssertionError(err.decode())
        result = (
            LocalEngine(Store(folder / ".gantune")).collect("study")
            if study(folder).exists()
            else None
        )
        if result is not None and result.state is StudyState.SUCCEEDED:
            return done
        if result is not None and result.state is StudyState.FAILED:
            raise AssertionError(f"the search failed: {result.reason}")


def table(result: Result) -> list[tuple[Any, ...]]:
    """What must not depend on the kills. A trial that was killed itself is Failed, as on a cluster."""
    return [
        (t.number, dict(t.parameters), t.state.value, dict(t.metrics), t.reason)
        for t in result.trials
    ]


def verify(folder: Path, whole: Result, killed: set[int]) -> None:
    """Compare with the uninterrupted search, with the files, and look for processes that are left."""
    result = LocalEngine(Store(folder / ".gantune")).collect("study")
    for ours, theirs in zip(table(result), table(whole), strict=True):
        if ours[0] not in killed:
            assert ours == theirs, (ours, theirs)
    for trial in result.trials:
        files = list((study(folder) / "trials" / trial.name).rglob("metrics.log"))
        if "fd" in trial.metrics:
            assert len(files) == 1
            assert (
                float(files[0].read_text().splitlines()[-1].rpartition("=")[2])
                == trial.metrics["fd"]
            )
    until = time.monotonic() + 10
    while any(tree(folder).values()) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(tree(folder).values()), tree(folder)


def run(kills: int, seed: int, root: Path) -> None:
    """Make `kills` kills."""
    whole_folder = root / "whole"
    whole_folder.mkdir()
    once(whole_folder, random.Random(0), 0)
    whole = LocalEngine(Store(whole_folder / ".gantune")).collect("study")
    rng, done, number = random.Random(seed), 0, 0
    while done < kills:
        folder = root / str(number)
        folder.mkdir()
        made = once(folder, rng, min(kills - done, rng.randint(1, 6)))
        result = LocalEngine(Store(folder / ".gantune")).collect("study")
        killed = {trial.number for trial in result.trials if BLAMED.search(trial.reason)}
        verify(folder, whole, killed)
        done, number = done + max(made, 1), number + 1
        print(
            f"{done} kills, {number} searches, {len(killed)} trials killed themselves in the last one",
            flush=True,
        )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as root:
        run(options.kills, options.seed, Path(root))


if __name__ == "__main__":
    main()
