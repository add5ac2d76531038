"""A first search space around the values that a program has: which flags to vary, and between which values.

These are rules of thumb by name and value, and a draft for a person to edit: a learning rate spans
two decades on a logarithmic scale (Bengio 2012, arXiv 1206.5533, section 3.1), a batch size
doubles, a share stays between 0 and 1.
"""

from __future__ import annotations

import math
import re

from tuner.init.usage import Flag, is_number
from tuner.metrics.names import word_set, words
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter

# Words of a flag's name, between dashes and underscores. What sets the budget, the data or the
# machine is not varied.
_FIXED = word_set(
    "epoch epochs step steps iters iterations iter seed seeds worker workers device devices gpu gpus cpu threads port "
    "log logging print save eval evals every interval freq frequency verbose debug dir path file output out input data "
    "dataset dataroot root name tag project resume checkpoint samples images classes time timeout budget seconds "
    "minutes patience world rank nodes precision dtype fold folds split subset limit url host version"
)
_RATES = word_set(
    "lr rate decay reg wd l1 l2 lambda lam gamma eps epsilon penalty temperature temp"
)
_SHARES = word_set(
    "dropout drop momentum prob probability p ratio fraction smoothing mixup cutmix share"
)
_SIZES = word_set(
    "bs batch hidden width dim dims size units channels embed embedding features heads filters"
)
_ALSO_RATE = re.compile(r"(learning_?rate|weight_?decay|lr|lambda)$")
_BETA = re.compile(r"(adam_?)?beta_?[12]?$")
MOST_CHOICES = 20


def tunable(flag: Flag) -> bool:
    """Return whether a search would vary the flag: it has a number or choices, and its name does not say budget."""
    if words(flag.name) & _FIXED and not words(flag.name) & (_RATES | {"batch"}):
        return False
    return (
        flag.number is not None
        or flag.bounds is not None
        or (1 < len(flag.choices) <= MOST_CHOICES and flag.value in flag.choices)
    )


def typical(flag: Flag) -> bool:
    """Return whether most searches vary the flag: a rate, share or size, or with stated bounds."""
    return tunable(flag) and bool(
        flag.bounds is not None
        or words(flag.name) & (_RATES | _SHARES | _SIZES)
        or _ALSO_RATE.search(flag.name)
        or _BETA.match(flag.name)
    )


def parameter(flag: Flag) -> Parameter:
    """Return a parameter whose range holds the flag's value. The flag is tunable."""
    name = flag.name
    if flag.choices and flag.value in flag.choices:
        numeric = all(is_number(choice) for choice in flag.choices)
        return Discrete(name, flag.choices) if numeric else Categorical(name, flag.choices)
    if flag.bounds is None:
        assert flag.number is not None  # noqa: S101 - see `tunable`
        return _by_name(flag, flag.number)
    low, high = flag.bounds
    if flag.number is None and flag.integer:
        return Int(name, math.ceil(low), math.floor(high))
    value = (low + high) / 2 if flag.number is None else flag.number
    return _bounded(flag, _by_name(flag, value), low, high)


def _bounded(flag: Flag, made: Parameter, low: float, high: float) -> Parameter:
    """Return a range with the bounds that the help states."""
    if isinstance(made, Discrete):
        kept = tuple(choice for choice in made.choices if low <= float(choice) <= high)
        if len(kept) > 1:
            return Discrete(made.name, kept)
    if isinstance(made, Int) or (isinstance(made, Discrete) and flag.integer):
        return Int(made.name, math.ceil(low), math.floor(high))
    log = isinstance(made, Double) and made.distribution is Distribution.LOG_UNIFORM and low > 0
    kind = Distribution.LOG_UNIFORM if log else Distribution.UNIFORM
    return Double(made.name, low, high, distribution=kind)


def _by_name(flag: Flag, value: float) -> Parameter:
    """Return a range by the name and the value of a flag."""
    name, its = flag.name, words(flag.name)
    rate = bool(its & _RATES or _ALSO_RATE.search(name)) and not its & {"dropout", "drop"}
    whole = flag.integer or (
        value == int(value) and not re.search(r"[.eE]", flag.value) and not rate
    )
    if _BETA.match(name) or (its & _SHARES and 0 <= value <= 1):
        return _share(name, value)
    if whole and not rate:
        return _whole(name, int(value), size=bool(its & _SIZES))
    if rate and value == 0:
        return Discrete(name, ("0", "1e-05", "0.0001", "0.001", "0.01"))
    if value > 0:
        low, high = rounded(value / 10), rounded(value * 10)
        capped = 1.0 if value < 1 < high and not rate else high
        return Double(name, low, capped, distribution=Distribution.LOG_UNIFORM)
    if value == 0:
        return Double(name, 0.0, 1.0)
    return Double(name, rounded(2 * value), 0.0)


def _share(name: str, value: float) -> Parameter:
    """A number between 0 and 1; close to 1, what matters is the distance to 1."""
    if value >= 0.9:
        return Discrete(
            name, tuple(repr(each) for each in sorted({0.5, 0.8, 0.9, 0.95, 0.99, 0.999, value}))
        )
    return Double(name, 0.0, 0.5 if value <= 0.5 else 0.9)


def _whole(name: str, value: int, *, size: bool) -> Parameter:
    """Powers of two around a size, in full around a small number."""
    if value >= 4 and (size or value.bit_count() == 1):
        near = 2 ** round(math.log2(value))
        return Discrete(
            name,
            tuple(map(str, sorted({near // 4, near // 2, near, near * 2, near * 4, value} - {0}))),
        )
    if value > 0:
        return Int(name, max(1, value // 2), max(value * 2, value + 1))
    return Int(name, 2 * value, 1 if value == 0 else 0) if value else Int(name, 0, 2)


def rounded(number: float) -> float:
    """Return a number with two significant digits, for people."""
    return float(f"{number:.2g}")
