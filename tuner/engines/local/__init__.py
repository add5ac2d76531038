"""The engine of this machine: Optuna proposes, warm workers run the manifest's own command.

    early_stopping  early-stopping rules, fixed when a trial is asked
    launcher    a trial's job: command, directories, environment, its share of cores and GPUs
    worker      runs one job after another in a process of its own (`python -c`, see pool)
    inprocess   runs jobs in this very process, for one worker and a debugger
    pool        the processes: start, stop, replace
    outcome     what an ended trial amounts to
    scheduler    which trial is asked, told and counted when, so that timing decides nothing
    engine      LocalEngine

docs/local.md and docs/algorithms.md say what to expect of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]


def __getattr__(name: str) -> object:  # a worker imports this package, and must not pay for Optuna
    if name == "LocalEngine":
        from tuner.engines.local.engine import LocalEngine

        return LocalEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
