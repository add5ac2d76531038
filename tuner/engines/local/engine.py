"""LocalEngine: an Experiment on this machine. See tuner.engine for the protocol, docs/local.md for what to expect.

engine = LocalEngine(Store(".gantune"), workers=2, seed=0)
for event in engine.watch(engine.submit(load("manifests/bayes.yaml"))): ...
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.engine import Event, EventKind
from tuner.engines import collected
from tuner.engines.local.early_stopping import rules
from tuner.engines.local.inprocess import InProcess
from tuner.engines.local.journal import Journal
from tuner.engines.local.launcher import Launcher, auto_workers, share
from tuner.engines.local.pool import Pool
from tuner.engines.local.scheduler import Scheduler
from tuner.errors import CommandError, StudyError, UnsupportedError
from tuner.manifest import CollectorKind, Experiment
from tuner.metrics import compiled
from tuner.result import Result, StudyState
from tuner.samplers import sampler
from tuner.samplers.transform import dimension
from tuner.store import EngineKind, Lock, Store

Known = tuple[Mapping[str, Any], float]  # a point of an earlier study in the sampler's coordinates, and its objective


class LocalEngine:
    """Runs Experiments in this process and its workers.

    workers: how many trials may run at once, None for as many as there are GPUs or else cores; the manifest's
        parallelTrialCount is the most. One worker runs `python -m` trials in this very process.
    seed: for the sampler; without it the algorithm's random_state, or else a random one, kept with the study.
    fresh: start over, whatever the store holds. max_trials: instead of the manifest's maxTrialCount.
    warm_start: the name of an earlier study in the store, whose trials the sampler is told first. Where it is a
        cluster's and bears the Experiment's own name, this study is NAME-local, so that both exist.
    in_process: False to have a worker process even for one worker.
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
        in_process: bool = True,
    ) -> None:
        self._store, self._workers, self._seed = store, workers, seed
        self._fresh, self._max_trials, self._warm_start = fresh, max_trials, warm_start
        self._in_process = in_process
        self._lock: Lock | None = None
        self._scheduler: Scheduler | None = None
        self._runner: Pool | InProcess | None = None
        self._warnings: list[str] = []
        self._finish = False

    def submit(self, experiment: Experiment) -> str:
        """Create the study or join it, and hold its lock until it has been watched to the end.

        Raises UnsupportedError for what this engine cannot run, CommandError where the trial's command is not here,
        StudyChanged, StudyLocked, StudyDamaged, StudyNotFound for an unknown study to warm-start from.
        """
        if not experiment.name:
            experiment = replace(experiment, name=experiment.generate_name.rstrip("-"))
        if experiment.name == self._warm_start and self._store.engine(experiment.name) is EngineKind.KATIB:
            experiment = replace(experiment, name=f"{experiment.name}-local")
        self._refuse(experiment)
        known = self._known(experiment) if self._warm_start else []  # read before --fresh clears it
        folder = self._store.submit(experiment, EngineKind.LOCAL, fresh=self._fresh)
        self._fresh = False
        self._hold(folder)
        try:
            journal = self._journal(experiment.name, writable=True)
            try:
                self._begin(experiment, journal, known)
            finally:
                journal.close()
        except BaseException:
            self._release()
            raise
        return experiment.name

    def watch(self, name: str) -> Iterator[Event]:
        """Run the study; STUDY_ENDED is last, also after `finish` or `stop`, and says how to resume.

        Raises StudyError where this machine fails (a full disk): the search is paused, and the trials that ran run
        again when it is resumed.
        """
        experiment = self._store.experiment(name)
        self._hold(self._store.folder(name))
        try:
            journal = self._journal(name, writable=True)
            try:
                yield from self._run(experiment, journal)
            finally:
                if self._runner is not None:
                    self._runner.close()
                self._runner = self._scheduler = None
                with suppress(StudyError):  # on a full disk; the journal has everything
                    self._store.save_result(journal.result(alive=False))
                journal.close()
        finally:
            self._release()
        result = self.collect(name)
        yield Event(EventKind.STUDY_ENDED, result, message=result.reason)

    def collect(self, name: str) -> Result:
        """Return everything that the journal holds now. A study that a client works on is Running."""
        objective = self._store.experiment(name).objective
        alive = Lock.held(self._store.folder(name))
        result = self._journal(name).result(alive=alive)
        if not result.name:  # submitted, but no trial was proposed yet
            return Result(name, StudyState.RUNNING if alive else StudyState.STOPPED, objective)
        return result

    def _journal(self, name: str, *, writable: bool = False) -> Journal:
        return Journal(self._store.folder(name), identity=self._store.identity(name), writable=writable)

    def finish(self) -> None:
        """Start no new trial and let those at work end; for a first Ctrl-C, so it may be called from a handler."""
        self._finish = True
        if self._scheduler is not None:
            self._scheduler.draining = True

    def stop(self, name: str) -> None:
        """End the running trials; they run again when the study goes on. May be called from a handler, or a thread."""
        self.finish()
        if self._scheduler is not None:
            self._scheduler.aborting = True
            if isinstance(self._runner, InProcess):
                for entry in self._scheduler.entries:
                    self._runner.stop(entry.number)

    def _hold(self, folder: Path) -> None:
        if self._lock is None:
            self._lock = Lock(folder)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _refuse(self, experiment: Experiment) -> None:
        """UnsupportedError for what this engine does not have."""
        kind = experiment.collector.kind
        if kind not in (CollectorKind.STDOUT, CollectorKind.FILE):
            raise UnsupportedError(f"collector kind {kind.value} does not run locally; these do: StdOut, File")
        compiled(experiment.collector.filters)
        sampler(experiment, 0)
        rules(experiment)

    def _begin(self, experiment: Experiment, journal: Journal, known: list[Known]) -> None:
        """Decide once for a study: its seed, and what it knows from an earlier one."""
        if journal.header:
            self._explain(journal)
        state = experiment.algorithm.settings.get("random_state")
        seed = self._seed if self._seed is not None else int(state) if state else secrets.randbelow(2**31)
        identity = journal.create(
            experiment.name, experiment.objective, seed=seed, known=known, warm_start=self._warm_start or ""
        )
        if self._store.identity(experiment.name) != identity:
            self._store.identify(experiment.name, identity)

    def _explain(self, journal: Journal) -> None:
        """Warn of options that a study which has begun does not follow."""
        seed, origin = journal.header["seed"], journal.header["warm_start"]
        if self._seed is not None and self._seed != seed:
            self._warnings.append(
                f"--seed {self._seed} has no effect: the study continues with its own seed {seed}. "
                "Start over with --fresh to use another one"
            )
        if self._warm_start and self._warm_start != origin:
            self._warnings[:] = [  # not what `_known` said
                f"--warm-start {self._warm_start} has no effect: the study already began "
                f"{f'with the trials of {origin}' if origin else 'without an earlier study'}. "
                "Start over with --fresh to use it"
            ]

    def _known(self, experiment: Experiment) -> list[Known]:
        """The points of the study to start from that lie in this space, in the sampler's coordinates."""
        dimensions, outside = [dimension(parameter) for parameter in experiment.parameters], 0
        known: list[Known] = []
        for trial in collected(self._store, self._warm_start or "").trials:
            value = trial.metrics.get(experiment.objective.metric)
            if value is None or not trial.state.ended:
                continue
            try:
                known.append(({one.name: one.encode(trial.parameters[one.name]) for one in dimensions}, value))
            except (KeyError, ValueError):
                outside += 1
        self._warnings.append(
            f"{len(known)} trials of {self._warm_start} are known to the sampler"
            + (f", {outside} lie outside this space" if outside else "")
        )
        return known

    def _run(self, experiment: Experiment, journal: Journal) -> Iterator[Event]:
        if not journal.header:
            raise StudyError(f"study {experiment.name} was never submitted: submit it before you watch it")
        journal.resume(crashed=self._lock is not None and self._lock.crashed)
        known = [(dict(point), float(value)) for point, value in journal.header["known"]]
        proposer = sampler(experiment, int(journal.header["seed"]), known)
        stopping = rules(experiment)
        launcher = Launcher(experiment, journal.path.parent, from_scratch=stopping is not None)
        limit = self._max_trials if self._max_trials is not None else experiment.max_trials
        scheduler = Scheduler(experiment, journal, proposer, stopping, launcher, limit)
        self._scheduler, scheduler.draining = scheduler, self._finish
        yield from scheduler.blame()
        count, over = len(journal.entries), scheduler.finished()
        if self._max_trials is not None and count:
            self._warnings.append(self._extension(count, journal))
        if not over and scheduler.entries:
            launcher.prepare(scheduler.entries[0])
            self._runner = self._make_runner(experiment, launcher, scheduler)
        for message in [*self._warnings, *launcher.warnings]:
            yield Event(EventKind.WARNING, scheduler.result(), message=message)
        if self._runner is not None:
            self._runner.warm(limit or sys.maxsize)
            yield from scheduler.events(self._runner)

    def _extension(self, count: int, journal: Journal) -> str:
        """Say what --max-trials does with a study that has begun, with `count` trials."""
        option = f"--max-trials {self._max_trials}"
        if journal.end.get("last") is not None:
            return f"{option} has no effect: {journal.end['reason']}"
        if self._max_trials is not None and self._max_trials <= count:
            return f"{option} adds no trials: the study already has {count}"
        return f"{option}: the study has {count} trials and continues"

    def _make_runner(self, experiment: Experiment, launcher: Launcher, scheduler: Scheduler) -> Pool | InProcess:
        most = experiment.parallel_trials
        workers = self._workers or auto_workers(most)
        if workers > most:
            self._warnings.append(
                f"parallelTrialCount {most} is the most that run at once; {workers} workers were asked for"
            )
        slots = share(min(workers, most))
        main_thread = threading.current_thread() is threading.main_thread()
        if len(slots) > 1 or not launcher.module or not self._in_process or not main_thread:
            return Pool(slots, launcher.module)

        def hang(number: int, error: str) -> None:
            entry = scheduler.hang(number, error)
            print(
                f"trial {entry.name} is {error}, and its code cannot be interrupted: it counts as Failed; "
                "run the same line again with --workers 2, which can end such trials",
                file=sys.__stderr__,
                flush=True,
            )
            os._exit(CommandError.exit_code)

        return InProcess(slots[0], launcher.module, scheduler.poll, hang)
