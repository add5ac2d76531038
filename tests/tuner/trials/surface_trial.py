"""A trial for the local engine's tests: `python -m surface_trial --lr=... --bs=...`, quick and exact."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Print a known function of lr and bs a few times; misbehave on demand."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--bs", type=float, default=64)
    parser.add_argument("--fail-above", type=float, default=math.inf)
    parser.add_argument("--nan-above", type=float, default=math.inf)
    parser.add_argument("--kill-above", type=float, default=math.inf)
    parser.add_argument("--reports", type=int, default=1)
    parser.add_argument("--gate", type=Path, help="wait until this file exists")
    parser.add_argument("--metrics-file", type=Path)
    parser.add_argument("--note", type=Path, help="append a line a run, to count them")
    parser.add_argument("--hang", choices=("python", "sleep"))
    options = parser.parse_args(argv)
    if options.note:
        with options.note.open("a") as note:
            note.write(f"{os.environ.get('KATIB_TRIAL_NAME')} {os.getpid()}\n")
    if options.lr > options.fail_above:
        print("the loss exploded", file=sys.stderr)
        raise RuntimeError(f"lr {options.lr} is too large")
    if options.lr > options.kill_above:
        os.kill(os.getpid(), signal.SIGKILL)
    while options.gate and not options.gate.exists():
        time.sleep(0.01)
    while options.hang:
        time.sleep(0.01 if options.hang == "sleep" else 0)
    best = 10 + abs(math.log10(options.lr) + 3.3) * 30 + abs(options.bs - 64) / 16
    for report in range(options.reports):
        value = math.nan if options.lr > options.nan_above else best * (1 + 1 / (report + 1))
        line = f"epoch={report} loss={-report} fd={value!r}"
        print(line, flush=True)
        if options.metrics_file:
            with options.metrics_file.open("a") as file:
                file.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
