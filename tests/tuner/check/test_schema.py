"""The JSON Schema: it takes what Katib takes, and refuses what `check` calls a wrong type or an unknown key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tuner.check.schema import experiment_schema
from tuner.katib import yamlfile

DATA = Path(__file__).parents[1] / "data"
CLEAN = (DATA / "clean.yaml").read_text()
VALIDATOR = jsonschema.Draft202012Validator(experiment_schema())


def mistakes(text: str) -> list[str]:
    value = yamlfile.parse(text.encode(), "m.yaml")[0].value
    return [error.message for error in VALIDATOR.iter_errors(value)]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(experiment_schema())


def test_what_katib_took_is_valid() -> None:
    assert mistakes(CLEAN) == []
    for case in json.loads((DATA / "webhook.json").read_text()):
        if case["status"] < 300:
            assert list(VALIDATOR.iter_errors(case["experiment"])) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('min: "1e-5"', "min: 1e-5"),
        ("maxTrialCount: 20", 'maxTrialCount: "20"'),
        ("maxTrialCount: 20", "maxTrials: 20"),
        ("type: minimize", "type: minimise"),
        ("distribution: logUniform", "distribution: loguniform"),
        ("backoffLimit: 0", "backofflimit: 0"),
        ("restartPolicy: Never", "restartPolicy: 1"),
        ("kind: Job", "kind: CronJob"),
        ("    primaryContainerName: trainer\n", ""),
    ],
)
def test_what_it_refuses(old: str, new: str) -> None:
    assert old in CLEAN
    assert mistakes(CLEAN.replace(old, new, 1))


def test_every_object_is_closed_and_every_reference_resolves() -> None:
    schema = experiment_schema()
    names = set(schema["$defs"])

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = (
                {value["$ref"].removeprefix("#/$defs/")}
                if isinstance(value.get("$ref"), str)
                else set()
            )
            return own.union(*(references(item) for item in value.values()))
        return (
            set().union(*(references(item) for item in value)) if isinstance(value, list) else set()
        )

    assert references(schema) == names
    assert all(
        shape.get("additionalProperties") is False
        for name, shape in schema["$defs"].items()
        if name != "TrialSpec"
    )


def test_schema_command_prints_json_schema() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tuner.check.schema"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == experiment_schema()
