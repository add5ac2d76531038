"""The Engine protocol and its events.

There are two engines: tuner.engines.local (Optuna, this machine) and tuner.engines.katib (a
cluster). The registry in tuner.engines lists them, and tests/tuner/engine_contract.py tests both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from tuner.experiment.model import Experiment
from tuner.result import Result, StudyState, Trial
from tuner.store.transfer import FileRecord, Progress


class EventKind(StrEnum):
    """What can happen while a search runs."""

    TRIAL_STARTED = "trial_started"
    # a running trial has new metrics, or a new reason why it does not run
    TRIAL_REPORTED = "trial_reported"
    TRIAL_ENDED = "trial_ended"
    WARNING = "warning"  # `message` says what happened and how to fix it
    STUDY_ENDED = "study_ended"  # always last; `result` holds everything


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a search. Trial events have a `trial`; `result` is the state of the study after the event."""

    kind: EventKind
    result: Result
    trial: Trial | None = None
    message: str = ""


class Engine(Protocol):
    """Runs Experiments. A verb that an engine does not support raises UnsupportedError.

    Every method raises GantuneError, and nothing else, for what a user can correct.
    """

    def submit(self, experiment: Experiment) -> str:
        """Create the study, or join the one that exists with the same spec; returns its name.

        Raises StudyChanged where a study of this name has another spec.
        """
        ...

    def watch(self, name: str) -> Iterator[Event]:
        """Yield events until the study finishes, STUDY_ENDED last. The local engine runs trials in the iteration."""
        ...

    def collect(self, name: str) -> Result:
        """Return everything known now, and store it so that it can be read after the study is gone."""
        ...

    def stop(self, name: str) -> None:
        """Stop the study and its running trials; what has been observed is kept."""
        ...

    def logs(
        self, name: str, which: str | None = None, *, best: bool = False, follow: bool = False
    ) -> Iterator[str]:
        """Yield the lines that a trial printed: by its name or number, the best, else the newest."""
        ...

    def files(
        self,
        name: str,
        target: Path,
        which: str | None = None,
        *,
        progress: Progress = lambda done, total: None,
    ) -> tuple[Trial, list[FileRecord]]:
        """Copy the files of a trial, by default the best, to a new directory; return what they are."""
        ...

    def extend(self, name: str, max_trials: int) -> None:
        """Raise maxTrialCount. Raises UnsupportedError where the study cannot have more trials."""
        ...

    def delete(self, name: str) -> Result:
        """Delete the study and return its last result."""
        ...

    def studies(self) -> list[tuple[str, StudyState]]:
        """Return the name and state of each study."""
        ...
