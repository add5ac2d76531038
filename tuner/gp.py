"""One Gaussian process for every model of a search: bayesianoptimization, importances, slices and advice.

The model is a Matern 5/2 kernel with one length scale per dimension (Rasmussen and Williams 2006,
eq. 4.17) and noise. Two different choices of a categorical dimension are at distance 1 (a Hamming
kernel). The hyperparameters are the maximum a posteriori under log-normal priors, by L-BFGS with
analytic gradients.

The acquisition function is the logarithm of the expected improvement in its stable form (Ament et al.
2023, arXiv 2310.20708, eq. 9). For trials that are still running, it is the mean over values that the
model draws for them (Snoek et al. 2012, arXiv 1206.2944, sec. 3.2).

scipy is imported where it is needed: the import takes most of a second.

Points have one coordinate per dimension: a number's is in [0, 1], a choice's is its index.
Shapes: N trials, D dimensions, F features (one for a number, one for each choice), S points, M draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Array: TypeAlias = NDArray[np.float64]

ITERATIONS = 60  # of L-BFGS, for the hyperparameters
# Medians and standard deviations of the priors: normal distributions of the logarithms. Values are
# standardised, so the amplitude is about 1.
LENGTH_SCALE, AMPLITUDE, NOISE = (0.7, 0.9), (1.0, 1.0), (1e-3, 2.0)
LENGTH_SCALES, AMPLITUDES, NOISES = (0.02, 50.0), (0.05, 20.0), (1e-6, 2.0)  # bounds
START = (0.5, 1.0, 1e-2)  # length scale, amplitude, noise from which they are fitted
JITTER, LEAST_VARIANCE = 1e-8, 1e-12  # of trials, so that equal ones can be factored; of a point
SAME = 1e-9  # scaled squared distance of points that count as one

CANDIDATES = 1024  # points at which the acquisition function is evaluated first
STARTS = 8  # points from which it is maximised
DRAWS = 32  # values for each running trial
ROUNDS = 12  # of gradient steps and steps to neighbours, at most
FEW_VALUES = 16  # values up to which all are compared; a number with more is first relaxed
STEPS = np.array([-8, -4, -2, -1, 1, 2, 4, 8])  # to neighbours among many values
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


@cache
def _libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401 - the limit applies to libraries that are loaded

    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Return a context in which linear algebra has one thread: several lose time on matrices of this size."""
    limits: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limits


