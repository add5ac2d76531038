"""How good are the searches? Simulated on bench/surface.json: thousands of studies without training anything.

    python -m bench.search_quality [--repetitions 100] [--trials 20] [--algorithms random,tpe,...]

The surface is log fd, linear between the tabulated learning rates (on a log scale) and batch sizes;
each trial adds the noise of a seed, drawn with the spread that the table's own seeds show. The
figure is the noiseless fd of the trial that the search would name best, over the optimum of the
surface, as a mean over repetitions. `optuna` is Optuna's own default sampler with its own defaults,
asked and told one by one, as the yardstick for tpe. `grid` is the largest even grid of at most that
many points (bench.grids): one for 10 trials, and another one for 20.
"""

import argparse
import json
import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import optuna

from bench.grids import grid
from bench.provenance import line
from bench.surface import PATH
from tuner.experiment.model import Experiment
from tuner.manifest import from_document
from tuner.samplers import Past, Sampler
from tuner.space import Value

ALGORITHMS = (
    "grid",
    "random",
    "sobol",
    "optuna",
    "tpe",
    "multivariate-tpe",
    "bayesianoptimization",
    "cmaes",
)

Propose: TypeAlias = Callable[[list[tuple[float, int, float]]], tuple[float, int]]


@dataclass(frozen=True)
class Surface:
    """log fd over (log lr, bs), with the spread of seeds around it."""

    lrs: Sequence[float]
    batches: Sequence[int]
    means: Sequence[Sequence[float]]
    spread: float

    @classmethod
    def read(cls) -> "Surface":
        """bench/surface.json. The spread is the pooled standard deviation of log fd between seeds."""
        table = json.loads(PATH.read_text(encoding="utf-8"))
        logs = [[[math.log(fd) for fd in seeds] for seeds in row] for row in table["fd"]]
        variances = [statistics.variance(seeds) for row in logs for seeds in row]
        means = [[statistics.fmean(seeds) for seeds in row] for row in logs]
        return cls(
            [math.log(lr) for lr in table["lr"]],
            table["bs"],
            means,
            statistics.fmean(variances) ** 0.5,
        )

    @property
    def optimum(self) -> float:
        """The lowest fd; a bilinear surface has it at a tabulated point."""
        return math.exp(min(min(row) for row in self.means))

    def fd(self, lr: float, bs: float) -> float:
        """Without noise."""
        i, u = _place(self.lrs, math.log(lr))
        j, v = _place(self.batches, bs)
        corners = (
            (0, 0, (1 - u) * (1 - v)),
            (1, 0, u * (1 - v)),
            (0, 1, (1 - u) * v),
            (1, 1, u * v),
        )
        return math.exp(sum(self.means[i + a][j + b] * weight for a, b, weight in corners))


def ours(name: str, seed: int) -> Propose:
    """The local engine's sampler: history of (lr, bs, value) -> the next (lr, bs)."""
    proposals: list[Past] = []
    search: Sampler = _experiment(name).sampler(seed)

    def propose(history: list[tuple[float, int, float]]) -> tuple[float, int]:
        told = [
            Past(p.point, p.values, observed=True, value=h[2])
            for p, h in zip(proposals, history, strict=True)
        ]
        proposal = search.propose(told)
        if proposal is None:
            raise RuntimeError(f"{name} ended after {len(history)} trials")
        proposals.append(Past(proposal.point, proposal.values))
        return float(proposal.values["lr"]), int(proposal.values["bs"])

    return propose


def yardstick(seed: int) -> Propose:
    """Optuna's default sampler."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    asked: list[optuna.Trial] = []

    def propose(history: list[tuple[float, int, float]]) -> tuple[float, int]:
        if asked:
            study.tell(asked[-1], history[-1][2])
        trial = study.ask()
        asked.append(trial)
        return trial.suggest_float("lr", 1e-5, 1e-2, log=True), trial.suggest_int("bs", 32, 128)

    return propose


def ready(points: Sequence[Mapping[str, Value]]) -> Propose:
    """Points that do not depend on results; the last one is repeated."""

    def propose(history: list[tuple[float, int, float]]) -> tuple[float, int]:
        point = points[min(len(history), len(points) - 1)]
        return float(point["lr"]), int(point["bs"])

    return propose


def regret(surface: Surface, name: str, seed: int, trials: int) -> list[float]:
    """fd of the trial named best, over the optimum, after each of `trials` trials."""
    noise = statistics.NormalDist(0, surface.spread).samples(trials, seed=seed)
    if name == "grid":
        propose = ready(grid(_experiment("random").parameters, trials, seed))
    else:
        propose = yardstick(seed) if name == "optuna" else ours(name, seed)
    history: list[tuple[float, int, float]] = []
    ratios = []
    for number in range(trials):
        lr, bs = propose(history)
        history.append((lr, bs, surface.fd(lr, bs) * math.exp(noise[number])))
        best = min(history, key=lambda h: h[2])
        ratios.append(surface.fd(best[0], best[1]) / surface.optimum)
    return ratios


def main() -> None:
    """Print a row an algorithm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS))
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    surface = Surface.read()
    half = args.trials // 2
    print(line("optuna"))
    print(
        f"optimum fd {surface.optimum:.1f}, seed noise {surface.spread:.0%}, n = {args.repetitions} studies a row;"
        f" fd of the named best over the optimum, mean and standard error"
    )
    for name in args.algorithms.split(","):
        runs = [regret(surface, name, seed, args.trials) for seed in range(args.repetitions)]
        cells = []
        for at in (half, args.trials):
            if name == "grid":
                runs = [regret(surface, name, seed, at) for seed in range(args.repetitions)]
            values = [run[at - 1] for run in runs]
            error = statistics.stdev(values) / len(values) ** 0.5
            cells.append(f"at {at}: {statistics.fmean(values):.3f} +- {error:.3f}")
        print(f"{name:22} {'   '.join(cells)}", flush=True)


def _place(knots: Sequence[float], value: float) -> tuple[int, float]:
    """The interval that holds `value`, and how far along it lies, 0 to 1."""
    i = min(max(bisect_right(knots, value) - 1, 0), len(knots) - 2)
    return i, min(max((value - knots[i]) / (knots[i + 1] - knots[i]), 0.0), 1.0)


def _experiment(algorithm: str) -> Experiment:
    def parameter(
        name: str, kind: str, low: str, high: str, distribution: str
    ) -> dict[str, object]:
        space = {"min": low, "max": high, "distribution": distribution}
        return {"name": name, "parameterType": kind, "feasibleSpace": space}

    container = {
        "name": "c",
        "image": "i:1",
        "command": ["x"],
        "args": ["${trialParameters.lr}", "${trialParameters.bs}"],
    }
    pod = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    return from_document(
        {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Experiment",
            "metadata": {"name": "simulated"},
            "spec": {
                "objective": {"type": "minimize", "objectiveMetricName": "fd"},
                "algorithm": {"algorithmName": algorithm},
                "parallelTrialCount": 1,
                "maxTrialCount": 1000,
                "parameters": [
                    parameter("lr", "double", "1e-5", "1e-2", "logUniform"),
                    parameter("bs", "int", "32", "128", "uniform"),
                ],
                "trialTemplate": {
                    "primaryContainerName": "c",
                    "trialParameters": [{"name": n, "reference": n} for n in ("lr", "bs")],
                    "trialSpec": {
                        "apiVersion": "batch/v1",
                        "kind": "Job",
                        "spec": {"template": pod},
                    },
                },
            },
        }
    )


if __name__ == "__main__":
    main()
