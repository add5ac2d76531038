"""A trial of each kind of program (--do), which writes lines of other lengths each time it runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

REPORTS = 6


def main(argv: list[str] | None = None) -> int:
    """Write a falling fd; the last value depends on the parameters, and on the parent under pbt."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--bs", type=float, default=0)
    parser.add_argument("--epochs")
    parser.add_argument("--metrics-file", type=Path, help="a new file each time")
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--do", choices=("child", "daemon", "deaf", "fail"))
    options = parser.parse_args(argv)
    if options.do == "child":
        arguments = [f"--lr={options.lr}", f"--bs={options.bs}"]
        return subprocess.call([sys.executable, __file__, *arguments])
    if options.do == "daemon":
        subprocess.Popen(["sleep", "60"], start_new_session=True)
    if options.do == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    start = options.lr * 1e5 + options.bs / 100 + trained(options.checkpoints)
    padding = "x" * (int.from_bytes(os.urandom(1)) // 2)
    with (
        options.metrics_file.open("w") if options.metrics_file else contextlib.nullcontext() as file
    ):
        for report in range(REPORTS):
            if options.do == "fail" and report == 3 and options.bs % 3 == 1:
                raise RuntimeError("bs is 1 modulo 3")
            print(f"note={padding} fd={start + REPORTS - 1 - report!r}", file=file, flush=True)
            time.sleep(0.02)
    return 0


def trained(folder: Path | None) -> int:
    """Add this trial to the checkpoint, once; return how many trials have trained it."""
    if folder is None:
        return 0
    path, name = folder / "lineage", os.environ["KATIB_TRIAL_NAME"]
    names = path.read_text().split() if path.exists() else []
    if name not in names:
        names.append(name)
        path.with_name("new").write_text("\n".join(names))
        path.with_name("new").replace(path)
    return len(names)


if __name__ == "__main__":
    sys.exit(main())
