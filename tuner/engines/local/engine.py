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
from tuner.errors import CommandError, UnsupportedError
from tuner.manifest import CollectorKind, Experiment
from tuner.metrics import compiled
from tuner.result import Result, StudyState
from tuner.samplers import sampler
from tuner.samplers.transform import dimension
from tuner.store import EngineKind, Lock, Store


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
        self._learnt: list[tuple[Mapping[str, Any], float]] | None = None
        self._finish = False

    def submit(self, experiment: Experiment) -> str:
        """Create the study or join it, and hold its lock until it has been watched to the end.

        Raises UnsupportedError for what this engine cannot run, CommandError where the trial's command is not here,
        StudyChanged, StudyLocked, StudyDamaged.
        """
        if not experiment.name:
            experiment = replace(experiment, name=experiment.generate_name.rstrip("-"))
        if experiment.name == self._warm_start and self._store.engine(experiment.name) is EngineKind.KATIB:
            experiment = replace(experiment, name=f"{experiment.name}-local")
        self._refuse(experiment)
        if self._fresh and self._warm_start:  # read before it is cleared: a study may start over from itself
            self._learnt = self._known(experiment)
        folder = self._store.submit(experiment, EngineKind.LOCAL, fresh=self._fresh)
        self._fresh = False
        self._hold(folder)
        try:
            journal = Journal(folder, writable=True)
            try:
                self._begin(experiment, journal)
            finally:
                journal.close()
        except BaseException:
            self._release()
            raise
        return experiment.name

    def watch(self, name: str) -> Iterator[Event]:
        """Run the study; STUDY_ENDED is last, also after `finish` or `stop`, and says how to resume."""
        experiment = self._store.experiment(name)
        folder = self._store.folder(name)
        self._hold(folder)
        try:
            journal = Journal(folder, writable=True)
            try:
                yield from self._run(experiment, journal, folder)
            finally:
                if self._runner is not None:
                    self._runner.close()
                self._runner = self._scheduler = None
                journal.close()
        finally:
            self._release()
        result = self.collect(name)
        self._store.save_result(result)
        yield Event(EventKind.STUDY_ENDED, result, message=result.reason)

    def collect(self, name: str) -> Result:
        """Return everything that the journal holds now. A study with a live client is Running."""
        objective = self._store.experiment(name).objective
        folder = self._store.folder(name)
        alive = Lock.held(folder)
        result = Journal(folder).result(alive=alive)
        if not result.name:  # submitted, but no trial was proposed yet
            return Result(name, StudyState.RUNNING if alive else StudyState.STOPPED, objective)
        return result

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

    def _begin(self, experiment: Experiment, journal: Journal) -> None:
        """What is decided once for a study: its seed, and what it knows from an earlier one."""
        if "seed" in journal.attributes:
            held = journal.attributes["seed"]
            if self._seed is not None and self._seed != held:
                self._warnings.append(
                    f"the study goes on with its own seed {held}; --fresh starts over with {self._seed}"
                )
            return
        known = self._learnt if self._learnt is not None else self._known(experiment) if self._warm_start else []
        state = experiment.algorithm.settings.get("random_state")
        seed = self._seed if self._seed is not None else int(state) if state else secrets.randbelow(2**31)
        journal.create(experiment.name, experiment.objective, {"known": known, "seed": seed})

    def _known(self, experiment: Experiment) -> list[tuple[Mapping[str, Any], float]]:
        """The points of the study to start from that lie in this space, in the sampler's coordinates."""
        dimensions, outside = [dimension(parameter) for parameter in experiment.parameters], 0
        known: list[tuple[Mapping[str, Any], float]] = []
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

    def _run(self, experiment: Experiment, journal: Journal, folder: Path) -> Iterator[Event]:
        self._begin(experiment, journal)
        known = [(dict(point), float(value)) for point, value in journal.attributes["known"]]
        proposer = sampler(experiment, int(journal.attributes["seed"]), known)
        stopping = rules(experiment)
        launcher = Launcher(experiment, folder, from_scratch=stopping is not None)
        limit = self._max_trials if self._max_trials is not None else experiment.max_trials
        scheduler = Scheduler(experiment, journal, proposer, stopping, launcher, limit)
        self._scheduler, scheduler.draining = scheduler, self._finish
        if scheduler.finished() or not scheduler.entries:
            return
        launcher.prepare(scheduler.entries[0])
        self._runner = self._make_runner(experiment, launcher, scheduler)
        for message in [*self._warnings, *launcher.warnings]:
            yield Event(EventKind.WARNING, scheduler.result(), message=message)
        self._runner.warm(limit or sys.maxsize)
        yield from scheduler.events(self._runner)

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
