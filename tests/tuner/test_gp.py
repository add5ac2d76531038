"""The Gaussian process: gradients, known values, and the optimum of the acquisition function."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tuner import gp

CHOICES = (0, 3, 0)  # a number, three choices, a number
NONE = np.empty((0, 3))


def process(trials: int = 15, seed: int = 0) -> gp.Process:
    random = np.random.default_rng(seed)
    x = points(trials, random)
    y = np.sin(5 * x[:, 0]) + (x[:, 1] == 2) * x[:, 2] + 0.1 * random.standard_normal(trials)
    return gp.Process(x, (y - y.mean()) / y.std(), CHOICES)


def points(count: int, random: np.random.Generator) -> gp.Array:
    found = random.random((count, 3))
    found[:, 1] = random.integers(0, 3, count)
    return found


def test_gradient_of_fit_is_right() -> None:
    model = process()
    theta, distances = np.array([-0.3, 0.2, 0.1, 0.3, -2.0]), model.distances()
    numeric = [
        (
            model.minus_log_posterior(theta + step, distances)[0]
            - model.minus_log_posterior(theta - step, distances)[0]
        )
        / 2e-5
        for step in 1e-5 * np.eye(5)
    ]
    assert np.allclose(model.minus_log_posterior(theta, distances)[1], numeric, rtol=1e-5)


def test_fit_reaches_a_stationary_point() -> None:
    model = process()
    inside = np.log(gp.LENGTH_SCALES[0]) < model.theta
    gradient = model.minus_log_posterior(model.theta, model.distances())[1]
    assert np.abs(gradient[inside]).max() < 0.05


def test_mean_interpolates_without_noise() -> None:
    model = process()
    theta = model.theta.copy()
    theta[-1] = math.log(1e-9)
    exact = gp.Process(model.x, model.y, CHOICES, theta, iterations=0)
    assert np.allclose(exact.mean(exact.x), exact.y, atol=1e-4)


def test_choices_are_equally_far_apart() -> None:
    model = process()
    renamed = model.x.copy()
    renamed[:, 1] = (renamed[:, 1] + 1) % 3
    at = points(9, np.random.default_rng(1))
    other = at.copy()
    other[:, 1] = (other[:, 1] + 1) % 3
    same = gp.Process(renamed, model.y, CHOICES)
    assert np.allclose(same.mean(other), model.mean(at), atol=1e-6)


@pytest.mark.parametrize("running", [0, 3])
def test_gradient_of_improvement_is_right(running: int) -> None:
    random = np.random.default_rng(2)
    improvement = gp.Improvement(process(), points(running, random), seed=4)
    at = points(6, random)
    values, gradient = improvement.with_gradient(at)
    assert np.allclose(values, improvement(at))
    for index in (0, 2):
        step = 1e-6 * np.eye(3)[index]
        numeric = (improvement(at + step) - improvement(at - step)) / 2e-6
        assert np.allclose(gradient[:, index], numeric, rtol=1e-4, atol=1e-5)
    assert not gradient[:, 1].any()


@pytest.mark.parametrize(
    ("z", "expected"),
    # log(pdf(z) + z cdf(z)) with 60 digits (mpmath)
    [
        (3.0, 1.09873966532770777), (0.0, -0.91893853320467274), (-1.0, -2.48512102571264134),
        (-5.0, -16.74430116266099), (-30.0, -457.724653760598), (-1000.0, -500014.734452091),
    ],
)  # fmt: skip
def test_log_improvement_is_exact(z: float, expected: float) -> None:
    assert gp.log_improvement(np.array([z]))[0] == pytest.approx(expected, rel=1e-9)


def test_log_improvement_is_monotone_where_it_underflows() -> None:
    values = gp.log_improvement(-np.logspace(-3, 12, 400))
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()


def test_finds_the_best_point_of_a_finite_space() -> None:
    space = gp.Space((3, 0, 0), (0, 5, 40))
    grid = np.array(
        [
            (a, (b + 0.5) / 5, (c + 0.5) / 40)
            for a, b, c in itertools.product(range(3), range(5), range(40))
        ],
        dtype=float,
    )
    random = np.random.default_rng(5)
    for seed in range(5):
        x = grid[random.choice(len(grid), 20, replace=False)]
        y = (x[:, 1] - 0.5) ** 2 + np.abs(x[:, 2] - 0.3) + 0.3 * x[:, 0]
        model = gp.Process(x, (y - y.mean()) / y.std(), space.choices)
        improvement = gp.Improvement(model, NONE, 0)
        found = gp.maximise(improvement, space, x[np.argmin(y)], seed)[0]
        assert improvement(found[None])[0] == pytest.approx(improvement(grid).max(), abs=1e-9)


def test_trials_and_running_trials_come_last() -> None:
    model, random = process(), np.random.default_rng(6)
    running = points(2, random)
    improvement = gp.Improvement(model, running, 0)
    assert np.isneginf(improvement(np.vstack([model.x, running]))).all()
    ranked = improvement(gp.maximise(improvement, gp.Space(CHOICES, (0, 0, 0)), model.x[0], 0))
    assert np.isfinite(ranked[0])
    assert np.array_equal(ranked, np.sort(ranked)[::-1])


def test_running_trials_lower_the_improvement_nearby() -> None:
    model = process()
    space = gp.Space(CHOICES, (0, 0, 0))
    alone = gp.Improvement(model, NONE, 0)
    best = gp.maximise(alone, space, model.x[0], 0)[:1]
    near = np.abs(best - [1e-3, 0, 1e-3])
    assert gp.Improvement(model, best, 0)(near)[0] < alone(near)[0] - 1


def test_same_seed_gives_same_points() -> None:
    space = gp.Space(CHOICES, (0, 0, 0))
    first, again, other = (
        gp.maximise(gp.Improvement(process(), NONE, 0), space, process().x[0], seed)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_part_has_one_point() -> None:
    found = gp.spread_evenly(7, 3, np.random.default_rng(0))
    assert np.array_equal(np.sort((found * 7).astype(int), axis=0), np.indices((7, 3))[0])


def test_neighbours_differ_in_one_step() -> None:
    space = gp.Space((3, 0, 0, 0), (0, 4, 100, 0))
    at = np.array([1.0, 0.375, 0.015, 0.7])
    near = space.neighbours(at)
    assert ((near != at).sum(axis=1) == 1).all()
    # two other choices, three other values of four, and 1, 2, 4 and 8 steps up and 1 down
    assert len(near) == 2 + 3 + 5
    assert np.allclose(space.rounded(near), near)
