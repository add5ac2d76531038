"""A trial whose processes die at a change of the disk: imported by the server, so the server and its trials count.

FAULT_NUMBER, FAULT_WHEN: the number of the change, and `before` or `after` it. 0 counts only.
FAULT_NOTE: a file that receives the count of a trial that finishes, and which exists once a process
has died, so that no other one does.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPORTS = 3
count = 0


def _counted(call: Callable[..., Any], change: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **options: Any) -> Any:
        global count  # noqa: PLW0603
        note = Path(os.environ["FAULT_NOTE"])
        count += 1
        dies = count == int(os.environ["FAULT_NUMBER"]) and not note.exists()
        if dies and os.environ["FAULT_WHEN"] == "before":
            change(note, 0o600)
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return call(*args, **options)
        finally:
            if dies:
                change(note, 0o600)
                os.kill(os.getpid(), signal.SIGKILL)

    return wrapper


for _name in ("open", "write", "ftruncate", "replace", "mkdir", "dup2", "chdir", "fork"):
    setattr(os, _name, _counted(getattr(os, _name), os.mknod))


def main(argv: list[str]) -> int:
    """Write a metrics file anew for each report, and rename it; lines of other lengths in each run."""
    options = dict(argument[2:].split("=", 1) for argument in argv)
    path, padding = options["metrics-file"], "x" * (int.from_bytes(os.urandom(1)) // 2)
    text = ""
    for report in range(REPORTS):
        text += f"note={padding} fd={float(options['lr']) * 1e5 + REPORTS - 1 - report!r}\n"
        file = os.open(path + ".new", os.O_WRONLY | os.O_CREAT, 0o600)
        os.ftruncate(file, 0)
        os.write(file, text.encode())
        os.close(file)
        os.replace(path + ".new", path)
    if os.environ["FAULT_NUMBER"] == "0":
        Path(os.environ["FAULT_NOTE"]).write_text(str(count))
    return 0
