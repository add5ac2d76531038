"""Which parameters matter: total-effect Sobol indices of a Gaussian process fitted to the trials.

Chosen over Optuna's default (PED-ANOVA) and fANOVA because with 10 to 20 trials it ranks the right parameter first far
more often (docs/gantune.md; python -m bench.importances). A parameter's index is the share of the variance of the
objective over the whole search space that vanishes when the parameter is held, interactions included; so the indices
may sum to more than 1.

The model: Matern 5/2 with one length scale per feature (Rasmussen and Williams 2006, eq. 4.17), log-normal priors on
the scales, maximum a posteriori by L-BFGS. The indices: Jansen's estimator (Saltelli et al. 2010, table 2f).
Shapes: N trials, P parameters, F features (a categorical of k choices has k), S samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize
from scipy.stats import qmc

from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter, Value

Array: TypeAlias = NDArray[np.float64]
MIN_TRIALS = 4
MAX_TRIALS = 250  # the fit costs N^3: beyond, an even choice over the order of the objective
SAMPLES = 1024
LOG_SCALES = (Distribution.LOG_UNIFORM, Distribution.LOG_NORMAL)


def total_effects(
    parameters: Sequence[Parameter], points: Sequence[Mapping[str, Value]], values: Sequence[float]
) -> dict[str, float]:
    """Total-effect index per parameter, largest first; empty where nothing can be said.

    That is with fewer than four points, or when all values are equal. `values` are finite; positive ones are
    taken in their logarithm, since a Fréchet distance or a loss spans decades.
    """
    if len(values) < MIN_TRIALS or not parameters or np.ptp(values) == 0:
        return {}
    chosen = _thin(np.asarray(values, dtype=np.float64))
    units = np.array([[_unit(p, points[i][p.name]) for p in parameters] for i in chosen])
    y = _standardised(np.asarray(values, dtype=np.float64)[chosen])
    model = _Process(_features(parameters, units), y)

    samples = qmc.Sobol(2 * len(parameters), rng=0).random(SAMPLES)  # [S, 2P]
    a, b = samples[:, : len(parameters)], samples[:, len(parameters) :]
    at_a = model.mean(_features(parameters, a))
    variance = float(np.var(at_a))
    if variance < 1e-6:  # y has variance 1: the model holds every difference for noise
        return {}
    effects: dict[str, float] = {}
    for index, parameter in enumerate(parameters):
        mixed = a.copy()
        mixed[:, index] = b[:, index]
        change = at_a - model.mean(_features(parameters, mixed))
        effects[parameter.name] = float(np.mean(change**2) / (2 * variance))
    return dict(sorted(effects.items(), key=lambda item: -item[1]))


def _thin(values: Array) -> NDArray[np.intp]:
    order = np.argsort(values, kind="stable")
    even = np.linspace(0, len(order) - 1, min(MAX_TRIALS, len(order))).round().astype(int)
    return np.asarray(order[even], dtype=np.intp)


def _standardised(values: Array) -> Array:
    y = np.log(values) if np.all(values > 0) else values
    return np.asarray((y - y.mean()) / (y.std() or 1.0))


def _unit(parameter: Parameter, value: Value) -> float:
    """Where `value` lies in the parameter's range, in [0, 1]; for choices the middle of the choice's share."""
    if isinstance(parameter, Double | Int):
        low, high, at = float(parameter.low), float(parameter.high), float(value)
        if parameter.distribution in LOG_SCALES and low > 0 and at > 0:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return min(1.0, max(0.0, (at - low) / (high - low))) if high > low else 0.5
    return (parameter.choices.index(str(value)) + 0.5) / len(parameter.choices)


def _features(parameters: Sequence[Parameter], units: Array) -> Array:
    """[S, P] in the unit cube -> [S, F]: numbers as they are, discrete values to scale, categoricals one-hot."""
    columns: list[Array] = []
    for index, parameter in enumerate(parameters):
        column = units[:, index]
        if isinstance(parameter, Double | Int):
            columns.append(column[:, None])
            continue
        count = len(parameter.choices)
        choice = np.minimum((column * count).astype(int), count - 1)
        columns.append(_choices(parameter)[choice])
    return np.hstack(columns)


def _choices(parameter: Categorical | Discrete) -> Array:
    """[k, features]: a discrete's numbers scaled to [0, 1]; a categorical's choices all equally far apart."""
    if isinstance(parameter, Discrete):
        numbers = np.array([float(choice) for choice in parameter.choices])
        return np.asarray((numbers - numbers.min()) / (np.ptp(numbers) or 1.0))[:, None]
    return np.asarray(np.eye(len(parameter.choices)) / math.sqrt(2))


class _Process:
    """A Gaussian process: x [N, F], y [N] standardised."""

    def __init__(self, x: Array, y: Array) -> None:
        self.x = x
        self.y = y
        start = np.concatenate([np.full(x.shape[1], math.log(0.5)), [0.0, math.log(0.1)]])
        bounds = [(math.log(0.02), math.log(50.0))] * x.shape[1] + [(-3.0, 3.0), (math.log(1e-4), math.log(2.0))]
        found: Any = minimize(self._loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
        self.theta: Array = found.x
        kernel, _, _ = self._kernel(self.theta, self.x, self.x)
        noisy = kernel + math.exp(self.theta[-1]) * np.eye(len(y))
        self.weights: Array = cho_solve((cholesky(noisy, lower=True), True), y)

    def mean(self, at: Array) -> Array:
        """[S, F] -> [S], the posterior mean."""
        kernel, _, _ = self._kernel(self.theta, at, self.x)
        return kernel @ self.weights

    def _kernel(self, theta: Array, a: Array, b: Array) -> tuple[Array, Array, Array]:
        """k(a, b), the scaled squared differences [F, S, N], and dk / d(r^2) times -2 for the gradient."""
        scales, amplitude = np.exp(theta[:-2]), math.exp(theta[-2])
        squares = ((a[:, None, :] - b[None, :, :]) / scales).transpose(2, 0, 1) ** 2
        root = np.sqrt(5.0 * squares.sum(axis=0))
        decay = amplitude * np.exp(-root)
        return decay * (1 + root + root**2 / 3), squares, decay * (5 / 3) * (1 + root)

    def _loss(self, theta: Array) -> tuple[float, Array]:
        """Minus the log posterior of theta = log length scales, log amplitude, log noise; and its gradient."""
        kernel, squares, slope = self._kernel(theta, self.x, self.x)
        noise = math.exp(theta[-1])
        size = len(self.y)
        factor = cholesky(kernel + (noise + 1e-8) * np.eye(size), lower=True)
        weights = cho_solve((factor, True), self.y)
        inverse = cho_solve((factor, True), np.eye(size))
        outer = np.outer(weights, weights) - inverse  # d log likelihood / dK = outer / 2
        centres = np.concatenate([np.full(len(theta) - 2, 0.0), [0.0, math.log(0.05)]])
        spread = np.concatenate([np.full(len(theta) - 2, 1.5), [1.0, 1.5]])
        prior = (theta - centres) / spread
        loss = 0.5 * self.y @ weights + np.log(np.diag(factor)).sum() + 0.5 * prior @ prior
        by_scale = -0.5 * np.einsum("ij,ij,fij->f", outer, slope, squares, optimize=True)
        rest = [-0.5 * np.sum(outer * kernel), -0.5 * noise * np.trace(outer)]
        return float(loss), np.concatenate([by_scale, rest]) + prior / spread
