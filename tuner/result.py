"""What a search yields, whichever engine ran it: trials, and the one definition of "best".

`Result.to_json` is a documented, stable shape (docs/reference/result.md):
{"name", "state", "objective",
 "trials": [{"number", "name", "state", "parameters", "metrics", "started", "ended"}], "best",
 "baseline", "gain", "front"}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tuner.errors import UnsupportedError
from tuner.space import Value

if TYPE_CHECKING:
    import pandas


class TrialState(StrEnum):
    """Katib's trial conditions (trial_types.go), and WAITING for a trial that was proposed but has not started."""

    WAITING = "Waiting"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    EARLY_STOPPED = "EarlyStopped"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    FAILED = "Failed"
    KILLED = "Killed"

    @property
    def finished(self) -> bool:
        """True when the trial will not change any more."""
        return self not in (TrialState.WAITING, TrialState.RUNNING)


class StudyState(StrEnum):
    """The state of a search."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"
    DELETED = "Deleted"  # from the cluster, before it had ended


class Goal(StrEnum):
    """Which way the objective is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True, slots=True)
class Observation:
    """One value of one metric, as the trial printed it. `time` is None where the line bore no RFC3339 time."""

    metric: str
    value: float
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial. `metrics` holds one finite float per metric, after its strategy (min, max, latest)."""

    number: int
    name: str
    state: TrialState
    parameters: Mapping[str, Value]
    metrics: Mapping[str, float] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None
    reason: str = ""  # why it failed or does not run, one line
    node: str = ""

    def to_json(self) -> dict[str, Any]:
        """The trial in the documented shape; keys beyond it (reason, node) only where they say something."""
        shape: dict[str, Any] = {
            "number": self.number,
            "name": self.name,
            "state": self.state.value,
            "parameters": dict(self.parameters),
            "metrics": dict(self.metrics),
            "started": _time_to_json(self.started),
            "ended": _time_to_json(self.ended),
        }
        return shape | {key: text for key in ("reason", "node") if (text := getattr(self, key))}

    @classmethod
    def from_json(cls, shape: Mapping[str, Any]) -> Trial:
        """The inverse of `to_json`."""
        return cls(
            number=int(shape["number"]),
            name=str(shape["name"]),
            state=TrialState(shape["state"]),
            parameters=dict(shape["parameters"]),
            metrics={name: float(value) for name, value in shape["metrics"].items()},
            started=_time_from_json(shape.get("started")),
            ended=_time_from_json(shape.get("ended")),
            reason=str(shape.get("reason", "")),
            node=str(shape.get("node", "")),
        )


@dataclass(frozen=True, slots=True)
class Objective:
    """The metric that decides, which way, and the goal at which the search ends.

    Attributes:
        seed_noise: The difference between two trainings that differ only in their seed, as a share
            of the metric; None if it is not known.
        cost_metric: The metric that says what a trial cost; "" takes its wall time.
    """

    metric: str
    goal_type: Goal
    goal: float | None = None
    seed_noise: float | None = None
    cost_metric: str = ""

    def better(self, a: float, b: float) -> bool:
        """True when `a` is strictly better than `b`."""
        return a < b if self.goal_type is Goal.MINIMIZE else a > b

    def reached(self, value: float) -> bool:
        """True when `value` is as good as the goal; never without one."""
        return self.goal is not None and not self.better(self.goal, value)

    def to_json(self) -> dict[str, Any]:
        """Return the objective in the shape of `Result.to_json`."""
        shape = {"metric": self.metric, "type": self.goal_type.value, "goal": self.goal}
        known = {"seed_noise": self.seed_noise, "cost_metric": self.cost_metric}
        return shape | {name: value for name, value in known.items() if value}

    @classmethod
    def from_json(cls, shape: Mapping[str, Any]) -> Objective:
        """Return the objective of what `to_json` returned."""
        return cls(
            str(shape["metric"]),
            Goal(shape["type"]),
            shape.get("goal"),
            shape.get("seed_noise"),
            str(shape.get("cost_metric", "")),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """A search: its name, its state, and all its trials in the order of their numbers.

    `baseline` holds the values of the first trial that the Experiment names; it is empty if it
    names none.
    """

    name: str
    state: StudyState
    objective: Objective
    trials: tuple[Trial, ...] = ()
    reason: str = ""
    baseline: Mapping[str, Value] = field(default_factory=dict)

    @property
    def best(self) -> Trial | None:
        """The ended trial with the best finite objective; the first of equals. Failed trials are never best."""
        best: Trial | None = None
        metric, better, most = self.objective.metric, self.objective.better, math.nan
        for trial in self.trials:
            value = trial.metrics.get(metric)
            if value is None or (best is not None and not better(value, most)):
                continue  # nearly all: each event of a search asks for the best of thousands
            if self.value(trial) is not None:
                best, most = trial, value
        return best

    @property
    def baseline_trial(self) -> Trial | None:
        """The trial with the values of the baseline, with which the search is compared; None if there is none."""
        if not self.baseline:
            return None
        return next((trial for trial in self.trials if trial.parameters == self.baseline), None)

    @property
    def gain(self) -> float | None:
        """By which share of the baseline's objective the best trial is better; None if the share is not defined."""
        baseline, best = self.baseline_trial, self.best
        value = self.value(baseline) if baseline else None
        if best is None or not value:
            return None
        share = abs(best.metrics[self.objective.metric] - value) / abs(value)
        return share if math.isfinite(share) else None

    def cost(self, trial: Trial) -> float | None:
        """Return what a trial cost: its cost metric, or its wall time in seconds; None if unknown."""
        if self.objective.cost_metric:
            return trial.metrics.get(self.objective.cost_metric)
        if trial.started is None or trial.ended is None:
            return None
        return (trial.ended - trial.started).total_seconds()

    def front(self) -> tuple[Trial, ...]:
        """Return the Pareto front of the succeeded trials in objective and cost, cheapest first."""
        sign = 1 if self.objective.goal_type is Goal.MINIMIZE else -1
        scored = [
            (cost, sign * value, trial)
            for trial in self.trials
            if trial.state is TrialState.SUCCEEDED
            and (cost := self.cost(trial)) is not None
            and (value := self.value(trial)) is not None
        ]
        front: list[Trial] = []
        least = math.inf
        for _, value, trial in sorted(scored, key=lambda each: each[:2]):
            if value < least:
                front.append(trial)
                least = value
        return tuple(front)

    def value(self, trial: Trial) -> float | None:
        """Return the objective of a trial that can be best; None for another trial."""
        value = trial.metrics.get(self.objective.metric, math.nan)
        able = trial.state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED) and math.isfinite(
            value
        )
        return value if able else None

    @property
    def comparable(self) -> list[tuple[Trial, float]]:
        """The trials that can be best, by number, each with the objective that a model of the search may use.

        A trial that was stopped early has the objective of a shorter training, which mostly tells
        when it was stopped. It counts as no worse than the worst trial that finished by itself.
        """
        scored = [
            (trial, value) for trial in self.trials if (value := self.value(trial)) is not None
        ]
        whole = [value for trial, value in scored if trial.state is TrialState.SUCCEEDED]
        if not whole:
            return scored
        limit = max if self.objective.goal_type is Goal.MAXIMIZE else min
        worst = min(whole) if self.objective.goal_type is Goal.MAXIMIZE else max(whole)
        return [(trial, limit(value, worst)) for trial, value in scored]

    def cut_off(self, state: StudyState, reason: str) -> Result:
        """This result where nothing can follow: what had not ended is KILLED, a search that had keeps its end."""
        trials = (
            t if t.state.finished else replace(t, state=TrialState.KILLED, reason=reason)
            for t in self.trials
        )
        end = (state, reason) if self.state is StudyState.RUNNING else (self.state, self.reason)
        return replace(self, state=end[0], reason=end[1], trials=tuple(trials))

    def records(self) -> list[dict[str, Any]]:
        """Return one flat row for each trial, all with the same keys; None where a trial has no value."""
        parameters = dict.fromkeys(
            f"parameters.{name}" for trial in self.trials for name in trial.parameters
        )
        metrics = dict.fromkeys(
            f"metrics.{name}" for trial in self.trials for name in trial.metrics
        )
        rows = []
        for trial in self.trials:
            first = {"number": trial.number, "name": trial.name, "state": trial.state.value}
            times = {
                "started": trial.started,
                "ended": trial.ended,
                "reason": trial.reason,
                "node": trial.node,
            }
            held = {f"parameters.{name}": value for name, value in trial.parameters.items()}
            held |= {f"metrics.{name}": value for name, value in trial.metrics.items()}
            rows.append(first | parameters | metrics | held | times)
        return rows

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the trials as a table of pandas, one row for each. Raises UnsupportedError without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise UnsupportedError(
                "tables need pandas, which is missing: pip install 'gan-tuner[report]'"
            ) from error
        return pandas.DataFrame(self.records())

    def to_json(self) -> dict[str, Any]:
        """The documented shape."""
        best, baseline = self.best, self.baseline_trial
        shape: dict[str, Any] = {
            "name": self.name,
            "state": self.state.value,
            "objective": self.objective.to_json(),
            "trials": [trial.to_json() for trial in self.trials],
            "best": best.to_json() if best else None,
            "baseline": baseline.number if baseline else None,
            "gain": self.gain,
            "front": [trial.number for trial in self.front()],
        }
        return shape | ({"reason": self.reason} if self.reason else {})

    @classmethod
    def from_json(cls, shape: Mapping[str, Any]) -> Result:
        """The inverse of `to_json`."""
        trials = tuple(Trial.from_json(trial) for trial in shape["trials"])
        number = shape.get("baseline")
        return cls(
            name=str(shape["name"]),
            state=StudyState(shape["state"]),
            objective=Objective.from_json(shape["objective"]),
            trials=trials,
            reason=str(shape.get("reason", "")),
            baseline=next((trial.parameters for trial in trials if trial.number == number), {}),
        )


def _time_to_json(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _time_from_json(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
