"""Expected improvement weighted by a prior around the trainer's defaults that fades (piBO, Hvarfner et al. 2022).

bench.wide_search compares it with the same sampler without the prior: the rows `ei` and `pibo`. It
is not part of the program, because it did not help (docs/explanation/search-quality.md). The acquisition of
arXiv 2204.11051 is EI(x) pi(x)^(beta / n) after n trials, with beta = a tenth of the number of
trials. As there, the prior of a number is a normal distribution around the default, here with a
quarter of the range as standard deviation, and that of a choice gives the default half.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from tuner.samplers.transform import Dimension, dimension, random_point
from tuner.space import Categorical, Discrete, Double, Parameter

Values = Mapping[str, Any]
START, CANDIDATES, WIDTH = 8, 2000, 0.25


def proposer(
    parameters: Sequence[Parameter], first: Values, beta: float, seed: int
) -> Callable[[Sequence[float]], Values]:
    """Return a function from the values of earlier trials to the next point. beta 0 is expected improvement alone."""
    rng, dimensions = random.Random(seed), [dimension(parameter) for parameter in parameters]
    asked: list[Values] = []

    def propose(values: Sequence[float]) -> Values:
        if not asked:
            asked.append(first)
        elif len(asked) < START:
            asked.append(random_point(dimensions, rng))
        else:
            best = asked[int(np.argmin(values))]
            points = [random_point(dimensions, rng) for _ in range(CANDIDATES)]
            points += [neighbour(best, 0.4, dimensions, rng) for _ in range(CANDIDATES // 4)]
            points = [point for point in points if point not in asked] or points
            gain = log_improvement(
                coded(parameters, asked), np.log(values), coded(parameters, points)
            )
            weight = np.array([log_prior(parameters, first, point) for point in points])
            asked.append(points[int(np.argmax(gain + beta / len(asked) * weight))])
        return asked[-1]

    return propose


def neighbour(
    point: Values, share: float, dimensions: Sequence[Dimension], rng: random.Random
) -> dict[str, Any]:
    """Return a point of which about this share of the values is drawn anew."""
    return {
        each.name: each.at(rng.random()) if rng.random() < share else point[each.name]
        for each in dimensions
    }


def log_improvement(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the log of the expected improvement, [n], at `points` [n, d], for values y [m] at x [m, d]."""
    kernel = ConstantKernel(1.0) * Matern(np.ones(x.shape[1]), (0.1, 30), nu=2.5) + WhiteKernel(
        0.05, (1e-3, 1.0)
    )
    with warnings.catch_warnings():
        # length scales of parameters without effect end at their bound
        warnings.simplefilter("ignore")
        process = GaussianProcessRegressor(kernel, normalize_y=True).fit(x, y)
        mean, spread = process.predict(points, return_std=True)
    spread = np.maximum(spread, 1e-9)
    z = (process.predict(x).min() - mean) / spread
    gain = np.log(np.maximum(spread * (norm.pdf(z) + z * norm.cdf(z)), 1e-300))
    return np.asarray(gain)


def log_prior(parameters: Sequence[Parameter], first: Values, point: Values) -> float:
    """Return the log of the prior density, up to a constant."""
    total = 0.0
    for parameter in parameters:
        if isinstance(parameter, Double):
            away = unit(parameter, point[parameter.name]) - unit(parameter, first[parameter.name])
            total -= (away / WIDTH) ** 2 / 2
        elif str(point[parameter.name]) != str(first[parameter.name]):
            total -= math.log(max(len(parameter.choices) - 1, 1))  # type: ignore[union-attr]
    return total


def coded(parameters: Sequence[Parameter], points: Sequence[Values]) -> np.ndarray:
    """Return points as numbers, [n, d]: ranges and lists in [0, 1], choices one-hot."""
    return np.array(
        [
            [value for each in parameters for value in _coded(each, point[each.name])]
            for point in points
        ]
    )


def unit(parameter: Double, value: Any) -> float:
    """Return where a value lies in a log-uniform range, in [0, 1]."""
    return math.log(float(value) / parameter.low) / math.log(parameter.high / parameter.low)


def _coded(parameter: Parameter, value: Any) -> list[float]:
    if isinstance(parameter, Double):
        return [unit(parameter, value)]
    if isinstance(parameter, Discrete):
        numbers = sorted(float(each) for each in parameter.choices)
        return [numbers.index(float(value)) / (len(numbers) - 1)]
    assert isinstance(parameter, Categorical)
    return [float(str(value) == each) for each in parameter.choices]
