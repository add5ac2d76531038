"""What does the local engine cost beyond the trials and the sampler?

    python -m bench.engine_overhead [--trials 200] [--workers 1,2] [--seconds 0,1]

Trials are `python -m bench.engine_overhead`'s own main: they sleep, print one value and return. With 0 seconds the time
per trial is all overhead: proposing (random), journal with fdatasync, job, worker, metrics. With 1 second the figure is
the share of the ideal time (trials * seconds / workers) that is lost. One line a case, medians of five runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.provenance import line


def main(argv: list[str] | None = None) -> int:
    """A trial where --sleep is given, the benchmark otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sleep", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--lr", help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--seconds", default="0,1")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(argv)
    if options.sleep is not None:
        time.sleep(options.sleep)
        print("fd=1.5")
        return 0
    print(line("optuna"))
    for seconds in map(float, options.seconds.split(",")):
        for workers in map(int, options.workers.split(",")):
            count = options.trials if seconds == 0 else 10 * workers
            runs = 1 if seconds else options.runs
            times = [_run(count, workers, seconds) for _ in range(runs)]
            ideal = count * seconds / workers
            spent = statistics.median(times)
            lost = f"{100 * (spent / ideal - 1):.1f} % lost" if ideal else f"{1000 * spent / count:.2f} ms per trial"
            print(f"{count} trials of {seconds:g} s, {workers} workers: {lost} (median of {runs})")
    return 0


def _run(trials: int, workers: int, seconds: float) -> float:
    """Seconds from the first start of a trial to the end of the last; imports and worker starts are not in it."""
    from tuner.engine import EventKind
    from tuner.engines.local import LocalEngine
    from tuner.manifest import from_document
    from tuner.store import Store

    space = {"min": "0", "max": "1"}
    container = {"name": "main", "image": "x", "command": ["python", "-m", "bench.engine_overhead"]}
    container["args"] = [f"--sleep={seconds}", "--lr=${trialParameters.lr}"]
    pod = {"restartPolicy": "Never", "containers": [container]}
    experiment = from_document(
        {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Experiment",
            "metadata": {"name": "overhead"},
            "spec": {
                "objective": {"type": "minimize", "objectiveMetricName": "fd"},
                "algorithm": {"algorithmName": "random"},
                "parallelTrialCount": workers,
                "maxTrialCount": trials + workers,
                "parameters": [{"name": "lr", "parameterType": "double", "feasibleSpace": space}],
                "trialTemplate": {
                    "primaryContainerName": "main",
                    "trialParameters": [{"name": "lr", "reference": "lr"}],
                    "trialSpec": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}},
                },
            },
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(Store(Path(folder)), workers=workers, seed=0)
        ended, start = 0, 0.0
        for event in engine.watch(engine.submit(experiment)):
            ended += event.kind is EventKind.TRIAL_ENDED
            if not start and ended == workers:  # every worker is warm
                start = time.perf_counter()
        return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
