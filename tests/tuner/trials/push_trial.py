"""A trial that pushes its metrics with Katib's SDK: `python -m push_trial --lr=... --bs=...`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from kubeflow import katib


def main(argv: list[str] | None = None) -> int:
    """Report fd and loss twice; misbehave on demand."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--bs", type=float, default=64)
    parser.add_argument("--do", choices=("wrong", "full", "timestamp"))
    parser.add_argument(
        "--gate", type=Path, help="after the first report, wait until this file exists"
    )
    options = parser.parse_args(argv)
    extra: dict[str, Any] = {"wrong": {"fd": "high"}, "timestamp": {"timestamp": 5}}.get(
        options.do, {}
    )
    if options.do == "full":
        os.environ["GANTUNE_PUSHED"] = "/dev/full"
    for step in range(2):
        katib.report_metrics({"fd": options.lr * (step + 1), "loss": -step} | extra)
        while options.gate and not options.gate.exists():
            time.sleep(0.01)
    print("fd=0 is no report under this collector")
    return 0


if __name__ == "__main__":
    sys.exit(main())
