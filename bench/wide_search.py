"""Which search pays in the wide space? Simulated studies on a model of real trainings, ours and its peers'.

    python -m bench.wide_search [--repetitions 100] [--trials 40] [--rows random,tpe+first,...]
    [--space manifest|nine]
        [--noise 0.03]
    python -m bench.wide_search --times [--space nine]      how long each of our samplers takes for a proposal

The surface is bench.wide_surrogate; each trial adds a seed's noise: by default that of the
tabulated trainings, whose scores use 2,000 samples. With 10,000 samples, as in the manifest, it is
about 0.03 (bench.real_search). The figures are
about the trial that a search would name best, without its noise: its fd over that of the trainer's
defaults (below 1: the search paid), as mean and 90th percentile over the repetitions, and its fd
over the lowest of the surface after 10, 20 and all trials. Trials run one at a time. Parameters of
the manifest that were not tabulated are left out. `+first` runs the trainer's defaults first.
Seconds are processor time.

The peers search the same space: Optuna's default sampler, hyperopt's TPE (`pip install hyperopt`;
Katib's tpe is this one), and Ray Tune's default, which is random search (`pip install ray`). `grid`
is the largest even grid of at most that many points (bench.grids). The
rows `ei` and `pibo` are bench.prior.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from bench.grids import grid
from bench.prior import neighbour, proposer
from bench.provenance import line
from bench.wide_surface import DEFAULT
from bench.wide_surrogate import GOOD, Surrogate, noises, read
from tuner.experiment.model import AlgorithmSpec, Experiment
from tuner.manifest import load
from tuner.samplers import Past
from tuner.samplers.base import proposal_of
from tuner.samplers.first import checked
from tuner.samplers.transform import dimension, random_point
from tuner.space import Categorical, Distribution, Double, Parameter, text

WIDE = Path(__file__).parents[1] / "manifests" / "wide.yaml"
# the space before the trainings of bench.wide_surface were looked at
NINE: tuple[Parameter, ...] = (
    Double("lr", 1e-5, 1e-2, None, Distribution.LOG_UNIFORM),
    Categorical("beta1", ("0", "0.5", "0.9")),
    Categorical("loss", ("ns", "hinge", "lsgan", "rpgan")),
    Categorical("r1Gamma", ("0", "0.01", "0.1", "1")),
    Categorical("emaDecay", ("0", "0.99", "0.999")),
    Categorical("nCritic", ("1", "2")),
    Double("dLrRatio", 0.25, 4.0, None, Distribution.LOG_UNIFORM),
    Categorical("latentDim", ("16", "64", "100")),
    Categorical("bs", ("32", "64", "128")),
)
GP = {"n_initial_points": "8"}
ALGORITHMS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "random": ("random", {}),
    "sobol": ("sobol", {}),
    "tpe": ("tpe", {}),
    "multivariate-tpe": ("multivariate-tpe", {"n_startup_trials": "10"}),
    "gp": ("bayesianoptimization", GP),
    "cmaes": ("cmaes", {}),
}
OURS = ["grid", *(name + extra for name in ALGORITHMS for extra in ("", "+first"))]
PEERS = ("optuna", "hyperopt", "ray")
PRIOR = ("ei", "pibo")  # bench.prior: expected improvement, and the same with a prior
Values = Mapping[str, Any]
Propose = Callable[[Sequence[float]], Values]  # the values of earlier trials -> the next point


@dataclass(frozen=True)
class Landscape:
    """The surface of one search space: fd of a point without noise, the defaults' and the lowest one."""

    surrogate: Surrogate
    noise: tuple[float, float]
    default: float
    lowest: float

    @classmethod
    def of(cls, experiment: Experiment) -> Landscape:
        """The lowest value is that of 20,000 random points, improved by 40 rounds of small changes."""
        runs = read()
        surrogate = Surrogate(runs)
        default = float(surrogate.log_fd([DEFAULT])[0])
        rng, dimensions = (
            random.Random(0),
            [dimension(parameter) for parameter in experiment.parameters],
        )
        points: list[Values] = [random_point(dimensions, rng) for _ in range(20000)]
        best: list[tuple[float, Values]] = []
        for _ in range(40):
            scores = surrogate.log_fd(map(complete, points))
            ranked = sorted(
                [*best, *zip(scores, points, strict=True)], key=lambda pair: float(pair[0])
            )
            best = [(float(score), point) for score, point in ranked[:30]]
            points = [
                neighbour(point, 0.3, dimensions, rng) for _, point in best for _ in range(20)
            ]
        return cls(surrogate, noises(runs), default, best[0][0])

    def log_fd(self, values: Values) -> float:
        """Without noise."""
        return float(self.surrogate.log_fd([complete(values)])[0])

    def observed(self, log_fd: float, rng: random.Random) -> float:
        """What a trial with another seed would report."""
        good, others = self.noise
        return math.exp(
            log_fd + rng.gauss(0, good if log_fd < self.default + math.log(GOOD) else others)
        )


