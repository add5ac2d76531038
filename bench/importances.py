"""How often each importance measure ranks the learning rate first, as it should, on simulated random searches.

    python -m bench.importances [--studies 80]

There are two surfaces. bench/surface.json holds real trainings of the default preset, with the
noise of their seeds. The other one is made up to have the variance shares that runs of the
article's GAN had: lr about 70 %, batch size 10 %, their interaction the rest, and seed noise of 17
%. All measures get the logarithm of the objective and the same points.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections import Counter
from collections.abc import Callable

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.importance import (
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)

from bench.provenance import line
from bench.search_quality import Surface
from tuner.analysis.importance import total_effects
from tuner.space import Distribution, Double, Int

PARAMETERS = (Double("lr", 1e-5, 1e-2, distribution=Distribution.LOG_UNIFORM), Int("bs", 32, 128))
DISTRIBUTIONS = {"lr": FloatDistribution(1e-5, 1e-2, log=True), "bs": IntDistribution(32, 128)}
NOISE = 0.17
LogFd = Callable[[float, float], float]


def made_up(lr: float, bs: float) -> float:
    """The logarithm of fd on the surface that is made up, without noise."""
    a, b = (math.log10(lr) + 3.5) / 1.5, (bs - 80) / 48
    return 5 + 0.715 * a * a - 0.25 * a + 0.17 * b + 0.45 * a * b


def shares(log_fd: LogFd) -> tuple[float, float, float]:
    """The shares of the variance: lr, bs, interaction."""
    grid = np.array(
        [[log_fd(lr, bs) for bs in np.linspace(32, 128, 60)] for lr in np.logspace(-5, -2, 90)]
    )
    own = grid.mean(1).var() / grid.var(), grid.mean(0).var() / grid.var()
    return own[0], own[1], 1 - sum(own)


def first_of(log_fd: LogFd, noise: float, trials: int, seed: int) -> dict[str, str]:
    """Which parameter each measure puts first, on one random search."""
    random = np.random.default_rng(seed)
    points = [
        {"lr": float(10 ** random.uniform(-5, -2)), "bs": int(random.integers(32, 129))}
        for _ in range(trials)
    ]
    values = [math.exp(log_fd(p["lr"], p["bs"]) + noise * random.standard_normal()) for p in points]
    study = optuna.create_study()
    for point, value in zip(points, values, strict=True):
        trial = optuna.trial.create_trial(
            params=point, distributions=DISTRIBUTIONS, value=math.log(value)
        )
        study.add_trial(trial)
    evaluators = {
        "PED-ANOVA": PedAnovaImportanceEvaluator(),
        "fANOVA": FanovaImportanceEvaluator(seed=0, n_trees=32),
    }
    theirs = {
        name: next(iter(get_param_importances(study, evaluator=it)), "")
        for name, it in evaluators.items()
    }
    return {
        "Sobol on a GP (gantune report)": next(iter(total_effects(PARAMETERS, points, values)), "")
    } | theirs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=80)
    studies = parser.parse_args().studies
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    print(line("optuna", "scikit-learn", "numpy", "scipy"))
    table = Surface.read()
    surfaces: dict[str, tuple[LogFd, float]] = {
        "surface.json": (lambda lr, bs: math.log(table.fd(lr, bs)), table.spread),
        "made up": (made_up, NOISE),
    }
    for surface, (log_fd, noise) in surfaces.items():
        parts = "lr {:.0%}, bs {:.0%}, interaction {:.0%}".format(*shares(log_fd))
        print(f"{surface}: variance shares {parts}, noise {noise:.0%}", flush=True)
        for trials in (10, 20):
            right: Counter[str] = Counter()
            for seed in range(studies):
                firsts = first_of(log_fd, noise, trials, seed)
                right.update({name: int(first == "lr") for name, first in firsts.items()})
            counts = ", ".join(f"{name} {count}/{studies}" for name, count in right.most_common())
            print(f"{trials} trials, lr first in: {counts}", flush=True)


if __name__ == "__main__":
    main()
