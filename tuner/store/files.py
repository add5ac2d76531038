"""The directory of the studies, how its files are replaced, and how directories are deleted."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import zlib
from pathlib import Path

from tuner.errors import StudyError

_CHECKSUM = b"\ncrc:"  # between the contents of a file and their CRC-32
STORE = Path(".gantune")  # in the current directory, unless another one is chosen


def replace(path: Path, data: bytes) -> None:
    """Replace a file as a whole, or not at all. Raises OSError."""
    draft = path.with_suffix(f".{os.getpid()}.new")  # a watch and a status may write at once
    draft.write_bytes(data)
    draft.replace(path)


def replace_checked(path: Path, data: bytes) -> None:
    """Store an image or a text with its checksum, which programs that show images ignore. Raises OSError."""
    replace(path, data + _CHECKSUM + b"%08x" % zlib.crc32(data))


def read_checked(path: Path) -> bytes:
    """Return what `replace_checked` stored. Raises OSError, and ValueError for a damaged file."""
    data, _, checksum = path.read_bytes().rpartition(_CHECKSUM)
    if checksum != b"%08x" % zlib.crc32(data):
        raise ValueError(f"{path}: the checksum is wrong")
    return data


def remove(directory: Path) -> None:
    """Delete a directory and everything in it, including what overlay mounts leave behind (directories of mode 000).

    Raises:
        StudyError: The path is a symbolic link, or something in it cannot be deleted.
    """
    if directory.is_symlink():
        raise StudyError(
            f"{directory} is a symbolic link, so its target is not deleted: remove the link yourself"
        )
    folders = [os.fspath(directory)] if directory.exists() else []
    try:
        while folders:
            folder = folders.pop()
            # a directory of another user, which may be readable
            with contextlib.suppress(PermissionError):
                os.chmod(folder, stat.S_IRWXU)
            with os.scandir(folder) as entries:
                folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        if directory.exists():
            shutil.rmtree(directory)
    except OSError as error:
        raise StudyError(
            f"{error.filename or directory} cannot be deleted: {error.strerror}"
        ) from error
