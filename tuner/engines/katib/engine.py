"""KatibEngine: the Engine protocol on a cluster, and the verbs that only a cluster has."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tuner.engine import Event, EventKind
from tuner.engines.katib import curves, logs, objects, preflight, spec, stalls
from tuner.engines.katib.objects import EXPERIMENT_LABEL, STOPPED_REASON, name_of
from tuner.engines.katib.watching import DELETED, Watcher
from tuner.errors import (
    ClusterError,
    Conflict,
    ManifestError,
    NotFound,
    StudyChanged,
    StudyDamaged,
    StudyNotFound,
    UnsupportedError,
)
from tuner.kube import EXPERIMENTS, PODS, SUGGESTIONS, TRIALS, Cluster
from tuner.kube.failures import one_line
from tuner.manifest import API_VERSION, Experiment, from_document
from tuner.result import Result, StudyState, Trial, TrialState
from tuner.store import EngineKind, Store

_CONFLICTS = 5  # the controller writes the status too: read again and try again


class KatibEngine:
    """Searches on one cluster, kept in one store.

    `namespace` overrides the manifest's; `deadline` ends a watch after so many seconds; `notify` hears warnings that
    come outside a watch; `pace` scales every wait (tests).
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        *,
        namespace: str = "",
        katib_namespace: str = "kubeflow",
        deadline: float | None = None,
        notify: Callable[[str], None] = lambda message: None,
        pace: float = 1.0,
        db_manager: str = "",
    ) -> None:
        self.cluster, self.store, self.namespace, self.katib_namespace = cluster, store, namespace, katib_namespace
        self.deadline, self.notify, self.pace, self.db_manager = deadline, notify, pace, db_manager

    def submit(self, experiment: Experiment) -> str:
        """Create the Experiment, or join the one that is there with the same spec; at most five requests.

        Raises StudyChanged with the difference, Denied with the webhook's message, NotFound where Katib or the
        namespace is absent.
        """
        namespace = self._namespace_of(experiment)
        if experiment.name and self._join(experiment, namespace):
            return experiment.name
        for warning in preflight.preflight(self.cluster, experiment, namespace, self.katib_namespace):
            self.notify(warning)
        body = _body(experiment, namespace)
        try:
            made = self.cluster.create(EXPERIMENTS, body, namespace=namespace)
        except Conflict:  # someone was quicker, or a create whose answer was lost had arrived
            if not (experiment.name and self._join(experiment, namespace)):
                raise
            return experiment.name
        name = name_of(made)
        self._keep(replace(experiment, name=name), body | {"metadata": {"name": name, "namespace": namespace}})
        return name

    def watch(self, name: str) -> Iterator[Event]:
        """Events until the Experiment succeeds, fails, is stopped or is deleted; Timeout at the deadline.

        The result is stored at the end, whichever it is.
        """
        namespace, item, experiment = self._find(name)
        stored = self._stored(name, item)
        numbers = {trial.name: trial.number for trial in stored}
        watcher = Watcher(
            self.cluster,
            experiment,
            item,
            namespace=namespace,
            deadline=self.deadline,
            pace=self.pace,
            numbers=numbers,
        )
        try:
            yield from watcher.events()
        finally:
            seen = watcher.result()
            seen = replace(seen, trials=_joined(seen.trials, stored, complete=False))
            self.store.save_result(seen)  # collect goes on from its numbers
        if watcher.deleted:
            result = replace(seen, state=StudyState.STOPPED, reason=DELETED)
            self.store.save_result(result)
        else:
            try:
                result = self.collect(name)
            except NotFound:
                result = replace(seen, state=StudyState.STOPPED, reason=DELETED)
                self.store.save_result(result)
            else:
                for message in [*self.doubts(name, result), *_left_running(result)]:
                    yield Event(EventKind.WARNING, result, message=message)
        yield Event(EventKind.STUDY_ENDED, result, message=result.reason)

    def collect(self, name: str, *, with_curves: bool = True) -> Result:
        """All trials with their metrics, pods' reasons and curves, stored under the store's NAME directory."""
        namespace, item, experiment = self._find(name)
        found = self._read(namespace, item, experiment)
        result = replace(found, trials=_joined(found.trials, self._stored(name, item)))
        self.store.save_result(result)
        if with_curves and result.trials:
            folder = self.store.folder(name)
            missing = curves.collect(
                self.cluster,
                experiment,
                result,
                folder,
                namespace=namespace,
                katib_namespace=self.katib_namespace,
                address=self.db_manager,
            )
            if missing:
                self.notify(missing)
        self._item = item
        return result

    def doubts(self, name: str, result: Result) -> list[str]:
        """Where Katib's verdict disagrees with the trials: another best, a goal that was not reached."""
        item = getattr(self, "_item", None)
        if item is None or name_of(item) != name:
            item = self._find(name)[1]
        said = item.get("status", {}).get("currentOptimalTrial") or {}
        theirs, best = str(said.get("bestTrialName", "")), result.best
        messages = []
        metric = result.objective.metric
        if theirs and theirs != (best.name if best else ""):
            other = next((trial for trial in result.trials if trial.name == theirs), None)
            if best is None or other is None or other.metrics.get(metric) != best.metrics[metric]:
                ours = f"{best.name} ({metric}={best.metrics[metric]:g})" if best else "none"
                messages.append(
                    f"Katib names {theirs} the best trial; by the trials' own values it is {ours}: "
                    "a trial without a finite objective misleads Katib"
                )
        reason = objects.conditions(item).get("Succeeded", {}).get("reason")
        if reason == "ExperimentGoalReached" and not (best and result.objective.reached(best.metrics[metric])):
            messages.append(f"Katib says that the goal {result.objective.goal} was reached; no trial's {metric} did")
        return messages

    def stop(self, name: str) -> None:
        """End the search and its running trials; the Experiment and every finished trial stay.

        Katib has no such verb: its counts cannot be lowered to what has run already (validator.go). So the status is
        completed by a patch of the status subresource, upon which the controller makes no more trials, and the running
        trials are deleted (their Jobs and pods go with them).
        """
        namespace, item, experiment = self._find(name)
        before = self._read(namespace, item, experiment)
        if before.state is StudyState.RUNNING:
            self._complete(name, namespace)
        running = [trial for trial in before.trials if not trial.state.ended]
        for trial in running:
            try:
                self.cluster.delete(TRIALS, trial.name, namespace=namespace)
            except NotFound:
                continue
        result = self._read(namespace, *self._find(name)[1:])
        gone = [replace(trial, state=TrialState.KILLED, reason="stopped") for trial in running]
        left = [trial for trial in result.trials if trial.name not in {trial.name for trial in running}]
        known = _joined((*before.trials,), self._stored(name, item))
        numbers = {trial.name: trial.number for trial in known}
        trials = _joined((*left, *gone), tuple(replace(t, number=numbers[t.name]) for t in known))
        self.store.save_result(replace(result, trials=trials))

    def extend(self, name: str, max_trials: int) -> None:
        """Raise maxTrialCount. Raises UnsupportedError with Katib's rule where it cannot be done."""
        namespace, item, experiment = self._find(name)
        state, _ = objects.study_state(item)
        made = int(item.get("status", {}).get("trials", 0))
        if max_trials <= made:
            raise UnsupportedError(f"--max-trials must exceed the {made} trials made so far, got {max_trials}")
        reason = objects.conditions(item).get("Succeeded", {}).get("reason")
        restartable = reason == "ExperimentMaxTrialsReached" and experiment.resume_policy != "Never"
        if state is not StudyState.RUNNING and not restartable:
            raise UnsupportedError(
                f"{name} is {state.value} and Katib restarts only what ended at its maxTrialCount with resumePolicy "
                f"LongRunning or FromVolume (here {experiment.resume_policy}): submit it under another name, or go on "
                f"here with `gantune run FILE --local --from {name}`"
            )
        self.cluster.patch(EXPERIMENTS, name, {"spec": {"maxTrialCount": max_trials}}, namespace=namespace)

    def delete(self, name: str) -> Result:
        """Collect, then delete: its trials, Jobs and pods go within seconds, and so do Katib's metrics."""
        result = self.collect(name)
        if result.state is StudyState.RUNNING:
            trials = tuple(
                t if t.state.ended else replace(t, state=TrialState.KILLED, reason="deleted") for t in result.trials
            )
            result = replace(result, state=StudyState.STOPPED, reason="deleted while it ran", trials=trials)
            self.store.save_result(result)
        self.cluster.delete(EXPERIMENTS, name, namespace=self._namespace_for(name))
        return result

    def logs(self, name: str, which: str | None = None, *, best: bool = False, follow: bool = False) -> Iterator[str]:
        """The log of one trial, line by line (see tuner.engines.katib.logs)."""
        namespace, item, experiment = self._find(name)
        trial = logs.choose(self._read(namespace, item, experiment, pods=False), which, best=best)
        yield from logs.lines(self.cluster, experiment, trial, namespace, follow=follow)

    def max_trials(self, name: str) -> int | None:
        """The Experiment's maxTrialCount; None without one."""
        return self._find(name)[2].max_trials

    def names(self) -> list[tuple[str, StudyState]]:
        """The Experiments of the namespace."""
        namespace = self._need(self.namespace or self.cluster.namespace)
        return [
            (name_of(item), objects.study_state(item)[0])
            for item in self.cluster.list(EXPERIMENTS, namespace=namespace)
        ]

    def _complete(self, name: str, namespace: str) -> None:
        for attempt in range(_CONFLICTS):
            item = self.cluster.get(EXPERIMENTS, name, namespace=namespace)
            if objects.study_state(item)[0] is not StudyState.RUNNING:
                return
            status = spec.completed(item, STOPPED_REASON, "Experiment was stopped by gantune stop")
            body = {"metadata": {"resourceVersion": item["metadata"]["resourceVersion"]}, "status": status}
            try:
                self.cluster.patch(EXPERIMENTS, name, body, namespace=namespace, sub="status")
            except Conflict:
                if attempt == _CONFLICTS - 1:
                    raise
            else:
                return

    def _join(self, experiment: Experiment, namespace: str) -> bool:
        try:
            held = self.cluster.get(EXPERIMENTS, experiment.name, namespace=namespace)
        except NotFound as error:
            if "has no Katib" in str(error):
                raise
            return False
        changes = spec.difference(held.get("spec") or {}, experiment.document.get("spec") or {})
        if changes:
            raise StudyChanged(
                f"Experiment {experiment.name} exists in namespace {namespace} with another spec "
                f"({'; '.join(changes[:6])}{' ...' if len(changes) > 6 else ''}): rename it, or "
                f"`gantune delete {experiment.name}` first"
            )
        holds, asks = held["spec"].get("maxTrialCount"), experiment.max_trials
        if asks is not None and holds != asks:
            remedy = f"gantune extend {experiment.name} --max-trials {asks}"
            self.notify(f"joined {experiment.name}, which has maxTrialCount {holds}, not {asks}: `{remedy}`")
        self._keep(experiment, _body(experiment, namespace))
        return True

    def _read(self, namespace: str, item: dict[str, Any], experiment: Experiment, *, pods: bool = True) -> Result:
        """The Experiment and all its trials: number by creation, then name."""
        label = f"{EXPERIMENT_LABEL}={experiment.name}"
        slim = [
            (str(found["metadata"].get("creationTimestamp", "")), objects.trial(found, experiment, 0))
            for found in self.cluster.list(TRIALS, namespace=namespace, labels=label)
        ]
        trials = _renumbered([trial for _, trial in sorted(slim, key=lambda pair: (pair[0], pair[1].name))])
        state, reason = objects.study_state(item)
        if state is StudyState.FAILED and "uggestion has failed" in reason:
            reason = self._suggestion_says(experiment.name, namespace) or reason
        unfinished = any(t.state in (TrialState.RUNNING, TrialState.FAILED) for t in trials)
        if pods and unfinished:
            trials = self._with_pods(trials, namespace, label)
        return Result(
            experiment.name, state, experiment.objective, trials, "" if state is StudyState.RUNNING else reason
        )

    def _with_pods(self, trials: tuple[Trial, ...], namespace: str, label: str) -> tuple[Trial, ...]:
        try:
            views = {
                view.trial: view
                for view in map(objects.pod, self.cluster.list(PODS, namespace=namespace, labels=label))
            }
        except ClusterError as error:
            self.notify(f"no reasons for waiting pods: {error}")
            return trials
        placed = []
        for trial in trials:
            view = views.get(trial.name)
            says = view.reason if view and trial.state in (TrialState.RUNNING, TrialState.FAILED) else ""
            placed.append(replace(trial, node=view.node, reason=says or trial.reason) if view else trial)
        return tuple(placed)

    def _suggestion_says(self, name: str, namespace: str) -> str:
        try:
            return one_line(stalls.suggestion_failure(self.cluster.get(SUGGESTIONS, name, namespace=namespace)))
        except ClusterError:
            return ""

    def _find(self, name: str) -> tuple[str, dict[str, Any], Experiment]:
        """The namespace, the object and the Experiment; one that was submitted elsewhere is taken into the store."""
        namespace = self._namespace_for(name)
        item = self.cluster.get(EXPERIMENTS, name, namespace=namespace)
        try:
            experiment = from_document(item)
        except ManifestError as error:
            raise UnsupportedError(f"Experiment {name} cannot be understood: {error}") from error
        if name not in self.store.names():
            self._keep(experiment, _body(experiment, namespace))
        return namespace, item, experiment

    def _stored(self, name: str, item: dict[str, Any]) -> tuple[Trial, ...]:
        """The trials that the store holds of this very Experiment, not of an earlier one under the same name."""
        made = objects.time_of(item["metadata"].get("creationTimestamp"))
        try:
            trials = self.store.result(name).trials
        except StudyDamaged:
            return ()
        return tuple(t for t in trials if t.started is None or made is None or t.started >= made)

    def _keep(self, experiment: Experiment, body: dict[str, Any]) -> None:
        self.store.submit(replace(experiment, document=body), EngineKind.KATIB)

    def _namespace_of(self, experiment: Experiment) -> str:
        return self._need(self.namespace or experiment.namespace or self.cluster.namespace)

    def _namespace_for(self, name: str) -> str:
        if self.namespace:
            return self.namespace
        try:
            held = self.store.experiment(name).namespace if name in self.store.names() else ""
        except StudyNotFound:
            held = ""
        return self._need(held or self.cluster.namespace)

    def _need(self, namespace: str) -> str:
        if not namespace:
            raise NotFound("no namespace: the manifest and the kubeconfig's context name none; pass -n NAMESPACE")
        return namespace


