"""Which early stopping saves images and keeps the winner? Simulated on the curves of bench/wide-surface.jsonl.

    python -m bench.early_stopping [--studies 1000] [--trials 40]      about 2 minutes
    python -m bench.early_stopping --store .gantune-bench              on the curves of bench.real_search

Each simulated study draws trainings in and around the space of manifests/wide.yaml, without
repetition. The trainings reported ten times and the manifest's trials report five times, so every
second report is used. Reports are evenly
spaced in images: a report is a share of the budget, whatever the batch size. A rule sees the curves
of the earlier trials as far as they ran. The figures: the share of images saved, the share of
studies whose best trial is the one that would have won without stopping, and by how much the chosen
trial is worse on average.

A drawn study has more bad trials than a real search, which learns where they are. With --store, the
rules are replayed on the trials of real searches, in their order. The rule of the manifest has
stopped some of them, so a weaker rule cannot be measured this way.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.provenance import line
from bench.wide_surface import DEFAULT, EVALS
from bench.wide_surrogate import read
from tuner.experiment.early_stopping import Rules, rules
from tuner.manifest import load
from tuner.result import Goal, Objective
from tuner.store.curves import read as read_curves

WIDE = Path(__file__).parents[1] / "manifests" / "wide.yaml"
Curve = Sequence[float]
# (curve, earlier curves) -> evaluations that the trial runs
Rule = Callable[[Curve, Sequence[Curve]], int]
REPORTS = 5  # of a trial of wide.yaml
AROUND = {
    "lr": (5e-4, 5e-3), "dLrRatio": (0.4, 2.5), "r1Gamma": (0.2, 10), "emaDecay": (0.99, 0.999), "latentDim": (8, 100),
    "bs": (16, 64),
}  # fmt: skip
FACTORS = (
    ((1, 2.0), (2, 1.6), (3, 1.3), (4, 1.15)),
    ((1, 1.8), (2, 1.5), (3, 1.25), (4, 1.12)),
    ((1, 1.8), (2, 1.4), (3, 1.2), (4, 1.1)),
    ((1, 1.6), (2, 1.3), (3, 1.15), (4, 1.07)),
    ((1, 1.5), (2, 1.2), (3, 1.1), (4, 1.05)),
    ((2, 1.3), (4, 1.07)),
)


def curves() -> list[Curve]:
    """Return the curves of the trainings that lie in AROUND, with the trainer's defaults for everything else."""
    step = EVALS // REPORTS
    return [
        run["fd"][step - 1 :: step]
        for run in read()
        if len(run["fd"]) == EVALS and _inside(run["point"])
    ]


def _inside(point: Mapping[str, Any]) -> bool:
    fixed = DEFAULT.keys() - AROUND.keys()
    within = all(low <= float(point[name]) <= high for name, (low, high) in AROUND.items())
    return within and all(point[name] == DEFAULT[name] for name in fixed)


def searches(store: Path) -> list[list[Curve]]:
    """Return the curves of each search in a store of bench.real_search, in the order of the trials."""
    found: list[list[Curve]] = []
    for folder in sorted((store / "local").glob("wide-*")):
        by_trial = {
            name: tuple(float(each.value) for each in held["fd"])
            for name, held in read_curves(folder).items()
        }
        found.append(
            [
                by_trial[name]
                for name in sorted(by_trial, key=lambda name: int(name.rpartition("-")[2]))
            ]
        )
    return found


def local(settings: Rules) -> Rule:
    """A rule of the local engine."""

    def stop(curve: Curve, earlier: Sequence[Curve]) -> int:
        told = [tuple(each) for each in earlier]
        finished = [each for each in told if len(each) == REPORTS]
        return settings.stop_at(settings.cuts(len(told), told, finished), curve) or len(curve)

    return stop


def katib_medianstop(curve: Curve, earlier: Sequence[Curve]) -> int:
    """Katib's medianstop with its defaults: from report 4 on, the mean of the earlier trials' first four values."""
    finished = [each for each in earlier if len(each) == REPORTS]
    if len(finished) < 3:
        return len(curve)
    threshold = statistics.fmean(statistics.fmean(each[:4]) for each in finished)
    return next((at for at in range(4, len(curve)) if min(curve[:at]) > threshold), len(curve))


def quantile(share: float, *steps: int) -> Rule:
    """At each of these evaluations, keep a trial that is in the best `share` of those that came so far."""

    def stop(curve: Curve, earlier: Sequence[Curve]) -> int:
        for step in steps:
            reached = sorted(min(each[:step]) for each in earlier if len(each) >= step)
            if (
                len(reached) >= 3
                and min(curve[:step]) > reached[math.ceil(share * len(reached)) - 1]
            ):
                return step
        return len(curve)

    return stop


def drawn(pool: Sequence[Curve], trials: int, studies: int) -> list[list[Curve]]:
    """Return simulated studies."""
    rng = random.Random(1)
    return [rng.sample(pool, trials) for _ in range(studies)]


def studied(rule: Rule, studies: Sequence[Sequence[Curve]]) -> tuple[float, float, float]:
    """Share saved, share of studies that keep their winner, mean ratio of the chosen trial's fd to the winner's."""
    used, kept, ratios = 0, 0, []
    for study in studies:
        ran: list[Curve] = []
        for curve in study:
            ran.append(curve[: rule(curve, ran)])
        used += sum(map(len, ran))
        winner = min(curve[-1] for curve in study)
        best = study[min(range(len(study)), key=lambda number: ran[number][-1])][-1]
        kept += best == winner
        ratios.append(best / winner)
    return (
        1 - used / (REPORTS * sum(map(len, studies))),
        kept / len(studies),
        statistics.fmean(ratios),
    )


def main() -> None:
    """Print a row for each rule."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument(
        "--store", type=Path, help="replay the searches in this store of bench.real_search"
    )
    args = parser.parse_args()
    pool, objective = curves(), Objective("fd", Goal.MINIMIZE)
    studies = searches(args.store) if args.store else drawn(pool, args.trials, args.studies)
    print(line("optuna"))
    origin = (
        f"searches in {args.store}" if args.store else f"studies drawn from {len(pool)} trainings"
    )
    print(f"n = {len(studies)} {origin}, {len(studies[0])} trials each")
    shipped = rules(load(WIDE))
    rows: dict[str, Rule] = {
        "Katib's medianstop (mean)": katib_medianstop,
        "medianstop": local(Rules(objective, start_step=4)),
        "medianstop, start_step 2": local(Rules(objective, start_step=2)),
        "best third at 2": quantile(1 / 3, 2),
        "best half at 2": quantile(1 / 2, 2),
    }
    rows |= {
        f"factors {dict(factors)}": local(Rules(objective, factors=factors)) for factors in FACTORS
    }
    rows |= {"wide.yaml": local(shipped)} if shipped else {}
    for name, rule in rows.items():
        saved, kept, ratio = studied(rule, studies)
        print(
            f"{name:52} saves {saved:.0%}  keeps the winner in {kept:.1%}  fd {ratio:.4f} of the winner's",
            flush=True,
        )


if __name__ == "__main__":
    main()
