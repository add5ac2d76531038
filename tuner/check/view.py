"""An Experiment as it was written, with safe access to its parts. The rules read it.

Null values are left out, as Go's decoder ignores them. Rules run only on documents whose Katib
fields have the right types (tuner.check.fields). The content of trialSpec can have any type, so the
rules read it with `dig` and `strings`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from tuner.katib.facts import DEFAULT_PARALLEL_TRIALS
from tuner.katib.yamlfile import Path

NUMERIC = ("double", "int")
LISTED = ("categorical", "discrete")
MAPPING: dict[str, Any] = {}


def bare(value: Any) -> Any:
    """Return a copy without null values in mappings."""
    if isinstance(value, dict):
        return {key: bare(item) for key, item in value.items() if item is not None}
    return [bare(item) for item in value] if isinstance(value, list) else value


def dig(value: Any, *keys: str) -> Any:
    """Return the value at a path of keys, or None if a key is missing or a parent is not a mapping."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def strings(value: Any) -> list[str]:
    """Return the strings in a value that should be a list of strings."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def number(text: Any) -> float | None:
    """Return a finite number that Python's and Go's parsers read equally, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return (
        value
        if value - value == 0 and "_" not in str(text) and str(text).strip() == str(text)
        else None
    )


class View:
    """The parts of one Experiment. Lists of (path, item) keep the place in the document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = bare(document)
        self.metadata: dict[str, Any] = self.document.get("metadata", MAPPING)
        self.spec: dict[str, Any] = self.document.get("spec", MAPPING)
        self.objective: dict[str, Any] = self.spec.get("objective", MAPPING)
        self.template: dict[str, Any] = self.spec.get("trialTemplate", MAPPING)
        self.algorithm: str = dig(self.spec, "algorithm", "algorithmName") or ""
        self.parallel: int = self.spec.get("parallelTrialCount", DEFAULT_PARALLEL_TRIALS)
        self.max_trials: int | None = self.spec.get("maxTrialCount")
        self.source: dict[str, Any] = dig(self.spec, "metricsCollectorSpec", "source") or {}
        objective = self.objective.get("objectiveMetricName", "")
        self.metrics: tuple[str, ...] = (
            objective,
            *self.objective.get("additionalMetricNames", []),
        )
        collector = dig(self.spec, "metricsCollectorSpec", "collector")
        self.collector: str = "StdOut" if collector is None else collector.get("kind", "")

    @cached_property
    def parameters(self) -> list[tuple[Path, dict[str, Any]]]:
        """Return every search parameter with its path."""
        return [
            (("spec", "parameters", i), item)
            for i, item in enumerate(self.spec.get("parameters", []))
            if item
        ]

    def spaces(self, *kinds: str) -> Iterator[tuple[Path, str, dict[str, Any]]]:
        """Yield (path of feasibleSpace, name, feasibleSpace) of the parameters of some types."""
        for path, item in self.parameters:
            if item.get("parameterType") in kinds:
                yield (
                    (*path, "feasibleSpace"),
                    item.get("name", ""),
                    item.get("feasibleSpace", MAPPING),
                )

    def settings(self, of: str = "algorithm") -> list[tuple[Path, str, str]]:
        """Return (path of the value, name, value) of the settings of `algorithm` or `earlyStopping`."""
        items = dig(self.spec, of, "algorithmSettings") or []
        path: Path = ("spec", of, "algorithmSettings")
        return [
            ((*path, i), item.get("name", ""), item.get("value", ""))
            for i, item in enumerate(items)
            if item
        ]

    @cached_property
    def trial_parameters(self) -> list[tuple[Path, dict[str, Any]]]:
        """Return every trialParameter with its path."""
        path: Path = ("spec", "trialTemplate", "trialParameters")
        return [
            ((*path, i), item)
            for i, item in enumerate(self.template.get("trialParameters", []))
            if item
        ]

    @cached_property
    def job(self) -> dict[str, Any] | None:
        """Return the trialSpec, or None."""
        job: dict[str, Any] | None = self.template.get("trialSpec")
        return job

    @property
    def is_batch_job(self) -> bool:
        """Whether the trial is a batch/v1 Job. The webhook checks the fields of no other kind."""
        return self.job is not None and (self.job.get("apiVersion"), self.job.get("kind")) == (
            "batch/v1",
            "Job",
        )

    @cached_property
    def job_text(self) -> str:
        """Return the trialSpec as JSON, in which Katib replaces the placeholders."""
        return json.dumps(self.job, ensure_ascii=False) if self.job is not None else ""

    @cached_property
    def pods(self) -> list[tuple[Path, str, list[tuple[Path, dict[str, Any]]]]]:
        """Return (path of the containers, role, containers) of each pod with containers; role "" for a Job's pod."""
        places: list[tuple[Path, str, Any]] = []
        if self.is_batch_job:
            places.append((("spec",), "", dig(self.job, "spec")))
        for key, roles in (
            (dig(self.job, "spec") or {}).items() if isinstance(dig(self.job, "spec"), dict) else ()
        ):
            if str(key).endswith("ReplicaSpecs") and isinstance(roles, dict):
                places += [(("spec", key, role), str(role), held) for role, held in roles.items()]
        found = []
        for place, role, held in places:
            path: Path = (
                "spec",
                "trialTemplate",
                "trialSpec",
                *place,
                "template",
                "spec",
                "containers",
            )
            items = dig(held, "template", "spec", "containers")
            listed = enumerate(items if isinstance(items, list) else [])
            found.append(
                (path, role, [((*path, i), item) for i, item in listed if isinstance(item, dict)])
            )
        return found

    @cached_property
    def containers(self) -> list[tuple[Path, dict[str, Any]]]:
        """Return the pod's containers if the trial is a batch/v1 Job."""
        return self.pods[0][2] if self.is_batch_job else []

    @cached_property
    def primary(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the container whose command Katib wraps, or None."""
        name = self.template.get("primaryContainerName")
        return next(
            ((path, item) for path, item in self.containers if item.get("name") == name), None
        )

    @cached_property
    def references(self) -> dict[str, str]:
        """Return a mapping: trialParameter name -> search parameter name."""
        return {
            item.get("name", ""): item.get("reference", "") for _, item in self.trial_parameters
        }
