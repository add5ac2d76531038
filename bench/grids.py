"""The grid that a user would write for a number of trials: about as many values for each parameter."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

from tuner.samplers.transform import dimension
from tuner.space import Parameter, Value


def grid(parameters: Sequence[Parameter], trials: int, seed: int) -> list[dict[str, Value]]:
    """Return the points of the largest even grid of at most `trials` points, in the order of a seed.

    Each parameter gets its ends and equal steps between them, on its own scale. In turn, a parameter
    gets one more value as long as the grid is not too large: continuous ones first.
    """
    dimensions = [dimension(parameter) for parameter in parameters]
    sizes = [math.inf if each.values is None else len(each.values) for each in dimensions]
    order = sorted(range(len(sizes)), key=lambda place: -sizes[place])
    counts = [1] * len(sizes)
    grown = True
    while grown:
        grown = False
        for place in order:
            larger = math.prod(counts) // counts[place] * (counts[place] + 1)
            if counts[place] < sizes[place] and larger <= trials:
                counts[place] += 1
                grown = True
    values = [
        [each.at(step / (count - 1) if count > 1 else 0.5) for step in range(count)]
        for each, count in zip(dimensions, counts, strict=True)
    ]
    names = [each.name for each in dimensions]
    points = [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]
    random.Random(seed).shuffle(points)
    return points
