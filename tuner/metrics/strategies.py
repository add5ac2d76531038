"""Katib's metric strategies: one number per metric, from all its observations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tuner.manifest import Strategy
from tuner.result import Observation


@dataclass(slots=True)
class _Running:
    """What the strategies need to know about the observations of one metric so far."""

    smallest: float = math.inf
    largest: float = -math.inf
    latest: float = math.nan
    latest_time: float = -math.inf

    def add(self, observation: Observation) -> None:
        time = observation.time.timestamp() if observation.time else -math.inf
        if time >= self.latest_time:
            self.latest, self.latest_time = observation.value, time
        if math.isfinite(observation.value):
            self.smallest = min(self.smallest, observation.value)
            self.largest = max(self.largest, observation.value)

    def value(self, strategy: Strategy) -> float:
        if strategy is Strategy.LATEST:
            return self.latest
        return self.largest if strategy is Strategy.MAX else self.smallest


@dataclass(slots=True)
class Aggregates:
    """Running aggregates of a series of observations: each observation costs the same, however many came before."""

    _metrics: dict[str, _Running] = field(default_factory=dict)

    def add(self, observation: Observation) -> None:
        """Count one more observation."""
        self._metrics.setdefault(observation.metric, _Running()).add(observation)

    def values(self, strategies: Mapping[str, Strategy]) -> dict[str, float]:
        """One finite number per metric; a metric without one is left out.

        `latest` is the value with the latest time. Values without a time come first, and among equal times the last
        one counts (Katib's mysql.go orders by time only). `min` and `max` ignore values that are not finite.
        """
        found = {
            metric: running.value(strategies.get(metric, Strategy.LATEST)) for metric, running in self._metrics.items()
        }
        return {metric: value for metric, value in found.items() if math.isfinite(value)}


def aggregate(observations: Iterable[Observation], strategies: Mapping[str, Strategy]) -> dict[str, float]:
    """One finite number per metric, as `Aggregates.values` describes."""
    aggregates = Aggregates()
    for observation in observations:
        aggregates.add(observation)
    return aggregates.values(strategies)
