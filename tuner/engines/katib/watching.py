"""One Experiment followed to its end: three watches (Experiment, trials, pods) merged into the events of tuner.engine.

Each watch is a thread that lists, watches and lists again (tuner.kube.following); this side keeps only what the table
shows, so that thousands of trials fit. Objects may come in any order and more than once: an older resourceVersion is
passed over, and a trial that has ended never runs again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tuner.engine import Event, EventKind
from tuner.engines.katib import objects, stalls
from tuner.engines.katib.objects import EXPERIMENT_LABEL, PodView, name_of, version_of
from tuner.errors import ClusterError, Deadline, Forbidden
from tuner.kube import EXPERIMENTS, PODS, TRIALS, Cluster, Resource
from tuner.kube.following import Change, ChangeKind, follow
from tuner.kube.streams import Stop
from tuner.manifest import Experiment
from tuner.result import Result, StudyState, Trial, TrialState

_LOOKS = (20.0, 30.0, 60.0, 120.0)  # seconds without progress until the first look for a stall, the second, ...
DELETED = "deleted on the cluster while it was watched"


@dataclass(slots=True)
class _Seen:
    version: int
    trial: Trial


class Watcher:
    """What is known of one Experiment, and the events that its changes make. Use `events()` once."""

    def __init__(
        self,
        cluster: Cluster,
        experiment: Experiment,
        item: dict[str, Any],
        *,
        namespace: str,
        deadline: float | None = None,
        pace: float = 1.0,
        numbers: Mapping[str, int] | None = None,
    ) -> None:
        self.cluster, self.experiment, self.namespace, self.deadline, self.pace = (
            cluster,
            experiment,
            namespace,
            deadline,
            pace,
        )
        self._uid, self._version = item["metadata"].get("uid"), version_of(item)
        self.state, self.reason = objects.study_state(item)
        self.deleted = False
        self._numbers = dict(numbers or {})  # by trial, from an earlier watch; the next one is free
        self._trials: dict[str, _Seen] = {}
        self._pods: dict[str, PodView] = {}
        self._pod_of: dict[str, str] = {}  # the newest pod of each trial
        self._reasons: dict[str, str] = {}  # by trial, from a look: a suspended Job, a refused pod
        self._listing: dict[Resource, set[str]] = {}
        self._said: set[str] = set()
        self._changes: queue.Queue[Change | ClusterError] = queue.Queue(maxsize=256)
        self._stop = Stop()  # its set() ends the three streams at once
        self._moved, self._looks = time.monotonic(), 0

    def result(self) -> Result:
        """Everything as it stands."""
        trials = tuple(seen.trial for seen in self._trials.values())  # in the order of their numbers, but for a rejoin
        return Result(self.experiment.name, self.state, self.experiment.objective, trials, self.reason)

    def events(self) -> Iterator[Event]:
        """Events until the Experiment has ended or is gone; the caller adds STUDY_ENDED. Raises Deadline, Forbidden."""
        end = None if self.deadline is None else time.monotonic() + self.deadline
        self._start()
        try:
            while self.state is StudyState.RUNNING and not self.deleted:
                if end is not None and time.monotonic() > end:
                    raise Deadline(f"{self.experiment.name} has not ended within {self.deadline:g} s; it goes on")
                yield from self._next()
                if time.monotonic() - self._moved > self._patience():
                    self._looks += 1
                    yield from self._look()
            yield from self._drain()
        finally:
            self._stop.set()

    def _start(self) -> None:
        label = f"{EXPERIMENT_LABEL}={self.experiment.name}"
        selectors = (
            (EXPERIMENTS, {"fields": f"metadata.name={self.experiment.name}"}),
            (TRIALS, {"labels": label}),
            (PODS, {"labels": label}),
        )
        for resource, selector in selectors:
            target = threading.Thread(target=self._feed, args=(resource, selector), daemon=True)
            target.start()

    def _feed(self, resource: Resource, selector: dict[str, str]) -> None:
        try:
            for change in follow(
                self.cluster, resource, self._stop, namespace=self.namespace, first_wait=self.pace, **selector
            ):
                if not self._put(change):
                    return
        except Forbidden as error:
            lost = Change(ChangeKind.LOST, resource, {"message": f"no reasons for waiting pods: {error}"})
            self._put(lost if resource is PODS else error)
        except ClusterError as error:
            self._put(error)

    def _put(self, change: Change | ClusterError) -> bool:
        while not self._stop.is_set():
            try:
                self._changes.put(change, timeout=0.5)
            except queue.Full:
                continue
            return True
        return False

    def _next(self) -> Iterator[Event]:
        try:
            change = self._changes.get(timeout=min(0.5, self._patience()))
        except queue.Empty:
            return
        if isinstance(change, ClusterError):
            raise change
        yield from self._apply(change)

    def _drain(self) -> Iterator[Event]:
        """What the other watches have delivered already."""
        while True:
            try:
                change = self._changes.get_nowait()
            except queue.Empty:
                return
            if isinstance(change, Change):
                yield from self._apply(change)

    def _apply(self, change: Change) -> Iterator[Event]:
        if change.kind is ChangeKind.LOST:
            yield from self._warn(f"connection lost, trying again: {change.object['message']}")
        elif change.kind is ChangeKind.SYNCED:
            listed = self._listing.pop(change.resource, set())
            yield from self._gone(change.resource, self._known(change.resource) - listed)
        elif change.kind is ChangeKind.DELETED:
            yield from self._gone(change.resource, {name_of(change.object)})
        else:
            if change.kind is ChangeKind.LISTED:
                self._listing.setdefault(change.resource, set()).add(name_of(change.object))
            if change.resource is EXPERIMENTS:
                self._experiment(change.object)
            elif change.resource is TRIALS:
                yield from self._trial(change.object)
            else:
                yield from self._pod(change.object)

    def _known(self, resource: Resource) -> set[str]:
        if resource is EXPERIMENTS:
            return {self.experiment.name}
        return set(self._trials if resource is TRIALS else self._pods)

    def _experiment(self, item: dict[str, Any]) -> None:
        if item["metadata"].get("uid") != self._uid:
            self.deleted = True  # another one, made under the same name since
        elif version_of(item) >= self._version:
            self._version = version_of(item)
            self.state, self.reason = objects.study_state(item)

    def _gone(self, resource: Resource, names: set[str]) -> Iterator[Event]:
        if resource is EXPERIMENTS and self.experiment.name in names:
            self.deleted = True
        elif resource is PODS:
            for name in names:
                self._pods.pop(name, None)
        else:
            for name in names & self._trials.keys():
                seen = self._trials[name]
                if not seen.trial.state.ended:
                    seen.trial = replace(seen.trial, state=TrialState.KILLED, reason="deleted on the cluster")
                    yield self._event(EventKind.TRIAL_ENDED, seen.trial)

    def _trial(self, item: dict[str, Any]) -> Iterator[Event]:
        name, version = name_of(item), version_of(item)
        seen = self._trials.get(name)
        if seen and (version < seen.version or (seen.trial.state.ended and not objects.conditions(item))):
            return
        fresh = objects.trial(item, self.experiment, seen.trial.number if seen else self._number(name))
        if seen and seen.trial.state.ended and not fresh.state.ended:
            return
        fresh = self._placed(fresh)
        before = seen.trial if seen else None
        self._trials[name] = _Seen(version, fresh)
        if before is None or before.state is not fresh.state:
            self._progress()
        if fresh.state.ended:
            if before is None or before.state is TrialState.WAITING:  # its start was not seen: say it now
                self._trials[name].trial = replace(fresh, state=TrialState.RUNNING, metrics={}, ended=None, reason="")
                yield self._event(EventKind.TRIAL_STARTED, self._trials[name].trial)
                self._trials[name].trial = fresh
            if before is None or not before.state.ended:
                yield self._event(EventKind.TRIAL_ENDED, fresh)
        elif fresh.state is TrialState.RUNNING and (before is None or before.state is TrialState.WAITING):
            yield self._event(EventKind.TRIAL_STARTED, fresh)
        elif before is None or before != fresh:
            yield self._event(EventKind.TRIAL_REPORTED, fresh)

    def _pod(self, item: dict[str, Any]) -> Iterator[Event]:
        view = objects.pod(item)
        if view != self._pods.get(view.name):
            self._pods[view.name] = view
            if view.trial:
                self._pod_of[view.trial] = view.name
                self._reasons.pop(view.trial, None)
                if not view.reason:
                    self._progress()
        seen = self._trials.get(view.trial)
        if seen and (fresh := self._placed(seen.trial)) != seen.trial:
            seen.trial = fresh
            yield self._event(EventKind.TRIAL_REPORTED, fresh)

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, max(self._numbers.values(), default=-1) + 1)

    def _placed(self, trial: Trial) -> Trial:
        """The trial with its pod's node and reason. Only a failed or waiting trial has a pod's reason."""
        view = self._pods.get(self._pod_of.get(trial.name, ""))
        node = (view.node if view else "") or trial.node
        reason = view.reason if view else ""
        if trial.state is TrialState.FAILED:
            return replace(trial, node=node, reason=reason or trial.reason)
        if trial.state.ended:
            return replace(trial, node=node)
        return replace(trial, node=node, reason=reason or self._reasons.get(trial.name, ""))

    def _progress(self) -> None:
        self._moved, self._looks = time.monotonic(), 0

    def _patience(self) -> float:
        return _LOOKS[min(self._looks, len(_LOOKS) - 1)] * self.pace

    def _look(self) -> Iterator[Event]:
        """Nothing has moved for a while: find out why, and say it once."""
        self._moved = time.monotonic()
        trials = self.result().trials
        snapshot = stalls.Snapshot(self.experiment, self.namespace, self.state, trials, tuple(self._pods.values()))
        findings = stalls.diagnose(self.cluster, snapshot)
        self._reasons.update(findings.reasons)
        for name in findings.reasons:
            seen = self._trials[name]
            if (fresh := self._placed(seen.trial)) != seen.trial:
                seen.trial = fresh
                yield self._event(EventKind.TRIAL_REPORTED, fresh)
        snapshot = replace(snapshot, trials=self.result().trials)
        for message in [*findings.warnings, *stalls.blocked(snapshot)]:
            yield from self._warn(message)

    def _warn(self, message: str) -> Iterator[Event]:
        if message not in self._said:
            self._said.add(message)
            yield Event(EventKind.WARNING, self.result(), message=message)

    def _event(self, kind: EventKind, trial: Trial) -> Event:
        return Event(kind, self.result(), trial)
