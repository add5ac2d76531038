"""Metrics that trials push (collector kind Push): what `katib.report_metrics` needs on this machine.

On a cluster, the SDK's function sends metrics to Katib's DB manager. Here,
`hook/sitecustomize.py`, which PYTHONPATH gives to each Python program of a trial, lets it append
them to a file of the trial instead, one JSON object a line. A report is in the file before the call
returns, and the file is read as that of a File collector with format JSON. So a kill of the client
loses no report, and a trial that runs again continues its file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from tuner.engines.local.push.hook.sitecustomize import VARIABLE
from tuner.errors import UnsupportedError

FILE = "pushed.jsonl"  # in the trial's directory
HOOK = Path(__file__).parent / "hook"


def ensure_available() -> None:
    """Raise UnsupportedError where Katib's SDK is not installed."""
    if find_spec("kubeflow") is None or find_spec("kubeflow.katib") is None:
        raise UnsupportedError(
            "collector kind Push needs Katib's SDK, which is not installed: "
            "pip install 'gan-tuner[cluster]'"
        )


def environment(folder: Path, path: str = "") -> Mapping[str, str]:
    """Return the variables of a trial that pushes: its file, and a PYTHONPATH that starts with the hook.

    Args:
        folder: The trial's directory.
        path: The PYTHONPATH of the trial's own command; "" takes the client's.
    """
    return {VARIABLE: str(folder / FILE), "PYTHONPATH": search_path(path)}


def search_path(path: str = "") -> str:
    """Return a PYTHONPATH that starts with the hook."""
    rest = path or os.environ.get("PYTHONPATH", "")
    return f"{HOOK}{os.pathsep}{rest}" if rest else str(HOOK)
