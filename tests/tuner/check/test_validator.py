"""`check` against Katib's own validator: the recorded answers of its webhook to mutated Experiments.

What the webhook refuses is an error of `check`. What it accepts is none, except for the rules in
AFTER_ADMISSION, whose
faults Katib finds only later: each says why.
"""

from __future__ import annotations

import json
from typing import Any

from tests.tuner.validator_cases import COUNT, TABLE, case, digest, errors

AFTER_ADMISSION = {
    "unknown-key": "the API server drops the key, and what it should have said is lost",
    "kind": "the API server refuses it before the webhook is asked",
    "no-experiment": "the API server refuses it before the webhook is asked",
    "name": "the webhook's expression has no end, so it accepts names whose trials Kubernetes refuses",
    "parameters": "of two parameters with one name, the suggestion service takes one",
    "parameter-type": "the suggestion service fails",
    "distribution": "the API server or the suggestion service refuses it",
    "bounds-number": "the suggestion service fails",
    "bounds-order": "the suggestion service fails",
    "step-range": "the suggestion service fails",
    "log-bound": "the suggestion service fails",
    "list-empty": "the suggestion service fails",
    "list-duplicate": "the suggestion service fails, or proposes a point twice",
    "discrete-number": "the suggestion service fails",
    "grid-step": "the suggestion service fails",
    "grid-size": "the suggestion service fails",
    "algorithm-setting": "the suggestion service refuses it, and the Experiment fails",
    "hyperband": "the suggestion service refuses it, and the Experiment fails",
    "cmaes-dimensions": "the suggestion service refuses it, and the Experiment fails",
    "nas": "the suggestion service fails",
    "metric-strategy": "the value of the metric cannot be chosen, and the trial fails",
    "metric-name": "the collector never finds the metric",
    "collector-filter": "the collector dies under StdOut",
    "early-stopping-collector": "nothing stops the trials",
    "parameter-unused": "each trial fails, because its template lacks the parameter",
    "primary-container": "the webhook of pods refuses each pod",
    "image": "the API server refuses each Job",
    "pod": "the API server refuses each Job",
    "value-in-json": "each trial's template is no JSON",
    "first-trials": "Katib ignores the annotation",
    "required-files": "Katib ignores the annotation",
    "trial-spec": "each trial fails",
    "placeholder": "each trial fails",
    "early-stopping": "the early-stopping service refuses it",
}

# Katib reads an empty item as one without a name
EMPTY_ITEM = "is empty; write it, or take its '-' out"


def disagreement(document: dict[str, Any], answer: str) -> str:
    """Return how `check` and the webhook disagree about a case; "" where they agree."""
    found = errors(document)
    if answer:
        return "" if found else f"check finds no error, the webhook says: {answer}"
    unexplained = [problem for problem in found if problem.rule not in AFTER_ADMISSION]
    surprising = [problem for problem in unexplained if EMPTY_ITEM not in problem.message]
    return (
        f"the webhook accepts it, check says: {'; '.join(map(str, surprising))}"
        if surprising
        else ""
    )


def test_check_agrees_with_the_validator() -> None:
    rows = [json.loads(line) for line in TABLE.read_text().splitlines()]
    assert len(rows) == COUNT
    found = {}
    for number, (known, answer) in enumerate(rows):
        document = case(number)
        assert digest(document) == known, f"case {number} has changed: record the answers again"
        if text := disagreement(document, answer):
            found[number] = text
    assert found == {}


def test_table_holds_both_verdicts() -> None:
    answers = [json.loads(line)[1] for line in TABLE.read_text().splitlines()]
    refused = sum(bool(answer) for answer in answers)
    assert COUNT / 5 < refused < COUNT * 4 / 5
