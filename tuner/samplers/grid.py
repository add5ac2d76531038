"""Grid search: every point of a finite space once."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tuner.errors import UnsupportedError
from tuner.samplers.base import Past, Proposal, Sampler, Search, derive_seed, proposal_of
from tuner.samplers.transform import LARGEST_GRID, index, point, size


def grid(search: Search) -> Sampler:
    """Return a grid search."""
    return Grid(search)


class Grid:
    """Proposes every point of a finite space once, in an order that the seed shuffles, after the first trials.

    Raises UnsupportedError for a space without a finite grid, and for a grid that is too large.
    """

    def __init__(self, search: Search) -> None:
        self.dimensions = search.dimensions
        endless = [each.name for each in self.dimensions if each.values is None]
        if endless:
            raise UnsupportedError(
                f"a grid needs a finite number of points, but {', '.join(endless)} has no step, or one "
                f"that gives more than {LARGEST_GRID:,} points: set a larger step, or use random"
            )
        if (count := size(self.dimensions) or 0) > LARGEST_GRID:
            raise UnsupportedError(f"grid may have {LARGEST_GRID} points, has {count}: use random")
        self._order = list(range(count))
        random.Random(derive_seed(search.seed, "grid")).shuffle(self._order)
        self._first = len(search.first)
        for values in search.first:
            self._order.remove(index(self.dimensions, values))

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """Return the next point of the shuffled grid that no trial has."""
        seen = {tuple(past.values.values()) for past in history}
        place = len(history) - self._first
        # another suggestion service may have proposed the earlier trials
        for offset in range(len(self._order)):
            number = self._order[(place + offset) % len(self._order)]
            values = point(self.dimensions, number)
            if tuple(values.values()) not in seen:
                return proposal_of(self.dimensions, values)
        return None
