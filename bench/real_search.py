"""Does a search beat the trainer's defaults? Real trainings on digits.

    python -m bench.real_search [--manifest wide] [--seeds 0,1,2,3,4] [--trials 40] [--confirm 3]
    [--workers 2]

About 12 minutes for a search of wide.yaml on one idle core, 4 for one of bayes.yaml. For each
search seed, the local engine runs the manifest. The winner is then trained on three new seeds, so
that its luck does not count, and so are the trainer's defaults, at the same number of images. With
--confirm K, the K best trials are first trained on three other seeds, and the one with the lowest
mean is the winner. An interrupted run continues. bench.mnist does the same on MNIST.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import itertools
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.provenance import line
from bench.training import ROOT, final
from tuner.client import Client
from tuner.katib.facts import PLACEHOLDER
from tuner.manifest import load
from tuner.result import Result, Trial
from tuner.space import text
from tuner.store import curves

NEW_SEEDS = (101, 102, 103)
CONFIRM_SEEDS = (201, 202, 203)
# flags that a new training does not keep
OF_ONE_TRIAL = ("--seed", "--resume", "--metrics-file", "--output-dir")
SHOWN = (1, 5, 10, 20, 40)  # numbers of trials at which the best value so far is printed


@dataclass(frozen=True)
class Retraining:
    """Trainings with new seeds, several at a time. Each has its folder, so that it is done once."""

    folder: Path
    workers: int

    def finals(
        self, flags: Sequence[str], seeds: Sequence[int] = NEW_SEEDS
    ) -> list[dict[str, float]]:
        """Return the final metrics on each seed."""
        with ThreadPoolExecutor(self.workers) as pool:
            return list(
                pool.map(
                    lambda seed: final([*flags, f"--seed={seed}"], self.place(flags, seed)), seeds
                )
            )

    def place(self, flags: Sequence[str], seed: int) -> Path:
        """Return the folder of a training."""
        return self.folder / hashlib.sha256(" ".join([*flags, str(seed)]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """How searches are run."""

    again: Retraining
    store: Path
    trials: int | None = None  # per search, instead of the manifest's maxTrialCount
    confirm: int = 0  # best trials to train on other seeds before one is the winner


@dataclass(frozen=True)
class Search:
    """One search and its winner, trained again."""

    result: Result
    winner: Trial
    flags: list[str]  # of the winner
    finals: list[dict[str, float]]  # of the winner, on each new seed
    saved: float  # share of the images that early stopping saved

    @property
    def fd(self) -> float:
        """Return the mean fd of the winner on new seeds."""
        return mean(self.finals)

    @property
    def best_so_far(self) -> list[float]:
        """Return the lowest objective after each trial."""
        values = [self.result.value(trial) for trial in self.result.trials]
        return list(
            itertools.accumulate(
                (float("inf") if value is None else value for value in values), min
            )
        )

    def row(self, seed: int, defaults: float) -> str:
        """Return a row of the output."""
        best, first = self.winner, self.result.baseline_trial
        assert first is not None
        longer = best.metrics["train_seconds"] / first.metrics["train_seconds"]
        return (
            f"search {seed}: fd {best.metrics['fd']:.2f} in trial {best.number} of {len(self.result.trials)} (baseline "
            f"{first.metrics['fd']:.2f}); trained again {spread(self.finals)}, {self.fd / defaults:.3f} of the "
            f"defaults; trained {longer:.2f} times as long; stopping saved "
            f"{self.saved:.0%} of the images; {best.parameters}"
        )


def search(document: Mapping[str, Any], seed: int, plan: Plan) -> Search:
    """Run an Experiment with a search seed, and train its winner again."""
    name, again = f"{document['metadata']['name']}-{seed}", plan.again
    named = {**document, "metadata": {**document["metadata"], "name": name}}
    result = Client(plan.store).run(
        named,
        local=True,
        workers=again.workers,
        seed=seed,
        max_trials=plan.trials,
    )
    winner = confirmed(document, result, plan)
    flags = flags_of(document, winner)
    read = curves.read(plan.store / "local" / name).values()
    reports = [
        len(curve[result.objective.metric]) for curve in read if result.objective.metric in curve
    ]
    planned = int(next(flag for flag in flags if key(flag) == "--evals").partition("=")[2])
    return Search(
        result, winner, flags, again.finals(flags), 1 - sum(reports) / (planned * len(reports))
    )


def confirmed(document: Mapping[str, Any], result: Result, plan: Plan) -> Trial:
    """Return the best trial, or with `confirm` the one of the best that has the lowest mean fd on other seeds.

    The objective of all our manifests is minimised.
    """
    scored = [
        (value, trial) for trial in result.trials if (value := result.value(trial)) is not None
    ]
    ranked = [trial for _, trial in sorted(scored, key=lambda each: each[0])]
    if not plan.confirm:
        return ranked[0]
    return min(
        ranked[: plan.confirm],
        key=lambda trial: mean(plan.again.finals(flags_of(document, trial), CONFIRM_SEEDS)),
    )


def flags_of(document: Mapping[str, Any], trial: Trial) -> list[str]:
    """Return the trainer's flags of a trial, without those that belong to one trial."""
    return [
        PLACEHOLDER.sub(lambda found: text(trial.parameters[found[1]]), flag)
        for flag in fixed(document)
    ]


