"""A trial that leaves something behind or finishes in an unusual way (--do). Its fd depends on --lr alone."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

LEFT: list[str] = []  # what an earlier trial in this process left: it must always be empty


class Mute(Exception):
    """An exception whose text is not available."""

    def __str__(self) -> str:
        raise ValueError("no text")


def nothing() -> None:
    """Finish at once."""


def thread() -> None:
    """Leave a daemon thread that would change the next trial's result."""
    threading.Thread(target=lambda: (time.sleep(0.05), LEFT.append("thread")), daemon=True).start()


def waits() -> None:
    """Leave a thread for which a program waits before it exits."""
    threading.Thread(target=lambda: (time.sleep(0.3), Path("late").write_text("done"))).start()


def patch() -> None:
    """Change a module of the standard library."""
    json.dumps = lambda *_, **__: "patched"
    LEFT.append("patch")


def close() -> None:
    """Close the standard streams after the metric was printed."""
    sys.stdout.flush()
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.close(number)


def change() -> None:
    """Change directory, environment and files."""
    Path("notes.txt").write_text("changed")
    os.environ["LEFT"] = "environment"
    os.chdir("/")
    LEFT.append("change")


def fork() -> None:
    """Fork; the child returns from main as the parent does."""
    if os.fork() == 0:
        time.sleep(0.05)


def daemon() -> None:
    """Start a process that outlives its parent in a session of its own, and prints a better metric later."""
    code = (
        "import os, time; os.setsid(); time.sleep(0.4); print('fd=-1', flush=True); time.sleep(60)"
    )
    subprocess.Popen([sys.executable, "-c", f"import os\nif os.fork() == 0:\n    exec({code!r})"])


def leave() -> None:
    """Exit without any cleaning up."""
    sys.stdout.flush()
    os._exit(0)


def handlers() -> None:
    """Install signal handlers and an exit hook that prints."""
    signal.signal(signal.SIGTERM, lambda *_: LEFT.append("signal"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit.register(lambda: print("goodbye", flush=True))


def segfault() -> None:
    """Die of SIGSEGV."""
    os.kill(os.getpid(), signal.SIGSEGV)


def kill() -> None:
    """Die of SIGKILL, as if memory had run out."""
    os.kill(os.getpid(), signal.SIGKILL)


def group() -> None:
    """Signal its own process group."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)


def mute() -> None:
    """Raise an exception that cannot be printed."""
    raise Mute


def words() -> None:
    """Exit with a text."""
    sys.exit("bad luck")


def descriptors() -> None:
    """Print what the open files above the standard streams are."""
    for name in sorted(os.listdir("/proc/self/fd"), key=int)[3:]:
        with contextlib.suppress(OSError):  # the directory itself is closed again
            print("open", os.readlink(f"/proc/self/fd/{name}"), flush=True)


def limits() -> None:
    """Lower the limit of open files and the priority."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    os.nice(5)


def sleep() -> None:
    """Run for a minute."""
    time.sleep(60)


def deaf() -> None:
    """Run for a minute and ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


DEEDS: dict[str, Callable[[], None]] = {
    deed.__name__: deed
    for deed in (
        nothing, thread, waits, patch, close, change, fork, daemon, leave, handlers, segfault, kill, group, mute, words,
        limits, sleep, deaf, descriptors,
    )
}  # fmt: skip


def main(argv: list[str]) -> int:
    """Print the metric, then do the deed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--do", choices=sorted(DEEDS), default="nothing")
    options = parser.parse_args(argv)
    clean = (
        not LEFT
        and "LEFT" not in os.environ
        and json.dumps(1) == "1"
        and os.getpriority(os.PRIO_PROCESS, 0) == BASE
    )
    notes = Path("notes.txt")
    clean = clean and (not notes.exists() or notes.read_text() == "original")
    print(f"fd={options.lr if clean else -99}", flush=True)
    DEEDS[options.do]()
    return 0


BASE = os.getpriority(os.PRIO_PROCESS, 0)
