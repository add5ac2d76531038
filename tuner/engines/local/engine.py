"""LocalEngine: an Experiment on this machine. The protocol is in tuner.engines.base.

engine = LocalEngine(Store(".gantune"), workers=2, seed=0)
for event in engine.watch(engine.submit(load("manifests/bayes.yaml"))): ...
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.engines.base import Event, EventKind
from tuner.engines.local import files, logs, recovery
from tuner.engines.local.adapt import adapt, with_command
from tuner.engines.local.follow import Follower, events
from tuner.engines.local.journal import Journal, TrialRecord
from tuner.engines.local.reading import ensure_readable
from tuner.engines.local.recovery import Health
from tuner.errors import CommandError, StudyError, UnsupportedError
from tuner.experiment.annotations import missing_file
from tuner.experiment.early_stopping import rules
from tuner.experiment.model import Experiment, with_first_trials
from tuner.metrics import compiled
from tuner.result import Result, StudyState, Trial, TrialState
from tuner.samplers.first import left_out
from tuner.store.files import remove
from tuner.store.lock import Lock
from tuner.store.studies import EngineKind, Store
from tuner.store.transfer import FileRecord, Progress

if TYPE_CHECKING:
    from tuner.engines.local.session import Session

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
    ) -> None:
        for option, count in (("workers", workers), ("max_trials", max_trials)):
            if count is not None and count < 1:
                raise UnsupportedError(f"{option} must be at least 1, got {count}")
        self._all, self._store = store, store.of(EngineKind.LOCAL)
        self._workers, self._seed = workers, seed
        self._fresh, self._max_trials, self._warm_start = fresh, max_trials, warm_start
        self._first, self._command, self._debug = first, command, debug
        self._lock: Lock | None = None
        self._session: Session | None = None
        self._warnings: list[str] = []
        self._finish = False

    def submit(self, experiment: Experiment) -> str:
        """Create the study or join it, and hold its lock until it has been watched to the end.

        Raises UnsupportedError for what this engine cannot run, CommandError where the trial's
        command or a required file is missing, StudyChanged, StudyLocked, StudyDamaged, StudyNotFound for an unknown
        study to warm-start from.
        """
        if not experiment.name:
            experiment = replace(experiment, name=experiment.generate_name.rstrip("-"))
        experiment = with_command(experiment, self._command) if self._command else experiment
        added = self._first_trials(experiment)
        experiment = with_first_trials(experiment, added) if added else experiment
        self._refuse(adapt(experiment)[0])
        # read before --fresh clears it
        known, note = self._known(experiment) if self._warm_start else ([], "")
        # before anything of it changes: another process may run it
        self._hold(self._store.create(experiment.name))
        try:
            self._store.submit(
                experiment, fresh=self._fresh, max_trials=self._max_trials, lock=self._lock
            )
            self._fresh = False
            journal = self._journal(experiment.name, writable=True)
            try:
                self._warnings += (
                    self._explain(journal) if journal.header else [note] if note else []
                )
                self._begin(experiment, journal, known, added)
            finally:
                journal.close()
        except BaseException:
            self._release()
            raise
        return experiment.name

    def watch(self, name: str) -> Iterator[Event]:
        """Run the study; STUDY_ENDED is last, also after `finish` or `stop`, and says how to resume.

        Raises StudyError where this machine fails (a full disk): the search is paused, and the
        trials that ran run again when it is resumed.
        """
        experiment, differences = adapt(self._store.experiment(name))
        self._warnings += differences
        if short := left_out(experiment.first_trials, experiment.max_trials):
            self._warnings.append(f"{short} or more (--max-trials)")
        self._hold(self._store.folder(name))
        try:
            journal = self._journal(name, writable=True)
            try:
                if not journal.header:
                    raise StudyError(
                        f"study {name} was never submitted: submit it before you watch it"
                    )
                journal.resume()
                yield from self._run(experiment, journal)
            finally:
                with suppress(StudyError):  # on a full disk; the journal has everything
                    self._store.save_result(journal.result(alive=False))
                journal.close()
        finally:
            self._release()
        result = self.collect(name)
        yield Event(EventKind.STUDY_ENDED, result, message=result.reason)

    def _run(self, experiment: Experiment, journal: Journal) -> Iterator[Event]:
        from tuner.engines.local.session import Session  # imports Optuna, which takes half a second

        self._session = Session(
            experiment,
            journal,
            workers=self._workers,
            max_trials=self._max_trials,
            debug=self._debug,
        )
        try:
            if self._finish:
                self._session.finish()
            for message in self._warnings:
                yield Event(EventKind.WARNING, journal.result(alive=True), message=message)
            yield from self._session.events()
        finally:
            self._session.close()
            self._session = None

    def collect(self, name: str) -> Result:
        """Return everything that the journal holds now. A study that a client works on is Running."""
        objective = self._store.experiment(name).objective
        alive = Lock.held(self._store.folder(name))
        result = self._journal(name).result(alive=alive)
        if not result.name:  # submitted, but no trial was proposed yet
            return Result(name, StudyState.RUNNING if alive else StudyState.STOPPED, objective)
        return result

    def follow(self, name: str, *, timeout: float | None = None) -> Iterator[Event]:
        """Yield the events of a study that another process runs, until none works on it any more; takes no lock.

        Raises Deadline after `timeout` seconds.
        """
        follower = Follower(
            adapt(self._store.experiment(name))[0],
            self._store.folder(name),
            lambda: self.collect(name),
        )
        return events(follower, timeout=timeout)

    def logs(
        self, name: str, which: str | None = None, *, best: bool = False, follow: bool = False
    ) -> Iterator[str]:
        """Yield the lines that a trial printed: by its name or number, the best, else the newest that runs.

        With `follow`, continue until the trial has finished or its client is gone. Raises
        StudyNotFound.
        """
        trial = logs.choose(self.collect(name), which, best=best)
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
        trial = logs.choose(self.collect(name), which, best=which is None)
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
        count = len(self.collect(name).trials)
        if max_trials <= count:
            raise UnsupportedError(
                f"--max-trials must exceed the {count} trials that {name} has, got {max_trials}"
            )
        self._store.choose_max_trials(name, max_trials)

    def delete(self, name: str) -> Result:
        """Remove the study with everything that its trials wrote; returns what it was."""
        result = self.collect(name)
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
        return self.collect(name).trials[number].state is TrialState.RUNNING

    def _journal(self, name: str, *, writable: bool = False) -> Journal:
        return Journal(
            self._store.folder(name), identity=self._store.identity(name), writable=writable
        )

    def finish(self) -> None:
        """Start no new trial and let those that run finish; for a first Ctrl-C. May be called from a handler."""
        self._finish = True
        if self._session is not None:
            self._session.finish()

    def stop(self, name: str) -> None:
        """End the running trials; they run again when the study is resumed. May be called from a handler or thread.

        If another process runs the study, that process receives SIGTERM, and `stop` waits until it
        has exited. Raises StudyError where it does not exit in time.
        """
        self.finish()
        if self._session is not None:
            self._session.stop()
        folder = self._store.folder(name)
        if self._lock is not None or (owner := _owner(folder)) in (0, os.getpid()):
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

    def studies(self) -> list[tuple[str, StudyState]]:
        """Return the name and state of each local study."""
        return [(name, self.collect(name).state) for name in self._store.names()]

    def _hold(self, folder: Path) -> None:
        if self._lock is None:
            self._lock = Lock(folder)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _refuse(self, experiment: Experiment) -> None:
        """Raise UnsupportedError for what this engine does not have, CommandError for a missing file."""
        ensure_readable(experiment.collector)
        compiled(experiment.collector.filters)
        experiment.sampler(0)
        rules(experiment)
        if missing := missing_file(experiment.required_files):
            raise CommandError(missing)

    def _first_trials(self, experiment: Experiment) -> list[Mapping[str, str]]:
        """Return the first trials to add to the manifest's: the given ones, or else those that the study began with."""
        if self._first or self._fresh or experiment.name not in self._store.names():
            return list(self._first)
        # no header before the first run
        return list(self._journal(experiment.name).header.get("first", []))

    def _begin(
        self,
        experiment: Experiment,
        journal: Journal,
        known: list[Known],
        first: list[Mapping[str, str]],
    ) -> None:
        """Decide once for a study: its seed, its added first trials, and what it knows from an earlier one."""
        state = experiment.algorithm.settings.get("random_state")
        seed = (
            self._seed
            if self._seed is not None
            else int(state)
            if state
            else secrets.randbelow(2**31)
        )
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

    def _explain(self, journal: Journal) -> Iterator[str]:
        """Yield which options a study that has begun does not follow."""
        seed, origin = journal.header["seed"], journal.header["warm_start"]
        if self._seed is not None and self._seed != seed:
            yield (
                f"--seed {self._seed} has no effect: the study continues with its own seed {seed}. "
                "Start over with --fresh to use another one"
            )
        if self._warm_start and self._warm_start != origin:
            yield (
                f"--warm-start {self._warm_start} has no effect: the study already began "
                f"{f'with the trials of {origin}' if origin else 'without an earlier study'}. "
                "Start over with --fresh to use it"
            )

    def _earlier(self, own: str) -> Result:
        """Return the study to warm-start from."""
        name, engine = self._all.earlier(self._warm_start or "", own)
        return (
            self._all.of(engine).result(name) if engine is EngineKind.KATIB else self.collect(name)
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
