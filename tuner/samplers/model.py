"""Model-based samplers: Optuna's, on a study that holds exactly the history.

Optuna takes a second to import, so it is imported when the first of these samplers is made.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tuner.errors import UnsupportedError
from tuner.samplers.base import (
    Past,
    Proposal,
    Sampler,
    Search,
    derive_seed,
    proposal_of,
    unseen_point,
)
from tuner.samplers.replica import Replica
from tuner.samplers.transform import size

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Model:
    """An Optuna sampler on a study that holds exactly the history.

    The study is only kept to save time: a history that does not continue the one before gets a new
    one. So the proposals follow from the history, however the sampler is called.

    A failed trial has the worst observed value. With a `replayed` sampler (CMA-ES), that is the
    worst of the trials up to it, so that the value stays the same.
    """

    def __init__(
        self,
        search: Search,
        make: Callable[[int], BaseSampler],
        *,
        replayed: bool = False,
    ) -> None:
        self.dimensions, self._search, self._make = search.dimensions, search, make
        self._replayed = replayed
        self._worst = min if search.maximize else max
        self._replica: Replica | None = None

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """Ask Optuna for the next point. Observed trials are complete, all others are running."""
        seen = {tuple(past.values.values()) for past in history if past.values}
        if size(self.dimensions) == len(seen):
            return None
        received = self._penalized(history)
        replica, self._replica = self._replica, None  # an error leaves no half-made study
        if replica is None or not replica.continued_by(received):
            replica = Replica(self._search, self._make, replayed=self._replayed)
        replica.extend(received)
        proposal = replica.ask(len(history))
        self._replica = replica
        # a model repeats a corner of the space, too
        if not self._replayed and tuple(proposal.values.values()) in seen:
            seed = derive_seed(self._search.seed, len(history), "unseen")
            unseen = unseen_point(self.dimensions, seen, seed)
            return proposal_of(self.dimensions, unseen) if unseen else None
        return proposal

    def _penalized(self, history: Sequence[Past]) -> list[Past]:
        """Return the trials with a value for each that failed, if any trial has one."""
        values = [value for _, value in self._search.known]
        if not self._replayed:
            values += [past.value for past in history if past.value is not None]
        worst = self._worst(values, default=None)
        penalized = []
        for past in history:
            if self._replayed and past.value is not None:
                worst = past.value if worst is None else self._worst(worst, past.value)
            failed = past.observed and past.value is None and past.point
            penalized.append(replace(past, value=worst) if failed else past)
        return penalized


def tpe(search: Search) -> Sampler:
    """Return Optuna's TPE with the settings of Katib's, which is hyperopt's.

    hyperopt's `gamma` is a share of the square root of the number of trials, and it uses at most 25
    trials.
    """
    from optuna.samplers import TPESampler

    settings, options = search.settings, dict[str, Any]()
    if "gamma" in settings:
        share = float(settings["gamma"])
        options["gamma"] = lambda count: min(math.ceil(share * math.sqrt(count)), 25)
    if "prior_weight" in settings:
        options["prior_weight"] = float(settings["prior_weight"])
    if "n_EI_candidates" in settings:
        options["n_ei_candidates"] = int(settings["n_EI_candidates"])
    return Model(search, lambda seed: _quietly(TPESampler, seed=seed, **options))


def multivariate_tpe(search: Search) -> Sampler:
    """Return Optuna's multivariate TPE."""
    from optuna.samplers import TPESampler

    options = {key: int(value) for key, value in search.settings.items()}
    return Model(
        search,
        lambda seed: _quietly(
            TPESampler, seed=seed, multivariate=True, constant_liar=True, **options
        ),
    )


def cmaes(search: Search) -> Sampler:
    """Return Optuna's CMA-ES. Raises UnsupportedError for restarts."""
    from optuna.samplers import CmaEsSampler

    settings = search.settings
    if settings.get("restart_strategy", "none") not in ("", "none"):
        raise UnsupportedError(
            f"setting restart_strategy={settings['restart_strategy']} of cmaes is not available locally: "
            "Optuna 4.4 removed restarts; write none"
        )
    options = {"sigma0": float(settings["sigma"])} if "sigma" in settings else {}
    return Model(
        search,
        lambda seed: _quietly(CmaEsSampler, seed=seed, warn_independent_sampling=False, **options),
        replayed=True,
    )


def _quietly(make: Callable[..., BaseSampler], **options: Any) -> BaseSampler:
    """Make a sampler without Optuna's warnings about arguments that version 6 may rename."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(**options)
