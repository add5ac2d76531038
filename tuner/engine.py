"""What an engine is: something that runs an Experiment and tells what happens.

Two exist: tuner.engines.local (Optuna, this machine) and tuner.engines.katib (a cluster). One contract test class,
tests/tuner/engine_contract.py, holds for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tuner.manifest import Experiment
from tuner.result import Result, Trial


class EventKind(StrEnum):
    """What can happen while a search runs."""

    TRIAL_STARTED = "trial_started"
    TRIAL_REPORTED = "trial_reported"  # a running trial has new metrics, or a new reason why it does not run
    TRIAL_ENDED = "trial_ended"
    WARNING = "warning"  # `message` says what and the remedy
    STUDY_ENDED = "study_ended"  # always last; `result` holds everything


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `trial` for the trial events; `result` is the whole as it stands after the event."""

    kind: EventKind
    result: Result
    trial: Trial | None = None
    message: str = ""


class Engine(Protocol):
    """Submit, watch, collect, stop. Every method raises GantuneError and nothing else for what a user can mend."""

    def submit(self, experiment: Experiment) -> str:
        """Create the study, or join the one that exists with the same spec; returns its name.

        Raises StudyChanged where the name is taken by another spec.
        """
        ...

    def watch(self, name: str) -> Iterator[Event]:
        """Events until the study ends, STUDY_ENDED last. The local engine does the work while it is iterated."""
        ...

    def collect(self, name: str) -> Result:
        """Everything known now, stored so that it can be read after the study is gone."""
        ...

    def stop(self, name: str) -> None:
        """End the study and its running trials; what has been observed stays."""
        ...
