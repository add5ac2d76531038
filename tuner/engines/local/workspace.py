"""A trial's working directory: the files of the start directory, where every change stays the trial's own.

In a pod, each trial has a file system of its own. On this machine a trial sees the directory that
the search was started from, at its usual path. What the trial writes there goes to DIRECTORY/files,
so no trial changes the user's files or those of another trial, and a trial that runs again finds
what it wrote. There are two methods:

    overlay     An overlay mount in a private mount namespace (Linux). It costs about a millisecond.
    copy        A copy of the start directory below DIRECTORY/files, up to COPY_BYTES and COPY_FILES, where the kernel
                does not allow the mount. Larger files are left out, and `plan` says which. Shared
                blocks (reflinks) are used where the file system has them.

No trial sees the store, and so no trial finds what another one wrote. File systems that are mounted
below the start directory get an overlay of their own.

`plan` runs in the client and chooses the method, `enter` runs in the freshly forked,
single-threaded process of a trial. Absolute paths are not isolated, except those below the start
directory under the overlay method, and those of tuner.engines.local.namespace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tuner.engines.local import namespace
from tuner.engines.local.namespace import MS_BIND, MS_REC, mount
from tuner.katib.facts import SHARED_BYTES
from tuner.store.files import STORE, remove

COPY_BYTES = 64 * 2**20
COPY_FILES = 10_000
_LOOKED_AT = 10 * COPY_FILES  # files of the start directory: a home directory may hold millions
FILES, _WORK, _COPIED = "files", ".overlay", ".copied"
_SKIPPED = (".git", ".hg", ".svn", "__pycache__", "node_modules", STORE.name)
_VIRTUAL = frozenset(  # bound as they are, because an overlay of them makes no sense
    [
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "cgroup",
        "cgroup2",
        "mqueue",
        "debugfs",
        "tracefs",
        "securityfs",
        "autofs",
    ]
)
_FICLONE = 0x40049409  # linux/fs.h


class Method(StrEnum):
    """How a trial's working directory is made."""

    OVERLAY = "overlay"
    COPY = "copy"


@dataclass(frozen=True, slots=True)
class Plan:
    """The method for a search, and what users have to know about it."""

    method: Method
    warnings: tuple[str, ...] = ()


def plan(start: Path, study: Path) -> Plan:
    """Choose the method for trials that are started from `start` and kept below `study`."""
    if _overlay_works(start, study, strict=True):
        return Plan(Method.OVERLAY)
    shared = (
        "this kernel allows no private mounts, so trials share /dev/shm and /tmp and can change "
        "installed packages: run them in a virtual machine if they do not trust each other"
    )
    if _overlay_works(start, study, strict=False):
        return Plan(Method.OVERLAY, (shared,))
    if start == Path(start.anchor):
        return Plan(
            Method.COPY,
            (
                "trials see no files, because the search was started from /: start it elsewhere",
                shared,
            ),
        )
    copied, left_out = _selection(start, study)
    if not left_out:
        return Plan(Method.COPY, (shared,))
    largest = sorted(left_out, key=lambda item: -item[1])[:3]
    names = ", ".join(f"{path} ({size / 2**20:.0f} MiB)" for path, size in largest)
    more = f" and {len(left_out) - len(largest)} more" if len(left_out) > len(largest) else ""
    return Plan(
        Method.COPY,
        (
            f"{_why_copied(start)}, so each trial gets a copy of {start} ({len(copied)} files); "
            f"these exceed the limit of {COPY_BYTES >> 20} MiB or {COPY_FILES} files and are left out: {names}{more}. "
            "Name them by absolute path, or start the search in a smaller directory",
            shared,
        ),
    )


