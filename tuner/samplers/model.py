"""Model-based samplers: Optuna's, on an in-memory study that holds exactly the history.

Optuna takes a second to import, so it is imported when the first of these samplers is made.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
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
from tuner.samplers.transform import Coordinate, Dimension, size

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.search_space import IntersectionSearchSpace

GP_TRIALS = 200  # finished trials in a model: half of them the newest, half the best of the others
GP_START_UP = 5  # random trials before the first model; measured in docs/search-quality.md


class Model:
    """An Optuna sampler on an in-memory study that holds exactly the history.

    The study grows with the history. It is rebuilt when the penalty of failed trials changes, and
    after a duplicate was replaced. A `replayed` sampler (CMA-ES) keeps a state between proposals.
    Its study is not rebuilt from results: all its proposals are asked for again, and each failed
    trial keeps the penalty of its own time. A sampler whose time grows with the cube of the number
    of trials receives at most `most` of them.
    """

    def __init__(
        self,
        search: Search,
        make: Callable[[int], BaseSampler],
        *,
        replayed: bool = False,
        most: int | None = None,
    ) -> None:
        import optuna
        from optuna.study import StudyDirection

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.dimensions, self._seed, self._make, self._replayed = (
            search.dimensions,
            search.seed,
            make,
            replayed,
        )
        self._direction = StudyDirection.MAXIMIZE if search.maximize else StudyDirection.MINIMIZE
        self._worst = min if search.maximize else max
        self._most = most
        self._known, self._parallel = list(search.known), search.parallel
        self._first = len(search.first)
        self._distributions = {each.name: distribution(each) for each in self.dimensions}
        self._study: Study | None = None
        self._space: IntersectionSearchSpace | None = None
        self._held: list[Past] = []
        self._penalty: float | None = None

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        """Ask Optuna for the next point. Told trials are complete, all others are running."""
        seen = {tuple(past.values.values()) for past in history if past.values}
        if size(self.dimensions) == len(seen):
            return None
        kept = self._kept(history)
        if len(kept) < len(history):
            self._study = None  # its trials have other places
        self._update(kept)
        proposal = self._ask(len(history))
        # a model repeats a corner of the space, too
        if not self._replayed and tuple(proposal.values.values()) in seen:
            self._study = None
            unseen = unseen_point(
                self.dimensions, seen, derive_seed(self._seed, len(history), "unseen")
            )
            return proposal_of(self.dimensions, unseen) if unseen else None
        self._held.append(Past(proposal.point, proposal.values))
        return proposal

    def _kept(self, history: Sequence[Past]) -> Sequence[Past]:
        """Return the trials that the sampler receives: all, or the newest and the best if they are too many."""
        told = [number for number, past in enumerate(history) if past.told]
        if self._most is None or len(told) <= self._most:
            return history
        half = self._most // 2
        values = {
            number: value for number in told[:-half] if (value := history[number].value) is not None
        }
        best = sorted(values, key=lambda number: values[number], reverse=self._worst is min)
        chosen = {*told[-half:], *best[: self._most - half]}
        return [past for number, past in enumerate(history) if number in chosen or not past.told]

    def _ask(self, number: int, point: Mapping[str, Any] | None = None) -> Proposal:
        """Ask for a trial. Its point in the study is the proposal's, or else the given one."""
        assert self._study is not None  # noqa: S101
        self._study.sampler = self._make(derive_seed(self._seed, number))
        # to find the search space from all trials again would take as long as all the rest
        if self._replayed:
            self._study.sampler._search_space = self._space  # type: ignore[attr-defined]
        asked = self._study.ask(self._distributions)
        values = {each.name: each.value(asked.params[each.name]) for each in self.dimensions}
        proposal = proposal_of(self.dimensions, values)
        for name, coordinate in (point or proposal.point).items():
            # the quantile of a rounded value, or what really ran
            if asked.params[name] != coordinate:
                known = self._distributions[name]
                stored = known.to_internal_repr(coordinate)
                self._study._storage.set_trial_param(asked._trial_id, name, stored, known)
        return proposal

    def _update(self, history: Sequence[Past]) -> None:
        values = [past.value for past in history if past.value is not None] + [
            value for _, value in self._known
        ]
        penalty = self._worst(values, default=None)
        failed = any(past.told and past.value is None for past in history)
        grown = all(old.values == new.values for old, new in zip(self._held, history, strict=False))
        changed = failed and penalty != self._penalty and not self._replayed
        if self._study is None or not grown or len(self._held) > len(history) or changed:
            self._rebuild(history, penalty)
        self._penalty = penalty
        for number, past in enumerate(history):
            if past.told and not self._held[number].told:
                self._tell(number, past, penalty)

    def _rebuild(self, history: Sequence[Past], penalty: float | None) -> None:
        import optuna

        self._study = optuna.create_study(
            direction=self._direction, sampler=optuna.samplers.RandomSampler(0)
        )
        self._space = optuna.search_space.IntersectionSearchSpace()
        for coordinates, value in self._known:
            self._study.add_trial(self._trial(coordinates, value, told=True))
        self._held = []
        if self._replayed:
            self._replay(history)
            return
        for past in history:
            self._held.append(past)
            if not past.told:
                self._study.add_trial(self._trial(past.point, None, told=False))
            else:
                self._study.add_trial(
                    self._trial(
                        past.point, penalty if past.value is None else past.value, told=True
                    )
                )

    def _replay(self, history: Sequence[Past]) -> None:
        """Ask for every trial again, each with what was told by then."""
        assert self._study is not None  # noqa: S101
        values = [value for _, value in self._known]
        for number, past in enumerate(history):
            index = number - self._parallel
            if index >= 0 and history[index].told:
                if (value := history[index].value) is not None:
                    values.append(value)
                self._tell(index, history[index], self._worst(values, default=None))
            if number < self._first and past.point:
                self._study.add_trial(self._trial(past.point, None, told=False))
            else:
                self._ask(number, past.point)
            self._held.append(Past(past.point, past.values))

    def _tell(self, number: int, past: Past, penalty: float | None) -> None:
        assert self._study is not None  # noqa: S101
        from optuna.trial import TrialState as OptunaState

        value = penalty if past.value is None and past.point else past.value
        state = OptunaState.FAIL if value is None else OptunaState.COMPLETE
        self._study.tell(number + len(self._known), value, state=state)
        self._held[number] = past

    def _trial(self, coordinates: Mapping[str, Any], value: float | None, *, told: bool) -> Any:
        from optuna.trial import TrialState as OptunaState
        from optuna.trial import create_trial

        if not coordinates:
            return create_trial(state=OptunaState.FAIL)
        state = (
            OptunaState.COMPLETE
            if value is not None
            else OptunaState.FAIL
            if told
            else OptunaState.RUNNING
        )
        return create_trial(
            state=state, params=dict(coordinates), distributions=self._distributions, value=value
        )


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return Optuna's distribution of a dimension's coordinates."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.coordinate is Coordinate.CHOICE:
        return CategoricalDistribution(tuple(dimension.values or ()))
    if dimension.coordinate is Coordinate.INDEX:
        return IntDistribution(0, len(dimension.values or ()) - 1)
    if dimension.coordinate is Coordinate.QUANTILE:
        return FloatDistribution(0.0, 1.0)
    low, high = float(dimension.parameter.low), float(dimension.parameter.high)  # type: ignore[union-attr]
    return FloatDistribution(low, high, log=dimension.coordinate is Coordinate.LOG_NUMBER)


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


def gaussian_process(search: Search) -> Sampler:
    """Return Optuna's Gaussian process. Raises UnsupportedError for other surrogates and acquisition functions."""
    from optuna.samplers import GPSampler

    settings = search.settings
    for setting, known in (
        ("base_estimator", ("GP",)),
        ("acq_func", ("EI",)),
        ("acq_optimizer", ("auto", "lbfgs")),
    ):
        if settings.get(setting, known[0]) not in known:
            raise UnsupportedError(
                f"setting {setting}={settings[setting]} of bayesianoptimization is not available locally: "
                f"leave it out or write {' or '.join(known)}"
            )
    start_up = max(int(settings.get("n_initial_points", GP_START_UP)), 1)
    return Model(
        search,
        lambda seed: _quietly(
            GPSampler, seed=seed, n_startup_trials=start_up, warn_independent_sampling=False
        ),
        most=GP_TRIALS,
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
