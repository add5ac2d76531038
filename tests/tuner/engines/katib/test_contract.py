"""The Katib engine does what every engine must do; Katib is played by a recording (tests/tuner/loopback.py)."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.clusters import FastClock
from tests.tuner.engine_contract import EngineContract
from tests.tuner.loopback import Loopback, changes
from tuner.engines.base import Engine
from tuner.engines.katib import KatibEngine
from tuner.experiment.model import Experiment
from tuner.kube import Cluster
from tuner.manifest import from_document
from tuner.store.studies import Store

SCENARIO = "random-ok"


class TestKatibEngine(EngineContract):
    """On the loopback API server."""

    @pytest.fixture
    def engine(
        self, server: Loopback, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Engine:
        monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)

        def controller(item: dict[str, Any]) -> None:
            def rest() -> None:
                for _ in server.steps(SCENARIO, uid=item["metadata"]["uid"]):
                    time.sleep(0.001)

            threading.Thread(target=rest, daemon=True).start()

        server.controller = controller
        store = Store(tmp_path / "store")
        return KatibEngine(
            Cluster.connect(), store, clock=FastClock(), timeout=3000, db_manager="127.0.0.1:9"
        )

    @pytest.fixture
    def manifest(self) -> Experiment:
        recorded = next(
            change["object"] for change in changes(SCENARIO)[0] if change["kind"] == "experiments"
        )
        shape = {key: recorded[key] for key in ("apiVersion", "kind", "spec")}
        return from_document(shape | {"metadata": {"name": SCENARIO}})
