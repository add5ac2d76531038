"""Receives the files of a trial into a directory: complete and verified, or not at all.

Names and bytes come from a trial, so they are data: no path leaves the directory, and only regular
files are written. Everything goes into DIRECTORY.partial first. An interrupted copy leaves only
that, and the next one starts again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tuner.errors import StudyError
from tuner.store.files import remove

MOST_FILES = 100_000
MOST_DEPTH = 64  # directories of a path
_CHUNK = 1 << 18
Progress = Callable[[int, int], None]  # bytes so far, and of all files


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file: its path below the directory, its size in bytes, and its hash."""

    path: str
    size: int
    sha256: str


def receive(
    files: Iterable[tuple[str, IO[bytes]]],
    expected: Mapping[str, FileRecord],
    target: Path,
    progress: Progress = lambda done, total: None,
) -> list[FileRecord]:
    """Write files to a new directory, and return their records.

    Args:
        files: The path and the content of each file.
        expected: What each file must be, by its path.
        target: The directory. It must not exist, or be empty.
        progress: Is called after each chunk.

    Raises:
        StudyError: The directory has files, a path is unusable, a file is missing or is not as
            expected, or the disk is full.
    """
    partial = _prepared(target)
    total, done = sum(record.size for record in expected.values()), 0
    received: dict[str, FileRecord] = {}
    try:
        for path, source in files:
            if path not in expected or path in received:
                continue  # it was written after the list was made
            place = partial / checked(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            digest, size = hashlib.sha256(), 0
            with place.open("xb") as file:
                while chunk := source.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    progress(min(done + size, total), total)
            done += size
            received[path] = FileRecord(path, size, digest.hexdigest())
            if received[path] != expected[path]:
                raise StudyError(
                    f"{path} changed while it was copied: copy again when the trial has finished"
                )
        if missing := sorted(expected.keys() - received.keys()):
            raise StudyError(
                f"{missing[0]} was not received ({len(missing)} of {len(expected)} files): copy again"
            )
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        raise StudyError(
            f"{error.filename or partial} cannot be written ({error.strerror}): free some space, or "
            "choose another directory"
        ) from error
    return [received[path] for path in sorted(received)]


def _prepared(target: Path) -> Path:
    """Return the new directory for what has been received."""
    partial = target.with_name(f"{target.name}.partial")
    try:
        if target.is_symlink() or (
            target.exists() and (not target.is_dir() or any(target.iterdir()))
        ):
            raise StudyError(f"{target} exists and is not empty: choose another directory")
        remove(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise StudyError(f"{target} cannot be created: {error.strerror}") from error
    return partial


def checked(path: str) -> PurePosixPath:
    """Return a path below the directory. Raises StudyError for one that leaves it."""
    parts = path.split("/")
    usable = 0 < len(parts) <= MOST_DEPTH and not any(
        part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts
    )
    if not usable or len(os.fsencode(path)) > 4096:
        raise StudyError(f"a file of the trial has an unusable name: {path[:200]!r}")
    return PurePosixPath(*parts)


def record(path: Path, name: str) -> FileRecord:
    """Return the record of a file on this machine. Raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileRecord(name, file.tell(), digest.hexdigest())
