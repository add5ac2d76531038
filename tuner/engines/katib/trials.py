"""Merges trials from the cluster's list, their pods and the store. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tuner.engines.katib import objects
from tuner.engines.katib.objects import DEADLINE, PodView
from tuner.experiment.model import Experiment
from tuner.result import Trial, TrialState


@dataclass(frozen=True, slots=True)
class Listed:
    """A trial from the API server. `number` is the label of our suggestion service, None for other services."""

    created: str
    trial: Trial
    number: int | None = None


def listed_trial(item: Mapping[str, Any], experiment: Experiment) -> Listed:
    """A Trial of the API server."""
    created = str(item["metadata"].get("creationTimestamp", ""))
    return Listed(created, objects.trial(item, experiment, 0), objects.number_label(item))


NUMBER_DELAY = 1.5  # seconds; trials of the same creation second arrive within them, in any order


class Arrivals:
    """New trials of a watch. They wait for their numbers until all trials of the same second have arrived."""

    def __init__(self) -> None:
        self._first_seen: dict[str, float] = {}
        self._listed: dict[str, Listed] = {}

    def put(self, listed: Listed, now: float) -> None:
        """Add a trial, or update one that waits."""
        self._first_seen.setdefault(listed.trial.name, now)
        self._listed[listed.trial.name] = listed

    def get(self, name: str) -> Trial | None:
        """The trial of this name, if it waits."""
        listed = self._listed.get(name)
        return listed.trial if listed else None

    def take(self, before: float = math.inf) -> list[Listed]:
        """Remove and return the trials that arrived by then, and those that were created no later than they."""
        due = [
            self._listed[name].created for name, seen in self._first_seen.items() if seen <= before
        ]
        taken = [listed for listed in self._listed.values() if due and listed.created <= max(due)]
        for listed in taken:
            del self._listed[listed.trial.name], self._first_seen[listed.trial.name]
        return taken


class Numbers:
    """Return the number of each trial: its known number, that of its label, or the next in the order of creation."""

    def __init__(self, known: Iterable[Trial] = ()) -> None:
        self._of = {trial.name: trial.number for trial in known}
        self._taken = set(self._of.values())

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def of(self, listed: Listed) -> int:
        """The number of this trial. A new one without a label gets the next number, so ask in the order of creation."""
        name, number = listed.trial.name, listed.number
        if name not in self._of:
            if number is None or number in self._taken:
                number = max(self._taken, default=-1) + 1
            self._of[name] = number
            self._taken.add(number)
        return self._of[name]


def in_order(listed: Iterable[Listed]) -> list[Listed]:
    """Sort by label, then creation, then name. The API server sorts by name."""
    last = math.inf
    return sorted(
        listed,
        key=lambda one: (last if one.number is None else one.number, one.created, one.trial.name),
    )


def youngest(pods: Iterable[PodView]) -> dict[str, PodView]:
    """Return the pod that represents each trial. A Job that retries has several pods, and a distributed Job too."""
    return {pod.trial: pod for pod in sorted(pods, key=_age) if pod.trial}


def _age(pod: PodView) -> tuple[str, bool, str]:
    return pod.created, bool(pod.reason), pod.name


def placed(trial: Trial, pod: PodView | None, known: Trial | None = None, found: str = "") -> Trial:
    """Return `trial` with its pod's node and reason.

    Until the trial has finished, only its current pod counts, and what was `found` (a queue, a
    refusal). A failed pod
    is no reason to wait: Katib marks the trial as failed, or the Job creates another pod. Once the
    trial has finished, what was `known` of a pod that Katib has removed is kept. Only failed trials
    have a reason then.
    """
    node, reason = (pod.node, pod.reason) if pod else ("", "")
    if not trial.state.finished:
        return replace(trial, node=node, reason=found if pod and pod.failed else reason or found)
    node = node or (known.node if known else "")
    if trial.state is not TrialState.FAILED:
        return replace(trial, node=node)
    if known and known.state is TrialState.FAILED:
        reason = reason or known.reason
    # the pods were killed because of it, so their exit codes are less useful
    if DEADLINE in trial.reason:
        reason = trial.reason
    return replace(trial, node=node, reason=reason or trial.reason)


def merged(
    listed: Iterable[Listed], pods: Mapping[str, PodView], known: Iterable[Trial]
) -> tuple[Trial, ...]:
    """Return all trials in the order of their numbers: the listed ones, and the `known` ones that are gone."""
    before = {trial.name: trial for trial in known}
    numbers = Numbers(before.values())
    trials = []
    for one in in_order(listed):
        name = one.trial.name
        trials.append(
            replace(
                placed(one.trial, pods.get(name), before.pop(name, None)), number=numbers.of(one)
            )
        )
    for trial in before.values():
        gone = replace(trial, state=TrialState.KILLED, reason="deleted on the cluster")
        trials.append(trial if trial.state.finished else gone)
    return tuple(sorted(trials, key=lambda trial: trial.number))


def united(seen: Iterable[Trial], known: Iterable[Trial]) -> tuple[Trial, ...]:
    """Return the trials that were `seen`, and those that were `known` and have not been seen yet."""
    by_name = {trial.name: trial for trial in [*known, *seen]}
    return tuple(sorted(by_name.values(), key=lambda trial: trial.number))
