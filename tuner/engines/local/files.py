"""Copies the files that a local trial wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tuner.engines.local.workspace import FILES
from tuner.errors import NotFound, StudyError
from tuner.store.transfer import FileRecord, Progress, receive, record


def copy(folder: Path, trial: str, target: Path, progress: Progress) -> list[FileRecord]:
    """Copy the files of a trial to a new directory, and return what they are.

    These are the files of the directory that is named after the trial, on one of its volumes. A
    trial without such a directory has those that it wrote to its working directory.

    Args:
        folder: The trial's directory in the store.
        trial: The trial's name.
        target: The new directory.
        progress: Is called with the bytes so far, and those of all files.

    Raises:
        NotFound: The trial wrote no file.
        StudyError: The files cannot be read or written.
    """
    named = sorted(folder.glob(f"mounts/*/{trial}"))
    source = next((each for each in named if each.is_dir()), folder / FILES)
    try:
        expected = {name: record(source / name, name) for name in _names(source)}
    except OSError as error:
        raise StudyError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not expected:
        raise NotFound(f"trial {trial} wrote no file")

    def files() -> Iterator[tuple[str, IO[bytes]]]:
        for name in expected:
            with (source / name).open("rb") as file:
                yield name, file

    return receive(files(), expected, target, progress)


def _names(folder: Path) -> Iterator[str]:
    """Yield the paths of the regular files below a directory. Links are not followed."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix()
