"""A strict JSON Schema for Katib's Experiment, made from the fields that `check` knows. Katib has no such schema.

    python -m tuner.check.schema > experiment_v1beta1.json
    kubeconform -strict -schema-location default -schema-location '{{.ResourceKind}}_v1beta1.json'
    manifests/bayes.yaml

Editors and kubeconform use it to check keys, types and fixed words. `gantune check` checks the
rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tuner.check.fields import JOB, table
from tuner.check.settings import SETTINGS
from tuner.check.spec import ALGORITHMS
from tuner.check.template import KINDS
from tuner.katib.facts import (
    API_VERSION,
    COLLECTORS,
    DISTRIBUTIONS,
    PARAMETER_TYPES,
    RESUME_POLICIES,
)

_SIMPLE: Mapping[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "int32": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "float": {"type": "number"},
    "quantity": {"type": ["string", "number"]},
    "int-or-string": {"type": ["string", "integer"]},
    "any": {},
}
_WORDS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("Experiment", "apiVersion"): (API_VERSION,),
    ("Experiment", "kind"): ("Experiment",),
    ("ExperimentSpec", "resumePolicy"): RESUME_POLICIES,
    ("ObjectiveSpec", "type"): ("minimize", "maximize"),
    ("MetricStrategy", "value"): ("min", "max", "latest"),
    ("AlgorithmSpec", "algorithmName"): (
        *ALGORITHMS,
        *(name for name in SETTINGS if name not in ALGORITHMS),
    ),
    ("ParameterSpec", "parameterType"): PARAMETER_TYPES,
    ("FeasibleSpace", "distribution"): DISTRIBUTIONS,
    ("CollectorSpec", "kind"): COLLECTORS,
    ("FileSystemPath", "kind"): ("File", "Directory"),
    ("FileSystemPath", "format"): ("TEXT", "JSON"),
}
_REQUIRED: Mapping[str, list[str]] = {
    "Experiment": ["apiVersion", "kind", "metadata", "spec"],
    "ExperimentSpec": ["objective", "algorithm", "trialTemplate"],
    "ObjectiveSpec": ["type", "objectiveMetricName"],
    "AlgorithmSpec": ["algorithmName"],
    "AlgorithmSetting": ["name", "value"],
    "MetricStrategy": ["name", "value"],
    "ParameterSpec": ["name", "parameterType", "feasibleSpace"],
    "TrialTemplate": ["primaryContainerName", "trialParameters"],
    "TrialParameterSpec": ["name", "reference"],
}


def experiment_schema() -> dict[str, Any]:
    """The schema (draft 2020-12): every object closed, every type in `$defs`."""
    definitions = {name: _fields(name, fields) for name, fields in sorted(table().items())}
    definitions["TrialSpec"] = {
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {"apiVersion": {"type": "string"}, "kind": {"enum": list(KINDS)}},
        "if": {"properties": {"apiVersion": {"const": "batch/v1"}, "kind": {"const": "Job"}}},
        "then": {"$ref": f"#/$defs/{JOB}"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Experiment ({API_VERSION})",
        "$ref": "#/$defs/Experiment",
        "$defs": definitions,
    }


def _fields(name: str, fields: Mapping[str, str]) -> dict[str, Any]:
    properties = {}
    for key, kind in fields.items():
        words = _WORDS.get((name, key))
        properties[key] = {"enum": list(words)} if words else _type(kind.rstrip("-"))
    shape: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return shape | ({"required": _REQUIRED[name]} if name in _REQUIRED else {})


def _type(kind: str) -> dict[str, Any]:
    if kind.startswith("[]"):
        return {"type": "array", "items": _type(kind[2:])}
    if kind.startswith("{}"):
        return {"type": "object", "additionalProperties": _type(kind[2:])}
    return _SIMPLE.get(kind, {"$ref": f"#/$defs/{kind}"})


def main() -> None:
    """Print the schema."""
    print(json.dumps(experiment_schema(), indent=1))


if __name__ == "__main__":
    main()
