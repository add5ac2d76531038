"""A trial that rewrites its metrics file each time it runs, with lines of other lengths."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

REPORTS = 6


def main(argv: list[str]) -> int:
    """Write a falling fd; the last value depends on lr alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--metrics-file", type=Path, required=True)
    parser.add_argument("--lr", type=float, required=True)
    options = parser.parse_args(argv)
    padding = "x" * (int.from_bytes(os.urandom(1)) // 2)
    with options.metrics_file.open("w") as file:
        for report in range(REPORTS):
            file.write(f"note={padding} fd={options.lr * 1e5 + REPORTS - 1 - report!r}\n")
            file.flush()
            time.sleep(0.02)
    return 0
