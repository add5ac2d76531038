"""Trials merged from what the cluster lists, what their pods say and what the store knew before. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tuner.engines.katib.objects import DEADLINE, PodView
from tuner.result import Trial, TrialState


@dataclass(frozen=True, slots=True)
class Listed:
    """A trial from the API server, whose number is not known yet."""

    created: str
    trial: Trial


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
        due = [self._listed[name].created for name, seen in self._first_seen.items() if seen <= before]
        taken = [listed for listed in self._listed.values() if due and listed.created <= max(due)]
        for listed in taken:
            del self._listed[listed.trial.name], self._first_seen[listed.trial.name]
        return taken


class Numbers:
    """The number of each trial: the one it was known under, else the next in the order of creation."""

    def __init__(self, known: Iterable[Trial] = ()) -> None:
        self._of = {trial.name: trial.number for trial in known}
        self._free = max(self._of.values(), default=-1) + 1

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def of(self, name: str) -> int:
        """The number of this trial; a new name gets the next one, so ask in the order of creation."""
        if name not in self._of:
            self._of[name], self._free = self._free, self._free + 1
        return self._of[name]


def in_order(listed: Iterable[Listed]) -> list[Trial]:
    """By creation, then name; the API server lists by name."""
    return [one.trial for one in sorted(listed, key=lambda one: (one.created, one.trial.name))]


def youngest(pods: Iterable[PodView]) -> dict[str, PodView]:
    """The pod that represents each trial: a Job that retries has several, a distributed Job has them at once."""
    return {pod.trial: pod for pod in sorted(pods, key=_age) if pod.trial}


def _age(pod: PodView) -> tuple[str, bool, str]:
    return pod.created, bool(pod.reason), pod.name


def placed(trial: Trial, pod: PodView | None, known: Trial | None = None, found: str = "") -> Trial:
    """`trial` with its pod's node and reason.

    Until the trial has finished, only its current pod counts, and what was `found` (a queue, a refusal). A failed pod
    is no reason to wait: Katib marks the trial as failed, or the Job creates another pod. Once the trial has finished,
    what was `known` of a pod that Katib has removed is kept. Only failed trials have a reason then.
    """
    node, reason = (pod.node, pod.reason) if pod else ("", "")
    if not trial.state.ended:
        return replace(trial, node=node, reason=found if pod and pod.failed else reason or found)
    node = node or (known.node if known else "")
    if trial.state is not TrialState.FAILED:
        return replace(trial, node=node)
    if known and known.state is TrialState.FAILED:
        reason = reason or known.reason
    if DEADLINE in trial.reason:  # the pods were killed for it: their exit codes say less
        reason = trial.reason
    return replace(trial, node=node, reason=reason or trial.reason)


def merged(listed: Iterable[Listed], pods: Mapping[str, PodView], known: Iterable[Trial]) -> tuple[Trial, ...]:
    """All trials in the order of their numbers: those listed, and those that were `known` and are gone since."""
    before = {trial.name: trial for trial in known}
    numbers = Numbers(before.values())
    trials = []
    for trial in in_order(listed):
        old = before.pop(trial.name, None)
        trials.append(replace(placed(trial, pods.get(trial.name), old), number=numbers.of(trial.name)))
    for trial in before.values():
        gone = replace(trial, state=TrialState.KILLED, reason="deleted on the cluster")
        trials.append(trial if trial.state.ended else gone)
    return tuple(sorted(trials, key=lambda trial: trial.number))


def united(seen: Iterable[Trial], known: Iterable[Trial]) -> tuple[Trial, ...]:
    """The trials that were `seen`, and those that were `known` and have not been seen yet."""
    by_name = {trial.name: trial for trial in [*known, *seen]}
    return tuple(sorted(by_name.values(), key=lambda trial: trial.number))