def _left_running(result: Result) -> Iterator[str]:
    """Katib leaves running trials alone when the goal is reached or the search fails."""
    running = sum(not trial.state.ended for trial in result.trials)
    if running and result.state is not StudyState.RUNNING:
        yield f"the search has ended, {running} of its trials still run: `gantune stop {result.name}` ends them"


def _renumbered(trials: list[Trial]) -> tuple[Trial, ...]:
    return tuple(replace(trial, number=number) for number, trial in enumerate(trials))


def _joined(found: tuple[Trial, ...], stored: tuple[Trial, ...], *, complete: bool = True) -> tuple[Trial, ...]:
    """What the cluster holds now and what was stored before: numbers stay, and so do trials that are gone since.

    Where `found` is not `complete`, a trial that is missing from it may still run.
    """
    numbers = {trial.name: trial.number for trial in stored}
    free = max(numbers.values(), default=-1) + 1
    for trial in found:
        if trial.name not in numbers:
            numbers[trial.name], free = free, free + 1
    here = {trial.name for trial in found}
    gone = [
        trial
        if trial.state.ended or not complete
        else replace(trial, state=TrialState.KILLED, reason="deleted on the cluster")
        for trial in stored
        if trial.name not in here
    ]
    trials = (replace(trial, number=numbers[trial.name]) for trial in [*found, *gone])
    return tuple(sorted(trials, key=lambda trial: trial.number))


def _body(experiment: Experiment, namespace: str) -> dict[str, Any]:
    """The object to create: what was written, in the namespace it goes to, without what only a server sets."""
    written = dict(experiment.document.get("metadata") or {})
    kept = {key: written[key] for key in ("name", "generateName", "labels", "annotations") if written.get(key)}
    if experiment.name:
        kept["name"] = experiment.name
    return {
        "apiVersion": API_VERSION,
        "kind": "Experiment",
        "metadata": kept | {"namespace": namespace},
        "spec": copy.deepcopy(dict(experiment.document.get("spec") or {})),
    }
