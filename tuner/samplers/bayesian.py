"""bayesianoptimization: the point with the largest expected improvement on a Gaussian process (tuner.gp).

numpy and scipy are imported when a model is fitted: other commands read the table of algorithms too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from tuner.errors import UnsupportedError
from tuner.samplers.base import (
    Past,
    Proposal,
    Sampler,
    Search,
    derive_seed,
    proposal_of,
    unseen_point,
)
from tuner.samplers.transform import Coordinate, Dimension, size
from tuner.space import Value

if TYPE_CHECKING:
    from tuner.gp import Array, Process

START_UP = 5  # trials before the first model
# finished trials in a model: half of them the newest, half the best of the others
MOST_TRIALS = 200
# a finished trial: its point, and its objective unless it failed
Told: TypeAlias = tuple[Mapping[str, Any], float | None]
ONLY = {"base_estimator": ("GP",), "acq_func": ("EI",), "acq_optimizer": ("auto", "lbfgs")}


def bayesian(search: Search) -> Sampler:
    """Return our Gaussian process. Raises UnsupportedError for other surrogates and acquisition functions."""
    settings = search.settings
    for setting, known in ONLY.items():
        if settings.get(setting, known[0]) not in known:
            raise UnsupportedError(
                f"setting {setting}={settings[setting]} of bayesianoptimization is not available "
                f"locally: leave it out or write {' or '.join(known)}"
            )
    return Bayesian(search, max(int(settings.get("n_initial_points", START_UP)), 1))


class Bayesian:
    """Proposes points that fill the space evenly, and then the best points by the model."""

    def __init__(self, search: Search, start_up: int) -> None:
        self.dimensions, self._search, self._start_up = search.dimensions, search, start_up
        # the model minimises
        self._sign = -1.0 if search.maximize else 1.0

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """Return the best point that was not tried. It is a function of the seed and the history."""
        seen = {tuple(past.values.values()) for past in history if past.values}
        if size(self.dimensions) == len(seen):
            return None
        seed = derive_seed(self._search.seed, len(history))
        told = [(past.point, past.value) for past in history if past.observed and past.point]
        told = [*self._search.known, *self._kept(told)]
        running = [past.point for past in history if past.point and not past.observed]
        if len(told) >= self._start_up and any(value is not None for _, value in told):
            for point in self._ranked(told, running, seed):
                if tuple(point.values()) not in seen:
                    return proposal_of(self.dimensions, point)
        values = self._initial(len(history))
        if values is None or tuple(values.values()) in seen:
            values = unseen_point(self.dimensions, seen, seed)
        return proposal_of(self.dimensions, values) if values else None

    def _initial(self, number: int) -> dict[str, Value] | None:
        """Return a point of the start, which fills the space evenly; None after it."""
        import numpy as np

        from tuner.gp import spread_evenly

        # trials that run when the last one of the start has finished have no model either
        count = self._start_up + self._search.parallel - 1
        if number >= count:
            return None
        rng = np.random.default_rng(derive_seed(self._search.seed, "start"))
        units = spread_evenly(count, len(self.dimensions), rng)[number].tolist()
        return {each.name: each.at(unit) for each, unit in zip(self.dimensions, units, strict=True)}

    def _kept(self, told: Sequence[Told]) -> Sequence[Told]:
        """Return the trials of the model: its time grows with the cube of their number."""
        if len(told) <= MOST_TRIALS:
            return told
        half = MOST_TRIALS // 2
        older = [
            (self._sign * value, at)
            for at, (_, value) in enumerate(told[:-half])
            if value is not None
        ]
        chosen = sorted(at for _, at in sorted(older)[: MOST_TRIALS - half])
        return [*(told[at] for at in chosen), *told[-half:]]

    def _ranked(
        self, told: Sequence[Told], running: Sequence[Mapping[str, Any]], seed: int
    ) -> Iterator[dict[str, Value]]:
        """Yield points, the one with the largest expected improvement first."""
        import numpy as np

        from tuner.gp import Improvement, Space, maximise, one_thread

        found = [self._sign * value for _, value in told if value is not None]
        values = [max(found) if value is None else self._sign * value for _, value in told]
        x = np.array([self._units(point) for point, _ in told])
        pending = np.array([self._units(point) for point in running]).reshape(-1, x.shape[1])
        counts = [(each.coordinate, len(each.values or ())) for each in self.dimensions]
        space = Space(
            tuple(count if kind is Coordinate.CHOICE else 0 for kind, count in counts),
            tuple(count if kind is Coordinate.INDEX else 0 for kind, count in counts),
        )
        with one_thread():
            process = fitted(x, np.array(values), space.choices)
            best = x[int(np.argmin(values))]
            points = maximise(Improvement(process, pending, seed), space, best, seed)
        for point in points.tolist():
            yield {
                each.name: each.value(_coordinate(each, unit))
                for each, unit in zip(self.dimensions, point, strict=True)
            }

    def _units(self, point: Mapping[str, Any]) -> list[float]:
        return [_unit(each, point[each.name]) for each in self.dimensions]


def fitted(x: Array, values: Array, choices: Sequence[int]) -> Process:
    """Return the process of the values, or of their logarithms, whichever has the larger likelihood.

    A Fréchet distance or a loss spans decades, where the logarithm is smoother. The likelihood of
    the values themselves under the model of their logarithms has the factor 1 / value (the Jacobian
    of a warped process: Snelson et al. 2004).

    Args:
        x: The trials [N, D], as in tuner.gp.
        values: Their objectives [N].
        choices: How many choices each dimension has [D]; 0 for a number.
    """
    import numpy as np

    from tuner.gp import Process

    values = values / (np.abs(values).max() or 1.0)  # squares of large values overflow
    plain = Process(x, _standard(values), choices)
    if values.min() <= 0 or not np.ptp(values):
        return plain
    logs = np.log(values)
    logarithmic = Process(x, _standard(logs), choices)
    scale = math.log(values.std() / logs.std()) * len(values)
    return logarithmic if plain.loss - logarithmic.loss + scale - logs.sum() > 0 else plain


def _standard(values: Array) -> Array:
    import numpy as np

    return np.asarray((values - values.mean()) / (values.std() or 1.0))


def _unit(dimension: Dimension, coordinate: Any) -> float:
    """Return the coordinate of tuner.gp for that of the samplers."""
    values, kind = dimension.values or (), dimension.coordinate
    if kind is Coordinate.CHOICE:
        return float(values.index(coordinate))
    if kind is Coordinate.INDEX:
        return float((coordinate + 0.5) / len(values))
    if kind is Coordinate.QUANTILE:
        return float(coordinate)
    low, high = _bounds(dimension)
    if low == high:
        return 0.5
    if kind is Coordinate.LOG_NUMBER:
        return math.log(coordinate / low) / math.log(high / low)
    return float((coordinate - low) / (high - low))


def _coordinate(dimension: Dimension, unit: float) -> Any:
    """Return the samplers' coordinate, the inverse of `_unit`."""
    values, kind = dimension.values or (), dimension.coordinate
    if kind is Coordinate.CHOICE:
        return values[round(unit)]
    if kind is Coordinate.INDEX:
        return min(int(unit * len(values)), len(values) - 1)
    if kind is Coordinate.QUANTILE:
        return unit
    low, high = _bounds(dimension)
    return (
        low * (high / low) ** unit if kind is Coordinate.LOG_NUMBER else low + (high - low) * unit
    )


def _bounds(dimension: Dimension) -> tuple[float, float]:
    return float(dimension.parameter.low), float(dimension.parameter.high)  # type: ignore[union-attr]
