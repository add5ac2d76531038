"""A Katib Experiment (kubeflow.org/v1beta1) as frozen Python, after the defaults of Katib's webhook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from tuner.experiment.annotations import Factors, Files
from tuner.katib.facts import DEFAULT_PARALLEL_TRIALS
from tuner.result import Goal, Objective
from tuner.samplers import Sampler, sampler
from tuner.samplers.first import FIRST_ANNOTATION, checked, to_text
from tuner.samplers.transform import dimension
from tuner.space import Parameter, Value


class Strategy(StrEnum):
    """Which of a metric's values counts (common_types.go, `MetricStrategyType`)."""

    MIN = "min"
    MAX = "max"
    LATEST = "latest"


class CollectorKind(StrEnum):
    """Katib's metrics collectors."""

    STDOUT = "StdOut"
    FILE = "File"
    TF_EVENT = "TensorFlowEvent"
    PROMETHEUS = "PrometheusMetric"
    CUSTOM = "Custom"
    PUSH = "Push"


class FileFormat(StrEnum):
    """How a File collector reads its file."""

    TEXT = "TEXT"
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class Collector:
    """Where the metrics come from. `path` is absolute, as in the container; `filters` are regular expressions."""

    kind: CollectorKind = CollectorKind.STDOUT
    path: str = ""
    format: FileFormat = FileFormat.TEXT
    filters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlgorithmSpec:
    """An algorithm (or early stopping) by Katib's name, with its settings as text."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrialTemplate:
    """How a trial is made. `references` maps a trialParameter to a search parameter or a `${trialSpec...}` key."""

    spec: Mapping[str, Any]
    primary_container: str
    references: Mapping[str, str]
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Experiment:
    """One Experiment after Katib's defaulting. `document` is the object as written, for the API server."""

    name: str  # "" where only generateName is given
    namespace: str  # "" where the manifest names none
    objective: Objective
    additional_metrics: tuple[str, ...]
    strategies: Mapping[str, Strategy]  # for the objective and every additional metric
    algorithm: AlgorithmSpec
    parameters: tuple[Parameter, ...]
    template: TrialTemplate
    collector: Collector = Collector()
    early_stopping: AlgorithmSpec | None = None
    parallel_trials: int = DEFAULT_PARALLEL_TRIALS
    max_trials: int | None = None
    max_failed_trials: int | None = None
    resume_policy: str = "Never"
    generate_name: str = ""
    first_trials: tuple[Mapping[str, Value], ...] = ()  # the trials that run first
    stop_factors: Factors = ()
    required_files: Files = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    source: str = ""  # the text of the manifest; "" where it was not written as YAML

    @property
    def baseline(self) -> Mapping[str, Value]:
        """The values of the first trial, with which a search is compared; empty if the Experiment names none."""
        return self.first_trials[0] if self.first_trials else {}

    def sampler(self, seed: int, known: Sequence[tuple[Mapping[str, Any], float]] = ()) -> Sampler:
        """Return the sampler that proposes the trials; `known` are points and values of an earlier study.

        Raises UnsupportedError where the algorithm or a setting is not available locally.
        """
        return sampler(
            self.algorithm.name,
            self.algorithm.settings,
            self.parameters,
            seed=seed,
            maximize=self.objective.goal_type is Goal.MAXIMIZE,
            parallel=self.parallel_trials,
            first=self.first_trials,
            known=known,
        )


def with_first_trials(experiment: Experiment, points: Sequence[Mapping[str, str]]) -> Experiment:
    """Return the Experiment with more first trials, in its document too.

    A parameter that a point does not name takes its value from the Experiment's own first trial, if
    there is one. Raises UnsupportedError for a point outside the search space.
    """
    listed = [*experiment.first_trials, *({**experiment.baseline, **point} for point in points)]
    first = checked(listed, [dimension(parameter) for parameter in experiment.parameters])
    metadata = dict(experiment.document.get("metadata") or {})
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        FIRST_ANNOTATION: to_text(first),
    }
    return replace(
        experiment, first_trials=first, document={**experiment.document, "metadata": metadata}
    )


def with_max_trials(experiment: Experiment, max_trials: int) -> Experiment:
    """Return the Experiment with another maxTrialCount, in its document too."""
    spec = {**experiment.document["spec"], "maxTrialCount": max_trials}
    return replace(
        experiment, max_trials=max_trials, document={**experiment.document, "spec": spec}
    )
