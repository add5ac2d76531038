"""A client that dies at its Nth change of the disk: `python -m tests.tuner.faults FOLDER N before|after`.

Every write, truncation, rename and synchronisation that Python code of the client makes is counted.
At number N the process kills itself with SIGKILL, before or after the call. With N = 0 it dies
never. Prints how many changes there were.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tuner.experiments import ARGS, experiment, run

WHAT = experiment(args=[*ARGS, "--reports=2"], trials=3, parallel=2)
count = 0


def counted(call: Callable[..., Any], fatal: int, when: str) -> Callable[..., Any]:
    """Wrap a function so that its Nth call, over all functions, is the last."""

    def wrapper(*args: Any, **options: Any) -> Any:
        global count  # noqa: PLW0603
        count += 1
        mine = count == fatal
        if mine and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return call(*args, **options)
        finally:
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)

    return wrapper


def main(folder: Path, fatal: int, when: str) -> None:
    """Run the search."""
    for name in (
        "write",
        "pwrite",
        "ftruncate",
        "fdatasync",
        "fsync",
        "replace",
        "rename",
        "mkdir",
    ):
        setattr(os, name, counted(getattr(os, name), fatal, when))
    for name in ("write_text", "write_bytes", "touch"):
        setattr(Path, name, counted(getattr(Path, name), fatal, when))
    run(folder, WHAT, workers=2)
    print(count)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
