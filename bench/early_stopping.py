"""Which early stopping saves images and keeps the winner? Simulated on the curves of bench/wide-surface.jsonl.

    python -m bench.early_stopping [--studies 1000] [--trials 40]      about 2 minutes

Each study draws trainings that lie in the space of manifests/wide.yaml, without repetition. A rule sees the curves of
the earlier trials as far as they ran. The figures: the share of images saved, the share of studies whose best trial is
the one that would have won without stopping, and by how much the chosen trial is worse on average.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.provenance import line
from bench.wide_surface import DEFAULT, EVALS
from bench.wide_surrogate import read
from tuner.engines.local.early_stopping import Rules, rules
from tuner.manifest import load
from tuner.result import Goal, Objective
from tuner.samplers.transform import dimension

WIDE = Path(__file__).parents[1] / "manifests" / "wide.yaml"
Curve = Sequence[float]
Rule = Callable[[Curve, Sequence[Curve]], int]  # (curve, earlier curves) -> evaluations that the trial runs
FACTORS = (
    ((2, 2.0), (4, 1.6), (6, 1.3), (8, 1.15)),
    ((2, 1.8), (4, 1.5), (6, 1.25), (8, 1.12)),
    ((2, 1.7), (4, 1.4), (6, 1.2), (8, 1.1)),
    ((4, 1.4), (6, 1.2), (8, 1.1)),
    ((3, 1.5), (6, 1.2)),
)


def curves() -> list[Curve]:
    """The curves of the trainings that lie in the manifest's space, or have its default for what it does not search."""
    dimensions = [dimension(parameter) for parameter in load(WIDE).parameters]
    fixed = {name: value for name, value in DEFAULT.items() if name not in {each.name for each in dimensions}}

    def inside(point: dict[str, Any]) -> bool:
        if any(point[name] != value for name, value in fixed.items()):
            return False
        ends = [(each, float(point[each.name])) for each in dimensions if each.name != "loss"]
        return all(low <= value <= high for each, value in ends for low, high in [_ends(each)])

    return [run["fd"] for run in read() if len(run["fd"]) == EVALS and inside(run["point"])]


def _ends(one: Any) -> tuple[float, float]:
    if one.values is not None:
        numbers = [float(value) for value in one.values]
        return min(numbers), max(numbers)
    return one.parameter.low, one.parameter.high


def local(settings: Rules) -> Rule:
    """A rule of the local engine."""

    def stop(curve: Curve, earlier: Sequence[Curve]) -> int:
        told = [tuple(each) for each in earlier]
        finished = [each for each in told if len(each) == EVALS]
        return settings.stop_at(settings.cuts(len(told), told, finished), curve) or len(curve)

    return stop


def katib_medianstop(curve: Curve, earlier: Sequence[Curve]) -> int:
    """Katib's medianstop with its defaults: from report 4 on, the mean of the earlier trials' first four values."""
    finished = [each for each in earlier if len(each) == EVALS]
    if len(finished) < 3:
        return len(curve)
    threshold = statistics.fmean(statistics.fmean(each[:4]) for each in finished)
    return next((at for at in range(4, len(curve)) if min(curve[:at]) > threshold), len(curve))


def quantile(share: float, *steps: int) -> Rule:
    """At each of these evaluations, keep a trial that is in the best `share` of those that came so far."""

    def stop(curve: Curve, earlier: Sequence[Curve]) -> int:
        for step in steps:
            reached = sorted(min(each[:step]) for each in earlier if len(each) >= step)
            if len(reached) >= 3 and min(curve[:step]) > reached[math.ceil(share * len(reached)) - 1]:
                return step
        return len(curve)

    return stop


def studied(rule: Rule, pool: Sequence[Curve], trials: int, studies: int) -> tuple[float, float, float]:
    """Share saved, share of studies that keep their winner, mean ratio of the chosen trial's fd to the winner's."""
    rng, used, kept, ratios = random.Random(1), 0, 0, []
    for _ in range(studies):
        chosen = rng.sample(pool, trials)
        ran: list[Curve] = []
        for curve in chosen:
            ran.append(curve[: rule(curve, ran)])
        used += sum(map(len, ran))
        winner = min(curve[-1] for curve in chosen)
        best = chosen[min(range(trials), key=lambda number: ran[number][-1])][-1]
        kept += best == winner
        ratios.append(best / winner)
    return 1 - used / (studies * trials * EVALS), kept / studies, statistics.fmean(ratios)


def main() -> None:
    """Print a row for each rule."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=40)
    args = parser.parse_args()
    pool, objective = curves(), Objective("fd", Goal.MINIMIZE)
    print(line("optuna"))
    print(f"{len(pool)} trainings in the space, n = {args.studies} studies of {args.trials} trials")
    shipped = rules(load(WIDE))
    rows: dict[str, Rule] = {
        "Katib's medianstop (mean)": katib_medianstop,
        "medianstop": local(Rules(objective, start_step=4)),
        "medianstop, start_step 3": local(Rules(objective, start_step=3)),
        "best third at 4": quantile(1 / 3, 4),
        "best half at 4": quantile(1 / 2, 4),
    }
    rows |= {f"factors {dict(factors)}": local(Rules(objective, factors=factors)) for factors in FACTORS}
    rows |= {"wide.yaml": local(shipped)} if shipped else {}
    for name, rule in rows.items():
        saved, kept, ratio = studied(rule, pool, args.trials, args.studies)
        print(
            f"{name:52} saves {saved:.0%}  keeps the winner in {kept:.1%}  fd {ratio:.4f} of the winner's", flush=True
        )


if __name__ == "__main__":
    main()
