"""Samplers whose points do not depend on results: random, Sobol, and the points of hyperband."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from tuner.errors import UnsupportedError
from tuner.samplers.base import Past, Proposal, Sampler, Search, derive_seed, unseen_point
from tuner.samplers.transform import size
from tuner.space import Value

# (seed, trial, attempt, count) -> quantiles
Draw: TypeAlias = Callable[[int, int, int, int], Sequence[float]]
# draws that may repeat a point of a finite space, before an unseen one is picked
DRAW_ATTEMPTS = 20


def uniform(search: Search) -> Sampler:
    """Return a random search."""
    return Direct(search, draw_uniform)


def sobol(search: Search) -> Sampler:
    """Return a search along a scrambled Sobol sequence."""
    return Direct(search, draw_sobol)


def hyperband(search: Search) -> Sampler:
    """Return a random search whose trials all get the full resource; early stopping cuts them."""
    return Direct(search, draw_uniform, _full_resource(search))


class Direct:
    """Draws each point by itself. `fixed` values are the same in every trial."""

    def __init__(
        self, search: Search, draw: Draw, fixed: Mapping[str, Value] | None = None
    ) -> None:
        self.dimensions, self._seed, self._draw, self._fixed = (
            search.dimensions,
            search.seed,
            draw,
            dict(fixed or {}),
        )
        # a sequence starts after them, so that it keeps its balance
        self._first = len(search.first)
        self._free = tuple(each for each in search.dimensions if each.name not in self._fixed)

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """Return a point that is new in a finite space: one of a few draws, or else any unseen one."""
        finite, number = size(self._free), len(history) - self._first
        held = () if finite is None else history  # in an infinite space, no point comes twice
        seen = {
            tuple(past.values[each.name] for each in self._free) for past in held if past.values
        }
        for attempt in range(1 if finite is None else DRAW_ATTEMPTS):
            quantiles = self._draw(self._seed, number, attempt, len(self._free))
            values = {each.name: each.at(u) for each, u in zip(self._free, quantiles, strict=True)}
            if finite is None or tuple(values.values()) not in seen:
                return self._with_fixed(values)
        unseen = unseen_point(self._free, seen, derive_seed(self._seed, len(history), "unseen"))
        return self._with_fixed(unseen) if unseen else None

    def _with_fixed(self, values: Mapping[str, Value]) -> Proposal:
        everything = {**self._fixed, **values}
        point = {}
        for each in self.dimensions:
            # a fixed value may lie outside the space, as Katib's resource may
            with contextlib.suppress(ValueError):
                point[each.name] = each.encode(everything[each.name])
        return Proposal(point, {each.name: everything[each.name] for each in self.dimensions})


def draw_uniform(seed: int, number: int, attempt: int, count: int) -> Sequence[float]:
    """Return `count` independent quantiles in [0, 1)."""
    generator = random.Random(derive_seed(seed, number, attempt))
    return [generator.random() for _ in range(count)]


def draw_sobol(seed: int, number: int, attempt: int, count: int) -> Sequence[float]:
    """Return point `number` of a scrambled Sobol sequence. Later attempts are random draws."""
    if attempt:
        return draw_uniform(seed, number, attempt, count)
    from scipy.stats import qmc  # takes half a second, and only this algorithm needs it

    engine = qmc.Sobol(count, scramble=True, seed=derive_seed(seed, "sobol"))
    with warnings.catch_warnings():
        # SciPy warns that a number of points that is no power of 2 is unbalanced
        warnings.simplefilter("ignore")
        quantiles: list[float] = engine.random(number + 1)[-1].tolist()
    return quantiles


def _full_resource(search: Search) -> dict[str, Value]:
    """Return the resource parameter of hyperband with its full amount, r_l."""
    name, amount = search.settings.get("resource_name"), search.settings.get("r_l")
    if not name or not amount:
        raise UnsupportedError("hyperband needs the settings resource_name and r_l")
    resource = next((each for each in search.dimensions if each.name == name), None)
    if resource is None:
        raise UnsupportedError(f"hyperband's resource_name {name!r} must be one of the parameters")
    whole = int(float(amount))
    if resource.values is None:
        return {name: float(amount)}
    return {name: whole if isinstance(resource.values[0], int) else amount}
