"""The figures of docs/article.md: the searches of manifests/article on MNIST, by loss and by fd.

    python -m bench.article [--images 250000] [--samples 10000] [--folder runs/article]

The data is that of bench.mnist. The searches are those of `gantune run manifests/article/NAME.yaml
--local`, with another budget if the flags say so. Grid and random search choose the same points for
every objective, so they run once. An interrupted run continues. `grids/` in the folder has a sheet
of samples for each best trial.
"""

import argparse
import math
import shutil
import statistics
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel

from bench.mnist import TRAINING_IMAGES, prepare
from bench.provenance import line
from bench.real_search import manifest
from bench.search_quality import Surface, regret
from trainer.config import Config
from trainer.data import load
from trainer.evaluate import Evaluator, load_extractor
from trainer.loop import Training
from tuner.analysis.view import View
from tuner.client import Client
from tuner.experiment.early_stopping import Rules
from tuner.manifest import from_document
from tuner.result import Goal, Objective, Result, Trial
from tuner.store.curves import read as read_curves

# grid and random search choose the same points for every objective
SEARCHES = (
    ("random", "loss"),
    ("tpe", "loss"),
    ("grid", "loss"),
    ("tpe", "fd"),
    ("bayes", "loss"),
    ("bayes", "fd"),
)
OBJECTIVES = ("loss", "fd")
GRID_TRIALS = 9
DECAYS = (0.0, 1e-5, 1e-4, 1e-3)
SEEDS = range(3)
REPORTS = 10  # of a training with weight decay


@dataclass(frozen=True)
class Found:
    """One search: its result, what a report knows of it, and its directory."""

    name: str
    objective: str
    view: View
    folder: Path

    @property
    def trials(self) -> list[Trial]:
        """Return the trials that have a finite loss and fd."""
        trials = self.view.result.trials
        return [trial for trial in trials if all(key in trial.metrics for key in OBJECTIVES)]

    def best(self, metric: str) -> Trial:
        """Return the trial with the lowest value."""
        return min(self.trials, key=lambda trial: trial.metrics[metric])


def searched(flags: Sequence[str], store: Path, workers: int) -> list[Found]:
    """Run the searches that an earlier run did not finish, and return all of them."""
    found = []
    for name, objective in SEARCHES:
        document = manifest(f"article/{name}", flags)
        document["metadata"].pop("annotations", None)  # the data is in another directory
        if objective == "fd":
            described = document["spec"]["objective"]
            described["objectiveMetricName"] = "fd"
            described["additionalMetricNames"][0] = "loss"
            document["metadata"]["name"] += "-fd"
        result: Result = Client(store).run(document, local=True, workers=workers)
        folder = store / "local" / document["metadata"]["name"]
        view = View(result, from_document(document), curves=read_curves(folder))
        found.append(Found(name, objective, view, folder))
    return found


def show_best(found: Sequence[Found], grids: Path) -> None:
    """Print the trials that each search would choose by loss and by fd, and keep their samples."""
    print("\nThe trial with the lowest loss and the one with the lowest fd of each search:")
    for search in found:
        for metric in OBJECTIVES:
            trial = search.best(metric)
            shown = {key: f"{float(value):.3g}" for key, value in trial.parameters.items()}
            values = {key: f"{trial.metrics[key]:.4g}" for key in (*OBJECTIVES, "coverage")}
            print(f"  {search.name:7} by {search.objective:4} lowest {metric:4} {shown} {values}")
            samples = search.folder / "trials" / trial.name / "mounts" / "output" / trial.name
            if (samples / "samples.png").exists():
                sheet = f"{search.name}-by-{search.objective}-lowest-{metric}.png"
                shutil.copy(samples / "samples.png", grids / sheet)


def show_agreement(trials: Sequence[Trial]) -> None:
    """Print how the metrics of all trials agree."""

    def column(metric: str) -> list[float]:
        return [trial.metrics[metric] for trial in trials]

    print(f"\nRank correlation (Spearman) over {len(trials)} trials:")
    for one, other in (
        ("loss", "fd"),
        ("discriminator_loss", "fd"),
        ("loss", "coverage"),
        ("sw", "fd"),
        ("train_fd", "fd"),
    ):
        print(f"  {one} and {other}: {spearmanr(column(one), column(other)).statistic:+.2f}")
    ratios = [trial.metrics["train_fd"] / trial.metrics["fd"] for trial in trials]
    print(
        f"train_fd over fd: {min(ratios):.3f} to {max(ratios):.3f};"
        f" copied: at most {max(column('copied')):.3f}"
    )


