"""Defines View: everything that a report shows of one study. The engines fill it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tuner.analysis import importance
from tuner.analysis.importance import Interval, Surface
from tuner.errors import CommandError
from tuner.experiment.final import CommandLine
from tuner.experiment.model import Experiment
from tuner.gp import one_thread
from tuner.katib.containers import primary_container
from tuner.result import Goal, Result, Trial, TrialState
from tuner.store.curves import Curves
from tuner.store.images import Thumbnail

MAX_IMAGES = 24  # trials whose images a page shows, and as many running ones
TRAIN_PREFIX = "train_"  # `train_fd` is `fd` on the training data

# (number of the report, from 1; the objective that a trial must reach by then)
Cut = tuple[int, float]


@dataclass(frozen=True)
class View:
    """One study with everything that the page shows.

    Attributes:
        engine: The name of the engine that ran it.
        curves: What each trial reported of each metric, in order, by the trial's name.
        cuts: The early-stopping rule of each trial that has one, by the trial's number.
        commands: The command line that trains with a trial's parameters, by the trial's number.
        record: What is needed to repeat the search, as (name, value).
        source: The manifest's text; "" where it is not known.
        samples: The images that trials wrote, by the trial's number.
        real: Real images to compare them with; None without.
        next_command: The command that writes the next manifest; "" takes `gantune next NAME`.
        samples_note: What a reader must know about the images, or why there are none.
    """

    result: Result
    experiment: Experiment
    engine: str = "local"
    curves: Mapping[str, Curves] = field(default_factory=dict)
    cuts: Mapping[int, tuple[Cut, ...]] = field(default_factory=dict)
    commands: Mapping[int, str] = field(default_factory=dict)
    record: tuple[tuple[str, str], ...] = ()
    source: str = ""
    samples: Mapping[int, Thumbnail] = field(default_factory=dict)
    real: Thumbnail | None = None
    samples_note: str = ""
    next_command: str = ""

    @property
    def metric(self) -> str:
        """The objective's name."""
        return self.result.objective.metric

    @cached_property
    def scored(self) -> list[tuple[Trial, float]]:
        """The trials that can be the best one, by number, with their objective: finished well, and finite."""
        return [
            (t, value) for t in self.result.trials if (value := self.result.value(t)) is not None
        ]

    @cached_property
    def ranked(self) -> list[tuple[Trial, float]]:
        """The scored trials, best first; equal ones by number."""
        sign = 1 if self.result.objective.goal_type is Goal.MINIMIZE else -1
        return sorted(self.scored, key=lambda item: sign * item[1])

    @property
    def pictured(self) -> list[Trial]:
        """The trials whose images are shown: the best, some of the other scored ones, and running ones."""
        running = [trial for trial in self.result.trials if trial.state is TrialState.RUNNING]
        return [trial for trial, _ in sample(self.ranked, MAX_IMAGES)] + running[-MAX_IMAGES:]

    @cached_property
    def complete(self) -> list[tuple[Trial, float]]:
        """The scored trials that have a value for each parameter, with the objective that the model uses."""
        names = [parameter.name for parameter in self.experiment.parameters]
        return [
            each
            for each in self.result.comparable
            if all(name in each[0].parameters for name in names)
        ]

    @property
    def caution(self) -> str:
        """What a reader of the model must know if trials were stopped early; "" otherwise."""
        if all(trial.state is TrialState.SUCCEEDED for trial, _ in self.complete):
            return ""
        return " For the model, a trial that was stopped early is at most as bad as the worst one that was not."

    @cached_property
    def surface(self) -> Surface | None:
        """The model of the objective over the search space; None with too few trials or without a trend."""
        if len(self.complete) <= len(self.experiment.parameters):
            return None
        points, values = (
            [trial.parameters for trial, _ in self.complete],
            [value for _, value in self.complete],
        )
        with one_thread():
            return importance.fit(self.experiment.parameters, points, values)

    @cached_property
    def effects(self) -> dict[str, Interval]:
        """The share of each parameter in the total effect with its interval, largest first; empty without a surface."""
        with one_thread():
            return importance.shares(self.surface) if self.surface else {}

    def curve(self, trial: Trial, metric: str) -> list[float]:
        """Return the finite values of one metric that a trial reported, in order."""
        return [seen.value for seen in self.curves.get(trial.name, {}).get(metric, ())]


def sample(order: Sequence[tuple[Trial, float]], most: int) -> list[tuple[Trial, float]]:
    """Return `most` of the ranked trials at most: half are the best, the others evenly chosen."""
    if len(order) <= most:
        return list(order)
    head, rest = list(order[: most // 2]), order[most // 2 :]
    step = len(rest) / (most - len(head))
    return head + [rest[int(index * step)] for index in range(most - len(head))]


def commands(experiment: Experiment, result: Result) -> dict[int, str]:
    """Return the command line that trains with a trial's parameters, by the trial's number."""
    command = CommandLine(experiment)
    lines = {trial.number: command.line(trial.parameters) for trial in result.trials}
    return {number: line for number, line in lines.items() if line}


def curve_names(experiment: Experiment) -> set[str]:
    """Return the metrics whose curves a page draws: the objective, and the one to compare it with."""
    metric = experiment.objective.metric
    return {metric, f"{TRAIN_PREFIX}{metric}"}


def record(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield the settings of an Experiment that a record lists, as (name, value)."""
    algorithm = experiment.algorithm
    settings = ", ".join(f"{name} {value}" for name, value in algorithm.settings.items())
    yield "algorithm", f"{algorithm.name} ({settings})" if settings else algorithm.name
    if early := experiment.early_stopping:
        rules = [early.name, *(f"{name} {value}" for name, value in early.settings.items())]
        yield "early stopping", ", ".join(rules)
    yield "parallel trials", str(experiment.parallel_trials)
    yield "max trials", str(experiment.max_trials or "no limit")
    try:
        container = primary_container(
            experiment.template.spec, experiment.template.primary_container
        )
    except CommandError:
        return
    if image := container.get("image"):
        yield "image", str(image)
