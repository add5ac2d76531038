"""A trial's private mount namespace: its own /dev/shm and /tmp, and installed packages that it cannot change. Linux.

In a pod, a trial has these for itself. Here they are mounted in the freshly forked, single-threaded
process of a trial, after its working directory (tuner.engines.local.workspace).

    /dev/shm    an empty tmpfs with a pod's limit, or that of the manifest's emptyDir; it ends with the trial
    /tmp        an overlay: the trial sees the files of this machine, and its changes are its own. It stays shared
                where the start directory or the store is below it
    packages    the interpreter's prefixes, and the system's and the user's package directories, are read-only,
                unless the working directory's overlay covers them anyway
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import site
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tuner.katib.facts import SHARED_MEMORY

TEMPORARY = Path("/tmp")  # noqa: S108
TEMPORARY_FILES = "tmp"  # below the trial's directory: what it wrote to /tmp
# sockets and pipes in /tmp that an overlay would cut off from the programs that serve them
_SERVED = (".X11-unix", "nvidia-mps", "nvidia-log")
_PACKAGES = ("/usr", "/opt/conda", "/var/lib/dpkg", "/var/lib/apt", "/var/lib/rpm", "/lib/apk")
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000  # linux/sched.h
# linux/mount.h
_MS_RDONLY, _MS_REMOUNT, _MS_RELATIME = 0x1, 0x20, 0x200000
MS_BIND, MS_REC, _MS_SLAVE = 0x1000, 0x4000, 0x80000
# flags of statvfs and of mount that are equal: RDONLY, NOSUID, NODEV, NOEXEC, NOATIME, NODIRATIME
_EQUAL_FLAGS, _ST_RELATIME = 0x1 | 0x2 | 0x4 | 0x8 | 0x400 | 0x800, 0x1000
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
Link = Callable[[Path], str]


@contextlib.contextmanager
def private_mounts() -> Iterator[Link]:
    """Give this process a mount namespace of its own, in which the body may mount.

    Yields a function that returns a name for a path, which stays valid once something is mounted
    over it, and has no special character. Raises OSError where the kernel does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    before = _capabilities()
    if user != 0 or not _call("unshare", _CLONE_NEWNS, check=False):
        _call("unshare", _CLONE_NEWNS | _CLONE_NEWUSER)
        for name, value in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            Path("/proc/self", name).write_bytes(value.encode())
    # mounts of this machine arrive later too; ours do not leave
    mount(None, "/", None, MS_REC | _MS_SLAVE, None)
    with contextlib.ExitStack() as opened:

        def link(path: Path) -> str:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            opened.callback(os.close, descriptor)
            return f"/proc/self/fd/{descriptor}"

        yield link
    _set_capabilities(before)


def mount_shared_memory(limit: int | None) -> None:
    """Mount an empty /dev/shm of `limit` bytes; None for the kernel's own limit, half of the memory."""
    size = "" if limit is None else f",size={limit}"
    if os.path.isdir(SHARED_MEMORY):
        mount("tmpfs", SHARED_MEMORY, "tmpfs", 0, f"mode=1777{size}")


def mount_temporary(directory: Path, start: Path, link: Link) -> None:
    """Mount the trial's own /tmp, unless the search itself is below it."""
    if directory.is_relative_to(TEMPORARY) or start.is_relative_to(TEMPORARY):
        return
    upper, work = directory / TEMPORARY_FILES / "files", directory / TEMPORARY_FILES / "work"
    for path in (upper, work):
        path.mkdir(parents=True, exist_ok=True)
    upper.chmod(0o1777)
    served = [(link(path), path) for name in _SERVED if (path := TEMPORARY / name).is_dir()]
    layers = f"lowerdir={link(TEMPORARY)},upperdir={link(upper)},workdir={link(work)}"
    mount("overlay", str(TEMPORARY), "overlay", 0, f"userxattr,{layers}")
    for source, path in served:
        mount(source, str(path), None, MS_BIND | MS_REC, None)


def protect_packages(start: Path) -> None:
    """Make the directories of installed packages read-only, except below the working directory."""
    for path in installed_packages():
        if path.is_relative_to(start):
            continue
        flags = os.statvfs(path).f_flag
        kept = flags & _EQUAL_FLAGS | (_MS_RELATIME if flags & _ST_RELATIME else 0)
        mount(str(path), str(path), None, MS_BIND | MS_REC, None)
        mount(None, str(path), None, MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept, None)


@functools.cache
def installed_packages() -> tuple[Path, ...]:
    """Return the directories of installed packages; none is below another one."""
    known = (sys.prefix, sys.base_prefix, site.getusersitepackages(), *_PACKAGES)
    real = map(os.path.realpath, known)
    # Path.is_dir raises where a directory above is unreadable
    found = dict.fromkeys(Path(name) for name in real if os.path.isdir(name))
    return tuple(
        path
        for path in found
        if path != Path(path.anchor)
        and not any(path != other and path.is_relative_to(other) for other in found)
    )


def mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None
) -> None:
    """Call mount(2). Raises OSError."""
    texts = [
        text if text is None else os.fsencode(text) for text in (source, target, kind, options)
    ]
    _call("mount", texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])


def _call(name: str, *arguments: object, check: bool = True) -> bool:
    if getattr(_libc(), name)(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if check:
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return False


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _capabilities() -> ctypes.Array[ctypes.c_uint32]:
    data = (ctypes.c_uint32 * 6)()
    _call(
        "capget", ctypes.byref((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)), ctypes.byref(data)
    )
    return data


def _set_capabilities(data: ctypes.Array[ctypes.c_uint32]) -> None:
    """Give up what a new user namespace grants, so that file permissions keep their meaning for the trial."""
    _call(
        "capset", ctypes.byref((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)), ctypes.byref(data)
    )
