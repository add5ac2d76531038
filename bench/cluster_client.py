"""What the cluster client costs: `python -m bench.cluster_client`, against the loopback API server of the tests.

Prints requests for a submit, requests per 10 s of an idle watch, the watching process's memory with 2,000 trials, and
the time of `best` on them. The server runs in this process, the client in one of its own, so memory is the client's.
"""

from __future__ import annotations

import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.tuner.loopback import RESPONSES, Loopback, many

TRIALS = 2000
IDLE = 120  # seconds
REPEATS = 5
SUBMIT = """
import sys
from tuner.api import submit
from tuner.manifest import from_document
import json
submit(from_document(json.load(open(sys.argv[1]))))
"""
WATCH = """
import resource, sys, threading, time
from tuner.engines.katib import KatibEngine
from tuner.kube import Cluster
from tuner.store import Store
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cluster = Cluster.connect()
engine = KatibEngine(cluster, Store(sys.argv[1]), deadline=float(sys.argv[2]))
trials = 0
try:
    for event in engine.watch("big"):
        trials = len(event.result.trials)
except Exception as error:
    assert "has not ended" in str(error), error
print(trials, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, base / 1024)
"""
BEST = """
import sys, time
from tuner import best
began = time.perf_counter()
trial = best("big", store=sys.argv[1])
print(time.perf_counter() - began, trial.name)
"""


def client(code: str, *words: str) -> list[str]:
    """Run `code` in a process of its own; the words that it prints."""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return done.stdout.split()


def main() -> None:
    """Measure and print."""
    import kubernetes
    import urllib3

    versions = f"Python {sys.version.split()[0]}, kubernetes {kubernetes.__version__}, urllib3 {urllib3.__version__}"
    print(f"{versions}, {os.cpu_count()} cores, loopback HTTP")
    with tempfile.TemporaryDirectory() as name, Loopback() as server:
        folder = Path(name)
        os.environ["KUBECONFIG"] = str(server.kubeconfig(folder / "kubeconfig"))
        import json

        (folder / "made.json").write_text(json.dumps(RESPONSES["create-201"]["request"]["body"]))
        client(SUBMIT, str(folder / "made.json"))
        print(f"submit to return: {len(server.requests)} requests (target: at most 5 after discovery)")
        for plural, item in many(TRIALS):
            server.put(plural, item)
        times = [float(client(BEST, str(folder / "best"))[0]) for _ in range(REPEATS)]
        print(f"best of {TRIALS} trials: median {statistics.median(times):.2f} s of {REPEATS} (target: under 2 s)")
        running = copy.deepcopy(server.objects["experiments", "gan", "big"])
        running["status"]["conditions"] = running["status"]["conditions"][:1]
        running["spec"]["maxTrialCount"] = TRIALS + 1
        server.put("experiments", running)
        server.requests.clear()
        began = time.monotonic()
        trials, memory, base = client(WATCH, str(folder / "watch"), str(IDLE))
        rate = len(server.requests) / (time.monotonic() - began) * 10
        print(
            f"watch of {trials} trials: {float(memory):.0f} MB at most (before connecting {float(base):.0f} MB; target 100)"
        )
        print(f"idle for {IDLE} s: {rate:.2f} requests per 10 s, the first lists included (target: at most 1)")


if __name__ == "__main__":
    main()
