"""The fields of an Experiment and of a Job, and a walk that finds unknown keys and values of the wrong type.

Katib's CRD has no schema (x-kubernetes-preserve-unknown-fields), so Kubernetes does not check its
keys. Katib drops an unknown key of the Experiment silently, and its validating webhook refuses one
of the Job. TYPES transcribes experiment_types.go and common_types.go in the notation of
assets/job-fields.json (see .ci/job_fields.py).
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from tuner.katib.yamlfile import Path, show

TYPES: dict[str, dict[str, str]] = {
    "Experiment": {
        "apiVersion": "string",
        "kind": "string",
        "metadata": "meta.ObjectMeta",
        "spec": "ExperimentSpec",
        "status": "any",
    },
    "ExperimentSpec": {
        "parameters": "[]ParameterSpec",
        "objective": "ObjectiveSpec",
        "algorithm": "AlgorithmSpec",
        "earlyStopping": "AlgorithmSpec",
        "trialTemplate": "TrialTemplate",
        "parallelTrialCount": "int32",
        "maxTrialCount": "int32",
        "maxFailedTrialCount": "int32",
        "metricsCollectorSpec": "MetricsCollectorSpec",
        "nasConfig": "NasConfig",
        "resumePolicy": "string",
    },
    "ParameterSpec": {
        "name": "string",
        "parameterType": "string",
        "feasibleSpace": "FeasibleSpace",
    },
    "FeasibleSpace": {
        "min": "string",
        "max": "string",
        "step": "string",
        "list": "[]string",
        "distribution": "string",
    },
    "ObjectiveSpec": {
        "type": "string",
        "goal": "float",
        "objectiveMetricName": "string",
        "additionalMetricNames": "[]string",
        "metricStrategies": "[]MetricStrategy",
    },
    "MetricStrategy": {"name": "string", "value": "string"},
    "AlgorithmSpec": {"algorithmName": "string", "algorithmSettings": "[]AlgorithmSetting"},
    "AlgorithmSetting": {"name": "string", "value": "string"},
    "TrialTemplate": {
        "retain": "bool",
        "trialSpec": "TrialSpec",
        "configMap": "ConfigMapSource",
        "trialParameters": "[]TrialParameterSpec",
        "primaryPodLabels": "{}string",
        "primaryContainerName": "string",
        "successCondition": "string",
        "failureCondition": "string",
    },
    "ConfigMapSource": {
        "configMapName": "string",
        "configMapNamespace": "string",
        "templatePath": "string",
    },
    "TrialParameterSpec": {"name": "string", "description": "string", "reference": "string"},
    "MetricsCollectorSpec": {"source": "SourceSpec", "collector": "CollectorSpec"},
    "SourceSpec": {
        "httpGet": "core.HTTPGetAction",
        "fileSystemPath": "FileSystemPath",
        "filter": "FilterSpec",
    },
    "FilterSpec": {"metricsFormat": "[]string"},
    "FileSystemPath": {"path": "string", "kind": "string", "format": "string"},
    "CollectorSpec": {"kind": "string", "customCollector": "core.Container"},
    "NasConfig": {"graphConfig": "GraphConfig", "operations": "[]Operation"},
    "GraphConfig": {"numLayers": "int32", "inputSizes": "[]int32", "outputSizes": "[]int32"},
    "Operation": {"operationType": "string", "parameters": "[]ParameterSpec"},
}
JOB = "batch.Job"

_TRIAL_SPEC = ("spec", "trialTemplate", "trialSpec")
_QUANTITY = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][-+]?\d+)?\Z")
_EXEMPT = {"limits", "requests"}  # validator.go: device plugins' resources are not compared
_WANTED = {
    "string": "text",
    "bool": "true or false",
    "int": "a whole number",
    "int32": "a whole number",
    "float": "a finite number",
    "quantity": "a quantity such as 500m or 2Gi",
    "int-or-string": "a whole number or text",
}


def _known_cause(value: Any, path: Path) -> str:
    """Return which program is known to write this wrong type, or ""."""
    if path[-2:] == ("feasibleSpace", "distribution") and isinstance(value, list):
        cause = "kubeflow-katib 0.19's search.categorical puts the list there (katib#2625)"
        return f"; {cause}: move it to feasibleSpace.list"
    return ""


@cache
def table() -> Mapping[str, Mapping[str, str]]:
    """Return every type by its name: those of Katib, and those of k8s.io/api that a Job contains."""
    asset = json.loads((files("tuner") / "assets" / "job-fields.json").read_text())
    types: dict[str, dict[str, str]] = asset["types"]
    return {**types, **TYPES}


def walk(value: Any, kind: str, path: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield (rule, path, message) for each value that is not of type `kind`.

    The rules are unknown-key, ignored-key, wrong-type and round-trip.
    """
    lost_if_empty, kind = kind.endswith("-"), kind.rstrip("-")
    if value is None:
        yield (
            "round-trip",
            path,
            f"{show(path)} is null, which is lost when Katib writes the Job; leave it out",
        )
    if value is None or kind == "any":
        return
    if kind == "TrialSpec":
        if not isinstance(value, dict):
            yield "wrong-type", path, _wrong(path, "a mapping", value)
    elif kind.startswith("[]"):
        yield from _walk_list(value, kind[2:], path)
    elif kind.startswith("{}"):
        yield from _walk_map(value, kind[2:], path)
    elif (fields := table().get(kind)) is not None:
        yield from _walk_fields(value, fields, path)
    elif not _fits(value, kind):
        yield "wrong-type", path, _wrong(path, _WANTED[kind], value) + _known_cause(value, path)
    if lost_if_empty and value in ("", 0, [], {}):
        lost = f"{show(path)} is {json.dumps(value)}"
        yield "round-trip", path, f"{lost}, which is lost when Katib writes the Job; leave it out"
    if (
        kind == "quantity"
        and not _EXEMPT.intersection(path)
        and (canonical := _canonical(value)) != value
    ):
        wanted = (
            f"write {canonical}"
            if canonical
            else "write a whole number with a suffix, such as 1536Mi"
        )
        yield (
            "round-trip",
            path,
            f"{show(path)} is {value}, which Katib writes otherwise and then refuses; {wanted}",
        )


