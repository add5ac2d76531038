"""A model of fd over the wide search space, fitted to bench/wide-surface.jsonl: what simulated studies are run on.

    python -m bench.wide_surrogate      how well it predicts trainings that it has not seen (about a minute)

It predicts log fd as the mean of a Gaussian process (Matern 5/2) and gradient-boosted trees. The
trees keep the surface from being smoother than what a Gaussian process among the searches could
wish for. The noise of a seed is the pooled standard deviation of log fd over points that were
trained with several seeds, apart for good points and the others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import GroupKFold

from bench.provenance import line
from bench.wide_surface import CHOICES, DEFAULT, PATH

WORST = 300.0  # fd of an untrained generator is about this; above it the surface is flat
# points up to this many times the default's fd show the seed noise that a search has near its end
NEAR = 1.1
GOOD = 4.0  # points up to this many times the default's fd share one seed noise
Run = Mapping[str, Any]


def read() -> list[dict[str, Any]]:
    """The tabulated trainings."""
    return [json.loads(row) for row in PATH.read_text(encoding="utf-8").splitlines()[1:]]


def features(point: Mapping[str, Any]) -> list[float]:
    """A point as numbers: rates and sizes on a log scale, both networks' learning rates, the loss one-hot."""
    lr, ratio = float(point["lr"]), float(point["dLrRatio"])
    return [
        math.log(lr), math.log(lr * ratio), math.log(ratio), float(point["beta1"]),
        math.log10(float(point["r1Gamma"]) + 0.003), -math.log10(1 - float(point["emaDecay"]) + 1e-4),
        float(point["nCritic"]), math.log(float(point["latentDim"])), math.log(float(point["bs"])),
        *(float(point["loss"] == each) for each in CHOICES["loss"]),
    ]  # fmt: skip


class Surrogate:
    """log fd without noise, and the noise of a seed."""

    def __init__(self, runs: Sequence[Run]) -> None:
        x, y = (
            np.array([features(run["point"]) for run in runs]),
            np.array([target(run) for run in runs]),
        )
        self._mean, self._scale = x.mean(0), x.std(0)
        z = (x - self._mean) / self._scale
        kernel = Matern(2 * np.ones(z.shape[1]), (0.1, 100), nu=2.5)
        with warnings.catch_warnings():
            # length scales of features without effect end at their bound
            warnings.simplefilter("ignore")
            process = GaussianProcessRegressor(
                ConstantKernel(1.0) * kernel + WhiteKernel(0.01, (1e-4, 1.0)), normalize_y=True
            ).fit(z, y)
        fitted = process.kernel_.k1
        self._lengths, weights = (
            fitted.k2.length_scale,
            fitted.k1.constant_value * process.alpha_.ravel(),
        )
        self._x, self._weights = z / self._lengths, weights * y.std()
        self._offset = y.mean()
        self._trees = GradientBoostingRegressor(
            n_estimators=600, max_depth=4, learning_rate=0.04, subsample=0.6, random_state=0
        ).fit(z, y)

    def log_fd(self, points: Iterable[Mapping[str, Any]]) -> np.ndarray:
        """Predict log fd of each point."""
        z = (np.array([features(point) for point in points]) - self._mean) / self._scale
        found = np.empty(len(z))
        # the distances of all points at once would not fit into memory
        for begin in range(0, len(z), 1000):
            part = z[begin : begin + 1000]
            r = math.sqrt(5) * np.sqrt(
                (((part / self._lengths)[:, None] - self._x[None]) ** 2).sum(-1)
            )
            smooth = ((1 + r + r**2 / 3) * np.exp(-r)) @ self._weights + self._offset
            found[begin : begin + 1000] = (smooth + self._trees.predict(part)) / 2
        return found


def target(run: Run) -> float:
    """The log of a training's last fd."""
    return math.log(min(run["fd"][-1], WORST))


