"""What the cluster client costs: `python -m bench.cluster_client`, against the loopback API server of the tests.

Prints requests for a submit, requests per 10 s of an idle watch, the watching process's memory with
2,000 trials, and the time of `best` on them. The server runs in this process, the client in one of
its own, so memory is the client's.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from bench import provenance
from tests.tuner.apihandler import RESPONSES
from tests.tuner.loopback import Loopback, many

TRIALS = 2000
STARTED, IDLE = 20, 120  # seconds: until the lists are read, and of idleness after
REPEATS = 5
SUBMIT = """
import sys
from tuner.client import submit
from tuner.manifest import from_document
import json
submit(from_document(json.load(open(sys.argv[1]))))
"""
WATCH = """
import sys
from tuner.engines.katib import KatibEngine
from tuner.errors import Deadline
from tuner.kube import Cluster
from tuner.store.studies import Store
def peak():  # not ru_maxrss, which a process inherits from the one that started it
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
base = peak()
cluster = Cluster.connect()
engine = KatibEngine(cluster, Store(sys.argv[1]), timeout=float(sys.argv[2]))
trials = 0
try:
    for event in engine.watch("big"):
        trials = len(event.result.trials)
except Deadline:
    pass
print(trials, peak(), base)
"""
BEST = """
import sys, time
from tuner import best
began = time.perf_counter()
trial = best("big", store=sys.argv[1])
print(time.perf_counter() - began, time.process_time(), trial.name)
"""


def client(code: str, *words: str) -> list[str]:
    """Run `code` in a process of its own; the words that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def main() -> None:
    """Measure and print."""
    print(f"{provenance.line('kubernetes', 'urllib3')}; loopback HTTP")
    with tempfile.TemporaryDirectory() as name, Loopback() as server:
        folder = Path(name)
        os.environ["KUBECONFIG"] = str(server.kubeconfig(folder / "kubeconfig"))
        (folder / "made.json").write_text(json.dumps(RESPONSES["create-201"]["request"]["body"]))
        client(SUBMIT, str(folder / "made.json"))
        print(
            f"submit to return: {len(server.requests)} requests (target: at most 5 after discovery)"
        )
        for plural, item in many(TRIALS):
            server.put(plural, item)
        # a store that has it asks nobody
        runs = [client(BEST, str(folder / f"best-{n}")) for n in range(REPEATS)]
        wall, cpu = (statistics.median(float(run[column]) for run in runs) for column in (0, 1))
        print(
            f"best of {TRIALS} trials: median of {REPEATS} {wall:.2f} s, {cpu:.2f} s of processor time"
        )
        print(f"    (target: under 2 s); load average {os.getloadavg()[0]:.1f}")
        running = copy.deepcopy(server.objects["experiments", "gan", "big"])
        running["status"]["conditions"] = running["status"]["conditions"][:1]
        running["spec"]["maxTrialCount"] = TRIALS + 1
        server.put("experiments", running)
        server.requests.clear()
        marks: list[int] = []
        threading.Timer(STARTED, lambda: marks.append(len(server.requests))).start()
        trials, memory, base = client(WATCH, str(folder / "watch"), str(STARTED + IDLE))
        rate = (len(server.requests) - marks[0]) / IDLE * 10
        print(
            f"watch of {trials} trials: {float(memory):.0f} MB at its peak, {float(base):.0f} MB of it Python's own"
        )
        print(f"    (target: at most 100 MB); {marks[0]} requests to begin")
        print(f"idle for {IDLE} s: {rate:.2f} requests per 10 s (target: at most 1)")


if __name__ == "__main__":
    main()
