"""A trial's working directory: the files of the start directory, where every change stays the trial's own.

In a pod, each trial has a file system of its own. On this machine a trial sees the directory that the search was
started from, at its usual path. What the trial writes there goes to DIRECTORY/files, so no trial changes the user's
files or those of another trial, and a trial that runs again finds what it wrote. There are two methods:

    overlay     An overlay mount in a private mount namespace (Linux). It costs about a millisecond.
    copy        A copy of the start directory below DIRECTORY/files, up to COPY_BYTES and COPY_FILES, where the kernel
                does not allow the mount. Larger files are left out, and `plan` says which.

`plan` runs in the client and chooses the method, `enter` runs in the freshly forked, single-threaded process of a
trial. Absolute paths outside the start directory are not isolated.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tuner.errors import StudyError

COPY_BYTES = 64 * 2**20
COPY_FILES = 10_000
FILES, _WORK, _COPIED = "files", ".overlay", ".copied"
_SKIPPED = (".git", ".hg", ".svn", "__pycache__", "node_modules", ".gantune")
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000  # linux/sched.h
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000  # linux/mount.h
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h


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
    if _overlay_works(start, study):
        return Plan(Method.OVERLAY)
    copied, left_out = _selection(start, study)
    if not left_out:
        return Plan(Method.COPY)
    largest = sorted(left_out, key=lambda item: -item[1])[:3]
    names = ", ".join(f"{path} ({size / 2**20:.0f} MiB)" for path, size in largest)
    more = f" and {len(left_out) - len(largest)} more" if len(left_out) > len(largest) else ""
    return Plan(
        Method.COPY,
        (
            f"this kernel allows no overlay mount, so each trial gets a copy of {start} ({len(copied)} files); "
            f"these exceed the limit of {COPY_BYTES >> 20} MiB or {COPY_FILES} files and are left out: {names}{more}. "
            "Name them by absolute path, or start the search in a smaller directory",
        ),
    )


def enter(directory: Path, start: Path, method: Method) -> Path:
    """Give this process the trial's working directory and change to it; returns its path.

    Raises:
        OSError: The working directory cannot be made, for example because the disk is full.
    """
    (directory / FILES).mkdir(parents=True, exist_ok=True)
    if method is Method.OVERLAY:
        _mount_overlay(directory, start)
        path = start
    else:
        _copy(directory, start)
        path = directory / FILES
    os.chdir(path)
    os.environ["PWD"] = str(path)
    return path


def remove(directory: Path) -> None:
    """Delete a directory and everything in it, including what overlay mounts leave behind (directories of mode 000).

    Raises:
        StudyError: The path is a symbolic link, or something in it cannot be deleted.
    """
    if directory.is_symlink():
        raise StudyError(f"{directory} is a symbolic link, so its target is not deleted: remove the link yourself")

    def retry(delete: Callable[[str], object], path: str, error: object) -> None:
        cause = error[1] if isinstance(error, tuple) else error
        if isinstance(cause, FileNotFoundError):
            return
        for each in (os.path.dirname(path), path):
            if not os.path.islink(each):
                with contextlib.suppress(OSError):
                    os.chmod(each, stat.S_IRWXU)
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except OSError as failure:
            raise StudyError(f"{path} cannot be deleted: {failure.strerror}") from failure

    shutil.rmtree(directory, onerror=retry)


def _overlay_works(start: Path, study: Path) -> bool:
    """True where a process like a trial's can mount, write and read; tried once, in a child process."""
    if not hasattr(os, "fork") or not Path("/proc/self/ns/mnt").exists() or start == Path(start.anchor):
        return False
    if os.geteuid() != 0 and not all(_is_ours(path) for path in [start, *_entries(start)]):
        return False  # the kernel cannot copy files of users or groups that the namespace does not map
    study.mkdir(parents=True, exist_ok=True)
    probe = Path(tempfile.mkdtemp(prefix=".probe-", dir=study))
    try:
        child = os.fork()
        if child == 0:  # no exception and no exit handler of the client may run in the child
            try:
                enter(probe, start, Method.OVERLAY)
                name = f".gantune-probe-{os.getpid()}"
                Path(name).write_text("x", encoding="ascii")
                os._exit(0 if (probe / FILES).is_dir() and not Path("/proc/1/root", name).exists() else 1)
            except BaseException:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        remove(probe)


def _entries(start: Path) -> list[Path]:
    try:
        return list(start.iterdir())
    except OSError:
        return []


def _is_ours(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


def _mount_overlay(directory: Path, start: Path) -> None:
    """Mount the trial's files over `start`, and the trial's own directory, unchanged, into that."""
    work = directory / _WORK
    work.mkdir(exist_ok=True)
    options = f"lowerdir={_quoted(start)},upperdir={_quoted(directory / FILES)},workdir={_quoted(work)}"
    user, group = os.geteuid(), os.getegid()
    if user == 0 and _call("unshare", _CLONE_NEWNS, check=False):
        mapped = False
    else:
        _call("unshare", _CLONE_NEWNS | _CLONE_NEWUSER)
        for name, value in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", name).write_text(value, encoding="ascii")
        options += ",userxattr"
        mapped = True
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE, None)
    kept = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        _mount("overlay", str(start), "overlay", 0, options)
        if directory.is_relative_to(start):
            _mount(f"/proc/self/fd/{kept}", str(directory), None, _MS_BIND, None)
    finally:
        os.close(kept)
    if mapped:
        _drop_capabilities()


def _quoted(path: Path) -> str:
    """A path as an overlay option, in which backslash, comma and colon have a meaning."""
    text = str(path)
    for character in "\\,:":
        text = text.replace(character, "\\" + character)
    return text


def _call(name: str, *arguments: object, check: bool = True) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if check:
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return False


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    texts = [text if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _call("mount", texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])


def _drop_capabilities() -> None:
    """Give up what a new user namespace grants, so that file permissions keep their meaning for the trial."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _call("capset", ctypes.byref(header), ctypes.byref(data))


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
            own.symlink_to(os.readlink(start / path))
        else:
            shutil.copy2(start / path, own)
    marker.touch()


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
            and not (here / name / "pyvenv.cfg").exists()
            and not study.is_relative_to(here / name)
        ]
        for name in [*files, *(name for name in names if (here / name).is_symlink())]:
            path = here / name
            with contextlib.suppress(OSError):
                status = path.lstat()
                if stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK)):
                    yield path.relative_to(start), status.st_size
                    seen += 1
        if seen > 10 * COPY_FILES:  # a home directory: what follows would be left out in any case
            return


def _skipped(folder: Path, study: Path) -> bool:
    environment = (folder / "pyvenv.cfg").exists()
    return folder.name in _SKIPPED or environment or study.is_relative_to(folder)
