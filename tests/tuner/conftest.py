"""The loopback API server and an engine on it, for every test that talks to a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuner.loopback import Loopback


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
