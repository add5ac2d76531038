"""The cost of the suggestion service: time and memory of 5 suggestions after N finished trials, over gRPC.

    python -m bench.suggestion [--trials 1000] [ALGORITHM ...]

Each algorithm has a server process of its own, with one thread for arithmetic. Times are processor
time, so that other processes on the machine do not matter. The first request contains the imports.
The memory of CUDA's libraries is what is resident of their files; it is absent with CPU wheels of
torch, and so is what they allocate when they are loaded.
"""

from __future__ import annotations

import argparse
import os
import random
from pathlib import Path

from bench.provenance import line
from tests.tuner.suggestion.controller import Trial
from tests.tuner.suggestion.test_process import Process, search
from tuner.suggestion.request import SERVED

REQUESTS = 5  # after the first; the median is printed


def main() -> None:
    """Print a row for each algorithm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000, help="finished trials in each request")
    parser.add_argument("algorithms", nargs="*", default=SERVED)
    options = parser.parse_args()
    count = options.trials
    print(f"{line('optuna', 'torch', 'grpcio')}; load {os.getloadavg()[0]:.1f}")
    print(f"5 suggestions after {count} finished trials (grid: 9 points, none finished)")
    print("algorithm             first s  median s  peak MiB  anonymous MiB  CUDA's files MiB")
    for algorithm in options.algorithms:
        service = Process()
        times = []
        for request in range(REQUESTS + 1):
            controller = search(algorithm, count)
            _vary(controller.trials, request)
            before = service.seconds()
            controller.ask(service, 5)
            times.append(service.seconds() - before)
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        anonymous = int(status.split("RssAnon:")[1].split()[0]) // 1024
        median = sorted(times[1:])[REQUESTS // 2]
        memory = f"{service.peak():9} {anonymous:14} {_cuda(service.process.pid):17}"
        print(f"{algorithm:20} {times[0]:8.2f} {median:9.2f} {memory}", flush=True)
        service.end()


def _cuda(process: int) -> int:
    """Return how much of the files of CUDA's libraries is resident, in MiB."""
    resident, ours = 0, False
    for row in Path(f"/proc/{process}/smaps").read_text().splitlines():
        key, _, rest = row.partition(" ")
        if key == "Rss:":
            resident += int(rest.split()[0]) if ours else 0
        elif not key.endswith(":"):
            ours = "/nvidia/" in rest or "cuda" in rest
    return resident >> 10


def _vary(trials: list[Trial], seed: int) -> None:
    """Give the trials other objectives, so that no request repeats an earlier one."""
    chance = random.Random(seed)
    for trial in trials:
        trial.value = repr(float(trial.value) * (1 + chance.random() / 10))


if __name__ == "__main__":
    main()
