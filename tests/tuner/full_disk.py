"""Run a search again and again, first where a write fails: `python -m tests.tuner.full_disk HOW FOLDER STRIDE`.

Each time a later write is the first one that fails; of all such writes, every STRIDEth is taken.
Once there is room, the same search must finish with the table of an uninterrupted run. Prints how
many runs were paused. HOW:

pages   a tmpfs with a few free pages; run it in a mount namespace of its own (unshare -Urm)
bytes   a limit on the size of files, which the kernel enforces like a full disk
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

from tests.tuner.experiments import ARGS, experiment, run, table
from tuner.engines.local import machine
from tuner.engines.local.journal import FILE
from tuner.errors import StudyError

PAGE = 4096
WHAT = experiment(args=[*ARGS, "--reports=2"], trials=7, parallel=2)


def paused(root: Path) -> bool:
    """Run the search; whether it was paused in one line."""
    try:
        run(root, WHAT, workers=1)
    except StudyError as error:
        if "\n" in str(error):
            raise
        return True
    return False


def compare(root: Path, whole: object, case: str) -> None:
    """Run the search again, and expect the table of an uninterrupted run."""
    found = table(run(root, WHAT, workers=1))
    if found != whole:
        raise SystemExit(f"with {case}:\n{found}\ninstead of\n{whole}")


def pages(folder: Path, whole: object, stride: int) -> int:
    """`stride` more free pages each time, until the search is not paused."""
    # so that the writes meet the full disk, and not the check before them
    machine.FREE_BYTES = PAGE
    disk = folder / "disk"
    disk.mkdir()
    for paused_runs, free in enumerate(range(0, 64, stride)):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
        filler = disk / "filler"
        filler.write_bytes(bytes(1024 * 1024 - (free + 1) * PAGE))
        stopped = paused(disk)
        filler.unlink()
        compare(disk, whole, f"{free} free pages")
        subprocess.run(["umount", str(disk)], check=True)
        if not stopped:
            return paused_runs
    raise SystemExit("the search was always paused")


def bytes_(folder: Path, whole: object, stride: int) -> int:
    """A limit for each part of the journal that is longer than the manifest."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    study = folder / "whole" / "local" / WHAT.name
    least = (study / "manifest.json").stat().st_size + 50  # the id is added to it later
    limits = range(least, (study / FILE).stat().st_size, 61 * stride)
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        stopped = paused(folder / str(limit))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if not stopped:
            raise SystemExit(f"a limit of {limit} bytes did not pause the search")
        compare(folder / str(limit), whole, f"a limit of {limit} bytes")
    return len(limits)


def main(how: str, folder: Path, stride: int) -> None:
    """Run one of both."""
    whole = table(run(folder / "whole", WHAT, workers=1))
    print((pages if how == "pages" else bytes_)(folder, whole, stride))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