def complete(values: Values) -> dict[str, Any]:
    """A point with the trainer's defaults for what the space does not search."""
    return {**DEFAULT, **values}


def ours(row: str, experiment: Experiment, seed: int) -> Propose:
    """One of the local engine's samplers, with or without the baseline."""
    if row == "grid":
        points = grid(experiment.parameters, experiment.max_trials or 1, seed)
        return lambda values: points[min(len(values), len(points) - 1)]
    name, _, extra = row.partition("+")
    algorithm, settings = ALGORITHMS[name]
    first = experiment.first_trials if extra else ()
    search = replace(
        experiment, algorithm=AlgorithmSpec(algorithm, settings), first_trials=first
    ).sampler(seed)
    asked: list[Past] = []

    def propose(values: Sequence[float]) -> Values:
        history = [
            Past(past.point, past.values, True, value)
            for past, value in zip(asked, values, strict=True)
        ]
        proposal = search.propose(history)
        assert proposal is not None
        asked.append(Past(proposal.point, proposal.values))
        return proposal.values

    return propose


def peer(row: str, experiment: Experiment, seed: int) -> Propose:
    """A peer as its users call it."""
    make = {"optuna": _optuna, "hyperopt": _hyperopt, "ray": _ray}[row]
    return make(experiment.parameters, seed)


def with_prior(row: str, experiment: Experiment, seed: int) -> Propose:
    """Expected improvement, with the baseline first and with or without a prior around it."""
    beta = (experiment.max_trials or 0) / 10 if row == "pibo" else 0.0
    return proposer(experiment.parameters, experiment.baseline, beta, seed)


def _optuna(parameters: Sequence[Parameter], seed: int) -> Propose:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    asked: list[optuna.Trial] = []

    def propose(values: Sequence[float]) -> Values:
        if asked:
            study.tell(asked[-1], values[-1])
        trial = study.ask()
        asked.append(trial)
        return {
            each.name: trial.suggest_float(each.name, each.low, each.high, log=True)
            if isinstance(each, Double)
            else trial.suggest_categorical(each.name, each.choices)  # type: ignore[union-attr]
            for each in parameters
        }

    return propose


def _hyperopt(parameters: Sequence[Parameter], seed: int) -> Propose:
    from hyperopt import JOB_STATE_DONE, STATUS_OK, Domain, Trials, hp, space_eval, tpe

    space = {
        each.name: hp.loguniform(each.name, math.log(each.low), math.log(each.high))
        if isinstance(each, Double)
        else hp.choice(each.name, each.choices)  # type: ignore[union-attr]
        for each in parameters
    }
    trials, domain, rng = Trials(), Domain(lambda point: 0.0, space), np.random.default_rng(seed)

    def propose(values: Sequence[float]) -> Values:
        if values:
            trials.trials[-1].update(
                state=JOB_STATE_DONE, result={"status": STATUS_OK, "loss": values[-1]}
            )
            trials.refresh()
        [new] = tpe.suggest(trials.new_trial_ids(1), domain, trials, int(rng.integers(2**31 - 1)))
        trials.insert_trial_docs([new])
        trials.refresh()
        found: Values = space_eval(
            space, {name: value[0] for name, value in new["misc"]["vals"].items()}
        )
        return found

    return propose


def _ray(parameters: Sequence[Parameter], seed: int) -> Propose:
    from ray import tune
    from ray.tune.search.variant_generator import generate_variants

    space = {
        each.name: tune.loguniform(each.low, each.high)
        if isinstance(each, Double)
        else tune.choice(each.choices)  # type: ignore[union-attr]
        for each in parameters
    }
    state = np.random.RandomState(seed)
    return lambda values: next(iter(generate_variants(space, random_state=state)))[1]


@dataclass(frozen=True)
class Outcome:
    """One simulated study: log fd without noise of the trial named best after each trial, and seconds per proposal."""

    best: tuple[float, ...]
    seconds: tuple[float, ...]


