"""What every sampler receives and returns, and what several of them share."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tuner.samplers.transform import Dimension, point, random_point, size
from tuner.space import Value


@dataclass(frozen=True, slots=True)
class Search:
    """What a sampler is made from.

    Attributes:
        known: Points and values of an earlier study.
        first: The values of the first trials, which no sampler chooses (tuner.samplers.first).
        parallel: parallelTrialCount. When trial k is proposed, only trials up to k - parallel may
            have been observed.
    """

    dimensions: tuple[Dimension, ...]
    seed: int
    settings: Mapping[str, str]
    maximize: bool = False
    known: tuple[tuple[Mapping[str, Any], float], ...] = ()
    first: tuple[Mapping[str, Value], ...] = ()
    parallel: int = 1


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier trial: its point, and its objective once it was observed.

    An observed trial without a value failed.

    The point is empty if nothing is known about the trial but its number (tuner.suggestion).
    """

    point: Mapping[str, Any]
    values: Mapping[str, Value]
    observed: bool = False
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """The next point, in the sampler's coordinates and as the trial receives it.

    The coordinates are those that the values encode to, so that the point can be rebuilt from the
    values alone.
    """

    point: dict[str, Any]
    values: dict[str, Value]


class Sampler(Protocol):
    """One algorithm on one search space."""

    dimensions: tuple[Dimension, ...]

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """Return the point of trial `len(history)`, or None if every point was proposed."""
        ...


def derive_seed(seed: int, *parts: object) -> int:
    """Return a 32-bit seed for one purpose, derived from the study's seed."""
    digest = hashlib.sha256("/".join(map(str, (seed, *parts))).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def proposal_of(dimensions: Sequence[Dimension], values: Mapping[str, Value]) -> Proposal:
    """Return the proposal of these values."""
    return Proposal(
        {each.name: each.encode(values[each.name]) for each in dimensions}, dict(values)
    )


def unseen_point(
    dimensions: Sequence[Dimension], seen: set[tuple[Value, ...]], seed: int
) -> dict[str, Value] | None:
    """Return a random point that is not in `seen`, or None if a finite space has none left."""
    count, rng = size(dimensions), random.Random(seed)
    if count is None:
        return random_point(dimensions, rng)
    start = rng.randrange(max(count, 1))
    for offset in range(count):
        values = point(dimensions, (start + offset) % count)
        if tuple(values.values()) not in seen:
            return values
    return None