def enter(
    directory: Path,
    start: Path,
    method: Method,
    shared_memory: int | None = SHARED_BYTES,
    *,
    strict: bool = False,
) -> Path:
    """Give this process the trial's working directory and change to it; returns its path.

    Args:
        directory: The trial's own directory.
        start: The directory whose files the trial sees.
        method: How the working directory is made.
        shared_memory: The limit of /dev/shm in bytes.
        strict: Raise OSError also where /dev/shm, /tmp or installed packages cannot be isolated.

    Raises:
        OSError: The working directory cannot be made, for example because the disk is full.
    """
    (directory / FILES).mkdir(parents=True, exist_ok=True)
    if method is Method.OVERLAY:
        _mount(directory, start, shared_memory, strict=strict)
        path = start
    else:
        _copy(directory, start)
        path = directory / FILES
    os.chdir(path)
    os.environ["PWD"] = str(path)
    return path


def _overlay_works(start: Path, study: Path, *, strict: bool) -> bool:
    """True where a process like a trial's can mount, write and read; tried once, in a child process."""
    if (
        not hasattr(os, "fork")
        or not Path("/proc/self/ns/mnt").exists()
        or start == Path(start.anchor)
    ):
        return False
    if _not_ours(start) is not None:
        return False
    study.mkdir(parents=True, exist_ok=True)
    probe = Path(tempfile.mkdtemp(prefix=".probe-", dir=study))
    try:
        child = os.fork()
        if child == 0:  # no exception and no exit handler of the client may run in the child
            try:
                enter(probe, start, Method.OVERLAY, strict=strict)
                # in a file system without extended attributes, this fails on a deleted name
                Path(probe.name).mkdir()
                Path(probe.name).rmdir()
                Path(probe.name).write_bytes(b"x")
                os._exit(0)
            except BaseException:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        return (
            status == 0
            and (probe / FILES / probe.name).is_file()
            and not (start / probe.name).exists()
        )
    finally:
        remove(probe)


def _not_ours(start: Path) -> Path | None:
    """Return a path in `start` of another user or group that this user may write to; always None for root.

    The kernel cannot copy it into an overlay, because the user namespace does not map its owner.
    """
    if os.geteuid() == 0:
        return None
    if not _is_ours(start.lstat()):
        return start
    folders, seen = [os.fspath(start)], 0
    while folders and seen < _LOOKED_AT:
        # what is unreadable stays so
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                seen += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    continue
                if not _is_ours(entry.stat(follow_symlinks=False)) and os.access(
                    entry.path, os.W_OK
                ):
                    return Path(entry.path)
    return None


def _why_copied(start: Path) -> str:
    if (path := _not_ours(start)) is not None:
        return f"{path} belongs to another user or group, and an overlay mount cannot change it"
    return "this kernel allows no overlay mount"


def _is_ours(status: os.stat_result) -> bool:
    return (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


def _mount(directory: Path, start: Path, shared_memory: int | None, *, strict: bool) -> None:
    """Mount the trial's working directory and what else is its own (tuner.engines.local.namespace).

    Without `strict`, only a failure of the working directory raises OSError.
    """
    ignored = () if strict else (OSError,)
    with namespace.private_mounts() as link:
        own = link(directory)  # before anything is mounted over it
        layers, bound = _layers(directory, start, link)
        with contextlib.suppress(*ignored):
            namespace.mount_temporary(directory, start, link)
        with contextlib.suppress(*ignored):  # after /tmp, below which an environment may be
            namespace.protect_packages(start)
        for options, point in layers:
            mount("overlay", str(point), "overlay", 0, f"userxattr,{options}")
            # the kernel's answer where the file system lacks a feature
            if os.statvfs(point).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, f"the overlay over {point} is read-only")
        for source, point in bound:
            mount(source, str(point), None, MS_BIND | MS_REC, None)
        if directory.is_relative_to(start):
            mount("tmpfs", str(_store(directory, start)), "tmpfs", 0, "mode=755,size=64k")
            directory.mkdir(parents=True, exist_ok=True)
        mount(own, str(directory), None, MS_BIND | MS_REC, None)
        with contextlib.suppress(*ignored):
            namespace.mount_shared_memory(shared_memory)