def simulate(landscape: Landscape, propose: Propose, trials: int, seed: int) -> Outcome:
    """Run one study."""
    rng = random.Random(seed)
    values: list[float] = []
    truths: list[float] = []
    best, seconds = [], []
    for _ in range(trials):
        begin = time.process_time()
        point = propose(values)
        seconds.append(time.process_time() - begin)
        truths.append(landscape.log_fd({name: text(value) for name, value in point.items()}))
        values.append(landscape.observed(truths[-1], rng))
        best.append(truths[values.index(min(values))])
    return Outcome(tuple(best), tuple(seconds))


def proposal_time(row: str, experiment: Experiment, trials: int) -> float:
    """Return the processor time in seconds of a proposal after `trials` random ones; median of five."""
    dimensions, seconds = [dimension(parameter) for parameter in experiment.parameters], []
    for seed in range(6):  # the first one also imports, and does not count
        rng = random.Random(seed)
        points = [random_point(dimensions, rng) for _ in range(trials)]
        known = [proposal_of(dimensions, point) for point in points]
        history = [
            Past(each.point, each.values, True, rng.lognormvariate(1, 0.3)) for each in known
        ]
        name, settings = ALGORITHMS[row]
        search = replace(
            experiment, algorithm=AlgorithmSpec(name, settings), first_trials=()
        ).sampler(seed)
        begin = time.process_time()
        search.propose(history)
        seconds.append(time.process_time() - begin)
    return statistics.median(seconds[1:])


def print_times(experiment: Experiment) -> None:
    """Print how long each of our samplers takes for a proposal."""
    print(line("optuna", "torch"), f"{len(experiment.parameters)} parameters", sep="\n")
    for row in ALGORITHMS:
        early, late = (
            f"{1000 * proposal_time(row, experiment, at):.0f} ms after {at} trials"
            for at in (40, 200)
        )
        print(f"{row:24} {early}, {late}", flush=True)


def report(row: str, landscape: Landscape, outcomes: Sequence[Outcome], trials: int) -> str:
    """One row of the table."""
    ratios = sorted(math.exp(each.best[-1] - landscape.default) for each in outcomes)
    error = statistics.stdev(ratios) / len(ratios) ** 0.5
    regret = " ".join(
        f"{statistics.fmean(math.exp(each.best[at - 1] - landscape.lowest) for each in outcomes):.3f}"
        for at in sorted({min(10, trials), min(20, trials), trials})
    )
    above = sum(ratio > 1 for ratio in ratios) / len(ratios)
    slow = 1000 * statistics.fmean(each.seconds[-1] for each in outcomes)
    return (
        f"{row:24} {statistics.fmean(ratios):.3f} +- {error:.3f}  p90 {ratios[int(0.9 * len(ratios))]:.3f}  "
        f"above 1: {above:4.0%}  regret {regret}  {slow:.0f} ms for the last proposal  n = {len(ratios)}"
    )


def main() -> None:
    """Print a row for each search."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rows", default=",".join([*OURS, *PRIOR, *PEERS]))
    parser.add_argument(
        "--times",
        action="store_true",
        help="print the processor time of proposals, and nothing else",
    )
    parser.add_argument(
        "--noise",
        type=float,
        help="standard deviation of log fd between seeds (default: tabulated)",
    )
    parser.add_argument("--space", choices=("manifest", "nine"), default="manifest")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    experiment = load(WIDE)
    parameters = (
        NINE
        if args.space == "nine"
        else tuple(each for each in experiment.parameters if each.name in DEFAULT)
    )
    first = {each.name: DEFAULT[each.name] for each in parameters}
    dimensions = [dimension(parameter) for parameter in parameters]
    first_trials = checked([first], dimensions)
    experiment = replace(
        experiment, parameters=parameters, first_trials=first_trials, max_trials=args.trials
    )
    if args.times:
        print_times(experiment)
        return
    landscape = Landscape.of(experiment)
    if args.noise is not None:
        landscape = replace(landscape, noise=(args.noise, args.noise))
    installed = [peer for peer in ("hyperopt", "ray") if peer in args.rows.split(",")]
    print(f"{line('optuna', *installed, 'numpy', 'scikit-learn')}; load {os.getloadavg()[0]:.1f}")
    print(
        f"{len(experiment.parameters)} parameters, {args.trials} trials; seed noise {landscape.noise[0]:.1%}; fd of "
        f"the defaults {math.exp(landscape.default):.2f}, lowest {math.exp(landscape.lowest):.2f}"
    )
    for row in args.rows.split(","):
        make = peer if row in PEERS else with_prior if row in PRIOR else ours
        outcomes = [
            simulate(landscape, make(row, experiment, seed), args.trials, seed)
            for seed in range(args.repetitions)
        ]
        print(report(row, landscape, outcomes, args.trials), flush=True)


if __name__ == "__main__":
    main()
