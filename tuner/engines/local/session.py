"""One run of a study on this machine: from where its journal is to the end of the search, or to where it is stopped."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

from tuner.engine import Event, EventKind
from tuner.engines.local.early_stopping import rules
from tuner.engines.local.inprocess import InProcess
from tuner.engines.local.journal import Journal
from tuner.engines.local.launcher import Launcher, auto_workers, share
from tuner.engines.local.pool import Pool
from tuner.engines.local.scheduler import Scheduler
from tuner.errors import CommandError
from tuner.manifest import Experiment
from tuner.samplers import sampler


class Session:
    """Runs the trials while `events` is iterated. `finish` and `stop` may be called from a signal handler or thread.

    workers: how many trials may run at once; None for as many as there are GPUs, or else cores.
    max_trials: instead of the manifest's maxTrialCount. in_process: False to have a worker process for one worker too.
    """

    def __init__(
        self,
        experiment: Experiment,
        journal: Journal,
        *,
        workers: int | None,
        max_trials: int | None,
        in_process: bool = True,
    ) -> None:
        self._experiment, self._journal = experiment, journal
        self._workers, self._max_trials, self._in_process = workers, max_trials, in_process
        known = [(dict(point), float(value)) for point, value in journal.header["known"]]
        proposer = sampler(experiment, int(journal.header["seed"]), known)
        stopping = rules(experiment)
        self._launcher = Launcher(experiment, journal.path.parent, from_scratch=stopping is not None)
        self._limit = max_trials if max_trials is not None else experiment.max_trials
        self._scheduler = Scheduler(experiment, journal, proposer, stopping, self._launcher, self._limit)
        self._runner: Pool | InProcess | None = None
        self._warnings: list[str] = []

    def events(self) -> Iterator[Event]:
        """Run the trials; STUDY_ENDED is the caller's."""
        scheduler = self._scheduler
        yield from scheduler.blame()
        count, over = len(scheduler.entries), scheduler.finished()
        if self._max_trials is not None and count:
            self._warnings.append(self._extension(self._max_trials, count))
        if not over and scheduler.entries:
            self._launcher.prepare(scheduler.entries[0])
            self._runner = self._make_runner()
        for message in [*self._warnings, *self._launcher.warnings]:
            yield Event(EventKind.WARNING, scheduler.result(), message=message)
        if self._runner is not None:
            self._runner.warm(self._limit or sys.maxsize)
            yield from scheduler.events(self._runner)

    def finish(self) -> None:
        """Start no new trial."""
        self._scheduler.draining = True

    def stop(self) -> None:
        """Start no new trial, and end those that run."""
        self._scheduler.draining = self._scheduler.aborting = True
        if isinstance(self._runner, InProcess):
            for entry in self._scheduler.entries:
                self._runner.stop(entry.number)

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

    def _make_runner(self) -> Pool | InProcess:
        most = self._experiment.parallel_trials
        workers = self._workers or auto_workers(most)
        if workers > most:
            self._warnings.append(
                f"parallelTrialCount {most} is the most that run at once; {workers} workers were asked for"
            )
        slots = share(min(workers, most))
        main_thread = threading.current_thread() is threading.main_thread()
        module = self._launcher.module
        if len(slots) > 1 or not module or not self._in_process or not main_thread:
            return Pool(slots, module)

        def hang(number: int, error: str) -> None:
            entry = self._scheduler.hang(number, error)
            print(
                f"trial {entry.name} is {error}, and its code cannot be interrupted: it counts as Failed; "
                "run the same line again with --workers 2, which can end such trials",
                file=sys.__stderr__,
                flush=True,
            )
            os._exit(CommandError.exit_code)

        return InProcess(slots[0], module, self._scheduler.poll, hang)
