"""Processes of trials: what ends with whom, and how what is left over is found. Linux; elsewhere the parts it has.

A trial and its server are subreapers, so whatever the trial starts, daemons included, becomes their
child sooner or later and can be killed. Each process also receives a signal when its parent dies.
If all of them are killed at the same moment, a later run finds the rest by MARKER, a variable in
the environment that the server was started with and that every descendant inherits.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

MARKER = "GANTUNE_STUDY"  # the absolute path of the study's directory
KILL_SECONDS = 5.0  # how long killed processes may take to disappear
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36  # linux/prctl.h


def die_with_parent(number: int, parent: int) -> None:
    """Ask for signal `number` when the parent dies; `parent` is the expected parent, which may be dead already."""
    _prctl(_PR_SET_PDEATHSIG, number)
    # a new user namespace makes /proc/PID/environ unreadable, which `sweep` needs
    _prctl(_PR_SET_DUMPABLE, 1)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parents have died."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_descendants(keep: frozenset[int] = frozenset()) -> None:
    """Kill all children but `keep`, then those that they leave behind, until there are none.

    The caller must be a subreaper. Gives up after KILL_SECONDS, since a process in the kernel may
    not be killable.
    """
    until = time.monotonic() + KILL_SECONDS
    while children := [pid for pid in child_pids() if pid not in keep]:
        for pid in children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > until:
            return
        time.sleep(0.001)


def child_pids(parent: int | None = None) -> list[int]:
    """The processes whose parent is this one, or `parent`, zombies included. They have one thread."""
    own = os.getpid() if parent is None else parent
    with contextlib.suppress(OSError):
        return [
            int(pid)
            for pid in Path(f"/proc/{own}/task/{own}/children").read_text(encoding="ascii").split()
        ]
    return [pid for pid in _pids() if _parent(pid) == own]  # a kernel without CONFIG_PROC_CHILDREN


def sweep(study: Path) -> int:
    """Kill what an earlier run of the study left behind; returns how many processes that were.

    The caller holds the study's lock, so no process with its MARKER is in use.
    """
    wanted = f"{MARKER}={study.absolute()}".encode()
    spared = _ancestors()
    killed: set[int] = set()
    until = time.monotonic() + KILL_SECONDS
    while found := [pid for pid in _pids() if pid not in spared and _has(pid, wanted)]:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    return len(killed)


def prefer_as_victim() -> None:
    """Let the kernel choose this process first when memory runs out, not the client or the server."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _has(pid: int, variable: bytes) -> bool:
    try:
        return variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone, or another user's


def _ancestors() -> set[int]:
    """This process and its parents: a search may be started from within a trial of its own study's name."""
    found, pid = set(), os.getpid()
    while pid > 1 and pid not in found:
        found.add(pid)
        pid = _parent(pid)
    return found


def _parent(pid: int) -> int:
    """The parent of a process, 0 if that is not known."""
    try:
        return int(
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()[1]
        )
    except (OSError, ValueError, IndexError):
        return 0


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0)