def _layers(
    directory: Path, start: Path, link: namespace.Link
) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]]]:
    """Return what to mount over `start` and below it: overlays with their options, and bindings with their sources."""
    layers, bound = [], []
    for index, (point, kind) in enumerate([(start, ""), *_mount_points(start)]):
        upper, work = directory / FILES / point.relative_to(start), directory / _WORK / str(index)
        if kind in _VIRTUAL or not os.path.isdir(point):
            with contextlib.suppress(PermissionError):
                bound.append((link(point), point))
        else:
            for path in (upper, work):
                path.mkdir(parents=True, exist_ok=True)
            options = f"lowerdir={link(point)},upperdir={link(upper)},workdir={link(work)}"
            layers.append((options, point))
    return layers, bound


def _store(directory: Path, start: Path) -> Path:
    """What of `start` no trial sees: `.gantune`, or else the directory of the trials."""
    inside = [path for path in directory.parents if path != start and path.is_relative_to(start)]
    return next(
        (path for path in inside if path.name == STORE.name), inside[0] if inside else directory
    )


def _mount_points(start: Path) -> list[tuple[Path, str]]:
    """The mount points below `start` with their kinds of file system, outer ones first."""
    found, below = {}, os.fsencode(start) + b"/"
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, source = line.partition(b" - ")
        name = fields.split(b" ")[4]
        if b"\\" in name:
            name = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), name)
        if name.startswith(below):
            found[Path(os.fsdecode(name))] = source.split(b" ")[0].decode(errors="replace")
    return sorted(found.items())


def _copy(directory: Path, start: Path) -> None:
    """Copy the start directory once; a trial that runs again keeps its own changes, deletions included."""
    marker, target = directory / _COPIED, directory / FILES
    if marker.exists():
        return
    copied, _ = _selection(start, directory)
    for path in copied:
        own = target / path
        own.parent.mkdir(parents=True, exist_ok=True)
        if (start / path).is_symlink():
            own.unlink(missing_ok=True)
            own.symlink_to(_target(start / path, start))
        elif (start / path).is_dir():
            own.mkdir(exist_ok=True)
        else:
            with contextlib.suppress(FileNotFoundError):  # deleted since the search for files
                copy_file(start / path, own)
    marker.touch()


def _target(path: Path, start: Path) -> str:
    """Where a link points: as it is written, but absolute for a relative one that leaves `start`."""
    link = os.readlink(path)
    plain = os.path.normpath(path.parent / link)
    return link if os.path.isabs(link) or Path(plain).is_relative_to(start) else plain


def copy_file(source: Path, target: Path) -> None:
    """Copy a file; its blocks are shared where the file system can do that."""
    import fcntl  # not on Windows, where the client only submits to a cluster

    with source.open("rb") as read, target.open("wb") as write:
        try:
            fcntl.ioctl(write.fileno(), _FICLONE, read.fileno())
        except OSError:
            shutil.copyfileobj(read, write)
    shutil.copystat(source, target)


def _selection(start: Path, study: Path) -> tuple[list[Path], list[tuple[Path, int]]]:
    """The files to copy, and those that are left out with their sizes: the largest ones, where there is a limit."""
    if start == Path(start.anchor):
        return [], []
    found = sorted(_walk(start, study), key=lambda item: (item[1], str(item[0])))
    copied: list[Path] = []
    total = 0
    for index, (path, size) in enumerate(found):
        total += size
        if total > COPY_BYTES or index >= COPY_FILES:
            return copied, found[index:]
        copied.append(path)
    return copied, []


def _walk(start: Path, study: Path) -> Iterator[tuple[Path, int]]:
    """Relative paths and sizes of the readable files, without repositories, environments, caches and the store."""
    seen = 0
    for folder, names, files in os.walk(start):
        here = Path(folder)
        names[:] = [
            name
            for name in names
            if name not in _SKIPPED
            # Path.exists raises where a directory is unreadable
            and not os.path.exists(here / name / "pyvenv.cfg")
            and not study.is_relative_to(here / name)
        ]
        for name in (*files, *names):
            path = here / name
            with contextlib.suppress(OSError):
                status = path.lstat()
                if stat.S_ISLNK(status.st_mode) or stat.S_ISDIR(status.st_mode):
                    yield path.relative_to(start), 0
                elif stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
                    yield path.relative_to(start), status.st_size
                    seen += 1
        if seen > _LOOKED_AT:  # a home directory: what follows would be left out in any case
            return
