"""A trial that writes TensorBoard's event files with torch: `python -m events_trial --lr=... --dir=...`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter


def main(argv: list[str] | None = None) -> int:
    """Write the scalar loss into two directories, and fd as a scalar of the second version."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument(
        "--gate", type=Path, help="after the first step, wait until this file exists"
    )
    options = parser.parse_args(argv)
    with SummaryWriter(options.dir / "train") as train, SummaryWriter(options.dir / "test") as test:
        for step in range(3):
            train.add_scalar("loss", 2**-step, step)
            test.add_scalar("loss", step, step)
            test.add_scalar("fd", 0.5 + step, step, new_style=True)
            test.add_scalar("Loss/odd", 7, step)
            test.add_histogram("weights", torch.tensor([options.lr, 1.0]), step)
            train.flush()
            test.flush()
            while options.gate and not options.gate.exists():
                time.sleep(0.01)
    return 0


if __name__ == "__main__":
    sys.exit(main())
