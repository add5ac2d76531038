"""The algorithms that this project runs itself, by Katib's names.

    search = sampler("tpe", {}, experiment.parameters, seed=7)
    proposal = search.propose(history)

`ALGORITHMS` is the one table: the local engine, `gantune check`, the JSON Schema and
docs/reference/algorithms.md follow it. To add an algorithm, write one module with a factory and add one row.

A proposal is a function of the seed, the trial's number and the history. No sampler keeps a state
that cannot be rebuilt from these, so an interrupted search continues with the same proposals. No
point is proposed twice, except by cmaes, and by pbt, whose trials continue earlier ones. To a
model-based sampler, a failed trial counts as the worst value that was observed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.errors import UnsupportedError
from tuner.samplers import bayesian, direct, grid, model, pbt
from tuner.samplers.base import Past, Proposal, Sampler, Search
from tuner.samplers.earlier import EARLIER_SETTING
from tuner.samplers.earlier import parse as parse_earlier
from tuner.samplers.first import FIRST_SETTING, First, parse
from tuner.samplers.labels import FACTORS_SETTING, MEDIAN_SETTING
from tuner.samplers.transform import dimension
from tuner.space import Double, Int, Parameter, Value

__all__ = [
    "ALGORITHMS",
    "SEED_SETTING",
    "SUBMITTED_SETTINGS",
    "Algorithm",
    "Past",
    "Proposal",
    "Sampler",
    "Search",
    "sampler",
]

# of any algorithm; `gantune submit` adds them for our service
SUBMITTED_SETTINGS = (FIRST_SETTING, EARLIER_SETTING, FACTORS_SETTING, MEDIAN_SETTING)
# every algorithm takes it; the local engine reads the study's seed from it
SEED_SETTING = "random_state"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm.

    Attributes:
        settings: The names of the settings that it honours, in addition to `SEED_SETTING`.
        factory: Makes the sampler. Raises UnsupportedError for a value of a setting that it does
            not honour.
    """

    settings: tuple[str, ...]
    factory: Callable[[Search], Sampler]


ALGORITHMS: Mapping[str, Algorithm] = {
    "grid": Algorithm((), grid.grid),
    "random": Algorithm((), direct.uniform),
    "tpe": Algorithm(("gamma", "prior_weight", "n_EI_candidates"), model.tpe),
    "multivariate-tpe": Algorithm(("n_startup_trials", "n_ei_candidates"), model.multivariate_tpe),
    "bayesianoptimization": Algorithm(
        ("base_estimator", "n_initial_points", "acq_func", "acq_optimizer"), bayesian.bayesian
    ),
    "cmaes": Algorithm(("sigma", "restart_strategy"), model.cmaes),
    "sobol": Algorithm((), direct.sobol),
    "hyperband": Algorithm(("r_l", "eta", "resource_name"), direct.hyperband),
    "pbt": Algorithm(
        (pbt.DIRECTORY_SETTING, "n_population", "truncation_threshold", "resample_probability"),
        pbt.pbt,
    ),
}


def sampler(
    algorithm: str,
    settings: Mapping[str, str],
    parameters: Sequence[Parameter],
    *,
    seed: int,
    maximize: bool = False,
    parallel: int = 1,
    first: Sequence[Mapping[str, Value]] = (),
    known: Sequence[tuple[Mapping[str, Any], float]] = (),
) -> Sampler:
    """Return the sampler of an algorithm for a search space.

    Args:
        algorithm: Katib's name of the algorithm.
        settings: Its algorithmSettings.
        parameters: The search space.
        seed: The seed of the study.
        maximize: Whether a larger objective is better.
        parallel: parallelTrialCount.
        first: The values of the first trials; empty takes those that the settings hold.
        known: Points, in the sampler's coordinates, and values of an earlier study.

    Raises:
        UnsupportedError: For an algorithm, or a setting, that is not available locally, and for a
            first trial outside the search space.
    """
    not_ours = (SEED_SETTING, FACTORS_SETTING, MEDIAN_SETTING)
    others = {key: value for key, value in settings.items() if key not in not_ours}
    named, earlier = others.pop(FIRST_SETTING, ""), others.pop(EARLIER_SETTING, "")
    if (row := ALGORITHMS.get(algorithm)) is None:
        raise UnsupportedError(
            f"algorithm {algorithm} does not run locally; these do: {', '.join(ALGORITHMS)}"
        )
    for setting in others:
        if setting not in row.settings:
            raise UnsupportedError(
                f"setting {setting} of {algorithm} is not available locally: leave it out"
            )
    for each in parameters:
        if isinstance(each, Double | Int) and each.high - each.low > sys.float_info.max:
            raise UnsupportedError(
                f"max - min of {each.name} exceeds the largest number, {sys.float_info.max:g}: narrow its range"
            )
    dimensions = tuple(dimension(parameter) for parameter in parameters)
    points = tuple(first) or (parse(named, dimensions) if named else ())
    known = [*known, *(parse_earlier(earlier, dimensions) if earlier else ())]
    search = Search(
        dimensions,
        seed,
        others,
        maximize=maximize,
        known=tuple(known),
        first=points,
        parallel=parallel,
    )
    return First(search, row.factory(search)) if points else row.factory(search)
