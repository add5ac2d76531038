"""Distributions: the sets that Katib's have, without its bugs."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tuner.samplers.transform import dimension, point, size
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter

MANY = [(index + 0.5) / 20_000 for index in range(20_000)]
NUMERIC = [
    Double("x", 1e-5, 1e-2, None, Distribution.LOG_UNIFORM),
    Double("x", -1.0, 1.0),
    Double("x", 0.0, 1.0, None, Distribution.NORMAL),
    Double("x", 1e-3, 1.0, None, Distribution.LOG_NORMAL),
    Double("x", 0.1, 0.3, 0.1),
    Double("x", 1e-5, 1e-2, 1e-4, Distribution.LOG_UNIFORM),
    Double("x", 0.0, 1.0, 0.25, Distribution.NORMAL),
    Int("x", 1, 4),
    Int("x", 32, 128, 32),
    Int("x", 1, 1000, None, Distribution.LOG_UNIFORM),
    Int("x", 0, 10, None, Distribution.NORMAL),
    Int("x", 2, 64, 2, Distribution.LOG_NORMAL),
    Int("x", 5, 5),
    Int("x", 0, 10**12),
]


@pytest.mark.parametrize("parameter", NUMERIC, ids=str)
def test_every_quantile_lies_in_the_set(parameter: Double | Int) -> None:
    own = dimension(parameter)
    for u in [0.0, *MANY[::50], 1.0]:
        value = own.at(u)
        assert parameter.low <= float(value) <= parameter.high
        assert isinstance(value, int if isinstance(parameter, Int) else float)
        if own.values is not None:
            assert value in own.values


@pytest.mark.parametrize("parameter", NUMERIC, ids=str)
def test_coordinates_lead_back_to_their_value(parameter: Parameter) -> None:
    own = dimension(parameter)
    for u in MANY[::500]:
        value = own.at(u)
        assert own.value(own.encode(value)) == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_decimal_grid_has_no_float_ends() -> None:
    assert list(dimension(Double("x", 0.1, 0.3, 0.1)).values or ()) == [0.1, 0.2, 0.3]
    assert list(dimension(Double("x", 0.0, 1.0, 0.3)).values or ()) == [0.0, 0.3, 0.6, 0.9]


def test_fine_grid_is_not_written_out() -> None:
    started = time.monotonic()
    fine = dimension(Double("x", 0.0, 1.0, 2e-7))
    assert fine.values is not None
    assert (len(fine.values), fine.values[-1], fine.find("0.5000002")) == (
        5_000_001,
        1.0,
        0.5000002,
    )
    assert fine.value(fine.encode(0.5000002)) == 0.5000002
    for value in (0.5000001, -2e-7, 1.0000002, float("nan"), float("inf")):
        assert value not in fine.values
        with pytest.raises(ValueError, match=r"is not one of its values: 0.0, 2e-07, \.\.\. 1.0"):
            fine.encode(value)
    assert time.monotonic() - started < 1


def test_int_ends_are_as_likely_as_the_middle() -> None:
    """Katib's hyperopt draws 1 and 4 of 1..4 half as often."""
    counts = Counter(dimension(Int("x", 1, 4)).at(u) for u in MANY)
    assert set(counts.values()) == {5000}


def test_normal_matches_katib_and_is_truncated() -> None:
    values = [
        float(dimension(Double("x", -3.0, 3.0, None, Distribution.NORMAL)).at(u)) for u in MANY
    ]
    assert sum(values) / len(values) == pytest.approx(0, abs=1e-6)
    # cut at 3 sigma
    assert sum(value * value for value in values) / len(values) == pytest.approx(0.9733, abs=2e-3)
    assert max(values) <= 3.0


def test_log_uniform_with_a_step_never_yields_zero() -> None:
    """Katib's hyperopt: 23.7 % zeros here."""
    own = dimension(Double("x", 1e-5, 1e-2, 1e-4, Distribution.LOG_UNIFORM))
    assert min(float(own.at(u)) for u in MANY) == 1e-5


def test_discrete_values_keep_text_and_sort() -> None:
    own = dimension(Discrete("x", ("1e-1", "10", "2")))
    assert own.values == ("1e-1", "2", "10")
    assert own.value(2) == "10"


def test_repeated_choices_count_once() -> None:
    assert dimension(Categorical("x", ("a", "b", "a"))).values == ("a", "b")


def test_finite_space_is_numbered() -> None:
    dimensions = [dimension(Int("a", 1, 3)), dimension(Categorical("b", ("x", "y")))]
    assert size(dimensions) == 6
    assert len({tuple(point(dimensions, index).values()) for index in range(6)}) == 6
    assert size([*dimensions, dimension(Double("c", 0.0, 1.0))]) is None


def test_value_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="is not in"):
        dimension(Double("x", 0.0, 1.0)).encode(2.0)
    with pytest.raises(ValueError, match="not one of"):
        dimension(Int("x", 0, 10, 5)).encode(3)
    with pytest.raises(ValueError, match="x='' is not one of"):
        dimension(Categorical("x", ("a", "b"))).find("")
    with pytest.raises(ValueError, match=r"x=0.1 equals several values: write one of 1e-1, 0.10"):
        dimension(Categorical("x", ("1e-1", "0.10"))).find(0.1)


def test_large_whole_numbers_stay_exact() -> None:
    seed = dimension(Int("seed", 0, 2**63))
    for value in (2**53 + 1, str(2**53 + 1)):
        assert seed.find(value) == 2**53 + 1
    assert seed.find("64.0") == 64