def _canonical(value: Any) -> Any:
    """Return a quantity with the largest suffix that keeps it an integer, as Kubernetes writes it: 1024Mi is 1Gi."""
    match = (
        re.fullmatch(r"(\d{1,15})([kMGTPE]|[KMGTPE]i)?", value) if isinstance(value, str) else None
    )
    if match is None:
        return value if isinstance(value, str) and "." not in value else None
    number, suffix = int(match[1]), match[2] or ""
    scale = (
        ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        if suffix.endswith("i")
        else ["", "k", "M", "G", "T", "P", "E"]
    )
    base, at = (1024 if suffix.endswith("i") else 1000), scale.index(suffix)
    while number and number % base == 0 and at + 1 < len(scale):
        number, at = number // base, at + 1
    return f"{number}{scale[at]}"


def _walk_list(value: Any, kind: str, path: Path) -> Iterator[tuple[str, Path, str]]:
    if not isinstance(value, list):
        yield "wrong-type", path, _wrong(path, "a list", value)
        return
    for i, item in enumerate(value):
        if item is None:
            yield (
                "wrong-type",
                (*path, i),
                f"{show((*path, i))} is empty; write it, or take its '-' out",
            )
        yield from walk(item, kind, (*path, i))


def _walk_map(value: Any, kind: str, path: Path) -> Iterator[tuple[str, Path, str]]:
    if not isinstance(value, dict):
        yield "wrong-type", path, _wrong(path, "a mapping", value)
        return
    for key, item in value.items():
        # a null quantity of a map is written as 0, and so it is not lost
        if item is not None or kind != "quantity":
            yield from walk(item, kind, (*path, key))


def _walk_fields(
    value: Any, fields: Mapping[str, str], path: Path
) -> Iterator[tuple[str, Path, str]]:
    if not isinstance(value, dict):
        yield "wrong-type", path, _wrong(path, "a mapping", value)
        return
    for key, item in value.items():
        if key in fields:
            yield from walk(item, fields[key], (*path, key))
        else:
            where = f"in {show(path)}" if path else "at the top"
            similar = nearest(key, fields)
            # Katib accepts it and drops it: an error only where it replaces a key that is meant
            rule = "unknown-key" if similar or path[:3] == _TRIAL_SPEC else "ignored-key"
            yield rule, (*path, key), f"unknown key {key!r} {where}{similar}"


def nearest(word: str, known: Any) -> str:
    """Return `; did you mean 'x'?`, or "" if no known word is similar."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word[:80].lower(), by_lower, 1, 0.6)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""


def _fits(value: Any, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    if kind in ("int", "int32"):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return whole and abs(value) < 2 ** (31 if kind == "int32" else 63)
    if kind == "float":
        return isinstance(value, int | float) and math.isfinite(value)
    if kind == "quantity":
        return isinstance(value, int | float) or (
            isinstance(value, str) and bool(_QUANTITY.match(value))
        )
    return isinstance(value, int | str)  # int-or-string


def _wrong(path: Path, wanted: str, value: Any) -> str:
    if isinstance(value, dict | list):
        got, remedy = ("a mapping" if isinstance(value, dict) else "a list"), ""
    elif isinstance(value, str):
        got = f"the text {json.dumps(value[:60])}"
        remedy = (
            "; write it without quotes"
            if wanted != "text" and re.fullmatch(r"[-+.\w]{1,30}", value)
            else ""
        )
    else:
        shown = (
            json.dumps(value)
            if isinstance(value, bool)
            else str(value)[:40]
            if abs(value) < 1e300
            else "a huge number"
        )
        got, remedy = f"{shown}", f'; quote it: "{shown}"' if wanted == "text" else ""
    return f"{show(path)} must be {wanted}, got {got}{remedy}"
