"""What a watch knows when it looks for the reason why a search is stuck, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tuner.engines.katib import trials
from tuner.engines.katib.objects import PodView
from tuner.experiment.model import Experiment
from tuner.result import Trial, TrialState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a search on which the rules decide."""

    experiment: Experiment
    namespace: str
    created: datetime | None
    touched: bool  # whether Katib's controller has written a status
    trials: tuple[Trial, ...]
    pods: tuple[PodView, ...]
    pods_known: bool  # False where RBAC forbids to list them
    quiet: float  # seconds since anything has changed

    @property
    def suggestion_pods(self) -> list[PodView]:
        """The suggestion service's."""
        return [pod for pod in self.pods if not pod.trial]

    @property
    def podless(self) -> set[str]:
        """The trials that Katib calls Running and that have no pod; none if pods may not be listed."""
        have = {pod.trial for pod in self.pods}
        return {name for name in self._running if name not in have} if self.pods_known else set()

    @property
    def unreported(self) -> set[str]:
        """Trials that Katib calls Running although their pod has completed."""
        pods = trials.youngest(self.pods)
        return {name for name in self._running if name in pods and pods[name].phase == "Succeeded"}

    @property
    def jobless(self) -> set[str]:
        """Trials whose Job Katib has not made."""
        return {trial.name for trial in self.trials if trial.state is TrialState.WAITING}

    @property
    def at_work(self) -> bool:
        """Whether any trial runs, as far as one can see."""
        idle = self.podless | self.unreported
        return any(trial.name in self._running - idle and not trial.reason for trial in self.trials)

    @property
    def _running(self) -> set[str]:
        return {trial.name for trial in self.trials if trial.state is TrialState.RUNNING}

    @property
    def explained(self) -> bool:
        """Whether the reason why a trial waits is known."""
        return any(trial.reason and not trial.state.finished for trial in self.trials)

    @property
    def drained(self) -> bool:
        """Whether the search waits for the sampler: every trial has finished, and more are allowed."""
        most = self.experiment.max_trials
        return all(trial.state.finished for trial in self.trials) and (
            most is None or len(self.trials) < most
        )

    @property
    def changed(self) -> datetime | None:
        """When something happened last, by the server's clock."""
        times = [time for trial in self.trials for time in (trial.started, trial.ended) if time]
        return max([*times, *([self.created] if self.created else [])], default=None)

    @property
    def since(self) -> str:
        """That time as text, which stays the same while nothing happens."""
        return f" since {self.changed:%H:%M:%S} UTC" if self.changed else ""


@dataclass(slots=True)
class Findings:
    """`reasons` by trial name; `warnings` about the whole, each with its fix."""

    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reasons or self.warnings)