def compare(document: Mapping[str, Any], seeds: Sequence[int], plan: Plan) -> list[Search]:
    """Search once per seed, and print each search, the median and the best values so far."""
    budget = [
        flag for flag in fixed(document) if "${" not in flag and not flag.startswith("--preset")
    ]
    found = plan.again.finals(budget)
    print(f"defaults: fd {spread(found)} on {len(NEW_SEEDS)} seeds", flush=True)
    searches = []
    for seed in seeds:
        searches.append(search(document, seed, plan))
        print(searches[-1].row(seed, mean(found)), flush=True)
    ratios = [each.fd / mean(found) for each in searches]
    print(
        f"median {statistics.median(ratios):.3f}, worst {max(ratios):.3f}, n = {len(ratios)} searches"
    )
    metric = searches[0].result.objective.metric
    for number in SHOWN:
        reached = [
            each.best_so_far[number - 1] for each in searches if number <= len(each.best_so_far)
        ]
        if reached:
            low, high = min(reached), max(reached)
            print(
                f"best {metric} after {number} trials: {statistics.fmean(reached):.2f} ({low:.2f} to {high:.2f})"
            )
    return searches


def manifest(name: str, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Return the Experiment of a file of manifests/, with these trainer flags instead of its own."""
    document = copy.deepcopy(dict(load(ROOT / "manifests" / f"{name}.yaml").document))
    [container] = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"][
        "containers"
    ]
    replaced = {key(flag) for flag in flags}
    container["args"] = [*(flag for flag in container["args"] if key(flag) not in replaced), *flags]
    return document


def fixed(document: Mapping[str, Any]) -> list[str]:
    """Return the flags of an Experiment's trials, with placeholders, without those that belong to one trial."""
    [container] = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"][
        "containers"
    ]
    return [flag for flag in container["args"] if key(flag) not in OF_ONE_TRIAL]


def key(flag: str) -> str:
    """Return `--epochs` of `--epochs=10`."""
    return flag.partition("=")[0]


def mean(finals: Sequence[Mapping[str, float]]) -> float:
    """Return the mean fd."""
    return statistics.fmean(each["fd"] for each in finals)


def spread(finals: Sequence[Mapping[str, float]]) -> str:
    """Return the mean fd and its range in words."""
    values = [each["fd"] for each in finals]
    return f"{mean(finals):.2f} ({min(values):.2f} to {max(values):.2f})"


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of `1,2,3`."""
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    """Print a row for each search, the median and the best values so far."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--manifest", default="wide", help="the search: a file of manifests/ (default wide)"
    )
    parser.add_argument(
        "--seeds", type=numbers, default=range(5), help="search seeds (default 0,1,2,3,4)"
    )
    parser.add_argument(
        "--trials", type=int, help="trials per search instead of the manifest's maxTrialCount"
    )
    parser.add_argument(
        "--confirm", type=int, default=0, help="best trials to train on other seeds (default 0)"
    )
    parser.add_argument("--workers", type=int, default=2, help="trials at a time (default 2)")
    parser.add_argument("--store", type=Path, default=Path(".gantune-bench"))
    args = parser.parse_args()
    print(line("torch", "optuna"))
    again = Retraining(args.store.resolve() / "retrained", args.workers)
    compare(manifest(args.manifest), args.seeds, Plan(again, args.store, args.trials, args.confirm))


if __name__ == "__main__":
    main()
