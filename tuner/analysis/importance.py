"""Which parameters matter: total-effect Sobol indices of a Gaussian process fitted to the trials.

Chosen over Optuna's default (PED-ANOVA) and fANOVA because with 10 to 20 trials it ranks the right
parameter first far more often (docs/reference/gantune.md; python -m bench.importances). A parameter's index
is the share of the variance of the objective over the whole search space that vanishes when the
parameter is held, interactions included; so the indices may sum to more than 1.

The model is that of tuner.gp. The indices: Jansen's estimator (Saltelli et al. 2010, table 2f).
Shapes: N trials, P parameters, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tuner.gp import Array, Process, one_thread
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter, Value

MIN_TRIALS = 4
MAX_TRIALS = 250  # the fit costs N^3: beyond, an even choice over the order of the objective
SAMPLES = 1024
# The prior median of the noise's variance. A search needs a smaller one, to approach an optimum; with this
# one, fewer of the effects in ten noisy trials are those of the noise.
NOISE = 1e-2
REPEATS = 40  # of the bootstrap
REFIT = 60  # trials up to which each repetition of the bootstrap fits the length scales again
LOG_SCALES = (Distribution.LOG_UNIFORM, Distribution.LOG_NORMAL)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and the bounds between which 80 % of its bootstrap repetitions lie."""

    value: float
    low: float
    high: float


class Surface:
    """A Gaussian process over the search space, fitted to trials.

    Attributes:
        log: Whether the objective is taken in its logarithm.
        units: The trials in the unit cube, [N, P].
    """

    def __init__(self, parameters: Sequence[Parameter], units: Array, values: Array) -> None:
        self.parameters, self.units = tuple(parameters), units
        self.log = bool(np.all(values > 0))
        y = np.log(values) if self.log else values
        self._centre, self._spread = float(y.mean()), float(y.std() or 1.0)
        self.model = Process(
            _coordinates(parameters, units),
            np.asarray((y - self._centre) / self._spread),
            [len(p.choices) if isinstance(p, Categorical) else 0 for p in parameters],
            noise=NOISE,
        )

    def mean(self, units: Array) -> Array:
        """[S, P] in the unit cube -> [S], the standardised objective (in its logarithm where `log`)."""
        return self.model.mean(_coordinates(self.parameters, units))

    def objective(self, standardised: Array) -> Array:
        """Return standardised values in the objective's own unit."""
        y = standardised * self._spread + self._centre
        return np.exp(y) if self.log else y


def fit(
    parameters: Sequence[Parameter], points: Sequence[Mapping[str, Value]], values: Sequence[float]
) -> Surface | None:
    """Return the surface of an objective; None where nothing can be said.

    That is with fewer than four points, when all values are equal, or when the model finds no
    trend. `values` are finite; positive ones are taken in their logarithm, since a Fréchet distance
    or a loss spans decades.
    """
    if len(values) < MIN_TRIALS or not parameters or np.ptp(values) == 0:
        return None
    held = np.asarray(values, dtype=np.float64)
    chosen = _thin(held)
    units = np.array([[to_unit(p, points[i][p.name]) for p in parameters] for i in chosen])
    surface = Surface(parameters, units, held[chosen])
    return surface if _effects(surface.parameters, surface.model, SAMPLES) else None


def total_effects(
    parameters: Sequence[Parameter], points: Sequence[Mapping[str, Value]], values: Sequence[float]
) -> dict[str, float]:
    """Return the total-effect index of each parameter, largest first; empty where `fit` finds no surface."""
    with one_thread():
        surface = fit(parameters, points, values)
        return _effects(surface.parameters, surface.model, SAMPLES) if surface else {}


