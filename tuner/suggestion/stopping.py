"""The early-stopping thresholds of new trials, from the curves of earlier ones in Katib's DB manager.

A trial reports to the DB manager when its container ends, before Katib marks it as finished. So the
curves of the trials that a sampler is told about are there. If the DB manager does not answer, the
request fails and Katib repeats it: a restart of the DB manager changes nothing. After `PATIENCE`
seconds, trials are proposed without thresholds until it answers again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tuner.errors import ClusterError
from tuner.experiment.early_stopping import STOPPED_METRIC, Rules
from tuner.kube.dbmanager import DbManager
from tuner.metrics import ObservationLog
from tuner.suggestion.request import Record

PATIENCE = 120.0  # seconds without an answer after which no trial is stopped
CONNECT = 5.0  # seconds for a connection; Katib waits 60 s for a reply
MOST_CURVES = 20_000  # that one process remembers


class Unavailable(ClusterError):
    """The DB manager does not answer at the moment."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a finished trial reported: the finite values of the objective, and whether it was stopped."""

    curve: tuple[float, ...]
    stopped: bool


@dataclass(slots=True)
class Stopping:
    """Computes thresholds. One object serves all searches of a process. `address` is the DB manager's."""

    address: str
    clock: Callable[[], float] = time.monotonic
    _silent_since: float | None = None
    _reports: dict[tuple[str, str], Report] = field(default_factory=dict)

    def label(
        self, rules: Rules, metrics: Sequence[str], number: int, told: Sequence[Record]
    ) -> tuple[str, str]:
        """Return the thresholds of trial `number` as a label, "" for none, and why it cannot have any.

        Args:
            rules: The rules of the Experiment.
            metrics: The names of the metrics that Katib collects.
            number: The number of the trial.
            told: The trials that its sampler is told about, in the order of their numbers.

        Raises:
            Unavailable: The DB manager does not answer, and the request is worth another try.
        """
        if STOPPED_METRIC not in metrics:
            return "", (
                f"no trial is stopped: add {STOPPED_METRIC} to additionalMetricNames, by which a "
                "stopped trial is recognized"
            )
        scored = [record for record in told if record.value is not None]
        try:
            reports = self._read(rules.objective.metric, scored)
        except ClusterError as error:
            if self._may_wait():
                raise Unavailable(
                    f"the curves of earlier trials are not available, Katib will ask again: {error}"
                ) from error
            return "", f"no trial is stopped, because earlier curves are not available: {error}"
        self._silent_since = None
        curves = [report.curve for report in reports if report.curve]
        finished = [report.curve for report in reports if report.curve and not report.stopped]
        return rules.label(rules.cuts(number, curves, finished)), ""

    def _read(self, metric: str, records: Sequence[Record]) -> list[Report]:
        """Return what each trial reported. A trial is read once, since it has finished."""
        with ExitStack() as stack:
            database: DbManager | None = None
            for record in records:
                if (key := (record.name, metric)) in self._reports:
                    continue
                if database is None:
                    database = stack.enter_context(DbManager.connect(self.address, CONNECT))
                log = ObservationLog(database.observations(record.name))
                report = Report(
                    tuple(log.curve(metric)),
                    record.stopped or 1.0 in log.curve(STOPPED_METRIC),
                )
                while len(self._reports) >= MOST_CURVES:
                    del self._reports[next(iter(self._reports))]
                self._reports[key] = report
        return [self._reports[record.name, metric] for record in records]

    def _may_wait(self) -> bool:
        """Return whether the DB manager has not been silent for long."""
        now = self.clock()
        if self._silent_since is None:
            self._silent_since = now
        return now - self._silent_since < PATIENCE
