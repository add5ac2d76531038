"""Does a search beat the trainer's defaults? Real trainings on digits.

    python -m bench.real_search [--manifest wide] [--seeds 0,1,2,3,4] [--trials 40] [--workers 2] [--store DIR]

About 12 minutes a search on one idle core. For each search seed, the local engine runs the manifest. The winner is then
trained on three new seeds, so that its luck does not count, and so are the trainer's defaults, at the same number of
images. An interrupted run continues.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.provenance import line
from bench.wide_surface import scores
from tuner import curves
from tuner.api import run
from tuner.manifest import Experiment, load
from tuner.result import COST, Result

MANIFESTS = Path(__file__).parents[1] / "manifests"
NEW_SEEDS = (101, 102, 103)
OWN = ("--seed=", "--resume=", "--metrics-file=", "--output-dir=")  # arguments that a new training does not keep


@dataclass(frozen=True)
class Retraining:
    """Trainings of points of an Experiment with new seeds. They are kept in a file, so that each is done once."""

    path: Path
    arguments: tuple[str, ...]  # of a trial, with placeholders
    workers: int

    def fd(self, point: Mapping[str, Any]) -> list[float]:
        """Return the last fd of a point on each new seed."""
        known: dict[str, float] = json.loads(self.path.read_text()) if self.path.exists() else {}
        values = {f"${{trialParameters.{name}}}": str(value) for name, value in point.items()}
        flags = [re.sub(r"\$\{.*\}", lambda found: values[found[0]], each) for each in self.arguments]
        jobs = {" ".join(argv): argv for seed in NEW_SEEDS for argv in [[*flags, f"--seed={seed}"]]}
        missing = [key for key in jobs if key not in known]
        with multiprocessing.get_context("spawn").Pool(self.workers) as pool:
            done = pool.map(scores, [jobs[key] for key in missing])
        known |= {key: found["fd"][-1] for key, found in zip(missing, done, strict=True)}
        self.path.write_text(json.dumps(known))
        return [known[key] for key in jobs]


def arguments(experiment: Experiment) -> tuple[str, ...]:
    """Return the arguments of an Experiment's trials, with placeholders, without those that name one trial."""
    job = experiment.document["spec"]["trialTemplate"]["trialSpec"]
    [container] = job["spec"]["template"]["spec"]["containers"]
    return tuple(each for each in container["args"] if not each.startswith(OWN))


def renamed(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an Experiment's document under another name."""
    return {**document, "metadata": {**document["metadata"], "name": name}}


def saved(result: Result, folder: Path) -> float:
    """Return the share of the images that early stopping saved."""
    reports = [len(curve[result.objective.metric]) for curve in curves.read(folder).values()]
    return 1 - sum(reports) / (max(reports) * len(reports))


def main() -> None:
    """Print a row for each search, and the median."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--manifest", default="wide", help="the search: a file of manifests/ (default wide)")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="search seeds (default 0,1,2,3,4)")
    parser.add_argument("--trials", type=int, help="trials per search instead of the manifest's maxTrialCount")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time (default 2)")
    parser.add_argument("--store", type=Path, default=Path(".gantune-bench"))
    args = parser.parse_args()
    args.store.mkdir(parents=True, exist_ok=True)
    experiment = load(MANIFESTS / f"{args.manifest}.yaml")
    again = Retraining(args.store / "retrained.json", arguments(experiment), args.workers)
    print(line("torch", "optuna"))
    found = again.fd(experiment.first_trials[0])
    default = statistics.fmean(found)
    print(f"defaults: fd {default:.2f}, {min(found):.2f} to {max(found):.2f} on {len(NEW_SEEDS)} seeds", flush=True)
    ratios = []
    for seed in map(int, args.seeds.split(",")):
        name = f"{args.manifest}-{seed}"
        named = replace(experiment, name=name, document=renamed(experiment.document, name))
        result = run(named, local=True, store=args.store, workers=args.workers, seed=seed, max_trials=args.trials)
        best, first = result.best, result.baseline_trial
        assert best is not None
        assert first is not None
        found = again.fd(best.parameters)
        ratios.append(statistics.fmean(found) / default)
        print(
            f"search {seed}: fd {best.metrics['fd']:.2f} in trial {best.number} of {len(result.trials)} (baseline "
            f"{first.metrics['fd']:.2f}); trained again {statistics.fmean(found):.2f} ({min(found):.2f} to "
            f"{max(found):.2f}), {ratios[-1]:.3f} of the defaults; trained "
            f"{best.metrics[COST] / first.metrics[COST]:.2f} times as long; stopping saved "
            f"{saved(result, args.store / 'local' / name):.0%} of the images; {best.parameters}",
            flush=True,
        )
    print(f"median {statistics.median(ratios):.3f}, worst {max(ratios):.3f}, n = {len(ratios)} searches")


if __name__ == "__main__":
    main()
