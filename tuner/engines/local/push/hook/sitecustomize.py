"""Lets `katib.report_metrics` of the kubeflow-katib SDK report to the local run that started this process.

Python imports this file at start-up, because its directory is on PYTHONPATH. It runs in the
interpreter of the trial, so it imports little, and only from the standard library. It changes one
module of the SDK, and has an effect only where a local run has set GANTUNE_DB_MANAGER.
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

ADDRESS = "GANTUNE_DB_MANAGER"
MODULE = "kubeflow.katib.api.report_metrics"


def adapt(module: Any) -> None:
    """Let the SDK's function report to ADDRESS, and outside of a pod too."""
    from functools import wraps

    original, in_pod = module.report_metrics, module.utils.get_current_k8s_namespace

    @wraps(original)
    def report_metrics(
        metrics: Any, db_manager_address: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        address = os.environ.get(ADDRESS) or db_manager_address
        return original(metrics, *([address] if address else []), *args, **kwargs)

    def namespace() -> Any:
        try:
            return in_pod()
        except OSError:
            return "default"  # as in a manifest without a namespace; it appears in messages only

    module.report_metrics, module.utils.get_current_k8s_namespace = report_metrics, namespace


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


sys.meta_path.insert(0, Finder)
if __name__ == "sitecustomize":
    continue_with_next()
