"""Lets `katib.report_metrics` of the kubeflow-katib SDK report to the local run of this process.

Python imports this file at start-up, because its directory is on PYTHONPATH. It runs in the
interpreter of the trial, so it imports little, and only from the standard library. It changes one
module of the SDK, and has an effect only where a local run has set GANTUNE_PUSHED.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

VARIABLE = "GANTUNE_PUSHED"  # names the file to which this trial's metrics go
MODULE = "kubeflow.katib.api.report_metrics"


def adapt(module: Any) -> None:
    """Let the SDK's function append to the file, where a local run names one."""
    import json
    from datetime import datetime, timezone
    from functools import wraps

    original = module.report_metrics

    @wraps(original)
    def report_metrics(metrics: Any, *args: Any, **kwargs: Any) -> Any:
        path = os.environ.get(VARIABLE)
        if not path:
            return original(metrics, *args, **kwargs)
        for value in metrics.values():
            module.utils.validate_metrics_value(value)
        now = datetime.now(timezone.utc).isoformat()  # noqa: UP017 - the trial's Python may be old
        lines = [
            json.dumps({"timestamp": now, name: str(value)}) + "\n"
            for name, value in metrics.items()
            if name != "timestamp"  # it would hide the time
        ]
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write("".join(lines))
        except OSError as error:
            raise RuntimeError(f"the metrics cannot be written: {error}") from error

    module.report_metrics = report_metrics


class Finder:
    """Finds MODULE, and adapts it as soon as it is loaded."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of MODULE; None for any other module."""
        if name != MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def load(module: ModuleType) -> None:
                execute(module)
                # else it is another version
                if hasattr(module, "report_metrics") and hasattr(module, "utils"):
                    adapt(module)

            spec.loader.exec_module = load  # type: ignore[method-assign]
        return spec


def continue_with_next() -> None:
    """Run the environment's own sitecustomize, which this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = type(sys)("sitecustomize")
        module.__file__, module.__spec__ = spec.origin, spec
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def install() -> None:
    """Adapt the SDK's module when it is imported."""
    sys.meta_path.insert(0, Finder)


if __name__ == "sitecustomize":
    install()
    continue_with_next()
