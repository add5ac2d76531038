"""Does the wide search beat the trainer's defaults? Real trainings on digits.

    python -m bench.real_search [--searches 5] [--trials 40] [--store DIR]      about 10 minutes a search on one core

For each search seed, the local engine runs manifests/wide.yaml. The winner is then trained on three new seeds, so that
its luck does not count, and so are the trainer's defaults, at the same number of images. An interrupted run continues.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.provenance import line
from bench.wide_surface import DEFAULT, train
from tuner.api import run
from tuner.manifest import load

WIDE = Path(__file__).parents[1] / "manifests" / "wide.yaml"
NEW_SEEDS = (101, 102, 103)


def retrained(point: Mapping[str, Any], store: Path) -> list[float]:
    """The last fd of a point on each new seed; kept in a file, so that it is trained once."""
    path = store / "retrained.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    for seed in NEW_SEEDS:
        key = json.dumps([point, seed], sort_keys=True)
        if key not in known:
            known[key] = train(({**DEFAULT, **point}, seed))["fd"][-1]
            path.write_text(json.dumps(known))
    return [known[json.dumps([point, seed], sort_keys=True)] for seed in NEW_SEEDS]


def main() -> None:
    """Print a row for each search, and the median."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--searches", type=int, default=5)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--store", type=Path, default=Path(".gantune-bench"))
    args = parser.parse_args()
    args.store.mkdir(parents=True, exist_ok=True)
    experiment = load(WIDE)
    print(line("torch", "optuna"))
    default = statistics.fmean(retrained({}, args.store))
    print(f"defaults: fd {default:.2f}, mean of {len(NEW_SEEDS)} seeds")
    ratios = []
    for seed in range(args.searches):
        named = replace(experiment, name=f"wide-{seed}", document=renamed(experiment.document, f"wide-{seed}"))
        result = run(named, local=True, store=args.store, workers=1, seed=seed, max_trials=args.trials)
        best, first = result.best, result.baseline_trial
        assert best is not None
        assert first is not None
        fd = statistics.fmean(retrained(best.parameters, args.store))
        ratios.append(fd / default)
        print(
            f"search {seed}: fd {best.metrics['fd']:.2f} in trial {best.number} of {len(result.trials)} (baseline "
            f"{first.metrics['fd']:.2f}); trained again {fd:.2f}, {ratios[-1]:.3f} of the defaults; {best.parameters}",
            flush=True,
        )
    print(f"median {statistics.median(ratios):.3f}, worst {max(ratios):.3f}, n = {len(ratios)} searches")


def renamed(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An Experiment's document under another name."""
    return {**document, "metadata": {**document["metadata"], "name": name}}


if __name__ == "__main__":
    main()
