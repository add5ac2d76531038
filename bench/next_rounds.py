"""Does `gantune next` help? Two rounds of 10 trials with its advice in between, against one round of 20.

    python -m bench.next_rounds [--studies 100] [--trials 20] [--algorithm bayesianoptimization]

Studies are simulated on two surfaces: bench/surface.json (real trainings over lr and bs), and an
analytic one with five parameters, of which one does not matter, one is a choice, and one has its
optimum below its lower bound. The second round starts from the trials of the first
(`--warm-start`), as `gantune next` prints it. Training the same point again gives the same value,
as a seed does. The figure is the noiseless objective of the trial named best among all trials, over
the optimum of the surface within the original space.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import optuna

from bench.provenance import line
from bench.search_quality import Surface
from tuner.analysis.advice import advice, revised
from tuner.experiment.model import AlgorithmSpec, Experiment, TrialTemplate
from tuner.result import Goal, Objective, Result, StudyState, Trial, TrialState
from tuner.samplers import Past
from tuner.samplers.transform import dimension
from tuner.space import Categorical, Distribution, Double, Int, Parameter, Value

LOG = Distribution.LOG_UNIFORM
Point = Mapping[str, Value]


@dataclass(frozen=True)
class Problem:
    """A search space and its noiseless objective, in its logarithm."""

    name: str
    parameters: tuple[Parameter, ...]
    log_value: Callable[[Point], float]
    noise: float  # standard deviation of the logarithm between seeds
    optimum: float  # of the logarithm, within `parameters`


def tabulated() -> Problem:
    """The real trainings of bench/surface.json; outside of the table, its edge."""
    surface = Surface.read()
    parameters = (Double("lr", 1e-5, 1e-2, distribution=LOG), Int("bs", 32, 128))
    value = lambda p: math.log(surface.fd(float(p["lr"]), float(p["bs"])))  # noqa: E731
    return Problem(
        "surface.json (2 parameters)", parameters, value, surface.spread, math.log(surface.optimum)
    )


def analytic() -> Problem:
    """Five parameters: lr and bs interact, wd is weak, dropout does not matter, sgd is worse than adam."""
    parameters = (
        Double("lr", 1e-5, 1e-1, distribution=LOG),
        Int("bs", 32, 256, distribution=LOG),
        Double("wd", 1e-6, 1e-2, distribution=LOG),
        Double("dropout", 0.0, 0.5),
        Categorical("optimizer", ("adam", "sgd", "rmsprop")),
    )

    def value(p: Point) -> float:
        lr, bs = math.log10(float(p["lr"])), math.log2(float(p["bs"]))
        wd = math.log10(float(p["wd"]))
        slope = {"adam": 0.0, "rmsprop": 0.25, "sgd": 0.9}[str(p["optimizer"])]
        return (
            1
            + 0.5 * (lr + 3 - 0.2 * (bs - 4)) ** 2
            + 0.08 * (bs - 4) ** 2
            + 0.05 * (wd + 4) ** 2
            + slope
        )

    return Problem("analytic (5 parameters)", parameters, value, 0.15, 1 + 0.08)


def experiment(problem: Problem, algorithm: str, trials: int) -> Experiment:
    """The Experiment of a problem."""
    return Experiment(
        name="simulated",
        namespace="",
        objective=Objective("fd", Goal.MINIMIZE),
        additional_metrics=(),
        strategies={},
        algorithm=AlgorithmSpec(algorithm),
        parameters=problem.parameters,
        template=TrialTemplate({}, "", {}),
        max_trials=trials,
    )


class Simulation:
    """One study: trials with the noise of a seed, the same for the same point."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.seed = problem, seed
        self.fixed: dict[str, Value] = {}
        self.trials: list[Trial] = []

    def run(self, what: Experiment, count: int) -> None:
        """Run trials, one after another; earlier ones that lie in the space are known to the sampler."""
        dimensions = [dimension(parameter) for parameter in what.parameters]
        known = []
        for trial in self.trials:
            try:
                point = {each.name: each.encode(trial.parameters[each.name]) for each in dimensions}
            except ValueError:
                continue
            known.append((point, trial.metrics["fd"]))
        search = what.sampler(self.seed + 7919 * len(self.trials), known)
        past: list[Past] = []
        for _ in range(count):
            proposal = search.propose(past)
            if proposal is None:
                return
            value = self.train({**proposal.values, **self.fixed})
            past.append(Past(proposal.point, proposal.values, observed=True, value=value))

    def train(self, point: Point) -> float:
        """Add one trial and return its objective."""
        noise = random.Random(f"{self.seed} {sorted(point.items())}").gauss(0, self.problem.noise)
        value = math.exp(self.problem.log_value(point) + noise)
        number = len(self.trials)
        self.trials.append(
            Trial(number, f"simulated-{number}", TrialState.SUCCEEDED, dict(point), {"fd": value})
        )
        return value

    def result(self) -> Result:
        """All trials so far."""
        return Result(
            "simulated", StudyState.SUCCEEDED, Objective("fd", Goal.MINIMIZE), tuple(self.trials)
        )

    def regret(self) -> float:
        """The noiseless objective of the best trial, over the optimum."""
        best = min(self.trials, key=lambda trial: trial.metrics["fd"])
        return math.exp(self.problem.log_value(best.parameters) - self.problem.optimum)


def rounds(problem: Problem, algorithm: str, seed: int, trials: int) -> tuple[float, float]:
    """The figure of one round of `trials`, and of two rounds that begin with the first half of it."""
    once = Simulation(problem, seed)
    once.run(experiment(problem, algorithm, trials), trials)
    twice, half = Simulation(problem, seed), trials // 2
    twice.trials = once.trials[:half]
    first = experiment(problem, algorithm, half)
    changes = advice(twice.result(), first)
    twice.fixed = {change.parameter: change.value for change in changes if change.value is not None}
    twice.run(replace(first, parameters=revised(first.parameters, changes)), trials - half)
    return once.regret(), twice.regret()


def summary(values: Sequence[float]) -> str:
    """Mean and standard error."""
    return f"{statistics.fmean(values):.3f} +- {statistics.stdev(values) / len(values) ** 0.5:.3f}"


def main() -> None:
    """Print a row for each surface."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--algorithm", default="bayesianoptimization")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(line("optuna", "scipy"))
    print(
        f"{args.algorithm}, n = {args.studies} studies; objective of the named best over the optimum, mean and error"
    )
    for problem in (tabulated(), analytic()):
        pairs = [rounds(problem, args.algorithm, seed, args.trials) for seed in range(args.studies)]
        once, twice = zip(*pairs, strict=True)
        half = args.trials // 2
        print(
            f"{problem.name}: one round of {args.trials}: {summary(once)}   two rounds of {half}: {summary(twice)}   "
            f"difference {summary([a - b for a, b in pairs])}",
            flush=True,
        )


if __name__ == "__main__":
    main()
