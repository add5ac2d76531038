"""The algorithms that this project runs itself, by Katib's names.

    search = sampler(experiment, seed=7)
    proposal = search.propose(history)

`ALGORITHMS` is the one table: the local engine, `gantune check`, the JSON Schema and
docs/algorithms.md follow it. To add an algorithm, write one module with a factory and add one row.

A proposal is a function of the seed, the trial's number and the history. No sampler keeps a state
that cannot be rebuilt from these, so an interrupted search continues with the same proposals. No
point is proposed twice, except by cmaes, and by pbt, whose trials continue earlier ones. To a
model-based sampler, a failed trial counts as the worst value that was observed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.errors import UnsupportedError
from tuner.result import Goal
from tuner.samplers import direct, grid, model, pbt
from tuner.samplers.base import Past, Proposal, Sampler, Search
from tuner.samplers.earlier import EARLIER_SETTING
from tuner.samplers.earlier import parse as parse_earlier
from tuner.samplers.first import FIRST_SETTING, First, parse
from tuner.samplers.transform import dimension

if TYPE_CHECKING:  # the manifest's module imports check, which reads ALGORITHMS
    from tuner.manifest import Experiment

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
SUBMITTED_SETTINGS = (FIRST_SETTING, EARLIER_SETTING)
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
        ("base_estimator", "n_initial_points", "acq_func", "acq_optimizer"), model.gaussian_process
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
    experiment: Experiment, seed: int, known: Sequence[tuple[Mapping[str, Any], float]] = ()
) -> Sampler:
    """Return the sampler of an Experiment.

    Args:
        experiment: Names the algorithm, its settings and the search space.
        seed: The seed of the study.
        known: Points, in the sampler's coordinates, and values of an earlier study.

    Raises:
        UnsupportedError: For an algorithm, or a setting, that is not available locally, and for a
            first trial outside the search space.
    """
    name = experiment.algorithm.name
    settings = {
        key: value for key, value in experiment.algorithm.settings.items() if key != SEED_SETTING
    }
    named, earlier = settings.pop(FIRST_SETTING, ""), settings.pop(EARLIER_SETTING, "")
    if (row := ALGORITHMS.get(name)) is None:
        raise UnsupportedError(
            f"algorithm {name} does not run locally; these do: {', '.join(ALGORITHMS)}"
        )
    for setting in settings:
        if setting not in row.settings:
            raise UnsupportedError(
                f"setting {setting} of {name} is not available locally: leave it out"
            )
    dimensions = tuple(dimension(parameter) for parameter in experiment.parameters)
    first = experiment.first_trials or (parse(named, dimensions) if named else ())
    known = [*known, *(parse_earlier(earlier, dimensions) if earlier else ())]
    maximize = experiment.objective.goal_type is Goal.MAXIMIZE
    search = Search(
        dimensions,
        seed,
        settings,
        maximize=maximize,
        known=tuple(known),
        first=first,
        parallel=experiment.parallel_trials,
    )
    return First(search, row.factory(search)) if first else row.factory(search)
