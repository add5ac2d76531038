"""The registry of engines: ENGINES maps each EngineKind to a factory, which imports its engine when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tuner.engines.base import Engine
from tuner.store.studies import EngineKind, Store


class Factory(Protocol):
    """Makes an engine for the studies of a store; the options are those of the engine's constructor."""

    def __call__(self, store: Store, **options: Any) -> Engine:
        """Import the engine's package and return an engine."""
        ...


def _local(store: Store, **options: Any) -> Engine:
    # imports Optuna, which studies on a cluster do not need
    from tuner.engines.local import LocalEngine

    return LocalEngine(store, **options)


def _katib(store: Store, *, context: str | None = None, **options: Any) -> Engine:
    from functools import partial

    from tuner.engines.katib import KatibEngine
    from tuner.kube import Cluster

    return KatibEngine(partial(Cluster.connect, context), store, **options)


ENGINES: Mapping[EngineKind, Factory] = {EngineKind.LOCAL: _local, EngineKind.KATIB: _katib}