def shares(surface: Surface, repeats: int = REPEATS) -> dict[str, Interval]:
    """Return the total effects, scaled to sum to 1, with bootstrap intervals; largest first.

    Each repetition draws as many trials with replacement and fits the process to them (Efron 1979).
    Beyond REFIT trials only the weights are fitted again, since the length scales hardly move and a
    fit costs N^3.
    """
    effects = _scaled(_effects(surface.parameters, surface.model, SAMPLES))
    random = np.random.default_rng(0)
    model, size = surface.model, len(surface.model.y)
    drawn: dict[str, list[float]] = {name: [] for name in effects}
    for _ in range(repeats):
        rows = random.integers(0, size, size)
        again = Process(
            model.x[rows],
            model.y[rows],
            model.choices,
            model.theta,
            iterations=15 if size <= REFIT else 0,
            noise=NOISE,
        )
        for name, share in _scaled(_effects(surface.parameters, again, SAMPLES // 4)).items():
            drawn[name].append(share)
    bounds = {
        name: np.quantile(each, [0.1, 0.9]) if each else [0.0, 1.0] for name, each in drawn.items()
    }
    return {
        name: Interval(
            value, min(value, float(bounds[name][0])), max(value, float(bounds[name][1]))
        )
        for name, value in effects.items()
    }


def _effects(parameters: Sequence[Parameter], model: Process, count: int) -> dict[str, float]:
    """The total-effect indices from `count` samples; empty where the model takes every difference for noise."""
    samples = _samples(len(parameters), count)  # [S, 2P]
    a, b = samples[:, : len(parameters)], samples[:, len(parameters) :]
    at_a = model.mean(_coordinates(parameters, a))
    variance = float(np.var(at_a))
    if variance < 1e-6:  # y has variance 1
        return {}
    effects: dict[str, float] = {}
    for index, parameter in enumerate(parameters):
        mixed = a.copy()
        mixed[:, index] = b[:, index]
        change = at_a - model.mean(_coordinates(parameters, mixed))
        effects[parameter.name] = float(np.mean(change**2) / (2 * variance))
    return dict(sorted(effects.items(), key=lambda item: -item[1]))


def _scaled(effects: Mapping[str, float]) -> dict[str, float]:
    total = sum(effects.values()) or 1.0
    return {name: effect / total for name, effect in effects.items()}


def samples(parameters: int, count: int) -> Array:
    """Return points that fill the unit cube evenly, [count, parameters]; a copy that may be changed."""
    return _samples(parameters, count)[:, :parameters].copy()


@cache
def _samples(parameters: int, count: int) -> Array:
    from scipy.stats import qmc

    return np.asarray(qmc.Sobol(2 * parameters, rng=0).random(count))


def _thin(values: Array) -> NDArray[np.intp]:
    order = np.argsort(values, kind="stable")
    even = np.linspace(0, len(order) - 1, min(MAX_TRIALS, len(order))).round().astype(int)
    return np.asarray(order[even], dtype=np.intp)


def to_unit(parameter: Parameter, value: Value) -> float:
    """Return where `value` is in the parameter's range, in [0, 1]; for choices the middle of the choice's share."""
    if isinstance(parameter, Double | Int):
        low, high, at = float(parameter.low), float(parameter.high), float(value)
        if parameter.distribution in LOG_SCALES and low > 0 and at > 0:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return min(1.0, max(0.0, (at - low) / (high - low))) if high > low else 0.5
    return (parameter.choices.index(str(value)) + 0.5) / len(parameter.choices)


def grid(parameter: Parameter, steps: int) -> tuple[list[Value], list[float]]:
    """Return values over a parameter's range, all choices or at most `steps` numbers, and where these are in [0, 1]."""
    if isinstance(parameter, Categorical | Discrete):
        return list(parameter.choices), [to_unit(parameter, choice) for choice in parameter.choices]
    log = parameter.distribution in LOG_SCALES and parameter.low > 0
    low, high = float(parameter.low), float(parameter.high)
    space = np.geomspace(low, high, steps) if log else np.linspace(low, high, steps)
    values: list[Value] = [float(f"{value:.6g}") for value in space]
    if isinstance(parameter, Int):
        values = list(dict.fromkeys(round(float(value)) for value in values))
    return values, [to_unit(parameter, value) for value in values]


def _coordinates(parameters: Sequence[Parameter], units: Array) -> Array:
    """[S, P] in the unit cube -> [S, P]: numbers as they are, discrete ones to scale, choices as their index."""
    found = units.copy()
    for index, parameter in enumerate(parameters):
        if isinstance(parameter, Double | Int):
            continue
        count = len(parameter.choices)
        choice = np.minimum((units[:, index] * count).astype(int), count - 1)
        if isinstance(parameter, Discrete):
            numbers = np.array([float(each) for each in parameter.choices])
            found[:, index] = ((numbers - numbers.min()) / (np.ptp(numbers) or 1.0))[choice]
        else:
            found[:, index] = choice
    return found
