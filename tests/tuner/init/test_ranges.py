"""`gantune init` chooses ranges by names and values."""

from __future__ import annotations

import pytest

from tuner.init.ranges import parameter, tunable, typical
from tuner.init.usage import Flag
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter

LOG = Distribution.LOG_UNIFORM


@pytest.mark.parametrize(
    ("flag", "space"),
    [
        (Flag(("--lr",), "1e-3"), Double("lr", 1e-4, 1e-2, distribution=LOG)),
        (Flag(("--learning-rate",), "3e-5"), Double("learning_rate", 3e-6, 3e-4, distribution=LOG)),
        (Flag(("--lr",), "1"), Double("lr", 0.1, 10, distribution=LOG)),
        (
            Flag(("--weight-decay",), "0"),
            Discrete("weight_decay", ("0", "1e-05", "0.0001", "0.001", "0.01")),
        ),
        (Flag(("--bs",), "64"), Discrete("bs", ("16", "32", "64", "128", "256"))),
        (
            Flag(("--batch-size",), "100"),
            Discrete("batch_size", ("32", "64", "100", "128", "256", "512")),
        ),
        (Flag(("--bs",), "2"), Int("bs", 1, 4)),
        (Flag(("--layers",), "3"), Int("layers", 1, 6)),
        (Flag(("--dropout",), "0.1"), Double("dropout", 0.0, 0.5)),
        (Flag(("--dropout",), "0.7"), Double("dropout", 0.0, 0.9)),
        (
            Flag(("--momentum",), "0.99"),
            Discrete("momentum", ("0.5", "0.8", "0.9", "0.95", "0.99", "0.999")),
        ),
        (
            Flag(("--momentum",), "0.9"),
            Discrete("momentum", ("0.5", "0.8", "0.9", "0.95", "0.99", "0.999")),
        ),
        (Flag(("--alpha",), "0.5"), Double("alpha", 0.05, 1.0, distribution=LOG)),
        (Flag(("--shift",), "-2.5"), Double("shift", -5.0, 0.0)),
        (Flag(("--shift",), "-4"), Int("shift", -8, 0)),
        (Flag(("--depth",), "0"), Int("depth", 0, 2)),
        (Flag(("--opt",), "sgd", ("adam", "sgd")), Categorical("opt", ("adam", "sgd"))),
        (Flag(("--k",), "3", ("1", "3")), Discrete("k", ("1", "3"))),
    ],
    ids=lambda value: f"{value.names[0]}={value.value}" if isinstance(value, Flag) else "",
)
def test_range_holds_the_value(flag: Flag, space: Parameter) -> None:
    assert tunable(flag)
    assert parameter(flag) == space


@pytest.mark.parametrize(
    "name", ["--epochs", "--seed", "--num-workers", "--log-interval", "--data-dir", "--max-steps"]
)
def test_budget_flags_stay_fixed(name: str) -> None:
    assert not tunable(Flag((name,), "10"))


def test_flags_without_values_stay_fixed() -> None:
    assert not tunable(Flag(("--name-of-it",), "x"))
    assert not tunable(Flag(("--act",), "relu"))
    assert typical(Flag(("--trainBatchSize",), "8"))
    assert not typical(Flag(("--alpha",), "8"))


def test_stated_bounds_are_used() -> None:
    assert parameter(Flag(("--p",), "0.3", bounds=(0, 1))) == Double("p", 0, 1)
    rate = Double("lr", 1e-5, 1, distribution=LOG)
    assert parameter(Flag(("--lr",), "0.1", bounds=(1e-5, 1))) == rate
    assert parameter(Flag(("--bs",), "64", bounds=(1, 128))) == Discrete(
        "bs", ("16", "32", "64", "128")
    )
    assert parameter(Flag(("--depth",), "", bounds=(1, 8), integer=True)) == Int("depth", 1, 8)
