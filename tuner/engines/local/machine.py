"""Is it the trial that failed, or this machine? A full disk pauses the search, and the trial runs again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tuner.errors import StudyError

FREE_BYTES, FREE_FILES = 65536, 32  # with less room than this, what a trial writes may be cut short
_MESSAGES = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT))


def ensure_room(folder: Path) -> None:
    """Raise StudyError where the disk that holds `folder`, or the nearest parent that exists, is full."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        disk = os.statvfs(place)
    except OSError as error:
        raise StudyError(
            f"{place} cannot be read ({error.strerror}), so the search is paused"
        ) from error
    if disk.f_bavail * disk.f_frsize < FREE_BYTES or (disk.f_files and disk.f_favail < FREE_FILES):
        raise paused(f"the disk that holds {place} is full")


def ran_out_of_room(reason: str) -> bool:
    """Return whether a trial's reason to fail is a full disk, or a quota that is used up."""
    return any(message in reason for message in _MESSAGES)


def paused(why: str) -> StudyError:
    """Return the error that pauses a search."""
    return StudyError(
        f"the search is paused: {why}. Finished trials are kept, and unfinished ones run again: "
        "fix this and run the same command again"
    )
