<<<<<<< HEAD
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
=======
"""What the local engine costs beyond the trials themselves.

    python -m bench.engine_overhead [--trials 200] [--rounds 3]

free      random search over trials that do nothing: wall time per trial from the first start to the end of the study,
          journal, worker and events included, beside the time that the sampler alone takes for the same proposals
seconds   trials that sleep one second on 2 workers: wall time over (trials / 2), from the first start
"""

import argparse
import statistics
>>>>>>> local
import tempfile
import time
from pathlib import Path

from bench.provenance import line
<<<<<<< HEAD


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
=======
from tuner.engine import EventKind
from tuner.engines.local import LocalEngine
from tuner.engines.local.samplers import Past, sampler
from tuner.manifest import Experiment, from_document
from tuner.store import Store


def experiment(trials: int, parallel: int, seconds: float) -> Experiment:
    """A random search over bench.idle."""
    args = ["--x=${trialParameters.x}", f"--seconds={seconds:g}"]
    container = {"name": "c", "image": "i:1", "command": ["python", "-m", "bench.idle"], "args": args}
    pod = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    return from_document(
        {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Experiment",
            "metadata": {"name": "idle"},
            "spec": {
                "objective": {"type": "minimize", "objectiveMetricName": "score"},
                "algorithm": {"algorithmName": "random"},
                "parallelTrialCount": parallel,
                "maxTrialCount": trials,
                "parameters": [
                    {
                        "name": "x",
                        "parameterType": "double",
                        "feasibleSpace": {"min": "0", "max": "1", "distribution": "uniform"},
                    }
                ],
                "trialTemplate": {
                    "primaryContainerName": "c",
                    "trialParameters": [{"name": "x", "reference": "x"}],
                    "trialSpec": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": pod}},
>>>>>>> local
                },
            },
        }
    )
<<<<<<< HEAD
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
=======


def study(trials: int, workers: int, seconds: float) -> float:
    """Seconds from the first trial's start to the end of the study."""
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(Store(Path(folder)), workers=workers, seed=0)
        begin = 0.0
        for event in engine.watch(engine.submit(experiment(trials, workers, seconds))):
            if event.kind is EventKind.TRIAL_STARTED and not begin:
                begin = time.perf_counter()
        ended = [trial for trial in event.result.trials if trial.state.ended]
        if len(ended) != trials:
            raise RuntimeError(f"{len(ended)} of {trials} trials ended: {event.result.reason}")
        return time.perf_counter() - begin


def proposals(trials: int) -> float:
    """Seconds that the sampler alone takes for as many trials."""
    search = sampler(experiment(trials, 1, 0), 0)
    history: list[Past] = []
    begin = time.perf_counter()
    for _ in range(trials):
        proposal = search.propose(history)
        if proposal is None:
            raise RuntimeError("the space is exhausted")
        history.append(Past(proposal.point, proposal.values, told=True, value=0.0))
    return time.perf_counter() - begin


def main() -> None:
    """Print a row a case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(line("optuna"))
    alone = statistics.median(proposals(args.trials) for _ in range(args.rounds)) / args.trials * 1e3
    for workers in (1, 2):
        runs = [study(args.trials, workers, 0.0) / args.trials * 1e3 for _ in range(args.rounds)]
        spread = f"{min(runs):.2f} to {max(runs):.2f}"
        print(
            f"free, {workers} worker(s): {statistics.median(runs):.2f} ms per trial ({spread}), sampler {alone:.2f} ms"
        )
    count = 20
    runs = [study(count, 2, 1.0) / (count / 2) - 1 for _ in range(args.rounds)]
    over = f"{statistics.median(runs):.1%} over the ideal"
    print(f"one-second trials, 2 workers: {over}, n = {args.rounds} x {count} trials")


if __name__ == "__main__":
    main()
>>>>>>> local
