"""A search of 5,000 trials loses nothing, and every command still reads it. Opt in with --with-slow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tuner.cli.test_cli import gantune
from tests.tuner.experiments import LR, experiment
from tuner.engines.base import EventKind
from tuner.engines.local import LocalEngine
from tuner.result import Result, StudyState, TrialState
from tuner.store.studies import Store

COUNT, PARALLEL = 5000, 2
WHAT = experiment(
    command=["sh", "-c"],
    args=["echo fd=${trialParameters.lr}"],
    parameters=[LR],
    trials=COUNT,
    parallel=PARALLEL,
)


def run(store: Path, until: int) -> tuple[Result, int]:
    """Run the search until `until` trials have finished in it: its result, and how many finished in this run."""
    engine, finished = LocalEngine(Store(store), workers=PARALLEL), 0
    for event in engine.run(WHAT):
        finished += event.kind is EventKind.TRIAL_ENDED
        if finished == until:
            engine.stop("study", drain=True)
    return event.result, finished


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_thousand_trials_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = tmp_path / ".gantune"
    half, finished = run(store, COUNT // 2)
    assert half.state is StudyState.STOPPED
    assert COUNT // 2 <= finished < COUNT // 2 + PARALLEL
    result, later = run(store, COUNT)
    assert finished + later == COUNT
    assert result.state is StudyState.SUCCEEDED
    assert [(trial.number, trial.state) for trial in result.trials] == [
        (n, TrialState.SUCCEEDED) for n in range(COUNT)
    ]
    assert all(trial.metrics["fd"] == trial.parameters["lr"] for trial in result.trials)
    assert len({trial.parameters["lr"] for trial in result.trials}) == COUNT

    assert f"{COUNT} done" in gantune(tmp_path, "status", "study")[1]
    shown = json.loads(gantune(tmp_path, "status", "study", "--format", "json")[1])
    assert shown == result.to_json()
    best = min(result.trials, key=lambda trial: trial.metrics["fd"])
    assert (
        json.loads(gantune(tmp_path, "best", "study", "--format", "json")[1])["number"]
        == best.number
    )
    assert f"{COUNT} finished trials are intact" in gantune(tmp_path, "check-store", "study")[1]
    code, page, err = gantune(tmp_path, "report", "study", "-o", "-")
    assert code == 0, err
    assert f"{COUNT}" in page
