"""Adding an algorithm: one module and one row, which the engine, the checker and the schema read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.tuner.experiments import TRIALS, document, run
from tuner import manifest, samplers
from tuner.check import Severity, check_document
from tuner.check import spec as check_spec
from tuner.katib.yamlfile import Document
from tuner.samplers import Algorithm, Past, Proposal, Search
from tuner.samplers.base import proposal_of


class Middle:
    """A toy: every trial gets the middle of each range."""

    def __init__(self, search: Search) -> None:
        self.dimensions = search.dimensions

    def propose(self, history: Sequence[Past]) -> Proposal | None:
        return proposal_of(self.dimensions, {each.name: each.at(0.5) for each in self.dimensions})


@pytest.fixture
def _middle(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Algorithm(("margin",), Middle)
    monkeypatch.setattr(samplers, "ALGORITHMS", {**samplers.ALGORITHMS, "middle": row})
    monkeypatch.setattr(check_spec, "ALGORITHMS", (*check_spec.ALGORITHMS, "middle"))
    monkeypatch.chdir(TRIALS)


@pytest.mark.usefixtures("_middle")
def test_algorithm_is_one_module_and_one_row(tmp_path: Path) -> None:
    held = document("middle", trials=2, parallel=2, settings={"margin": "1"})
    found = check_document(Document(held, "m.yaml", 1, {}))
    assert [problem for problem in found if problem.severity is Severity.ERROR] == []
    result = run(tmp_path, manifest.from_document(held))
    assert {trial.parameters["bs"] for trial in result.trials} == {80}


@pytest.mark.usefixtures("_middle")
def test_setting_that_no_factory_reads_is_an_error() -> None:
    held = document("middle", settings={"unknown": "1"})
    messages = [problem.message for problem in check_document(Document(held, "m.yaml", 1, {}))]
    assert "middle has no setting 'unknown' (it takes margin, random_state)" in messages
