"""The two engines behind tuner.engine.Engine."""

from __future__ import annotations

from tuner.result import Result
from tuner.store import EngineKind, Store


def collected(store: Store, name: str, engine: EngineKind) -> Result:
    """Return what is known of a study in the store: from the local engine's journal, or the last state collected."""
    if engine is EngineKind.LOCAL:
        from tuner.engines.local.engine import LocalEngine  # imports Optuna, which studies of a cluster do not need

        return LocalEngine(store).collect(name)
    return store.of(engine).result(name)
