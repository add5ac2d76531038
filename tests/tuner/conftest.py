"""The loopback API server and an engine on it, for every test that talks to a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuner.clusters import engine_on
from tests.tuner.loopback import Loopback
from tuner import commands
from tuner.engines.katib import KatibEngine


@pytest.fixture
def server() -> Iterator[Loopback]:
    """A running loopback API server."""
    with Loopback() as loopback:
        yield loopback


@pytest.fixture
def kubeconfig(server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig for it, in KUBECONFIG."""
    path = server.kubeconfig(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return path


@pytest.fixture(autouse=True)
def _no_repeated_options() -> Iterator[None]:
    """Messages repeat the options of a command line, which ran in this process: not those of another test."""
    commands.repeat(None)
    yield
    commands.repeat(None)


@pytest.fixture
def notes() -> list[str]:
    """What `engine` notifies."""
    return []


@pytest.fixture
def engine(
    kubeconfig: Path, tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> KatibEngine:
    """A quick engine on it, with an empty store and no DB manager."""
    monkeypatch.setattr("tuner.kube.dbmanager._TIMEOUT", 0.1)
    return engine_on(tmp_path / "store", timeout=3000, notify=notes.append)
