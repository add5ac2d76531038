"""How much memory this process may still allocate, and a refusal before it tries to allocate more.

The kernel kills a process that exceeds its cgroup's limit without a message, so the trainer
compares estimates first.
"""

import contextlib
from pathlib import Path

from trainer.config import UsageError

CGROUPS = Path("/sys/fs/cgroup")
GIB = 2**30


def require(needed: int, what: str, fix: str, available: int | None = None) -> None:
    """Raise UsageError if `needed` bytes exceed the available memory.

    Args:
        needed: An estimate in bytes.
        what: The flags or the file that need the memory, the subject of the message.
        fix: What the user can do, a sentence.
        available: Bytes that are available; default: those of this process.
    """
    if available is None:
        available = available_bytes()
    if available is not None and needed > available:
        raise UsageError(
            f"{what} needs about {gib(needed)} of memory, but only {gib(available)} is available. {fix}"
        )


def gib(size: int) -> str:
    """Bytes as text: `3.2 GiB`."""
    return f"{size / GIB:,.1f} GiB"


def available_bytes(
    root: Path = CGROUPS,
    meminfo: Path = Path("/proc/meminfo"),
    own: Path = Path("/proc/self/cgroup"),
) -> int | None:
    """Return the smallest of the machine's available memory and what each cgroup of this process has left.

    Returns None if the system tells neither. An unreadable file is no limit. Page cache that the
    kernel can drop counts as available.
    """
    found = [_machine(meminfo), *(_left(folder) for folder in _cgroups(root, own))]
    known = [size for size in found if size is not None]
    return max(0, min(known)) if known else None


def _machine(meminfo: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _cgroups(root: Path, own: Path) -> list[Path]:
    """The folders of this process's cgroups, v2 and v1. In a container they are at the root of the mount."""
    folders = [root, root / "memory"]
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base = (
                root
                if not controllers
                else root / "memory"
                if "memory" in controllers.split(",")
                else None
            )
            parts = Path(path.lstrip("/")).parts
            if base is not None and ".." not in parts:
                folders += [base.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    return folders


def _left(folder: Path) -> int | None:
    """Bytes that one cgroup has left; None without a limit."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):
            most = int((folder / limit).read_text())  # "max" is no number: no limit
            return most - max(
                0, int((folder / used).read_text()) - _stat(folder / "memory.stat", cache)
            )
    return None


def _stat(path: Path, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