class Process:
    """A Gaussian process that is fitted to trials.

    Attributes:
        x: The trials [N, D].
        y: Their values [N], with mean 0 and variance 1.
        choices: How many choices each dimension has [D]; 0 for a number.
        theta: The logarithms of the length scales [D], the amplitude and the noise (variances).
        priors: The medians of their exponentials, and the standard deviations of theta [D + 2, 2].
        loss: Minus the logarithm of the posterior density of theta, up to a constant.
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        choices: Sequence[int],
        theta: Array | None = None,
        iterations: int = ITERATIONS,
        noise: float = NOISE[0],
    ) -> None:
        """Fit the process from `theta`, or take it as it is with 0 iterations. `noise` is its prior median."""
        from scipy.linalg import cho_solve, cholesky

        self.x, self.y, self.choices, self.loss = x, y, tuple(choices), math.nan
        self.priors = np.array([LENGTH_SCALE] * len(choices) + [AMPLITUDE, (noise, NOISE[1])])
        if theta is None:
            theta = np.log([START[0]] * x.shape[1] + [*START[1:]])
        self.theta = self._fitted(theta, iterations) if iterations else theta
        self.scales = np.exp(self.theta[:-2])
        self.amplitude, self.noise = map(float, np.exp(self.theta[-2:]))
        self.features = self.featured(x)
        covariance = self.kernel(self.features, self.features)
        covariance[np.diag_indices_from(covariance)] += self.noise + JITTER
        self.factor: Array = cholesky(covariance, lower=True)
        self.weights: Array = cho_solve((self.factor, True), y)

    def featured(self, points: Array) -> Array:
        """[S, D] -> [S, F]: numbers and one-hot choices, both divided by their length scale."""
        columns = [
            np.eye(count)[points[:, index].astype(int)] / (math.sqrt(2) * self.scales[index])
            if count
            else points[:, index, None] / self.scales[index]
            for index, count in enumerate(self.choices)
        ]
        return np.hstack(columns)

    def kernel(self, a: Array, b: Array) -> Array:
        """[S, F], [N, F] -> [S, N], the prior covariance."""
        return matern(squares(a, b), self.amplitude)[0]

    def mean(self, points: Array) -> Array:
        """[S, D] -> [S], the posterior mean."""
        return self.kernel(self.featured(points), self.features) @ self.weights

    def _fitted(self, start: Array, iterations: int) -> Array:
        from scipy.optimize import minimize

        bounds = np.log([LENGTH_SCALES] * len(self.choices) + [AMPLITUDES, NOISES])
        found: Any = minimize(
            self.minus_log_posterior,
            np.clip(start, *bounds.T),
            args=(self.distances(),),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": iterations, "gtol": 1e-2},
        )
        self.loss = float(found.fun)
        return np.asarray(found.x)

    def distances(self) -> Array:
        """Return the squared distances between trials in each dimension, [D, N * N]."""
        found = [
            (np.not_equal if count else np.subtract)(column[:, None], column).astype(float) ** 2
            for count, column in zip(self.choices, self.x.T, strict=True)
        ]
        return np.stack(found).reshape(len(found), -1)

    def minus_log_posterior(self, theta: Array, distances: Array) -> tuple[float, Array]:
        """Return what the fit minimises (Rasmussen and Williams 2006, eq. 5.8 and 5.9), and its gradient."""
        from scipy.linalg import cholesky
        from scipy.linalg.lapack import dpotri

        size, precisions, noise = len(self.y), np.exp(-2 * theta[:-2]), math.exp(theta[-1])
        kernel, slope = matern((precisions @ distances).reshape(size, size), math.exp(theta[-2]))
        noisy = kernel + (noise + JITTER) * np.eye(size)
        factor = cholesky(noisy, lower=True, check_finite=False)
        lower = np.tril(dpotri(factor, lower=1)[0])
        inverse = lower + np.tril(lower, -1).T
        weights = inverse @ self.y
        outer = np.outer(weights, weights) - inverse  # twice d log likelihood / d covariance
        medians, spreads = self.priors.T
        prior = (theta - np.log(medians)) / spreads
        loss = 0.5 * self.y @ weights + np.log(np.diag(factor)).sum() + 0.5 * prior @ prior
        by_scale = precisions * (distances @ (outer * slope).ravel())
        by_variance = [-0.5 * np.sum(outer * kernel), -0.5 * noise * np.trace(outer)]
        return float(loss), np.concatenate([by_scale, by_variance]) + prior / spreads


class Improvement:
    """The logarithm of the expected improvement on the lowest value so far; -inf at trials and running trials."""

    def __init__(self, process: Process, running: Array, seed: int) -> None:
        """Prepare it for a process, running trials [R, D] and the seed of the values that they may have."""
        from scipy.linalg import cho_solve, cholesky, solve_triangular
        from scipy.special import ndtri

        self.process, size, count = process, len(process.y), len(running)
        at = process.featured(running)
        cross = solve_triangular(process.factor, process.kernel(process.features, at), lower=True)
        # the values without noise: those that the improvement is about
        corner = cholesky(
            process.kernel(at, at) - cross.T @ cross + JITTER * np.eye(count), lower=True
        )
        even = spread_evenly(DRAWS if count else 1, count, np.random.default_rng(seed))
        values = process.mean(running)[:, None] + corner @ ndtri(even).T  # [R, M]
        factor = np.zeros((size + count, size + count))
        factor[:size, :size], factor[size:, :size] = process.factor, cross.T
        factor[size:, size:] = corner
        told = np.repeat(process.y[:, None], values.shape[1], axis=1)
        self.features = np.vstack([process.features, at])  # [N + R, F]
        self.weights = cho_solve((factor, True), np.vstack([told, values]))  # [N + R, M]
        self.inverse = cho_solve((factor, True), np.eye(size + count))
        # the lowest mean instead of the lowest value, which is partly lucky if there is noise
        lowest = process.mean(process.x).min()
        self.lowest = np.minimum(lowest, values.min(axis=0, initial=np.inf))  # [M]

    def __call__(self, points: Array) -> Array:
        """[S, D] -> [S]."""
        squared = squares(self.process.featured(points), self.features)
        values = self._values(matern(squared, self.process.amplitude)[0])[0]
        return np.where(squared.min(axis=1) < SAME, -np.inf, log_mean(values))

    def _values(self, kernel: Array) -> tuple[Array, Array, Array, Array]:
        """[S, N + R] -> the values [S, M], their z [S, M], sigma [S, 1], and kernel @ inverse."""
        solved = kernel @ self.inverse
        variance = self.process.amplitude - np.einsum("sn,sn->s", solved, kernel)
        sigma = np.sqrt(np.maximum(variance, LEAST_VARIANCE))[:, None]
        z = (self.lowest - kernel @ self.weights) / sigma
        return log_improvement(z) + np.log(sigma), z, sigma, solved

    def with_gradient(self, points: Array) -> tuple[Array, Array]:
        """[S, D] -> the values [S] and their gradients [S, D], which are 0 for choices. No value is -inf."""
        from scipy.special import log_ndtr

        features = self.process.featured(points)
        kernel, slope = matern(squares(features, self.features), self.process.amplitude)
        values, z, sigma, solved = self._values(kernel)
        total = log_mean(values)
        log_share = values - total[:, None] - math.log(values.shape[1])
        standard = values - np.log(sigma)
        by_mean = -np.exp(log_share + log_ndtr(z) - standard) / sigma
        by_sigma = np.exp(log_share - 0.5 * z * z - LOG_SQRT_2PI - standard).sum(axis=1)
        # sigma^2 = amplitude - kernel @ inverse @ kernel
        by_kernel = by_mean @ self.weights.T - by_sigma[:, None] / sigma**2 * solved
        by_square = 2 * by_kernel * slope
        gradient, column = np.zeros_like(points), 0
        for index, count in enumerate(self.process.choices):
            if not count:
                near = features[:, column] * by_square.sum(axis=1)
                gradient[:, index] = near - by_square @ self.features[:, column]
                gradient[:, index] /= self.process.scales[index]
            column += count or 1
        return total, gradient


def squares(a: Array, b: Array) -> Array:
    """[S, F], [N, F] -> the squared distances [S, N]."""
    found = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.maximum(found, 0.0))


def log_improvement(z: Array) -> Array:
    """Return log(pdf(z) + z cdf(z)) of the standard normal distribution, also where that underflows."""
    from scipy.special import erfcx, ndtr

    high, low = np.maximum(z, -1.0), np.minimum(z, -1.0)
    direct = np.log(np.exp(-0.5 * high * high - LOG_SQRT_2PI) + high * ndtr(high))
    # pdf(z) (1 + z cdf(z) / pdf(z)); the bracket tends to 1 / z^2, where it loses its digits
    bracket = 1 + math.sqrt(math.pi / 2) * low * erfcx(-low / math.sqrt(2))
    bracket = np.where(low < -1e5, low**-2.0, np.maximum(bracket, 1e-12))
    return np.where(z > -1.0, direct, np.log(bracket) - 0.5 * low * low - LOG_SQRT_2PI)


def matern(squared: Array, amplitude: float) -> tuple[Array, Array]:
    """Return the covariance at scaled squared distances, and its derivative with respect to them."""
    root = np.sqrt(5.0 * squared)
    decay = amplitude * np.exp(-root)
    return decay * (1 + root + root * root / 3), decay * (1 + root) * (-5 / 6)


def log_mean(values: Array) -> Array:
    """[S, M] -> [S], the logarithm of the mean of the exponentials."""
    top = values.max(axis=1)
    return np.asarray(top + np.log(np.exp(values - top[:, None]).mean(axis=1)))


def spread_evenly(count: int, size: int, rng: np.random.Generator) -> Array:
    """Return a Latin hypercube, [count, size] in [0, 1]: every part of every coordinate has one point."""
    places = rng.permuted(np.repeat(np.arange(count)[:, None], size, axis=1), axis=0)
    return np.asarray((places + rng.random((count, size))) / count)


@dataclass(frozen=True, slots=True)
class Space:
    """What the coordinates of a point may be.

    Attributes:
        choices: How many choices each dimension has; 0 for a number.
        values: How many values a number has; 0 if it is continuous. They are the middles of equal
            parts of [0, 1].
    """

    choices: tuple[int, ...]
    values: tuple[int, ...]

    def rounded(self, points: Array) -> Array:
        """[S, D] -> the nearest points of the space."""
        found = points.copy()
        for index, count in enumerate(self.values):
            if count:
                place = np.clip(np.floor(found[:, index] * count), 0, count - 1)
                found[:, index] = (place + 0.5) / count
        return found

    def sampled(self, count: int, rng: np.random.Generator) -> Array:
        """Return [count, D] points that fill the space evenly."""
        found = spread_evenly(count, len(self.choices), rng)
        for index, choices in enumerate(self.choices):
            if choices:
                found[:, index] = np.minimum(np.floor(found[:, index] * choices), choices - 1)
        return self.rounded(found)

    def neighbours(self, point: Array) -> Array:
        """[D] -> [S, D], the points that differ in one choice, or in one number that is not continuous."""
        found = [np.empty((0, len(point)))]
        for index, (choices, count) in enumerate(zip(self.choices, self.values, strict=True)):
            if choices:
                values = np.arange(choices, dtype=float)
            elif count <= FEW_VALUES:
                values = (np.arange(count) + 0.5) / max(count, 1)
            else:
                values = point[index] + STEPS / count
            values = values[(np.abs(values - point[index]) > 1e-9) & (values > -1e-9)]
            if not choices:
                values = values[values < 1]
            rows = np.repeat(point[None], len(values), axis=0)
            rows[:, index] = values
            found.append(rows)
        return np.vstack(found)


def maximise(improvement: Improvement, space: Space, start: Array, seed: int) -> Array:
    """Return points [S, D], the one with the largest improvement that was found first.

    Many points are compared. From the best, from some that are drawn in proportion to their
    improvement, and from `start` [D], gradient steps and steps to neighbours alternate.
    """
    rng = np.random.default_rng(seed)
    candidates = space.sampled(CANDIDATES, rng)
    values = improvement(candidates)
    points = np.vstack([start[None], candidates[_chosen(values, rng)]])
    best = improvement(points)
    active = np.ones(len(points), dtype=bool)
    for _ in range(ROUNDS):
        points[active], best[active] = _climb(improvement, space, points[active], best[active])
        active = _step(improvement, space, points, best, active)
        if not active.any():
            break
    found, all_values = np.vstack([points, candidates]), np.concatenate([best, values])
    return found[np.argsort(-all_values, kind="stable")]


def _chosen(values: Array, rng: np.random.Generator) -> list[int]:
    """Return the place of the best value, and others drawn in proportion to the improvement."""
    top = int(np.argmax(values))
    shares = np.exp(values - values[top]) if np.isfinite(values[top]) else np.zeros(len(values))
    shares[top] = 0.0
    count = min(STARTS - 2, int(np.count_nonzero(shares)))
    if not count:
        return [top]
    return [top, *rng.choice(len(values), count, replace=False, p=shares / shares.sum()).tolist()]


def _climb(
    improvement: Improvement, space: Space, points: Array, best: Array
) -> tuple[Array, Array]:
    """Follow the gradient from each point. Values between those of a number are rounded at the end."""
    from scipy.optimize import minimize

    values = np.array(space.values)
    free = (np.array(space.choices) == 0) & ((values == 0) | (values > FEW_VALUES))
    if not free.any():
        return points, best
    # divided by the length scales, all coordinates have about the same curvature
    scales = improvement.process.scales[free]

    def loss(flat: Array) -> tuple[float, Array]:
        moved = points.copy()
        moved[:, free] = flat.reshape(len(points), -1) * scales
        values, gradient = improvement.with_gradient(moved)
        return -float(values.sum()), -(gradient[:, free] * scales).ravel()

    found: Any = minimize(
        loss,
        (points[:, free] / scales).ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, 1 / scale) for scale in scales] * len(points),
        options={"maxiter": 100, "gtol": 1e-2},
    )
    moved = points.copy()
    moved[:, free] = np.clip(found.x.reshape(len(points), -1) * scales, 0.0, 1.0)
    moved = space.rounded(moved)
    reached = improvement(moved)
    better = reached > best
    return np.where(better[:, None], moved, points), np.where(better, reached, best)


def _step(
    improvement: Improvement, space: Space, points: Array, best: Array, active: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Move the active points to their best neighbours, in place, as long as they improve; return which moved."""
    moved, active = np.zeros(len(points), dtype=bool), active.copy()
    for _ in range(ROUNDS):
        places = np.flatnonzero(active)
        rows = [space.neighbours(points[place]) for place in places]
        if not sum(map(len, rows)):
            break
        values = np.split(improvement(np.vstack(rows)), np.cumsum([len(each) for each in rows]))
        for place, near, own in zip(places, rows, values, strict=False):
            top = int(np.argmax(own))
            active[place] = own[top] > best[place]
            if active[place]:
                points[place], best[place], moved[place] = near[top], own[top], True
    return moved
