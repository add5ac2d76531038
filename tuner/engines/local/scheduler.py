"""Schedules trials in numerical order, so timing and the number of workers do not affect results.

With P = parallelTrialCount, trial k is proposed once the trials up to k - P have finished, and the
sampler observes exactly those. Trials start in the order of their numbers. Stop conditions (a goal,
too many failures, the last trial) are evaluated in the order of numbers too: one applies once every
earlier trial has finished, and later trials are Killed then, whatever they reached. So the table is
the same for any number of workers, and after any interruption.

A failure of this machine (a full disk) is not the trial's: the search is paused by a StudyError,
and the trial runs again when it is resumed. If the server that forks trials dies, its trials run
again one at a time, so that only a trial that kills the server by itself is marked Failed. A killed
client is no evidence against a trial.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from tuner.commands import gantune
from tuner.engines.base import Event, EventKind
from tuner.engines.local.journal import Journal, TrialRecord
from tuner.engines.local.launcher import Launcher
from tuner.engines.local.machine import ensure_room, paused, ran_out_of_room
from tuner.engines.local.outcome import judge
from tuner.engines.local.runner import GRACE, Exit, Runner
from tuner.experiment import interpreter
from tuner.experiment.early_stopping import Rules
from tuner.experiment.model import Experiment
from tuner.metrics import MetricsReader
from tuner.result import Result, StudyState, TrialState
from tuner.samplers import Past, Sampler
from tuner.store import curves

TICK = 0.2  # seconds between two looks at the metrics of running trials
# The turns of reading: together with TICK, a trial that floods its output keeps the client from
# the others for a small part of the time only.
POLL_TIME = 0.01  # seconds for the new metrics of all running trials
READ_TIME, READ_PAUSE = 0.01, 0.04  # seconds for a finished trial while others run, and between
READING_TIME = 0.2  # seconds for the metrics of a finished trial once a stop has been asked for
STOP_SECONDS = GRACE + 1.0  # for running trials to exit once a stop has been asked for
SOLO_CRASHES = 3  # deaths of the server while a trial runs alone, after which the trial is Failed


class Scheduler:
    """One run of a study, from where its journal stands. `events` does the work while it is iterated."""

    def __init__(
        self,
        experiment: Experiment,
        journal: Journal,
        sampler: Sampler,
        rules: Rules | None,
        launcher: Launcher,
        max_trials: int | None,
    ) -> None:
        self._experiment, self._journal, self._sampler = experiment, journal, sampler
        self._rules, self._launcher, self._limit = rules, launcher, max_trials
        self._runner: Runner | None = None
        self._curves: curves.Writer | None = None
        self._running: dict[int, MetricsReader] = {}
        # finished trials whose metrics are still being read; True: a stop was asked for before
        self._reading: dict[int, tuple[MetricsReader, Exit, bool]] = {}
        self._waiting: deque[int] = deque()  # in the order of numbers
        self._stopping: set[int] = set()
        self._shown: dict[int, int] = {}  # observations that have been shown
        self._history: list[Past] = []  # what the sampler knows: one for each entry
        self._observed = 0  # trials before this number are observed in `_history`
        self._finished = 0  # trials before this number have finished, in order
        self._failures: Counter[str] = Counter()  # reasons of those that have no objective
        self._failed = 0
        self._thinned = False  # a warning about a curve was given
        self._scored = False  # a trial that has been counted gave the objective
        self._exhausted = False
        self._ceiling: int | None = None  # no trial beyond this number can count
        self.draining = False
        self._abort_by: float | None = None  # when to stop waiting for trials that are stopped
        self._read_until = 0.0  # when a reading ends, if a stop has been asked for
        for entry in journal.entries:
            self._history.append(Past(entry.point, entry.values))
            if not entry.state.finished:
                self._waiting.append(entry.number)
            elif self._reaches(entry):
                self._lower(entry.number)
        if max_trials is not None:
            # those that were proposed are part of the study
            self._limit = max(max_trials, len(journal.entries))

    @property
    def entries(self) -> list[TrialRecord]:
        """The trials so far."""
        return self._journal.entries

    def result(self) -> Result:
        """Return the current result."""
        return self._journal.result(alive=True)

    @property
    def aborting(self) -> bool:
        """Whether running trials are to be stopped."""
        return self._abort_by is not None

    def abort(self) -> None:
        """Start no new trial, and stop those that run. May be called from a signal handler."""
        self.draining = True
        if self._abort_by is None:
            self._abort_by = time.monotonic() + STOP_SECONDS

    def fail_crashing_trials(self) -> Iterator[Event]:
        """Mark each trial as Failed during which the server died whenever it ran alone."""
        for number, count in list(self._journal.suspects.items()):
            if count < SOLO_CRASHES:
                continue
            entry = self.entries[number]
            entry.state, entry.ended = TrialState.FAILED, datetime.now(UTC)
            entry.reason = f"the server process died {SOLO_CRASHES} times while only this trial ran"
            self._waiting.remove(number)
            self._journal.finish(entry)
            retry = gantune("retry", self._experiment.name, "--trial", number)
            hint = f"run it again with `{retry}`"
            yield Event(
                EventKind.WARNING,
                self.result(),
                message=f"{entry.name} is Failed: {entry.reason}; {hint}",
            )
            yield self._event(EventKind.TRIAL_ENDED, entry)

    def finished(self) -> bool:
        """Propose due trials and evaluate stop conditions in order. Return True if the study is finished."""
        end: dict[str, object] | None = None
        while end is None:
            while not self.draining and self._propose():
                pass
            if (
                self._finished == len(self.entries)
                or not self.entries[self._finished].state.finished
            ):
                break
            end = self._conclude(self.entries[self._finished])
        if end is None and self._limit is not None and self._finished >= self._limit:
            end = self._last()
        self._journal.conclude(end)
        return end is not None

    def _last(self) -> dict[str, object]:
        """How the search finishes with its last trial: Failed where none gave the objective."""
        what = "points of the space have been tried" if self._exhausted else "trials have finished"
        state, reason = StudyState.SUCCEEDED, f"all {self._limit} {what}"
        if not self._scored and self._failures:
            commonest, count = self._failures.most_common(1)[0]
            metric, total = self._experiment.objective.metric, self._failures.total()
            state = StudyState.FAILED
            reason = f"no trial gave {metric}: {commonest} ({count} of {total} trials)"
        return {"state": state.value, "reason": reason, "last": None}

    def events(self, runner: Runner) -> Iterator[Event]:
        """Everything up to the end, or up to where a stop was asked for; STUDY_ENDED is the caller's."""
        self._runner = runner
        with curves.Writer(self._journal.path.parent) as self._curves:
            yield from self._run(runner)

    def _run(self, runner: Runner) -> Iterator[Event]:
        while True:
            over = self.finished()
            for number in sorted(self._running):
                if self.aborting or over or (self._ceiling is not None and number > self._ceiling):
                    self._stop(number)
            if not over and not self.draining and not self.aborting:
                yield from self._start(runner)
            if not self._running and not self._reading:
                if over or self.draining or self.aborting:
                    return
                continue
            yield from self._wait(runner)
            for number in list(self._running):
                if self.poll(number):
                    self._stop(number)
                elif self._fresh(number):
                    yield self._event(EventKind.TRIAL_REPORTED, self.entries[number])

    def _wait(self, runner: Runner) -> Iterator[Event]:
        """Wait a little for trials to finish, and judge those that did."""
        pause = READ_PAUSE if self._running else 0.0
        ends, aborted = runner.wait(pause if self._reading else TICK), self.aborting
        for number, end in ends:
            if not end.crash:
                self._reading[number] = self._running.pop(number), end, aborted
                self._read_until = time.monotonic() + READING_TIME
        for number in list(self._reading):
            yield from self._read(number)
        if lost := {number: end.error for number, end in ends if end.crash}:
            yield from self._lost(sorted(lost), next(iter(lost.values())))
        if self._abort_by is not None and time.monotonic() > self._abort_by:
            for number in list(self._running):
                yield self._killed(number)  # `Session.close` ends its processes

    def poll(self, number: int) -> bool:
        """Read a running trial's new metrics; True where a cut of early stopping applies."""
        reader, entry = self._running.get(number), self.entries[number]
        if reader is None or not reader.poll(POLL_TIME / len(self._running)):
            return False
        entry.metrics = reader.aggregate(self._experiment.strategies)
        self._journal.show(entry)
        if self._rules is None or not entry.cuts:
            return False
        values = reader.curve(self._experiment.objective.metric)
        return self._rules.stop_at(entry.cuts, values) is not None

    def _fresh(self, number: int) -> bool:
        """True once for each time a running trial has more observations."""
        reader = self._running[number]
        seen, self._shown[number] = self._shown.get(number, 0), len(reader.observations)
        return len(reader.observations) != seen  # fewer after the trainer rewrote its file

    def _propose(self) -> bool:
        """Propose the next trial if it is due. What is observed by then fixes its thresholds."""
        number, lag = len(self.entries), self._experiment.parallel_trials
        observed = max(number - lag + 1, 0)
        if (self._limit is not None and number >= self._limit) or self._finished < observed:
            return False
        for entry in self.entries[self._observed : observed]:
            self._history[entry.number] = Past(entry.point, entry.values, True, self._value(entry))
        self._observed = max(self._observed, observed)
        proposal = self._sampler.propose(self._history)
        if proposal is None:
            self._limit = number
            self._exhausted = True
            return False
        cuts: list[tuple[int, float]] = []
        if self._rules is not None:
            ended = [entry for entry in self.entries[:observed] if entry.curve]
            finished = [entry.curve for entry in ended if entry.state is TrialState.SUCCEEDED]
            cuts = self._rules.cuts(number, [entry.curve for entry in ended], finished)
        name = f"{self._experiment.name}-{number}"
        entry = TrialRecord(number, name, proposal.values, proposal.point, tuple(cuts))
        self._journal.ask(entry)
        self._history.append(Past(entry.point, entry.values))
        self._waiting.append(number)
        return True

    def _value(self, entry: TrialRecord) -> float | None:
        counts = entry.state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)
        return entry.metrics.get(self._experiment.objective.metric) if counts else None

    def _conclude(self, entry: TrialRecord) -> dict[str, object] | None:
        """Evaluate the stop conditions for the next trial in order; return how the search ends."""
        objective, most = self._experiment.objective, self._experiment.max_failed_trials
        if self._reaches(entry):
            self._lower(entry.number)
            reason = f"trial {entry.number} reached the goal {objective.goal:g}"
            return {"state": StudyState.SUCCEEDED.value, "reason": reason, "last": entry.number}
        if entry.state in (TrialState.FAILED, TrialState.METRICS_UNAVAILABLE):
            failed = self._failed + 1
            # asked again until later running trials have stopped: count once
            if most is not None and failed >= most:
                self._lower(entry.number)
                reason = f"{failed} trials failed, maxFailedTrialCount is {most}; the last: {entry.reason}"
                return {"state": StudyState.FAILED.value, "reason": reason, "last": entry.number}
            self._failed = failed
            self._failures[entry.reason] += 1
        self._scored = self._scored or self._value(entry) is not None
        self._finished += 1
        return None

    def _reaches(self, entry: TrialRecord) -> bool:
        value = self._value(entry)
        return value is not None and self._experiment.objective.reached(value)

    def _lower(self, number: int) -> None:
        self._ceiling = number if self._ceiling is None else min(self._ceiling, number)

    def _start(self, runner: Runner) -> Iterator[Event]:
        while self._waiting and runner.idle:
            if self._ceiling is not None and self._waiting[0] > self._ceiling:
                return
            suspects = self._journal.suspects
            if self._running and not suspects.keys().isdisjoint([self._waiting[0], *self._running]):
                return  # a suspect runs alone
            entry = self.entries[self._waiting[0]]
            ensure_room(self._launcher.folder(entry))
            job = self._launcher.job(entry, runner.slot_of(entry.number))
            entry.state, entry.started = TrialState.RUNNING, datetime.now(UTC)
            self._journal.start(entry)
            self._waiting.popleft()
            self._running[entry.number] = self._launcher.reader(entry, self._may_read)
            runner.start(job)
            yield self._event(EventKind.TRIAL_STARTED, entry)

    def _stop(self, number: int) -> None:
        if number not in self._stopping and self._runner is not None:
            self._stopping.add(number)
            self._runner.stop(number)

    def _may_read(self) -> bool:
        return not self.aborting or time.monotonic() < self._read_until

    def _read(self, number: int) -> Iterator[Event]:
        """Read more of what a finished trial has reported; judge the trial when all is read."""
        reader, end, aborted = self._reading[number]
        try:
            complete = reader.read_all(READ_TIME if self._running else TICK)
        except OSError as error:
            raise paused(f"{reader.path} cannot be read ({error.strerror})") from error
        if complete or not self._may_read():
            del self._reading[number]
            yield from self._ended(number, reader, end, aborted=aborted, complete=complete)

    def _ended(
        self, number: int, reader: MetricsReader, end: Exit, *, aborted: bool, complete: bool
    ) -> Iterator[Event]:
        """Judge a trial that has finished, and whose metrics were read.

        `aborted` where a stop was asked for before it finished: whatever the exit code, a trainer
        that handles SIGTERM may have finished early.
        """
        entry = self.entries[number]
        self._stopping.discard(number)
        ceiling = self._ceiling is not None and number > self._ceiling
        if ceiling or not complete or (aborted and not self._cut(entry, reader)):
            yield self._killed(number)
            return
        if end.machine:
            raise paused(f"{entry.name} could not run ({end.error})")
        entry.metrics = {}
        last_line = judge(
            self._experiment,
            self._rules,
            entry,
            reader,
            end,
            self._launcher.log(entry),
            interpreter.described(self._launcher.python),
        )
        entry.ended = datetime.now(UTC)
        ensure_room(self._launcher.folder(entry))
        if entry.state is TrialState.FAILED and ran_out_of_room(entry.reason):
            raise paused(f"{entry.name} ran out of disk space ({entry.reason})")
        if self._curves is not None:
            self._curves.add(entry.name, reader.observations, last_line)
        yield from self._say_thinned(entry, reader)
        self._launcher.discard_temporary(entry)
        self._journal.finish(entry)
        if self._reaches(entry):
            self._lower(number)
        yield self._event(EventKind.TRIAL_ENDED, entry)

    def _say_thinned(self, entry: TrialRecord, reader: MetricsReader) -> Iterator[Event]:
        """Warn once of a trial that reported more values than are kept."""
        thinned = reader.observations.thinned()
        if thinned and not self._thinned:
            self._thinned = True
            counts = ", ".join(f"{count:,} values of {metric}" for metric, count in thinned.items())
            message = (
                f"{entry.name} reported {counts}: its curve keeps some of them, with the first, the "
                "lowest, the highest and the last one. min, max and latest count all"
            )
            yield Event(EventKind.WARNING, self.result(), message=message)

    def _killed(self, number: int) -> Event:
        """Forget a trial that was stopped; it runs again when the study is resumed."""
        self._running.pop(number, None)
        self._stopping.discard(number)
        entry = self.entries[number]
        killed = replace(entry.trial(), state=TrialState.KILLED, reason="stopped", metrics={})
        entry.reset()
        self._journal.show(entry)
        return Event(EventKind.TRIAL_ENDED, self.result(), killed)

    def _lost(self, numbers: list[int], error: str) -> Iterator[Event]:
        """Let the trials run again during which the server died: alone, as one of them may be the cause."""
        if self.aborting:
            for number in numbers:
                yield self._killed(number)
            return
        self._journal.resume(crashed=True)
        for number in numbers:
            del self._running[number]
            self._stopping.discard(number)
            self._journal.show(self.entries[number])
        self._waiting.extendleft(reversed(numbers))
        names = ", ".join(self.entries[number].name for number in numbers)
        again = "runs again" if len(numbers) == 1 else "run again, one at a time"
        yield Event(EventKind.WARNING, self.result(), message=f"{error}; {names} {again}")
        yield from self.fail_crashing_trials()

    def _cut(self, entry: TrialRecord, reader: MetricsReader) -> bool:
        values = reader.curve(self._experiment.objective.metric)
        return self._rules is not None and self._rules.stop_at(entry.cuts, values) is not None

    def _event(self, kind: EventKind, entry: TrialRecord) -> Event:
        return Event(kind, self.result(), entry.trial())