def noises(runs: Sequence[Run]) -> tuple[float, float]:
    """Standard deviation of log fd between seeds: of good points, and of the others."""
    seeds: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        seeds[key(run)].append(target(run))
    default = statistics.fmean(seeds[json.dumps(DEFAULT, sort_keys=True)])
    several = [values for values in seeds.values() if len(values) > 1]
    split = default + math.log(GOOD)
    return _pooled([v for v in several if statistics.fmean(v) <= split]), _pooled(
        [v for v in several if statistics.fmean(v) > split]
    )


def seed_difference(runs: Sequence[Run]) -> str:
    """Say by how much two trainings of a point as good as the defaults differ (the seed noise)."""
    seeds: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        seeds[key(run)].append(target(run))
    limit = statistics.fmean(seeds[json.dumps(DEFAULT, sort_keys=True)]) + math.log(NEAR)
    good = [
        values for values in seeds.values() if len(values) > 1 and statistics.fmean(values) <= limit
    ]
    medians = [
        statistics.median(abs(a - b) for a, b in itertools.combinations(values, 2))
        for values in good
    ]
    count = sum(map(len, good))
    return (
        f"two seeds of one point with fd up to {NEAR} times that of the defaults differ by "
        f"{math.expm1(statistics.median(medians)):.1%} (median over {len(good)} points, {count} trainings)"
    )


def key(run: Run) -> str:
    """The point of a training, for grouping."""
    return json.dumps(run["point"], sort_keys=True)


def _pooled(groups: Sequence[Sequence[float]]) -> float:
    freedom = sum(len(values) - 1 for values in groups)
    return math.sqrt(
        sum(statistics.variance(values) * (len(values) - 1) for values in groups) / freedom
    )


def accuracy(runs: Sequence[Run], folds: int = 10) -> str:
    """Predict each training from those of other points, and say how well that works."""
    y, groups = np.array([target(run) for run in runs]), [key(run) for run in runs]
    found = np.empty(len(y))
    for rest, held in GroupKFold(folds).split(y, groups=groups):
        found[held] = Surrogate([runs[i] for i in rest]).log_fd(runs[i]["point"] for i in held)
    parts = []
    for name, chosen in (
        ("all", y < np.inf),
        ("fd below 6", y < math.log(6)),
        ("fd below 4.5", y < math.log(4.5)),
    ):
        rank = spearmanr(y[chosen], found[chosen])[0]
        error = math.sqrt(((y - found)[chosen] ** 2).mean())
        parts.append(
            f"{name} (n = {chosen.sum()}): rank correlation {rank:.2f}, RMSE of log fd {error:.3f}"
        )
    share = 1 - ((y - found) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    return f"{folds}-fold cross-validation by point, R2 of log fd {share:.3f}; " + "; ".join(parts)


def options(runs: Sequence[Run]) -> Iterator[str]:
    """For each value of a parameter with few values: trainings, mean of the best three, and those below the default."""
    default = statistics.fmean(run["fd"][-1] for run in runs if run["point"] == DEFAULT)
    yield f"fd of the defaults {default:.2f}; value: trainings, mean fd of the best three, share below the defaults"
    for name in CHOICES:
        cells = []
        for value in sorted({run["point"][name] for run in runs}, key=str):
            scores = sorted(
                run["fd"][-1]
                for run in runs
                if run["point"][name] == value and run["point"] != DEFAULT
            )
            below = sum(score < default for score in scores) / len(scores)
            cells.append(f"{value}: {len(scores)}, {statistics.fmean(scores[:3]):.2f}, {below:.0%}")
        yield f"  {name:10} {' | '.join(cells)}"


def main() -> None:
    """Print what each option is worth, the accuracy and the noise."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0]).parse_args()
    runs = read()
    print(line("scikit-learn"))
    good, others = noises(runs)
    print(
        f"{len(runs)} trainings; standard deviation of log fd between seeds {good:.3f}, of bad points {others:.3f}"
    )
    print(seed_difference(runs))
    print("\n".join(options(runs)))
    print(accuracy(runs))


if __name__ == "__main__":
    main()
