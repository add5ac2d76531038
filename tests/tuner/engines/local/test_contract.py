"""The local engine under the contract of both engines, with one worker and with two."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuner.engine_contract import EngineContract
from tests.tuner.experiments import TRIALS, experiment
from tuner.engines.base import Engine
from tuner.engines.local import LocalEngine
from tuner.experiment.model import Experiment
from tuner.store.studies import Store


@pytest.mark.parametrize("workers", [1, 2])
class TestLocalEngine(EngineContract):
    """LocalEngine keeps the contract."""

    @pytest.fixture
    def engine(self, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
        monkeypatch.chdir(TRIALS)
        return LocalEngine(Store(tmp_path), workers=workers)

    @pytest.fixture
    def manifest(self) -> Experiment:
        return experiment(trials=4)