def show_random_against_grid(random: Found, grid: Found) -> None:
    """Print the grid's best and what as many random trials find on average."""
    print(
        f"\n{GRID_TRIALS} random trials (mean over all choices of {len(random.trials)}) and the grid:"
    )
    for metric in OBJECTIVES:
        values = sorted(trial.metrics[metric] for trial in random.trials)
        print(
            f"  lowest {metric}: random {expected_lowest(values, GRID_TRIALS):.4g},"
            f" grid {grid.best(metric).metrics[metric]:.4g}"
        )


def expected_lowest(ordered: Sequence[float], count: int) -> float:
    """Return the mean of the lowest of `count` values over all ways to choose them."""
    n, total = len(ordered), math.comb(len(ordered), count)
    return sum(
        value * math.comb(n - 1 - rank, count - 1) / total for rank, value in enumerate(ordered)
    )


def fitted(trials: Sequence[Trial], metric: str) -> Surface:
    """Return a model of a metric over (lr, bs): a Gaussian process fitted to its logarithm.

    All trials have one seed. The bounds keep the model from taking its noise for structure: half a
    decade of the learning rate, a factor of 1.4 of the batch size, 5 % of the variance.
    """
    x = np.array(
        [
            [math.log10(float(trial.parameters["lr"])), math.log2(float(trial.parameters["bs"]))]
            for trial in trials
        ]
    )
    y = np.log([trial.metrics[metric] for trial in trials])
    kernel = Matern([1.0, 1.0], (0.5, 20), nu=2.5) + WhiteKernel(0.1, (0.05, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length scale may end at its bound
        process = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2).fit(
            x, y
        )
    lrs, batches = np.linspace(-5, -2, 25), np.array([32, 48, 64, 96, 128])
    means = process.predict([[lr, math.log2(bs)] for lr in lrs for bs in batches])
    noise = math.sqrt(process.kernel_.k2.noise_level) * float(y.std())
    rows = means.reshape(len(lrs), len(batches)).tolist()
    return Surface((lrs * math.log(10)).tolist(), batches.tolist(), rows, noise)


def show_simulated(trials: Sequence[Trial], algorithms: Sequence[str], studies: int) -> None:
    """Print what searches find on models of loss and fd, on average over many studies."""
    for metric in OBJECTIVES:
        surface = fitted(trials, metric)
        print(
            f"\n{studies} simulated studies on a model of {metric} (fitted to {len(trials)} trials,"
            f" noise {surface.spread:.0%}): {metric} of the named best over the lowest"
        )
        reached = {}
        for name in ("random", *algorithms):
            runs = [
                regret(surface, name, seed, 60 if name == "random" else 20)
                for seed in range(studies)
            ]
            reached[name] = np.array(runs).mean(0)
            error = np.array(runs)[:, 19].std(ddof=1) / math.sqrt(studies)
            cells = ", ".join(f"{at}: {reached[name][at - 1]:.3f}" for at in (5, 9, 20))
            equal = np.flatnonzero(reached["random"] <= reached[name][19])
            needed = f"{equal[0] + 1}" if len(equal) else "more than 60"
            print(f"  {name:21} {cells} (standard error {error:.3f}); random needs {needed} trials")
        points = [(lr, bs) for lr in (1e-3, 5e-4, 1e-4) for bs in (32, 64, 128)]
        best = [_named(surface, points, seed) for seed in range(studies)]
        print(f"  {'grid':21} 9: {statistics.fmean(best):.3f}")


def _named(surface: Surface, points: Sequence[tuple[float, int]], seed: int) -> float:
    """Return the noiseless value, over the lowest, of the point that is named best."""
    noise = statistics.NormalDist(0, surface.spread).samples(len(points), seed=seed)
    seen = [surface.fd(*point) * math.exp(each) for point, each in zip(points, noise, strict=True)]
    return surface.fd(*points[int(np.argmin(seen))]) / surface.optimum


def show_importances(found: Sequence[Found]) -> None:
    """Print the importances of the random search, as its report shows them."""
    random = found[0]
    print(
        f"\nImportances (report of the random search, {len(random.trials)} trials; 80 % interval):"
    )
    for metric in OBJECTIVES:
        objective = Objective(metric, Goal.MINIMIZE)
        view = replace(random.view, result=replace(random.view.result, objective=objective))
        shown = (
            f"{name} {each.value:.0%} ({each.low:.0%} to {each.high:.0%})"
            for name, each in view.effects.items()
        )
        print(f"  {metric}: {', '.join(shown)}")


def show_early_stopping(found: Sequence[Found]) -> None:
    """Print how early reports predict the final value, and what median stopping would have done."""
    print("\nReports of all trials against the final fd (Spearman), and medianstop replayed:")
    for metric in OBJECTIVES:
        pairs = [
            (search.view.curve(trial, metric), trial.metrics["fd"])
            for search in found
            for trial in search.trials
        ]
        reports = len(pairs[0][0])
        cells = (
            f"{at + 1}: {spearmanr([c[at] for c, _ in pairs], [fd for _, fd in pairs]).statistic:+.2f}"
            for at in range(reports)
        )
        print(f"  {metric} at report {', '.join(cells)}")
        for start in (2, 4):
            saved, kept = _replayed(found, metric, start)
            print(
                f"    medianstop on {metric}, start_step {start}: saves {saved:.0%} of the images,"
                f" keeps the trial of lowest fd in {kept} of {len(found)} searches"
            )


def _replayed(found: Sequence[Found], metric: str, start: int) -> tuple[float, int]:
    rules, ran, planned, kept = Rules(Objective(metric, Goal.MINIMIZE), start_step=start), 0, 0, 0
    for search in found:
        told: list[tuple[float, ...]] = []
        complete: list[str] = []
        for trial in search.trials:
            curve = tuple(search.view.curve(trial, metric))
            finished = [each for each in told if len(each) == len(curve)]
            stop = rules.stop_at(rules.cuts(len(told), told, finished), curve) or len(curve)
            told.append(curve[:stop])
            complete += [trial.name] * (stop == len(curve))
            ran, planned = ran + stop, planned + len(curve)
        kept += search.best("fd").name in complete
    return 1 - ran / planned, kept


def show_workers(found: Sequence[Found]) -> None:
    """Print how many trials ran at the same time on average."""
    print("\nTrials at a time, on average (sum of the trials' durations over the search's):")
    for search in found:
        times = [(t.started, t.ended) for t in search.trials if t.started and t.ended]
        busy = sum((ended - started).total_seconds() for started, ended in times)
        whole = (max(end for _, end in times) - min(start for start, _ in times)).total_seconds()
        print(f"  {search.name} by {search.objective}: {busy / whole:.2f} ({whole:.0f} s)")


def show_weight_decay(flags: Sequence[str]) -> None:
    """Train with several weight decays and print fd and how smooth the loss is."""
    configs = [
        Config.parse([*flags, f"--weight-decay={decay}", f"--seed={seed}", f"--evals={REPORTS}"])
        for decay in DECAYS
        for seed in SEEDS
    ]
    images = load(configs[0].dataset, configs[0].data_dir, torch.device("cpu"))
    evaluator = Evaluator(images, load_extractor(images), configs[0].samples)
    curves: list[list[dict[str, float]]] = [[] for _ in configs]
    for evaluation in Training(configs, images, evaluator).run():
        curves[evaluation.trial].append(evaluation.values)
    print(
        f"\nWeight decay (lr 1e-3, batch size 64, {len(SEEDS)} seeds): fd, loss, and the mean change"
        " of the loss from one report to the next"
    )
    for index, decay in enumerate(DECAYS):
        held = curves[index * len(SEEDS) : (index + 1) * len(SEEDS)]
        final = [curve[-1] for curve in held]
        steps = [abs(b["loss"] - a["loss"]) for curve in held for a, b in pairwise(curve)]
        print(
            f"  {decay:g}: fd {_range(each['fd'] for each in final)},"
            f" loss {_range(each['loss'] for each in final)},"
            f" change {statistics.fmean(steps):.2f}"
        )


def _range(values: Iterable[float]) -> str:
    held = list(values)
    return f"{statistics.fmean(held):.4g} ({min(held):.4g} to {max(held):.4g})"


def main() -> None:
    """Run the searches and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--images", type=int, default=250_000, help="training images per trial (default 250000)"
    )
    parser.add_argument(
        "--samples", type=int, default=10_000, help="generated images per score (default 10000)"
    )
    parser.add_argument(
        "--algorithms",
        default="tpe,bayesianoptimization",
        help="simulated next to random and grid (default tpe,bayesianoptimization)",
    )
    parser.add_argument("--studies", type=int, default=100, help="simulated studies (default 100)")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time (default 2)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/article"),
        help="where files go (default runs/article)",
    )
    args = parser.parse_args()
    folder = args.folder.resolve()
    grids = folder / "grids"
    grids.mkdir(parents=True, exist_ok=True)
    budget = [f"--epochs={args.images / TRAINING_IMAGES:g}", f"--samples={args.samples}"]
    flags = [*budget, *prepare(folder)]
    print(line("torch", "optuna"))
    print(f"MNIST, {args.images} images per trial, {args.samples} samples per score")
    found = searched(flags, folder / "store", args.workers)
    trials = [trial for search in found for trial in search.trials]
    show_best(found, grids)
    show_agreement(trials)
    show_random_against_grid(found[0], next(each for each in found if each.name == "grid"))
    show_importances(found)
    show_early_stopping(found)
    show_workers(found)
    show_simulated(trials, args.algorithms.split(","), args.studies)
    show_weight_decay(["--preset=article", *flags])


if __name__ == "__main__":
    main()
