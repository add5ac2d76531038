"""Where a figure was measured: one line for the head of every benchmark's output."""

import os
import platform
from importlib import metadata


def line(*packages: str) -> str:
    """Python, the packages' versions, the processor and how many cores this process may use."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"Python {platform.python_version()}, {versions}; {_processor()}, {cores} cores"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(
                row.split(":", 1)[1].strip() for row in lines if row.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
