"""What does the local engine cost beyond the trials and the sampler?

    python -m bench.engine_overhead                          overhead per trial, 1 and 2 workers, without and with torch
    python -m bench.engine_overhead --trials 5000            the same for a long search, and the time of status and best
    python -m bench.engine_overhead --peers                  trials of 0.5 s: this engine, Optuna, Ray Tune, interleaved

A trial is `python -m bench.engine_overhead --sleep S`, or bench.torch_trial, which has torch
imported: it sleeps, prints one value and returns. With S = 0 all the time is overhead: proposing
(random), journal, fork, working directory, metrics. The share that is lost compares with the ideal
time, trials * S / workers. Medians; times are ratios or per trial.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.provenance import line

PEER_SECONDS, PEER_WORKERS = 0.5, 2


def main(argv: list[str] | None = None) -> int:
    """Run a trial if --sleep is given, the benchmark otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--sleep", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--lr", help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--peers", action="store_true", help="compare with Optuna and, if installed, Ray Tune"
    )
    options = parser.parse_args(argv)
    if options.sleep is not None:
        time.sleep(options.sleep)
        print("fd=1.5")
        return 0
    print(f"{line('optuna', 'torch')}; load {os.getloadavg()[0]:.1f}")
    if options.peers:
        _peers(options.trials, options.runs)
        return 0
    for module in ("bench.engine_overhead", "bench.torch_trial"):
        for workers in map(int, options.workers.split(",")):
            times = [_ours(options.trials, workers, 0.0, module) for _ in range(options.runs)]
            each = 1000 * statistics.median(times) / options.trials
            case = f"{module}, {options.trials} trials, {workers} workers"
            print(f"{case}: {each:.1f} ms per trial (median of {options.runs})")
    return 0


def _ours(
    trials: int, workers: int, seconds: float, module: str = "bench.engine_overhead"
) -> float:
    """Seconds from the end of the first trials to the end of the last; imports are not in it."""
    from tuner.engines.base import EventKind
    from tuner.engines.local import LocalEngine
    from tuner.manifest import from_document
    from tuner.store.studies import Store

    experiment = from_document(_document(trials + workers, workers, seconds, module))
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(Store(Path(folder)), workers=workers, seed=0)
        ended, start = 0, 0.0
        for event in engine.run(experiment):
            ended += event.kind is EventKind.TRIAL_ENDED
            if not start and ended == workers:  # the server has imported the module
                start = time.perf_counter()
        spent = time.perf_counter() - start
        if trials >= 1000:
            _commands(folder, trials)
        return spent


def _commands(folder: str, trials: int) -> None:
    """Print how long `status` and `best` of a large study take, and the client's memory."""
    for verb in ("status", "best"):
        argv = [sys.executable, "-m", "tuner", verb, "overhead", "--store", folder]
        begin = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        print(f"{verb} of {trials} trials: {time.perf_counter() - begin:.2f} s")
    print(
        f"peak memory of the client: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )


def _document(trials: int, workers: int, seconds: float, module: str) -> dict[str, Any]:
    container = {"name": "main", "image": "x", "command": ["python", "-m", module]}
    container["args"] = [f"--sleep={seconds}", "--lr=${trialParameters.lr}"]
    pod = {"restartPolicy": "Never", "containers": [container]}
    space = {"min": "0", "max": "1"}
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": "overhead"},
        "spec": {
            "objective": {"type": "minimize", "objectiveMetricName": "fd"},
            "algorithm": {"algorithmName": "random"},
            "parallelTrialCount": workers,
            "maxTrialCount": trials,
            "parameters": [{"name": "lr", "parameterType": "double", "feasibleSpace": space}],
            "trialTemplate": {
                "primaryContainerName": "main",
                "trialParameters": [{"name": "lr", "reference": "lr"}],
                "trialSpec": {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "spec": {"template": {"spec": pod}},
                },
            },
        },
    }


def _peers(trials: int, runs: int) -> None:
    """Print the share of the ideal time that each tool loses on the same trials, one run of each after the other."""
    tools = {"this engine": _ours_whole, "Optuna, n_jobs=2, SQLite": _optuna, "Ray Tune": _ray}
    lost: dict[str, list[float]] = {name: [] for name in tools}
    ideal = trials * PEER_SECONDS / PEER_WORKERS
    for _ in range(runs):
        for name, run in tools.items():
            try:
                lost[name].append(100 * (run(trials) / ideal - 1))
            except ImportError:
                continue
    for name, shares in lost.items():
        cell = (
            f"{statistics.median(shares):.1f} % lost ({min(shares):.1f} to {max(shares):.1f})"
            if shares
            else "not installed"
        )
        print(
            f"{name}: {cell}; {trials} trials of {PEER_SECONDS} s, {PEER_WORKERS} workers, n = {len(shares)}"
        )


def _ours_whole(trials: int) -> float:
    return _ours(trials, PEER_WORKERS, PEER_SECONDS)


def _optuna(trials: int) -> float:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("lr", 0, 1)
        time.sleep(PEER_SECONDS)
        return 1.5

    with tempfile.TemporaryDirectory() as folder:
        study = optuna.create_study(
            storage=f"sqlite:///{folder}/study.db", sampler=optuna.samplers.RandomSampler(0)
        )
        begin = time.perf_counter()
        study.optimize(objective, n_trials=trials, n_jobs=PEER_WORKERS)
        return time.perf_counter() - begin


def _ray(trials: int) -> float:
    import ray
    from ray import tune

    def objective(config: dict[str, float]) -> dict[str, float]:
        time.sleep(PEER_SECONDS)
        return {"fd": 1.5}

    ray.init(
        num_cpus=PEER_WORKERS,
        log_to_driver=False,
        include_dashboard=False,
        ignore_reinit_error=True,
    )
    tuner = tune.Tuner(
        objective,
        param_space={"lr": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=trials),
        run_config=tune.RunConfig(verbose=0),
    )
    begin = time.perf_counter()
    tuner.fit()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
