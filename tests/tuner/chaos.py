"""Kill searches again and again, and compare: `python -m tests.tuner.chaos [--kills 300] [--seed N]`, or `make chaos`.

A search runs as `gantune run` in a separate process. At random moments one of its processes is
killed with SIGKILL (the client, the guard, the server, or all of them at once), until enough kills
were made. Every third search gets its kills within one trial. Where the client died, the same
command runs again. Then the table must equal that of an uninterrupted run, each recorded fd must
be the one in the last line of the trial's file, and no process may be left. The next search has
another kind of program and another algorithm.

A trial that is killed itself is Failed, as on a cluster, so no trial is killed on purpose here.
tests/tuner/trials/fault_trial.py does that.

The second part plays random request sequences against the suggestion service (--sequences 2000).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from tests.tuner.experiments import ARGS, CHECKPOINTS, TRIALS, document, table
from tests.tuner.suggestion import sequences
from tuner.engines.local import LocalEngine
from tuner.engines.local.processes import MARKER
from tuner.result import Result, StudyState, TrialState
from tuner.samplers import ALGORITHMS
from tuner.store.studies import EngineKind, Store

COUNT = 6
KILLS_OF_A_SEARCH = 6
VICTIMS = ("client", "guard", "server", "all")
ROOT = TRIALS.parents[2]
METRICS = "/var/log/katib/metrics.log"
FILE = {
    "collector": {"kind": "File"},
    "source": {"fileSystemPath": {"kind": "File", "path": METRICS, "format": "TEXT"}},
}
MODULE = ["python", "-m", "chaos_trial"]
INIT = {"name": "first", "image": "x", "command": ["sh", "-c", "sleep 0.05; echo made > made"]}
PROGRAMS: dict[str, dict[str, Any]] = {  # by kind of program
    "module": {"command": MODULE},
    "file": {"command": MODULE, "more": [f"--metrics-file={METRICS}"], "collector": FILE},
    "script": {"command": ["python", "chaos_trial.py"]},
    "shell": {"command": ["sh", "-c", 'exec python -m chaos_trial "$@"', "sh"]},
    "child": {"command": MODULE, "more": ["--do=child"]},
    "daemon": {"command": MODULE, "more": ["--do=daemon"]},
    "deaf": {"command": MODULE, "more": ["--do=deaf"]},
    "failing": {"command": MODULE, "more": ["--do=fail"]},
    "init": {"command": MODULE, "pod": {"initContainers": [INIT]}},
    "push": {
        "command": ["python", "-m", "push_trial"],
        "collector": {"collector": {"kind": "Push"}},
    },
}


def search(kind: str, algorithm: str) -> dict[str, Any]:
    """Return the manifest of a search."""
    program = dict(PROGRAMS[kind])
    arguments = [*ARGS, *program.pop("more", [])]
    if kind != "push":
        if algorithm == "hyperband":
            arguments.append("--epochs=${trialParameters.epochs}")
        if algorithm == "pbt":
            arguments.append(f"--checkpoints={CHECKPOINTS}")
    # two trials at once are enough for these brackets
    settings = {"r_l": "2", "eta": "2"} if algorithm == "hyperband" else {}
    return document(
        algorithm, args=arguments, trials=COUNT, parallel=2, settings=settings, **program
    )


def prepare(folder: Path, kind: str, algorithm: str) -> Path:
    """Make the directory of a search."""
    folder.mkdir()
    (folder / "search.yaml").write_text(json.dumps(search(kind, algorithm)))
    for name in ("chaos_trial.py", "push_trial.py"):
        shutil.copy(TRIALS / name, folder)
    return folder


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Run the search."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tuner",
            "run",
            "search.yaml",
            "--local",
            "--workers",
            "2",
            "--seed",
            "7",
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
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
                stat = (entry / "stat").read_text()
                found[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
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


def collect(folder: Path) -> Result | None:
    """The result so far, None before there is a study."""
    if not (study(folder) / "journal.jsonl").exists():
        return None
    return LocalEngine(Store(folder / ".gantune")).result("study")


def kill(client: subprocess.Popen[bytes], folder: Path, victim: str) -> bool:
    """Kill one part of the search, or all of it, its client first. Return whether there was something to kill."""
    parts = {"client": [client.pid]} | tree(folder)
    everyone = [pid for pids in parts.values() for pid in pids]
    pids = everyone if victim == "all" else parts[victim][:1]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


class Moments:
    """When to kill: at random, or whenever one trial runs."""

    def __init__(self, rng: random.Random, *, within: bool) -> None:
        self._rng, self._trial = rng, rng.randrange(COUNT) if within else None

    def wait(self, client: subprocess.Popen[bytes], folder: Path) -> bool:
        """Wait for the next one; returns False where the client has finished, or the trial."""
        delay = self._rng.choice((self._rng.uniform(0.3, 1.2), self._rng.uniform(0.6, 2.5)))
        until = time.monotonic() + delay
        while client.poll() is None:
            if self._trial is None:
                if time.monotonic() > until:
                    return True
            elif (result := collect(folder)) and len(result.trials) > self._trial:
                state = result.trials[self._trial].state
                if state is TrialState.RUNNING:
                    time.sleep(self._rng.uniform(0, 0.1))
                    return client.poll() is None
                if state.finished:
                    return False
            time.sleep(0.01)
        return False


def once(folder: Path, rng: random.Random, kills: int, *, within: bool = False) -> int:
    """One search to its end, with at most `kills` kills; returns how many there were."""
    done, moments = 0, Moments(rng, within=within)
    while True:
        client = start(folder)
        while done < kills and moments.wait(client, folder):
            done += kill(client, folder, rng.choice(VICTIMS))
            time.sleep(0.05)
        _, err = client.communicate(timeout=120)
        result = collect(folder)
        if b"Traceback" in err or (result is None and not done):
            raise AssertionError(err.decode())
        if result is not None and result.state is StudyState.SUCCEEDED:
            return done
        if result is not None and result.state is StudyState.FAILED:
            raise AssertionError(f"the search failed: {result.reason}")


def verify(folder: Path, result: Result, whole: Result) -> None:
    """Compare with the uninterrupted search, with the files, and look for processes that are left."""
    for ours, theirs in zip(table(result), table(whole), strict=True):
        assert ours == theirs, (ours, theirs)
    for trial in result.trials:
        files = list((study(folder) / "trials" / trial.name).rglob("metrics.log"))
        if files and trial.state is TrialState.SUCCEEDED:
            last = files[0].read_text().splitlines()[-1]
            assert float(last.rpartition("=")[2]) == trial.metrics["fd"]
    until = time.monotonic() + 10
    while any(tree(folder).values()) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(tree(folder).values()), tree(folder)


def run(kills: int, seed: int, root: Path, *, first: int = 0) -> None:
    """Make `kills` kills, from search number `first`, which decides the kinds of programs and the algorithms."""
    rng, done, wholes = random.Random(seed), 0, dict[tuple[str, str], Result]()
    for number in count(first):
        if done >= kills:
            return
        kind = list(PROGRAMS)[number % len(PROGRAMS)]
        # 10 kinds and 9 algorithms, so that each kind meets each algorithm
        algorithm = list(ALGORITHMS)[number % len(ALGORITHMS)]
        if kind == "push" and algorithm in ("hyperband", "pbt"):  # its trial has no such flags
            algorithm = "random"
        if (kind, algorithm) not in wholes:
            folder = prepare(root / f"{kind}-{algorithm}", kind, algorithm)
            once(folder, random.Random(0), 0)
            wholes[kind, algorithm] = _known(collect(folder))
        folder = prepare(root / str(number), kind, algorithm)
        most, within = min(kills - done, rng.randint(2, KILLS_OF_A_SEARCH)), number % 3 == 0
        made = once(folder, rng, min(most, 2) if within else most, within=within)
        verify(folder, _known(collect(folder)), wholes[kind, algorithm])
        done += max(made, 1)
        print(f"{done} kills, {number - first + 1} searches; {kind}, {algorithm}", flush=True)


def _known(result: Result | None) -> Result:
    assert result is not None
    return result


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as root:
        run(options.kills, options.seed, Path(root))
    sequences.run(options.sequences, options.seed)


if __name__ == "__main__":
    main()
