"""Runs Experiments on this machine: LocalEngine, the Engine protocol with Optuna's samplers.

engine = LocalEngine(Store(".gantune"), workers=2, seed=0)
for event in engine.run(load("manifests/bayes.yaml")): ...

docs/local.md describes its behaviour.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.engines.base import Event, EventKind, Overview
from tuner.engines.local import files, logs, recovery
from tuner.engines.local.adapt import adapt, with_command
from tuner.engines.local.follow import Follower, events
from tuner.engines.local.journal import Journal, TrialRecord, result_of
from tuner.engines.local.reading import ensure_readable
from tuner.engines.local.recovery import Health
from tuner.errors import CommandError, StudyError, UnsupportedError
from tuner.experiment.annotations import missing_file
from tuner.experiment.early_stopping import Rules, rules
from tuner.experiment.model import Experiment, with_first_trials
from tuner.metrics import compiled
from tuner.result import Result, Trial, TrialState
from tuner.samplers.first import left_out
from tuner.store.files import remove
from tuner.store.lock import Lock
from tuner.store.studies import EngineKind, Store
from tuner.store.transfer import FileRecord, Progress

if TYPE_CHECKING:
    from tuner.analysis.view import View
    from tuner.engines.local.session import Session
    from tuner.samplers import Sampler

OWNER_TIMEOUT = 1.0  # seconds until a process that has just locked a study has written its id
STOP_TIMEOUT = 60.0  # seconds until another process has ended its trials after SIGTERM
# a point of an earlier study in the sampler's coordinates, and its objective
Known = tuple[Mapping[str, Any], float]


class LocalEngine:
    """Runs Experiments on this machine, each trial in a process of its own.

    workers: how many trials may run at once, None for as many as there are GPUs or else cores; the
        manifest's parallelTrialCount is the most.
    seed: for the sampler; without it the algorithm's random_state, or else a random one, kept with
    the study.
    fresh: start over, whatever the store holds. max_trials: instead of the manifest's
    maxTrialCount.
    first: trials to run after the manifest's first trials and before those of the sampler: values
        by parameter name. A study keeps its own when it is resumed without them.
    warm_start: the name of an earlier study in the store, whose trials the sampler receives first.
        The Experiment's own name is the cluster's study of that name, if there is one. Where a
        local study and a cluster's share a name, `local/NAME` and `katib/NAME` choose one.
    command: the command of the primary container, where the manifest leaves it to the image's entry
    point.
    debug: run trials one at a time in this process, so that breakpoints work.
    timeout: seconds after which a watch ends.
    """

    def __init__(
        self,
        store: Store,
        *,
        workers: int | None = None,
        seed: int | None = None,
        fresh: bool = False,
        max_trials: int | None = None,
        warm_start: str | None = None,
        first: Sequence[Mapping[str, str]] = (),
        command: Sequence[str] = (),
        debug: bool = False,
        timeout: float | None = None,
    ) -> None:
        for option, count in (("workers", workers), ("max_trials", max_trials)):
            if count is not None and count < 1:
                raise UnsupportedError(f"{option} must be at least 1, got {count}")
        self._all, self._store = store, store.of(EngineKind.LOCAL)
        self._workers, self._seed = workers, seed
        self._fresh, self._max_trials, self._warm_start = fresh, max_trials, warm_start
        self._first, self._command, self._debug = first, command, debug
        self._timeout = timeout
        self._lock: Lock | None = None
        self._session: Session | None = None
        self._draining = False

    def run(self, experiment: Experiment) -> Iterator[Event]:
        """Create the study or join it, run its trials, and yield the events, STUDY_ENDED last.

        What cannot run is refused before anything is written. The lock of the study is held until
        the iterator ends, which also happens after `stop`; the last event then says how to resume.

        Raises:
            UnsupportedError: This engine cannot run the Experiment.
            CommandError: The trial's command, or a required file, is missing.
            StudyError: Another process works on the study, its files are damaged, the store has
                another manifest under this name, or this machine fails (a full disk). Then the
                trials that ran run again when the study is resumed.
        """
        if not experiment.name:
            experiment = replace(experiment, name=experiment.generate_name.rstrip("-"))
        from tuner.engines.local.session import Session  # takes half a second, as Optuna does

        name = experiment.name
        if self._command:
            experiment = with_command(experiment, self._command)
        given, header = experiment, self._header(name)
        added = list(self._first) or list(header.get("first", []))
        experiment = with_first_trials(experiment, added) if added else experiment
        adapted, warnings = adapt(experiment)
        # read before --fresh clears it
        known, note = self._known(experiment) if self._warm_start else ([], "")
        seed = self._seed_of(experiment)
        if header:
            seed = int(header["seed"])
            known = [(dict(point), float(value)) for point, value in header["known"]]
            warnings += self._ignored(header)
        elif note:
            warnings.append(note)
        sampler, stopping = self._checked(adapted, seed, known)
        # before anything of it changes: another process may run it
        self._hold(self._store.create(name))
        try:
            stored = self._store.submit(
                experiment, fresh=self._fresh, max_trials=self._max_trials, lock=self._lock
            )
            self._fresh = False
            journal = self._journal(name, writable=True)
            if journal.header and not header:  # another process created it since
                journal.close()
                self._release()
                return self.run(given)
            self._begin(experiment, journal, seed, known, added)
            journal.resume()
        except BaseException:
            self._release()
            raise
        if short := left_out(stored.first_trials, stored.max_trials):
            warnings.append(f"{short} or more (--max-trials)")
        session = partial(
            Session,
            replace(adapted, max_trials=stored.max_trials),
            journal,
            sampler,
            stopping,
            workers=self._workers,
            max_trials=self._max_trials,
            debug=self._debug,
        )
        return self._events(session, journal, warnings)

    def _events(
        self, session: Callable[[], Session], journal: Journal, warnings: Sequence[str]
    ) -> Iterator[Event]:
        try:
            try:
                self._session = session()
                if self._draining:
                    self._session.finish()
                for message in warnings:
                    yield Event(EventKind.WARNING, journal.result(alive=True), message=message)
                yield from self._session.events()
            finally:
                if self._session is not None:
                    self._session.close()
                self._session = None
                result = journal.result(alive=False)
                with suppress(StudyError):  # on a full disk; the journal has everything
                    self._store.save_result(result)
                journal.close()
        finally:
            self._release()
        yield Event(EventKind.STUDY_ENDED, result, message=result.reason)

    def watch(self, name: str) -> Iterator[Event]:
        """Yield the events of a study that another process runs, until none works on it any more.

        It takes no lock and runs no trial. Raises Deadline after `timeout` seconds.
        """
        follower = Follower(
            adapt(self._store.experiment(name))[0],
            self._store.folder(name),
            lambda: self.result(name),
        )
        return events(follower, timeout=self._timeout)

    def result(self, name: str) -> Result:
        """Return everything that the journal holds now. A study that a client works on is Running."""
        return result_of(self._journal(name), self._store.experiment(name))

    def view(self, name: str, *, images: bool = True) -> View:
        """Return what a report shows of the study, with or without the trials' images."""
        from tuner.engines.local import details  # imports NumPy, which takes a while

        return details.view(self._store, name, images=images)

    def logs(
        self, name: str, which: str | None = None, *, best: bool = False, follow: bool = False
    ) -> Iterator[str]:
        """Yield the lines that a trial printed: by its name or number, the best, else the newest that runs.

        With `follow`, continue until the trial has finished or its client is gone. Raises
        StudyNotFound.
        """
        trial = logs.choose(self.result(name), which, best=best)
        path = self._store.folder(name) / "trials" / trial.name / "output.log"
        yield from logs.lines(path, (lambda: self._runs(name, trial.number)) if follow else None)

    def files(
        self,
        name: str,
        target: Path,
        which: str | None = None,
        *,
        progress: Progress = lambda done, total: None,
    ) -> tuple[Trial, list[FileRecord]]:
        """Copy the files of a trial, by default the best, to a new directory; return what they are.

        Raises NotFound if the trial wrote none, and StudyError if they cannot be copied.
        """
        trial = logs.choose(self.result(name), which, best=which is None)
        folder = self._store.folder(name) / "trials" / trial.name
        return trial, files.copy(folder, trial.name, target, progress)

    def retry(self, name: str, numbers: Sequence[int] | None = None) -> list[int]:
        """Let failed trials run again when the study is watched next: all of them, or those in `numbers`.

        Each runs from scratch at the same point; its earlier outcome, log and files are removed.
        Later trials stay as they are, although the sampler chose them while this one counted as
        failed.

        Returns:
            The numbers of these trials.

        Raises:
            StudyError: One of `numbers` did not fail, or without `numbers` no trial did and none is
                unfinished.
        """
        self._store.experiment(name)  # raises where there is none
        folder = self._store.folder(name)
        self._hold(folder)
        try:
            journal = self._journal(name, writable=True)
            try:
                journal.resume()
                chosen = _failed(journal, name, numbers)
                if chosen:
                    journal.retry(chosen)
                for entry in chosen:
                    remove(folder / "trials" / entry.name)
            finally:
                journal.close()
        finally:
            self._release()
        return [entry.number for entry in chosen]

    def extend(self, name: str, max_trials: int) -> None:
        """Let the study have `max_trials` trials when it is watched next. Raises UnsupportedError where it has more."""
        count = len(self.result(name).trials)
        if max_trials <= count:
            raise UnsupportedError(
                f"--max-trials must exceed the {count} trials that {name} has, got {max_trials}"
            )
        self._store.choose_max_trials(name, max_trials)

    def delete(self, name: str) -> Result:
        """Remove the study with everything that its trials wrote; returns what it was."""
        result = self.result(name)
        self._store.delete(name)
        return result

    def check(self, name: str) -> Health:
        """Say which records of the study's journal are intact."""
        return recovery.check(self._store.folder(name), self._store.identity(name))

    def repair(self, name: str) -> Path | None:
        """Keep the intact records of a damaged journal. Returns where the damaged file is; None without damage."""
        folder = self._store.folder(name)
        with Lock(folder):
            return recovery.repair(folder, self._store.identity(name))

    def _runs(self, name: str, number: int) -> bool:
        return self.result(name).trials[number].state is TrialState.RUNNING

    def _journal(self, name: str, *, writable: bool = False) -> Journal:
        return Journal(
            self._store.folder(name), identity=self._store.identity(name), writable=writable
        )

    def stop(self, name: str, *, drain: bool = False) -> None:
        """End the running trials; they run again when the study is resumed.

        If another process runs the study, that process receives SIGTERM, and `stop` waits until it
        has exited. Raises StudyError where it does not exit in time.

        It may be called from a signal handler or thread. With `drain`, the running trials of this
        engine finish, and no new one starts; for a first Ctrl-C.
        """
        self._draining = True
        if self._session is not None:
            (self._session.finish if drain else self._session.stop)()
        if drain or self._lock is not None:
            return
        folder = self._store.folder(name)
        if (owner := _owner(folder)) in (0, os.getpid()):
            return
        try:
            os.kill(owner, signal.SIGTERM)
        except OSError as error:
            raise StudyError(
                f"process {owner}, which runs {name}, cannot be stopped: {error.strerror}"
            ) from error
        deadline = time.monotonic() + STOP_TIMEOUT
        # 0: it releases the lock at this moment
        while Lock.held(folder) and Lock.owner(folder) in (owner, 0):
            if time.monotonic() > deadline:
                raise StudyError(
                    f"process {owner} did not stop {name} within {STOP_TIMEOUT:.0f} s: run `kill {owner}`"
                )
            time.sleep(0.05)

    def studies(self) -> list[Overview]:
        """Return an overview of each local study."""
        return [self._overview(name) for name in self._store.names()]

    def _overview(self, name: str) -> Overview:
        experiment = self._store.experiment(name)
        result = result_of(self._journal(name), experiment)
        finished = sum(trial.state.finished for trial in result.trials)
        began = [trial.started for trial in result.trials if trial.started]
        created = min(began, default=None)
        return Overview(name, result.state, finished, experiment.max_trials, created)

    def _hold(self, folder: Path) -> None:
        if self._lock is None:
            self._lock = Lock(folder)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _checked(
        self, experiment: Experiment, seed: int, known: Sequence[Known]
    ) -> tuple[Sampler, Rules | None]:
        """Return what proposes the trials and what stops them early.

        Raises UnsupportedError for what this engine does not have, CommandError for a missing file.
        """
        ensure_readable(experiment.collector)
        compiled(experiment.collector.filters)
        sampler, stopping = experiment.sampler(seed, known), rules(experiment)
        if missing := missing_file(experiment.required_files):
            raise CommandError(missing)
        return sampler, stopping

    def _header(self, name: str) -> Mapping[str, Any]:
        """Return what was decided when the study began; empty for a study that is to begin."""
        if self._fresh or name not in self._store.names():
            return {}
        return self._journal(name).header

    def _seed_of(self, experiment: Experiment) -> int:
        if self._seed is not None:
            return self._seed
        state = experiment.algorithm.settings.get("random_state")
        return int(state) if state else secrets.randbelow(2**31)

    def _begin(
        self,
        experiment: Experiment,
        journal: Journal,
        seed: int,
        known: Sequence[Known],
        first: Sequence[Mapping[str, str]],
    ) -> None:
        """Write down what is decided once for a study, unless it has begun."""
        identity = journal.create(
            experiment.name,
            experiment.objective,
            seed=seed,
            known=known,
            warm_start=self._warm_start or "",
            first=[dict(values) for values in first],
            baseline=dict(experiment.baseline),
        )
        if self._store.identity(experiment.name) != identity:
            self._store.identify(experiment.name, identity)

    def _ignored(self, header: Mapping[str, Any]) -> Iterator[str]:
        """Yield which options have no effect on a study that has begun."""
        seed, origin = header["seed"], header["warm_start"]
        if self._seed is not None and self._seed != seed:
            yield (
                f"--seed {self._seed} has no effect: the study continues with its own seed {seed}. "
                "Start over with --fresh to use another one"
            )
        if self._warm_start and self._warm_start != origin:
            began = f"with the trials of {origin}" if origin else "without an earlier study"
            yield (
                f"--warm-start {self._warm_start} has no effect: the study already began {began}. "
                "Start over with --fresh to use it"
            )

    def _earlier(self, own: str) -> Result:
        """Return the study to warm-start from."""
        name, engine = self._all.earlier(self._warm_start or "", own)
        return (
            self._all.of(engine).result(name) if engine is EngineKind.KATIB else self.result(name)
        )

    def _known(self, experiment: Experiment) -> tuple[list[Known], str]:
        """Return the points of the study to start from that lie in this space, and how many these are."""
        from tuner.samplers.transform import dimension

        dimensions, outside = [dimension(parameter) for parameter in experiment.parameters], 0
        known: list[Known] = []
        for trial in self._earlier(experiment.name).trials:
            value = trial.metrics.get(experiment.objective.metric)
            if value is None or not trial.state.finished:
                continue
            try:
                known.append(
                    (
                        {one.name: one.encode(trial.parameters[one.name]) for one in dimensions},
                        value,
                    )
                )
            except (KeyError, ValueError):
                outside += 1
        note = f"{len(known)} trials of {self._warm_start} are known to the sampler"
        return known, note + (f", {outside} lie outside this space" if outside else "")


