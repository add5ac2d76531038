"""Katib's gRPC messages, without the SDK that ships them.

`import kubeflow.katib` imports the Kubernetes client and all of Katib's models, which takes 50 MiB
and half a second. The generated messages need only protobuf.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

_NAME = "kubeflow.katib.katib_api_pb2"


def katib_messages() -> ModuleType:
    """Return the module of Katib's messages. Raises ImportError if kubeflow-katib is not installed."""
    if (loaded := sys.modules.get(_NAME)) is not None:
        return loaded
    package = find_spec("kubeflow")
    for folder in (package.submodule_search_locations or ()) if package else ():
        if (file := Path(folder, "katib", "katib_api_pb2.py")).is_file():
            spec = spec_from_file_location(_NAME, file)
            if spec is not None and spec.loader is not None:
                module = module_from_spec(spec)
                spec.loader.exec_module(module)
                sys.modules[_NAME] = module  # the SDK, if it is imported later, uses the same one
                return module
    raise ImportError("kubeflow-katib is not installed")
