"""Experiments for Katib's own validator: each shipped example of the tests with one or two random edits.

    python -m tests.tuner.validator_cases --print | tests/tuner/data/validator/run.sh > /tmp/answers
    python -m tests.tuner.validator_cases --record /tmp/answers     writes tests/tuner/data/validator.jsonl
    python -m tests.tuner.validator_cases --count 5000 --print | tests/tuner/data/validator/run.sh >
    /tmp/answers python -m tests.tuner.validator_cases --count 5000 --compare /tmp/answers

Case k depends on k and SEED only. The table holds a digest of each case, so an answer always
belongs to its case.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuner.check import Problem, Severity, check_data
from tuner.katib import yamlfile
from tuner.katib.facts import (
    ALGORITHMS,
    COLLECTORS,
    DISTRIBUTIONS,
    PARAMETER_TYPES,
    RESUME_POLICIES,
)

DATA = Path(__file__).parent / "data"
TABLE = DATA / "validator.jsonl"
COUNT, SEED = 400, 20261126
_BASES = [yamlfile.read(DATA / "clean.yaml")[-1].value]
_BASES += [
    case["experiment"]
    for case in json.loads((DATA / "webhook.json").read_text())
    if case["status"] < 400
]
_VALUES: list[Any] = [
    *("", "0", "1", "-1", "0.5", "1e-3", "abc", "${trialParameters.lr}", "a;b", "(\\w+)=(\\d+)", "(fd", "/tmp", "tmp"),
    *(0, 1, -1, 2, 3.5, 1000, True, None, [], {}, ["a"], ["a", "a"], ["1", "2"], [1], {"name": "x"}, [{"name": "x"}]),
    *ALGORITHMS, *COLLECTORS, *DISTRIBUTIONS, *PARAMETER_TYPES, *RESUME_POLICIES,
    *("minimize", "maximize", "latest", "TEXT", "JSON", "File", "Directory", "Job", "batch/v1", "Never", "OnFailure"),
    *("lr", "bs", "fd", "loss", "trainer", "medianstop", "Experiment"),
]  # fmt: skip
_KEYS = (
    *(
        "goal",
        "metricStrategies",
        "earlyStopping",
        "nasConfig",
        "configMap",
        "step",
        "list",
        "min",
        "max",
    ),
    *(
        "unknownKey",
        "distribution",
        "source",
        "filter",
        "fileSystemPath",
        "resumePolicy",
        "successCondition",
        "retain",
    ),
)


def case(number: int) -> dict[str, Any]:
    """Return Experiment `number`."""
    generator = random.Random(f"{SEED}/{number}")
    document = copy.deepcopy(generator.choice(_BASES))
    document["metadata"] = {"name": "case", "namespace": "default"} | dict(
        document.get("metadata") or {}
    )
    for _ in range(generator.choice((1, 1, 2))):
        _edit(document["spec"] if generator.random() < 0.95 else document, generator)
    return document


def _edit(root: Any, generator: random.Random) -> None:
    places = list(_places(root))
    parent, key = generator.choice(places)
    how = generator.random()
    if how < 0.25:
        del parent[key]
    elif how < 0.35 and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    elif how < 0.45 and isinstance(parent[key], dict):
        parent[key][generator.choice(_KEYS)] = copy.deepcopy(generator.choice(_VALUES))
    else:
        parent[key] = copy.deepcopy(generator.choice(_VALUES))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


def digest(document: dict[str, Any]) -> str:
    """Return what tells one case from another."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]


def errors(document: dict[str, Any]) -> list[Problem]:
    """Return what `gantune check` calls errors."""
    data = json.dumps(document, ensure_ascii=False).encode()
    return [
        problem for problem in check_data(data, "case.json") if problem.severity is Severity.ERROR
    ]


def main() -> int:
    """Print cases, record answers, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--print", action="store_true", dest="show")
    parser.add_argument("--record", type=Path, metavar="ANSWERS")
    parser.add_argument("--compare", type=Path, metavar="ANSWERS")
    options = parser.parse_args()
    if options.show:
        for number in range(options.count):
            sys.stdout.write(json.dumps(case(number)) + "\n")
        return 0
    answers = [
        json.loads(line) for line in (options.record or options.compare).read_text().splitlines()
    ]
    if options.record:
        lines = [
            json.dumps([digest(case(number)), answer]) for number, answer in enumerate(answers)
        ]
        TABLE.write_text("\n".join(lines) + "\n")
        return 0
    from tests.tuner.check.test_validator import disagreement

    found = [
        (n, text) for n, answer in enumerate(answers) if (text := disagreement(case(n), answer))
    ]
    for number, text in found:
        print(f"case {number}: {text}")
    print(f"{len(answers)} cases, {len(found)} disagreements")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
