"""Runs Experiments on a cluster: KatibEngine, the Engine protocol with Katib."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.commands import gantune
from tuner.engines.base import Event, EventKind, Overview
from tuner.engines.katib import (
    budget,
    diagnose,
    files,
    logs,
    objects,
    observations,
    preflight,
    services,
    spec,
    trials,
)
from tuner.engines.katib.archive import ClusterStudies, Origin
from tuner.engines.katib.clock import Clock
from tuner.engines.katib.experiment import (
    LiveExperiment,
    fetch_live,
    not_stopped,
    read_result,
)
from tuner.engines.katib.guard import guarded
from tuner.engines.katib.objects import name_of
from tuner.engines.katib.stop import complete, end_trials
from tuner.engines.katib.watcher import Watcher
from tuner.errors import (
    ClusterError,
    Conflict,
    GantuneError,
    NoKatib,
    NotFound,
    StudyChanged,
    StudyDamaged,
    StudyError,
    UnsupportedError,
)
from tuner.experiment.model import Experiment
from tuner.katib.facts import API_VERSION, NAMESPACE
from tuner.kube import EXPERIMENTS, Cluster
from tuner.result import Result, StudyState, Trial
from tuner.store import images
from tuner.store.studies import Store
from tuner.store.transfer import FileRecord, Progress

if TYPE_CHECKING:
    from tuner.analysis.view import View

# reads, a second apart, of an Experiment that is being deleted; its finalizer takes one or two
_DELETE_POLLS = 10
_STORE_INTERVAL = 5.0  # seconds after which a watch stores its trials again, for the other commands


class KatibEngine:
    """Searches on one cluster, stored in one store.

    `cluster` is the connection, or a function that makes it when a verb first needs one. `namespace`
    overrides the manifest's. `timeout` ends a watch after so many seconds. `notify`
    receives warnings outside a watch, `note` other messages. `earlier` is a study to warm-start from. `clock` measures all waits.
    """

    def __init__(
        self,
        cluster: Cluster | Callable[[], Cluster],
        store: Store,
        *,
        namespace: str = "",
        katib_namespace: str = NAMESPACE,
        timeout: float | None = None,
        earlier: Result | None = None,
        notify: Callable[[str], None] = lambda message: None,
        note: Callable[[str], None] = lambda message: None,
        clock: Clock | None = None,
        db_manager: str = "",
    ) -> None:
        self._cluster = cluster
        self.store = ClusterStudies(store)
        self.namespace, self.katib_namespace = namespace, katib_namespace
        self.timeout, self.db_manager = timeout, db_manager
        self.earlier, self.notify, self.note = earlier, notify, note
        self.clock = clock or Clock()
        self.served = ""  # who answers for the algorithm of the Experiment that was created last

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster; the first use connects, and raises Unreachable without a kubeconfig."""
        return self._cluster if isinstance(self._cluster, Cluster) else self._cluster()

    def run(self, experiment: Experiment) -> Iterator[Event]:
        """Create the Experiment as `submit` does, and yield its events until it finishes.

        It is created at once. Without this client, it runs on.
        """
        study = self._submitted(experiment)
        # it was created now, or was there before and was joined
        self.note(f"{study.name} is on {self.cluster.server}")
        return self._events(study)

    def submit(self, experiment: Experiment) -> str:
        """Create the Experiment, or join an existing one with the same spec; returns its name.

        It sends at most five requests, and once the Experiment is created, nothing raises.

        Raises:
            StudyChanged: Its spec differs; the message shows the difference.
            Denied: A webhook refused it; the message is the webhook's.
            NotFound: There is no Katib, or no such namespace.
            UnsupportedError: A service of Katib cannot be warm-started.
        """
        return self._submitted(experiment).name

    @guarded
    def _submitted(self, experiment: Experiment) -> LiveExperiment:
        namespace = self._need(self.namespace or experiment.namespace or self.cluster.namespace)
        self.store.ensure_writable(experiment.name)
        study = self._joined(experiment, namespace) if experiment.name else None
        if study is None:
            service, warnings = preflight.preflight(
                self.cluster, experiment, namespace, self.katib_namespace
            )
            experiment, notes = services.prepared(experiment, service, self.earlier)
            for warning in filter(None, [*warnings, *notes, files.lost(experiment)]):
                self.notify(warning)
            study = self._created(experiment, namespace)
            self.served = service.describe(experiment.algorithm.name)
            self.note(self.served)
        elif self.earlier is not None:
            self.notify(f"--warm-start has no effect: {study.name} was already on the cluster")
        try:
            self._remember(study)
        except StudyError as error:
            self.notify(f"{study.name} is on the cluster, but could not be stored: {error}")
        return study

    @guarded
    def watch(self, name: str) -> Iterator[Event]:
        """Yield events until the Experiment succeeds, fails, is stopped or is deleted.

        The result is stored on the way and at the end, whichever it is. Raises Deadline after
        `timeout` seconds.
        """
        study = self._find(name)
        # a finished study is stored after its trials are read
        if study.state is StudyState.RUNNING:
            self._remember(study)
        return self._events(study)

    @guarded
    def _events(self, study: LiveExperiment) -> Iterator[Event]:
        name = study.name
        known = self._known(study)
        watcher = Watcher(self.cluster, study, known=known, timeout=self.timeout, clock=self.clock)
        kept = self.clock.now()
        try:
            for event in watcher.events():
                if self.clock.now() - kept > _STORE_INTERVAL:
                    self._keep(watcher.result(), known, study)
                    kept = self.clock.now()
                yield event
        finally:
            seen = self._keep(watcher.result(), known, study)
        result = seen.cut_off(StudyState.DELETED, "it was deleted on the cluster during the watch")
        if not watcher.deleted:
            try:
                last = fetch_live(self.cluster, name, study.namespace)
                if last.uid == study.uid:
                    study, result = last, self._collect(last)
            except NotFound:
                pass
            except ClusterError as error:
                # no trial was read: the state alone would look like an empty study
                if not watcher.result().trials:
                    raise
                result = seen
                yield Event(
                    EventKind.WARNING,
                    seen,
                    message=f"these are the results of the watch, because the final read failed: {error}",
                )
        if not self.store.kept(study.name, study.uid):
            self._remember(study)
        self.store.save(result, study.uid)
        yield from watcher.ends(result)
        for warning in filter(
            None, [*diagnose.warnings(study.item, result), not_stopped(self.cluster, study)]
        ):
            yield Event(EventKind.WARNING, result, message=warning)
        yield Event(EventKind.STUDY_ENDED, result, message=result.reason)

    @guarded
    def result(self, name: str, *, with_curves: bool = True) -> Result:
        """Collect and store all trials, with their metrics, their pods' reasons and their curves.

        `notify` receives what is doubtful in Katib's status: another best trial, or a goal that was
        not reached.
        """
        study = self._find(name)
        result = self._collect(study, with_curves=with_curves)
        for warning in diagnose.warnings(study.item, result):
            self.notify(warning)
        return result

    def view(self, name: str, *, images: bool = True) -> View:
        """Return what a report shows of the study, as it was collected last."""
        from tuner.engines.katib import details  # imports NumPy, which takes a while

        return details.view(self.store, name, images=images)

    @guarded
    def stop(self, name: str, *, drain: bool = False) -> None:
        """Stop the search and its running trials. The Experiment and finished trials are kept.

        Raises UnsupportedError for `drain`, because Katib has no such state.
        """
        if drain:
            raise UnsupportedError(
                f"Katib cannot let the running trials of {name} finish: stop them, or wait"
            )
        study = self._find(name)
        self._remember(study)
        if complete(self.cluster, study):
            # the controller may still process the previous state and create trials
            self.clock.sleep(1.0)
        trials = end_trials(self.cluster, study, self._known(study), self.notify, self.clock)
        state, reason = objects.study_state(
            self.cluster.get(EXPERIMENTS, name, namespace=study.namespace)
        )
        self.store.save(
            Result(
                name, state, study.experiment.objective, trials, reason, study.experiment.baseline
            ),
            study.uid,
        )

    @guarded
    def extend(self, name: str, max_trials: int) -> None:
        """Raise maxTrialCount. Raises UnsupportedError with Katib's rule if it is impossible."""
        study = self._find(name)
        if refused := budget.refused_extension(study.item, max_trials):
            raise UnsupportedError(refused)
        body = {"spec": {"maxTrialCount": max_trials}}
        self.cluster.patch(EXPERIMENTS, name, body, namespace=study.namespace)
        self._remember(replace(study, experiment=replace(study.experiment, max_trials=max_trials)))
        running = replace(self.store.result(name), state=StudyState.RUNNING, reason="")
        self.store.save(running, study.uid)

    @guarded
    def delete(self, name: str) -> Result:
        """Collect the results and delete the Experiment. Katib then deletes its trials, Jobs, pods and metrics."""
        study = self._find(name)
        result = self._collect(study)
        self.cluster.delete(EXPERIMENTS, name, namespace=study.namespace)
        result = result.cut_off(StudyState.DELETED, "deleted while it ran")
        self.store.save(result, study.uid)
        return result

    @guarded
    def logs(
        self, name: str, which: str | None = None, *, best: bool = False, follow: bool = False
    ) -> Iterator[str]:
        """The log of one trial, line by line (see tuner.engines.katib.logs)."""
        study = self._find(name)
        result = read_result(self.cluster, study, self._known(study), self.notify, pods=False)
        trial = logs.choose(result, which, best=best)
        try:
            yield from logs.lines(
                self.cluster, study.experiment, trial, study.namespace, follow=follow
            )
        except (
            NotFound
        ) as gone:  # Katib removes the pod of a trial that has finished, unless `retain` is true
            self._remember(study)
            reported = self._reported(study, replace(result, trials=(trial,)))
            if not reported:
                raise
            self.notify(f"{gone}; these are the metrics that it reported")
            yield from reported

    @guarded
    def files(
        self,
        name: str,
        target: Path,
        which: str | None = None,
        *,
        progress: Progress = lambda done, total: None,
    ) -> tuple[Trial, list[FileRecord]]:
        """Copy the files of a trial from its volume (see tuner.engines.katib.files)."""
        try:
            study = self._find(name)
            result = read_result(self.cluster, study, self._known(study), self.notify, pods=False)
            experiment, namespace = study.experiment, study.namespace
            self._remember(study)
        except NotFound:  # its volume may still exist
            origin = self.store.origin(name)
            if origin is None or origin.server != self.cluster.server:
                raise
            experiment, namespace = self.store.experiment(name), origin.namespace
            result = self.store.result(name)
        trial = logs.choose(result, which, best=which is None)
        found = files.copy(
            self.cluster,
            experiment,
            trial,
            namespace,
            target,
            progress=progress,
            notify=self.notify,
            clock=self.clock,
        )
        images.keep(self.store.folder(name), trial.name, target)
        return trial, found

    @guarded
    def studies(self) -> list[Overview]:
        """Return what one list says of each Experiment in the namespace."""
        namespace = self._need(self.namespace or self.cluster.namespace)
        found = self.cluster.list(EXPERIMENTS, namespace=namespace)
        return [objects.overview(item) for item in found]

    def _created(self, experiment: Experiment, namespace: str) -> LiveExperiment:
        body = _body(experiment, namespace)
        try:
            made = self.cluster.create(EXPERIMENTS, body, namespace=namespace)
        except Conflict:  # another client created it, or the answer to the first create was lost
            study = self._joined(experiment, namespace) if experiment.name else None
            if study is None:
                raise
            return study
        return LiveExperiment(
            made, replace(experiment, name=name_of(made), document=body), namespace
        )

    def _joined(self, experiment: Experiment, namespace: str) -> LiveExperiment | None:
        """The Experiment of that name if it is on the cluster. Raises StudyChanged where its spec is another."""
        item = self._present(experiment.name, namespace)
        if item is None:
            return None
        changes = spec.difference(item.get("spec") or {}, experiment.document.get("spec") or {})
        if changes:
            raise StudyChanged(
                f"Experiment {experiment.name} exists in namespace {namespace} with a different spec "
                f"({'; '.join(changes[:6])}{' ...' if len(changes) > 6 else ''}): rename it, or "
                f"`{gantune('delete', experiment.name)}` first"
            )
        self.notify(
            f"joined {experiment.name}, in namespace {namespace} since {item['metadata']['creationTimestamp']}"
        )
        if objects.study_state(item)[0] is StudyState.STOPPED:
            self.notify(
                f"{experiment.name} was stopped, so no more trials run: to go on, rename the Experiment and submit it "
                f"with --warm-start {experiment.name}"
            )
        for note in budget.differences(item, experiment):
            self.notify(note)
        held = services.with_first_of(experiment, item)
        if count := sum(point not in held.first_trials for point in experiment.first_trials):
            self.notify(
                f"{count} of the first trials will not run: {experiment.name} was already on the cluster"
            )
        return LiveExperiment(item, replace(held, document=_body(held, namespace)), namespace)

    def _present(self, name: str, namespace: str) -> dict[str, Any] | None:
        """Return the Experiment, or None. Waits for one that is being deleted, because it cannot be joined."""
        since = ""
        for attempt in range(_DELETE_POLLS):
            self.clock.sleep(1.0 if attempt else 0.0)
            try:
                item = self.cluster.get(EXPERIMENTS, name, namespace=namespace)
            except NoKatib:
                raise
            except NotFound:
                return None
            since = item["metadata"].get("deletionTimestamp")
            if not since:
                return item
        raise Conflict(
            f"Experiment {name} in namespace {namespace} is being deleted since {since}: submit it again when it is "
            f"gone; `kubectl get experiment {name} -n {namespace} -o yaml` shows the finalizer that holds it"
        )

    def _collect(self, study: LiveExperiment, *, with_curves: bool = True) -> Result:
        result = read_result(self.cluster, study, self._known(study), self.notify)
        # after the read, so that a refusal leaves no empty study in the store
        self._remember(study)
        self.store.save(result, study.uid)
        if with_curves and result.trials:
            self._curves(study, result)
        return result

    def _curves(self, study: LiveExperiment, result: Result) -> None:
        kept = self.store.kept(study.name, study.uid)
        missing = kept and observations.collect(
            self.cluster,
            study.experiment,
            result,
            self.store.folder(kept),
            namespace=study.namespace,
            katib_namespace=self.katib_namespace,
            address=self.db_manager,
        )
        if missing:
            self.notify(missing)

    def _reported(self, study: LiveExperiment, result: Result) -> list[str]:
        """Return what the one trial of `result` reported, as metric lines."""
        self._curves(study, result)
        return observations.metric_lines(self.store.folder(study.name), result.trials[0].name)

    def _find(self, name: str) -> LiveExperiment:
        """The Experiment on the cluster: where the store says that it is, unless a namespace was given."""
        origin = self.store.origin(name)
        namespace = self._need(
            self.namespace or (origin.namespace if origin else "") or self.cluster.namespace
        )
        try:
            return fetch_live(self.cluster, name, namespace)
        except NotFound as error:
            if origin is None:
                raise
            if origin.server != self.cluster.server:
                raise NotFound(
                    f"{error}; the store has it from {origin.server}: pass --context"
                ) from error
            raise NotFound(
                f"{error}; what was collected of {name} is still here: "
                f"`{gantune('status', name)}`, `best`, `report`"
            ) from error

    def _remember(self, study: LiveExperiment) -> None:
        """Make NAME in the store the study of this Experiment. The study of another one is kept as an archive."""
        origin = Origin(study.uid, study.namespace, self.cluster.server)
        moved = self.store.activate(study.name, study.uid)
        if moved:
            self.notify(
                f"the store's {study.name} was another Experiment: its results are {moved} now"
            )
            before, same = self.store.origin(moved), self.store.archived(moved) == study.name
            # Another Experiment has the same name in the same place, so the earlier one is gone.
            if before and same and replace(before, uid=study.uid) == origin:
                with suppress(StudyDamaged):
                    gone = self.store.result(moved).cut_off(
                        StudyState.DELETED, "deleted on the cluster"
                    )
                    self.store.save_result(gone)
        body = _body(study.experiment, study.namespace)
        experiment = replace(study.experiment, name=study.name, document=body)
        self.store.remember(experiment, origin)

    def _known(self, study: LiveExperiment) -> tuple[Trial, ...]:
        """Return the trials of exactly this Experiment that are in the store."""
        kept = self.store.kept(study.name, study.uid)
        try:
            return self.store.result(kept).trials if kept else ()
        except StudyDamaged:
            return ()

    def _keep(self, seen: Result, known: tuple[Trial, ...], study: LiveExperiment) -> Result:
        """Store the result of a watch, unless it knows that the study finished but none of its trials."""
        result = replace(seen, trials=trials.united(seen.trials, known))
        if seen.trials or seen.state is StudyState.RUNNING:
            self.store.save(result, study.uid)
        return result

    def _need(self, namespace: str) -> str:
        if not namespace:
            raise GantuneError(
                "no namespace: the manifest and the kubeconfig's context name none; pass -n NAMESPACE"
            )
        return namespace


def _body(experiment: Experiment, namespace: str) -> dict[str, Any]:
    """The object to create: what was written, in the namespace it goes to, without what only a server sets."""
    written = dict(experiment.document.get("metadata") or {})
    kept = {
        key: written[key]
        for key in ("name", "generateName", "labels", "annotations")
        if written.get(key)
    }
    if experiment.name:
        kept["name"] = experiment.name
    return {
        "apiVersion": API_VERSION,
        "kind": "Experiment",
        "metadata": kept | {"namespace": namespace},
        "spec": copy.deepcopy(dict(experiment.document.get("spec") or {})),
    }
