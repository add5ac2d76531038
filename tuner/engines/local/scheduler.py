"""Which trial is asked, told and counted when: by numbers, so that timing and the number of workers decide nothing.

With P = parallelTrialCount, trial k is asked once the trials up to k - P have ended, and the sampler is told exactly
those. Trials start in the order of their numbers. What ends the search (a goal, too many failures, the last trial) is
looked for in the order of numbers too: it counts once every earlier trial has ended, and later trials are Killed then,
whatever they had reached. So the table is the same for any number of workers, and after any interruption.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from tuner.engine import Event, EventKind
from tuner.engines.local.early_stopping import Rules
from tuner.engines.local.inprocess import InProcess
from tuner.engines.local.journal import Journal, TrialRecord
from tuner.engines.local.launcher import Launcher
from tuner.engines.local.outcome import Exit, curve, judge
from tuner.engines.local.pool import Pool
from tuner.manifest import Experiment
from tuner.metrics import MetricsTail, aggregate
from tuner.result import Result, StudyState, TrialState
from tuner.samplers import Past, Sampler

TICK = 0.2  # seconds between two looks at the metrics of running trials


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
        self._runner: Pool | InProcess | None = None
        self._running: dict[int, MetricsTail] = {}
        self._stopping: set[int] = set()
        self._seen: dict[int, int] = {}  # observations that have been shown
        self._exhausted = False
        self._settled = 0  # trials up to here have ended, and been counted
        self._failed = 0
        self._ceiling: int | None = None  # no trial beyond this number can count
        self.draining = False
        self.aborting = False
        for entry in journal.entries:
            if not entry.state.ended:
                entry.state, entry.started, entry.metrics = TrialState.WAITING, None, {}
            elif self._reaches(entry):
                self._lower(entry.number)

    @property
    def entries(self) -> list[TrialRecord]:
        """The trials so far."""
        return self._journal.entries

    def result(self) -> Result:
        """How the study stands."""
        return self._journal.result(alive=True)

    def finished(self) -> bool:
        """Ask what may be asked, count what has ended, one by one; True when nothing is left to run."""
        end: dict[str, object] | None = None
        while end is None:
            while not self.draining and self._ask():
                pass
            if self._settled == len(self.entries) or not self.entries[self._settled].state.ended:
                break
            end = self._settle(self.entries[self._settled])
        if end is None and self._limit is not None and self._settled >= self._limit:
            what = "points of the space have been tried" if self._exhausted else "trials have ended"
            end = {"state": StudyState.SUCCEEDED.value, "reason": f"all {self._limit} {what}", "last": None}
        self._journal.set(end=end or {})
        return end is not None

    def events(self, runner: Pool | InProcess) -> Iterator[Event]:
        """Everything up to the end, or up to where a stop was asked for; STUDY_ENDED is the caller's."""
        self._runner = runner
        while True:
            over = self.finished()
            for number in sorted(self._running):
                if self.aborting or over or (self._ceiling is not None and number > self._ceiling):
                    self._stop(number)
            if not over and not self.draining and not self.aborting:
                yield from self._start(runner)
            if not self._running:
                if over or self.draining or self.aborting:
                    return
                continue
            for number, end in runner.wait(TICK):
                yield from self._ended(number, end)
            for number in list(self._running):
                if self.poll(number):
                    self._stop(number)
                elif self._fresh(number):
                    yield self._event(EventKind.TRIAL_REPORTED, self.entries[number])

    def poll(self, number: int) -> bool:
        """Read a running trial's new metrics; True where a cut of early stopping applies."""
        reader, entry = self._running.get(number), self.entries[number]
        if reader is None or not reader.poll():
            return False
        entry.metrics = aggregate(reader.observations, self._experiment.strategies)
        if self._rules is None or not entry.cuts:
            return False
        values = curve(reader.observations, self._experiment.objective.metric)
        return self._rules.stop_at(entry.cuts, values) is not None

    def hang(self, number: int, error: str) -> TrialRecord:
        """Record a trial that cannot be ended as Failed."""
        entry = self.entries[number]
        entry.state, entry.reason, entry.ended = TrialState.FAILED, error, datetime.now(UTC)
        entry.metrics = {}
        self._journal.end(entry)
        return entry

    def _fresh(self, number: int) -> bool:
        """True once for each time a running trial has more observations."""
        reader = self._running[number]
        seen, self._seen[number] = self._seen.get(number, 0), len(reader.observations)
        return len(reader.observations) > seen

    def _ask(self) -> bool:
        """Ask the next trial, if it may be; with its cuts fixed by what has been told."""
        number, lag = len(self.entries), self._experiment.parallel_trials
        told = max(number - lag + 1, 0)
        if (self._limit is not None and number >= self._limit) or self._settled < told:
            return False
        history = [
            Past(entry.point, entry.values, True, self._value(entry))
            if entry.number < told
            else Past(entry.point, entry.values)
            for entry in self.entries
        ]
        proposal = self._sampler.propose(history)
        if proposal is None:
            self._limit = number
            self._exhausted = True
            return False
        cuts: list[tuple[int, float]] = []
        if self._rules is not None:
            ended = [entry for entry in self.entries[:told] if entry.curve]
            finished = [entry.curve for entry in ended if entry.state is TrialState.SUCCEEDED]
            cuts = self._rules.cuts(number, [entry.curve for entry in ended], finished)
        name = f"{self._experiment.name}-{number}"
        entry = TrialRecord(number, name, proposal.values, proposal.point, tuple(cuts))
        self._journal.ask(entry, {dimension.name: dimension.distribution for dimension in self._sampler.dimensions})
        return True

    def _value(self, entry: TrialRecord) -> float | None:
        counts = entry.state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)
        return entry.metrics.get(self._experiment.objective.metric) if counts else None

    def _settle(self, entry: TrialRecord) -> dict[str, object] | None:
        """Count the next trial in the order of numbers; how the search ends, where it ends with this one."""
        objective, most = self._experiment.objective, self._experiment.max_failed_trials
        if self._reaches(entry):
            self._lower(entry.number)
            reason = f"trial {entry.number} reached the goal {objective.goal:g}"
            return {"state": StudyState.SUCCEEDED.value, "reason": reason, "last": entry.number}
        if entry.state in (TrialState.FAILED, TrialState.METRICS_UNAVAILABLE):
            failed = self._failed + 1
            if most is not None and failed >= most:  # asked again until later running trials have stopped: count once
                self._lower(entry.number)
                reason = f"{failed} trials failed, maxFailedTrialCount is {most}; the last: {entry.reason}"
                return {"state": StudyState.FAILED.value, "reason": reason, "last": entry.number}
            self._failed = failed
        self._settled += 1
        return None

    def _reaches(self, entry: TrialRecord) -> bool:
        value = self._value(entry)
        return value is not None and self._experiment.objective.reached(value)

    def _lower(self, number: int) -> None:
        self._ceiling = number if self._ceiling is None else min(self._ceiling, number)

    def _start(self, runner: Pool | InProcess) -> Iterator[Event]:
        for entry in self.entries:
            if not runner.idle:
                return
            beyond = self._ceiling is not None and entry.number > self._ceiling
            if entry.state is not TrialState.WAITING or beyond:
                continue
            job = self._launcher.job(entry, runner.slot_of(entry.number))
            entry.state, entry.started = TrialState.RUNNING, datetime.now(UTC)
            self._running[entry.number] = self._launcher.reader(entry)
            self._journal.start(entry)
            runner.start(job)
            yield self._event(EventKind.TRIAL_STARTED, entry)

    def _stop(self, number: int) -> None:
        if number not in self._stopping and self._runner is not None:
            self._stopping.add(number)
            self._runner.stop(number)

    def _ended(self, number: int, end: Exit) -> Iterator[Event]:
        reader, entry = self._running.pop(number), self.entries[number]
        reader.poll(final=True)
        self._stopping.discard(number)
        entry.metrics = {}
        ceiling = self._ceiling is not None and number > self._ceiling
        cut = self._cut(entry, reader)
        if ceiling or (self.aborting and (end.code != 0 or end.error) and not cut):
            entry.state, entry.started = TrialState.WAITING, None
            killed = replace(entry.trial(), state=TrialState.KILLED, reason="stopped")
            yield Event(EventKind.TRIAL_ENDED, self.result(), killed)
            return
        judge(self._experiment, self._rules, entry, reader, end, self._launcher.log(entry))
        entry.ended = datetime.now(UTC)
        self._journal.end(entry)
        if self._reaches(entry):
            self._lower(number)
        yield self._event(EventKind.TRIAL_ENDED, entry)

    def _cut(self, entry: TrialRecord, reader: MetricsTail) -> bool:
        values = curve(reader.observations, self._experiment.objective.metric)
        return self._rules is not None and self._rules.stop_at(entry.cuts, values) is not None

    def _event(self, kind: EventKind, entry: TrialRecord) -> Event:
        return Event(kind, self.result(), entry.trial())
