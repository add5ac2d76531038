"""The engine of this machine: our samplers propose, and each trial runs the manifest's command in its own process.

    engine          LocalEngine, the verbs
    session         one run of a study
    scheduler       which trial is proposed, started and counted when
    journal         the record of a study; recovery checks and repairs it
    launcher        a trial's job: command, directories, environment, its share of cores and GPUs
    runner          the Runner protocol; pool and forkserver implement it, and debug for --debug
    trial           what runs in a trial's process; processes: what ends with whom
    workspace       a trial's working directory
    outcome         the state and metrics of a finished trial

docs/reference/local.md and docs/reference/algorithms.md describe its behaviour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]


# the fork server imports this package, and does not need Optuna
def __getattr__(name: str) -> object:
    if name == "LocalEngine":
        from tuner.engines.local.engine import LocalEngine

        return LocalEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
