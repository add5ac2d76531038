"""An in-memory Optuna study that holds exactly a history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner.samplers.base import Past, Proposal, Search, derive_seed, proposal_of
from tuner.samplers.transform import Coordinate, Dimension

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


class Replica:
    """A study that grows with a history.

    `extend` makes its trials those of the history, and `ask` adds the next one. A history that does
    not continue the one before needs a new replica, which `continued_by` says. So what `ask`
    returns follows from the history alone.

    A `replayed` sampler (CMA-ES) keeps a state between proposals, which depends on their order. So
    the replica asks for each trial again, once it has observed what was known by then.
    """

    def __init__(
        self, search: Search, make: Callable[[int], BaseSampler], *, replayed: bool
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._search, self._make, self._replayed = search, make, replayed
        self._distributions = {each.name: distribution(each) for each in search.dimensions}
        self._study = optuna.create_study(
            direction="maximize" if search.maximize else "minimize",
            sampler=optuna.samplers.RandomSampler(0),
        )
        # to find the search space from all trials again would take as long as all the rest
        self._space = optuna.search_space.IntersectionSearchSpace()
        for coordinates, value in search.known:
            self._study.add_trial(self._trial(coordinates, value, observed=True))
        self._held: list[Past] = []

    def continued_by(self, history: Sequence[Past]) -> bool:
        """Return whether the history is the one of this replica and what followed it."""
        return len(self._held) <= len(history) and all(
            self._agrees(number, past) for number, past in enumerate(history[: len(self._held)])
        )

    def _agrees(self, number: int, past: Past) -> bool:
        """Return whether a trial is held as in a history, or was observed after the last proposal."""
        held = self._held[number]
        if self._replayed and number < len(self._held) - self._search.parallel:
            return held == past  # the last proposal depends on whether it was observed by then
        return held == Past(past.point, past.values) or (held == past and not self._replayed)

    def extend(self, history: Sequence[Past]) -> None:
        """Add the trials and the observations of a history that continues the one before."""
        for number in range(len(self._held), len(history)):
            past = history[number]
            if self._replayed:
                self._observe_due(number, history)
                self._ask_again(number, past)
            else:
                self._study.add_trial(self._trial(past.point, past.value, observed=past.observed))
                self._held.append(past)
        for number, past in enumerate(history):
            self._observe(number, past)

    def ask(self, number: int) -> Proposal:
        """Return the sampler's point of trial `number`, which becomes the next of this replica."""
        proposal = self._ask(number)
        self._held.append(Past(proposal.point, proposal.values))
        return proposal

    def _ask(self, number: int, point: Mapping[str, Any] | None = None) -> Proposal:
        """Ask for a trial. Its point in the study is the proposal's, or else the given one."""
        self._study.sampler = self._make(derive_seed(self._search.seed, number))
        if self._replayed:
            self._study.sampler._search_space = self._space  # type: ignore[attr-defined]
        trial = self._study.ask(self._distributions)
        dimensions = self._search.dimensions
        values = {each.name: each.value(trial.params[each.name]) for each in dimensions}
        proposal = proposal_of(dimensions, values)
        for name, coordinate in (point or proposal.point).items():
            # the quantile of a rounded value, or what really ran
            if trial.params[name] != coordinate:
                known = self._distributions[name]
                stored = known.to_internal_repr(coordinate)
                self._study._storage.set_trial_param(trial._trial_id, name, stored, known)
        return proposal

    def _ask_again(self, number: int, past: Past) -> None:
        if number < len(self._search.first) and past.point:  # no sampler proposed it
            self._study.add_trial(self._trial(past.point, None, observed=False))
        else:
            self._ask(number, past.point)
        self._held.append(Past(past.point, past.values))

    def _observe_due(self, number: int, history: Sequence[Past]) -> None:
        """Add the observation that came just before trial `number` was proposed."""
        if (due := number - self._search.parallel) >= 0:
            self._observe(due, history[due])

    def _observe(self, number: int, past: Past) -> None:
        from optuna.trial import TrialState

        if self._held[number].observed or not past.observed:
            return
        if past.point or self._replayed:  # a trial without a point has failed from the start
            state = TrialState.FAIL if past.value is None else TrialState.COMPLETE
            self._study.tell(number + len(self._search.known), past.value, state=state)
        self._held[number] = past

    def _trial(self, coordinates: Mapping[str, Any], value: float | None, *, observed: bool) -> Any:
        from optuna.trial import TrialState, create_trial

        if not coordinates:
            return create_trial(state=TrialState.FAIL)
        state = TrialState.FAIL if observed else TrialState.RUNNING
        return create_trial(
            state=state if value is None else TrialState.COMPLETE,
            params=dict(coordinates),
            distributions=self._distributions,
            value=value,
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
