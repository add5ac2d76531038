"""Defines the Engine protocol, which runs studies, and its events.

There are two engines: tuner.engines.local (Optuna, this machine) and tuner.engines.katib (a
cluster). The registry in tuner.engines lists them, and tests/tuner/engine_contract.py tests both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tuner.experiment.model import Experiment
from tuner.result import Result, StudyState, Trial
from tuner.store.transfer import FileRecord, Progress

if TYPE_CHECKING:
    # the fork server imports this package, and a process with NumPy's threads cannot be isolated
    from tuner.analysis.view import View


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


class Overview(NamedTuple):
    """A study in a list of all: counts of its trials, and when it was created."""

    name: str
    state: StudyState
    finished: int
    max_trials: int | None  # None without a limit
    created: datetime | None


class Engine(Protocol):
    """Runs Experiments. A verb that an engine does not support raises UnsupportedError.

    Every method raises GantuneError, and nothing else, for what a user can correct.
    """

    def run(self, experiment: Experiment) -> Iterator[Event]:
        """Create the study, or join the one with the same spec, and yield its events.

        STUDY_ENDED is the last one. The call itself refuses what cannot run: StudyChanged where a
        study of this name has another spec. The local engine runs trials in the iteration.
        """
        ...

    def watch(self, name: str) -> Iterator[Event]:
        """Yield the events of a study that runs, STUDY_ENDED last. Watching changes nothing."""
        ...

    def result(self, name: str) -> Result:
        """Return everything known now, and store it, so that it survives the study."""
        ...

    def view(self, name: str, *, images: bool = True) -> View:
        """Return everything that a report shows of the study, as the store holds it."""
        ...

    def stop(self, name: str, *, drain: bool = False) -> None:
        """Stop the study and its running trials; what has been observed is kept.

        With `drain`, the running trials finish, and no new one starts.
        """
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

    def studies(self) -> list[Overview]:
        """Return an overview of each study, by name."""
        ...