def _owner(folder: Path) -> int:
    """Return the process that works on a study, 0 for none. Raises StudyError where it is not on this machine."""
    until = time.monotonic() + OWNER_TIMEOUT
    while not (owner := Lock.owner(folder)) and Lock.held(folder):
        if time.monotonic() > until:
            raise StudyError(
                f"the process that runs {folder.name} is not found on this machine: stop it where it runs"
            )
        time.sleep(0.05)
    return owner


def _failed(journal: Journal, name: str, numbers: Sequence[int] | None) -> list[TrialRecord]:
    """Return the trials to run again. Raises StudyError for one that did not fail."""
    failed = [
        e for e in journal.entries if e.state in (TrialState.FAILED, TrialState.METRICS_UNAVAILABLE)
    ]
    # run again anyway
    waiting = {entry.number for entry in journal.entries if entry.state is TrialState.WAITING}
    if numbers is None:
        if not failed and not waiting:
            raise StudyError(f"study {name} has no failed trials, so there is nothing to retry")
        return failed
    chosen = [entry for entry in failed if entry.number in numbers]
    if others := sorted(set(numbers) - {entry.number for entry in chosen} - waiting):
        states = ", ".join(
            f"{number} ({journal.entries[number].state.value})"
            if number < len(journal.entries)
            else f"{number} (none)"
            for number in others
        )
        raise StudyError(
            f"only failed trials of {name} can run again, and these did not fail: {states}"
        )
    return chosen
