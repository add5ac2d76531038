"""Follows one Experiment until it finishes: merges the changes of Experiment, trials and pods into engine events.

Only what the table shows is kept in memory, so that thousands of trials fit. Objects may arrive in
any order and more
than once: an older resourceVersion is ignored, and a finished trial never runs again. Our
suggestion service labels trials with their numbers. Without a label, numbers follow (creation
second, name): new trials of a list are numbered when the list is complete, those of a watch after a
short delay (`Arrivals`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from tuner.commands import gantune
from tuner.engines.base import Event, EventKind
from tuner.engines.katib import diagnose, logs, objects, trials
from tuner.engines.katib.changes import Changes
from tuner.engines.katib.clock import Clock
from tuner.engines.katib.experiment import LiveExperiment
from tuner.engines.katib.objects import PodView, name_of, version_of
from tuner.engines.katib.trials import NUMBER_DELAY, Arrivals, Listed, Numbers
from tuner.errors import Deadline, Forbidden
from tuner.katib.facts import SIDECAR
from tuner.kube import EXPERIMENTS, PODS, TRIALS, Cluster, Resource
from tuner.kube.listwatch import Change, ChangeKind
from tuner.result import Result, StudyState, Trial, TrialState

# seconds without progress until the first check for a stall, the second, ...
_LOOK_DELAYS = (20.0, 30.0, 60.0, 120.0)
_POLL = 0.5  # seconds until the clock is read again where nothing happens


class Watcher:
    """The state of one Experiment, and the events that its changes cause. Call `events()` once."""

    def __init__(
        self,
        cluster: Cluster,
        study: LiveExperiment,
        *,
        known: tuple[Trial, ...] = (),
        timeout: float | None = None,
        clock: Clock,
    ) -> None:
        self.cluster, self.study, self.experiment = cluster, study, study.experiment
        self.timeout, self.clock = timeout, clock
        self.numbers = Numbers(known)
        self._arrivals = Arrivals()
        self.deleted = False
        self._item, self._version = study.item, version_of(study.item)
        self.state, self.reason = objects.study_state(study.item)
        self._known = {trial.name: trial for trial in known}  # from an earlier watch
        self._trials: dict[str, Trial] = {}
        self._versions: dict[str, int] = {}
        self._pods: dict[str, PodView] = {}
        self._pods_known = True
        self._pods_of: dict[str, dict[str, PodView]] = {}  # by trial
        # by trial: the reason of a failure may be needed after the pod is gone
        self._last_pod: dict[str, PodView] = {}
        # what the collector's log added to a failed pod
        self._explanations: dict[PodView, PodView] = {}
        # by trial, from a diagnosis: a suspended Job, a refused pod
        self._reasons: dict[str, str] = {}
        # the names of a list that is under way
        self._listing: dict[Resource, dict[str, Listed | None]] = {}
        self._lost: set[Resource] = set()  # watches that were cut off and have not listed again
        self._said: set[str] = set()
        self._changes = Changes(cluster, study, clock)
        self._moved = self._looked = self.clock.now()
        self._looks = 0

    def result(self) -> Result:
        """The current state of the search and its trials."""
        trials = tuple(sorted(self._trials.values(), key=lambda trial: trial.number))
        experiment = self.experiment
        return Result(
            experiment.name,
            self.state,
            experiment.objective,
            trials,
            self.reason,
            experiment.baseline,
        )

    def events(self) -> Iterator[Event]:
        """Events until the Experiment has finished or is gone; the caller adds STUDY_ENDED.

        Raises:
            Deadline: when its time has passed.
            Forbidden: where a required object may not be read.
        """
        end = None if self.timeout is None else self.clock.now() + self.timeout
        if self.state is StudyState.RUNNING:
            self._changes.start()
        try:
            while self.state is StudyState.RUNNING and not self.deleted:
                if end is not None and self.clock.now() > end:
                    name = self.experiment.name
                    raise Deadline(
                        f"{name} did not finish within {self.timeout:g} s and is still running: "
                        f"`{gantune('watch', name)}`"
                    )
                change = self._changes.get(self.clock.timeout(_POLL))
                if change is not None:
                    yield from self._apply(change)
                yield from self._number(self._arrivals.take(self.clock.now() - NUMBER_DELAY))
                if self.clock.now() - self._looked > self._patience():
                    self._looks += 1
                    yield from self._look()
            # changes that the other watches have already delivered
            while (change := self._changes.get(0)) is not None:
                yield from self._apply(change)
            yield from self._number(self._arrivals.take())
        finally:
            self._changes.close()

    def ends(self, result: Result) -> Iterator[Event]:
        """Yield the events between the last state and `result`. The Experiment may finish before its trials do."""
        self.state, self.reason = result.state, result.reason
        for trial in result.trials:
            yield from self._become(trial)

    def _apply(self, change: Change | Forbidden) -> Iterator[Event]:
        if isinstance(change, Forbidden):
            self._pods_known = False
            yield from self._warn(f"nodes and the reasons of waiting pods are not shown: {change}")
        elif change.kind in (ChangeKind.LOST, ChangeKind.REFUSED):
            self._lost.add(change.resource)
            what = (
                "connection lost"
                if change.kind is ChangeKind.LOST
                else "the cluster refused a request"
            )
            yield from self._warn(f"{what}, trying again: {change.object['message']}")
        elif change.kind is ChangeKind.LISTING:
            self._listing[change.resource] = {}
        elif change.kind is ChangeKind.SYNCED:
            # no change could arrive: wait for the full time again
            if change.resource in self._lost:
                self._lost.discard(change.resource)
                self._progress()
            yield from self._synced(change.resource, self._listing.pop(change.resource, {}))
        elif change.kind is ChangeKind.DELETED:
            yield from self._gone(change.resource, {name_of(change.object)})
        else:
            names = (
                self._listing.setdefault(change.resource, {})
                if change.kind is ChangeKind.LISTED
                else None
            )
            if names is not None:
                names[name_of(change.object)] = None
            if change.resource is EXPERIMENTS:
                self._experiment(change.object)
            elif change.resource is PODS:
                yield from self._pod(change.object)
            else:
                yield from self._trial(change.object, names)

    def _synced(self, resource: Resource, names: dict[str, Listed | None]) -> Iterator[Event]:
        if resource is TRIALS:
            arrived = {listed.trial.name: listed for listed in self._arrivals.take()}
            yield from self._number(
                (arrived | {name: listed for name, listed in names.items() if listed}).values()
            )
        known = {
            EXPERIMENTS: {self.experiment.name},
            TRIALS: self._trials.keys(),
            PODS: self._pods.keys(),
        }
        yield from self._gone(resource, known[resource] - names.keys())

    def _experiment(self, item: dict[str, Any]) -> None:
        if item["metadata"].get("uid") != self.study.uid:
            self.deleted = True  # another Experiment was created under this name
        elif version_of(item) >= self._version:
            self._item, self._version = item, version_of(item)
            self.state, self.reason = objects.study_state(item)
            # extended
            self.experiment = replace(self.experiment, max_trials=item["spec"].get("maxTrialCount"))

    def _gone(self, resource: Resource, names: set[str]) -> Iterator[Event]:
        for name in names:
            if resource is TRIALS and self._arrivals.get(name):
                yield from self._number(self._arrivals.take())
            if resource is EXPERIMENTS:
                self.deleted = self.deleted or name == self.experiment.name
            elif resource is PODS and name in self._pods:
                trial = self._pods.pop(name).trial
                self._pods_of.get(trial, {}).pop(name, None)
                yield from self._place(trial)
            elif (seen := self._trials.get(name)) and not seen.state.finished:
                yield from self._become(
                    replace(seen, state=TrialState.KILLED, reason="deleted on the cluster")
                )

    def _trial(
        self, item: dict[str, Any], names: dict[str, Listed | None] | None
    ) -> Iterator[Event]:
        """A trial from a list (`names`: what it has listed so far) or from a watch."""
        name, version = name_of(item), version_of(item)
        seen = self._trials.get(name) or self._arrivals.get(name)
        if version < self._versions.get(name, -1):
            return
        listed = trials.listed_trial(item, self.experiment)
        fresh = listed.trial
        if seen and seen.state.finished and not fresh.state.finished:
            return
        self._versions[name] = version
        if name in self._trials or (
            names is None and (name in self.numbers or listed.number is not None)
        ):
            yield from self._number([listed])
        elif names is not None:
            names[name] = listed
        else:
            self._arrivals.put(listed, self.clock.now())

    def _number(self, listed: Iterable[Listed]) -> Iterator[Event]:
        for one in trials.in_order(listed):
            yield from self._become(self._placed(replace(one.trial, number=self.numbers.of(one))))

    def _become(self, fresh: Trial) -> Iterator[Event]:
        """Update a trial and yield its events. Trials change nowhere else."""
        before = self._trials.get(fresh.name)
        if fresh == before:
            return
        if before is None or before.state is not fresh.state:
            self._progress()
        # it has nothing to report; `diagnose.blocked` says why it waits
        if fresh.state is TrialState.WAITING:
            self._trials[fresh.name] = fresh
            return
        unseen = before is None or before.state is TrialState.WAITING
        if unseen and fresh.state.finished:  # its start was not seen, so report it now
            started = replace(fresh, state=TrialState.RUNNING, metrics={}, ended=None, reason="")
            yield from self._become(started)
            unseen, before = False, started
        self._trials[fresh.name] = fresh
        kind = EventKind.TRIAL_REPORTED
        if fresh.state.finished and not (before and before.state.finished):
            kind = EventKind.TRIAL_ENDED
        elif unseen and fresh.state is TrialState.RUNNING:
            kind = EventKind.TRIAL_STARTED
        yield Event(kind, self.result(), fresh)

    def _pod(self, item: dict[str, Any]) -> Iterator[Event]:
        view = objects.pod(item)
        if view == self._pods.get(view.name):
            return
        self._pods[view.name] = view
        if view.trial:
            self._pods_of.setdefault(view.trial, {})[view.name] = view
            self._reasons.pop(view.trial, None)
            if not view.reason:
                self._progress()
            yield from self._place(view.trial)

    def _place(self, trial: str) -> Iterator[Event]:
        if seen := self._trials.get(trial):
            yield from self._become(self._placed(seen))

    def _placed(self, trial: Trial) -> Trial:
        name = trial.name
        pod = trials.youngest(self._pods_of.get(name, {}).values()).get(name)
        if pod:
            pod = self._last_pod[name] = self._explained(pod)
        elif trial.state.finished:
            pod = self._last_pod.get(name)
        known = self._trials.get(name) or self._known.get(name)
        return trials.placed(trial, pod, known, self._reasons.get(name, ""))

    def _explained(self, pod: PodView) -> PodView:
        """Return `pod` with the metrics collector's message if it failed. Asks once, before Katib removes the pod."""
        if pod.culprit != SIDECAR:
            return pod
        if pod not in self._explanations:
            self._explanations[pod] = logs.explained(self.cluster, pod, self.study.namespace)
        return self._explanations[pod]

    def _progress(self) -> None:
        self._moved = self._looked = self.clock.now()
        self._looks = 0

    def _patience(self) -> float:
        return _LOOK_DELAYS[min(self._looks, len(_LOOK_DELAYS) - 1)]

    def _look(self) -> Iterator[Event]:
        """Find out why nothing has changed for a while, and warn once."""
        self._looked = self.clock.now()
        if self._lost:  # the API server may be down, so nothing can be said about the search
            return
        findings = diagnose.diagnose(self.cluster, self._snapshot())
        self._reasons.update(findings.reasons)
        for name in findings.reasons:
            yield from self._place(name)
        for message in [*findings.warnings, *diagnose.blocked(self._snapshot())]:
            yield from self._warn(message)

    def _snapshot(self) -> diagnose.Snapshot:
        return diagnose.Snapshot(
            self.experiment,
            self.study.namespace,
            created=objects.time_of(self._item["metadata"].get("creationTimestamp")),
            touched=bool(self._item.get("status", {}).get("conditions")),
            trials=self.result().trials,
            pods=tuple(self._explanations.get(pod, pod) for pod in self._pods.values()),
            pods_known=self._pods_known,
            quiet=self._looked - self._moved,
        )

    def _warn(self, message: str) -> Iterator[Event]:
        if message not in self._said:
            self._said.add(message)
            yield Event(EventKind.WARNING, self.result(), message=message)
