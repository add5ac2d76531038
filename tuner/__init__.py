"""Many trials: one Katib Experiment manifest, run by Katib on a cluster or on this machine.

The command line is `gantune`; see tuner.cli. The same verbs for Python, imported when they are
first used:

    from tuner import Client, Experiment, best, load, run, submit, watch

    result = run("manifests/bayes.yaml", local=True)
    print(result.best)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.client import (
        Client,
        advice,
        best,
        check_store,
        delete,
        extend,
        files,
        logs,
        retry,
        run,
        status,
        stop,
        studies,
        submit,
        to_katib,
        tune,
        watch,
    )
    from tuner.experiment.model import Experiment
    from tuner.manifest import load

__version__ = "0.1.0"
__all__ = [
    "Client",
    "Experiment",
    "__version__",
    "advice",
    "best",
    "check_store",
    "delete",
    "extend",
    "files",
    "load",
    "logs",
    "retry",
    "run",
    "status",
    "stop",
    "studies",
    "submit",
    "to_katib",
    "tune",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Import a verb when it is first asked for, so that `import tuner` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'tuner' has no attribute {name!r}")
    import importlib

    home = "manifest" if name in ("Experiment", "load") else "client"
    return getattr(importlib.import_module(f"tuner.{home}"), name)


def __dir__() -> list[str]:
    """List the public names, the ones that are not imported yet included."""
    return sorted({*globals(), *__all__})
