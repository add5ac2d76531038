"""Runs a study once: from where its journal ends until the search finishes or is stopped."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.engines.base import Event, EventKind
from tuner.engines.local.debug import DebugRunner
from tuner.engines.local.journal import Journal
from tuner.engines.local.launcher import Launcher, auto_workers, share
from tuner.engines.local.pool import ForkServer
from tuner.engines.local.processes import sweep
from tuner.engines.local.push import search_path
from tuner.engines.local.push.hook import sitecustomize
from tuner.engines.local.runner import Runner
from tuner.engines.local.scheduler import Scheduler
from tuner.experiment.early_stopping import Rules
from tuner.experiment.model import CollectorKind, Experiment
from tuner.samplers import Sampler


class Session:
    """Runs the trials while `events` is iterated. `finish` and `stop` may be called from a signal handler or thread.

    workers: how many trials may run at once; None for as many as there are GPUs, or else cores.
    max_trials: instead of the manifest's maxTrialCount. debug: run trials one at a time in this
    process.
    """

    def __init__(
        self,
        experiment: Experiment,
        journal: Journal,
        sampler: Sampler,
        stopping: Rules | None,
        *,
        workers: int | None,
        max_trials: int | None,
        debug: bool = False,
    ) -> None:
        self._experiment, self._journal = experiment, journal
        self._workers, self._max_trials, self._debug = workers, max_trials, debug
        self._launcher = Launcher(
            experiment, journal.path.parent, from_scratch=stopping is not None
        )
        self._limit = max_trials if max_trials is not None else experiment.max_trials
        self._scheduler = Scheduler(
            experiment, journal, sampler, stopping, self._launcher, self._limit
        )
        self._runner: Runner | None = None
        self._warnings: list[str] = []

    def events(self) -> Iterator[Event]:
        """Run the trials; STUDY_ENDED is the caller's."""
        scheduler = self._scheduler
        yield from scheduler.fail_crashing_trials()
        count, over = len(scheduler.entries), scheduler.finished()
        if self._max_trials is not None and count:
            self._warnings.append(self._extension(self._max_trials, count))
        if not over and scheduler.entries:
            self._launcher.prepare(scheduler.entries[0])
            self._runner = self._make_runner()
        for message in [*self._warnings, *self._launcher.warnings]:
            yield Event(EventKind.WARNING, scheduler.result(), message=message)
        if self._runner is not None:
            self._runner.warm()
            yield from scheduler.events(self._runner)

    def finish(self) -> None:
        """Start no new trial."""
        self._scheduler.draining = True

    def stop(self) -> None:
        """Start no new trial, and end those that run."""
        self._scheduler.abort()

    def close(self) -> None:
        """End every trial, and everything that it started."""
        if self._runner is not None:
            self._runner.close()

    def _extension(self, max_trials: int, count: int) -> str:
        """Say what --max-trials does with a study that has `count` trials already."""
        if self._journal.end.get("last") is not None:
            return f"--max-trials {max_trials} has no effect: {self._journal.end['reason']}"
        if max_trials <= count:
            return f"--max-trials {max_trials} adds no trials: the study already has {count}"
        return f"--max-trials {max_trials}: the study has {count} trials and continues"

    def _make_runner(self) -> Runner:
        most = self._experiment.parallel_trials
        workers = 1 if self._debug else self._workers or auto_workers(most)
        if workers > most:
            self._warnings.append(
                f"parallelTrialCount is {most}, so {most} trials run at once and not {workers}; "
                "change it in the manifest to run more"
            )
        slots = share(min(workers, most))
        launcher, study = self._launcher, self._journal.path.parent
        pushes = self._experiment.collector.kind is CollectorKind.PUSH
        # the server that forks trials imports their module, and the module may import the SDK
        if pushes:
            slots = [{**slot, "PYTHONPATH": search_path()} for slot in slots]
        if not self._debug and (left := sweep(study)):
            self._warnings.append(
                f"{left} processes that an earlier run of this study left behind were ended"
            )
        if self._debug:
            if pushes:  # trials run in this process
                sitecustomize.install()
            return DebugRunner(slots[0], launcher.module, launcher.start, self.stop)
        return ForkServer(slots, launcher.module, launcher.start, study)
