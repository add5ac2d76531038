"""A Katib Experiment (kubeflow.org/v1beta1) as frozen Python: what every engine reads.

`load(path)` reads one file, refuses what `gantune check` calls an error, and applies the defaults of Katib's webhook
(experiment_defaults.go), so that an Experiment always holds what the controller would see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tuner.result import Objective
from tuner.space import Parameter

API_VERSION = "kubeflow.org/v1beta1"
DEFAULT_PARALLEL_TRIALS = 3  # Katib's constants.go


class Strategy(StrEnum):
    """Which of a metric's values counts (common_types.go, `MetricStrategyType`)."""

    MIN = "min"
    MAX = "max"
    LATEST = "latest"


class CollectorKind(StrEnum):
    """Katib's metrics collectors; the local engine knows the first two."""

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
class Algorithm:
    """An algorithm (or early stopping) by Katib's name, with its settings as text."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrialTemplate:
    """How a trial is made. `references` maps a trialParameter's name to the search parameter, or `${trialSpec...}` key."""

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
    algorithm: Algorithm
    parameters: tuple[Parameter, ...]
    template: TrialTemplate
    collector: Collector = Collector()
    early_stopping: Algorithm | None = None
    parallel_trials: int = DEFAULT_PARALLEL_TRIALS
    max_trials: int | None = None
    max_failed_trials: int | None = None
    resume_policy: str = "Never"
    generate_name: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
