"""What the local engine costs beyond the trials themselves.

    python -m bench.engine_overhead [--trials 200] [--rounds 3]

free      random search over trials that do nothing: wall time per trial from the first start to the end of the study,
          journal, worker and events included, beside the time that the sampler alone takes for the same proposals
seconds   trials that sleep one second on 2 workers: wall time over (trials / 2), from the first start
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from bench.provenance import line
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
                },
            },
        }
    )


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
