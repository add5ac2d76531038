"""The protocol of what reads a trial's metrics, whatever its collector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tuner.experiment.model import Strategy
from tuner.metrics.observations import ObservationLog


class MetricsReader(Protocol):
    """Reads what one trial reported; MetricsTail for files of lines, EventFiles for TensorBoard's event files."""

    @property
    def path(self) -> Path:
        """The file or directory that is read."""
        ...

    @property
    def observations(self) -> ObservationLog:
        """What was reported, as far as it was read."""
        ...

    @property
    def error(self) -> str:
        """Why Katib's collector would fail; "" while it would not."""
        ...

    def poll(self, seconds: float = ...) -> int:
        """Read what was added, for display and early stopping; returns the number of new observations."""
        ...

    def read_all(self, seconds: float = ...) -> bool:
        """Read everything once, when the trial has finished.

        Returns:
            False after about `seconds`, and the next call continues; False where a stop was asked
            for; True at the end.

        Raises:
            OSError: This machine cannot read the file.
        """
        ...

    def aggregate(
        self, strategies: Mapping[str, Strategy], last_line: int | None = None
    ) -> dict[str, float]:
        """Return one finite number per metric, as `ObservationLog.aggregate` describes."""
        ...

    def curve(self, metric: str) -> Sequence[float]:
        """Return the first finite values of a metric in the order of their reports."""
        ...

    def other_names(self) -> list[str]:
        """Return some names that were reported and are not metrics of the Experiment."""
        ...

    def expected(self, metric: str) -> str:
        """Return what would have been a report of `metric`, for a message that says that there was none."""
        ...
