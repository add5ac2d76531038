"""Events of a local study that another process runs. They are read from its files, so no lock is needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tuner.engines.base import Event, EventKind
from tuner.engines.local import journal
from tuner.engines.local.reading import metrics_reader
from tuner.errors import Deadline
from tuner.experiment.model import Experiment
from tuner.metrics import MetricsReader
from tuner.result import Result, StudyState, Trial, TrialState
from tuner.store.lock import Lock

POLL = 0.5  # seconds between two looks at the journal


class Follower:
    """The result of a study, with what its running trials have reported so far."""

    def __init__(self, experiment: Experiment, folder: Path, read: Callable[[], Result]) -> None:
        self._experiment, self._folder, self._read = experiment, folder, read
        self._tails: dict[int, MetricsReader] = {}
        self._seen: tuple[object, ...] = ()
        self._stored: Result | None = None

    def result(self) -> Result:
        """Return the study as it is now. The journal is only read when it has changed."""
        seen = self._signature()
        if self._stored is None or seen != self._seen:
            self._stored, self._seen = self._read(), seen
        running = [trial for trial in self._stored.trials if trial.state is TrialState.RUNNING]
        self._tails = {
            trial.number: self._tails.get(trial.number) or self._tail(trial) for trial in running
        }
        if not running:
            return self._stored
        return replace(self._stored, trials=tuple(map(self._current, self._stored.trials)))

    def _current(self, trial: Trial) -> Trial:
        tail = self._tails.get(trial.number)
        if tail is None:
            return trial
        tail.poll()
        return replace(trial, metrics=tail.aggregate(self._experiment.strategies))

    def _tail(self, trial: Trial) -> MetricsReader:
        return metrics_reader(self._experiment, self._folder / "trials" / trial.name)

    def _signature(self) -> tuple[object, ...]:
        """What changes whenever the study may have changed."""
        try:
            status = (self._folder / journal.FILE).stat()
        except FileNotFoundError:
            return (Lock.held(self._folder),)
        return status.st_ino, status.st_size, status.st_mtime_ns, Lock.held(self._folder)


def events(
    follower: Follower, *, timeout: float | None = None, poll: float = POLL
) -> Iterator[Event]:
    """Yield what happens in a study until no process works on it, STUDY_ENDED last.

    Raises Deadline after `timeout` seconds.
    """
    until = None if timeout is None else time.monotonic() + timeout
    known: dict[int, Trial] = {}
    while True:
        result = follower.result()
        for trial in result.trials:
            if trial != (before := known.get(trial.number)):
                known[trial.number] = trial
                if (kind := _change(before, trial)) is not None:
                    yield Event(kind, result, trial)
        if result.state is not StudyState.RUNNING:
            yield Event(EventKind.STUDY_ENDED, result, message=result.reason)
            return
        if until is not None and time.monotonic() > until:
            raise Deadline(
                f"{result.name} did not finish within {timeout:g} s and is still running"
            )
        time.sleep(poll)


def _change(before: Trial | None, trial: Trial) -> EventKind | None:
    if trial.state.finished:
        return EventKind.TRIAL_ENDED
    if trial.state is not TrialState.RUNNING:
        return None
    return (
        EventKind.TRIAL_REPORTED
        if before and before.state is TrialState.RUNNING
        else EventKind.TRIAL_STARTED
    )
