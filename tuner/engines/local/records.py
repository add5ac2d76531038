"""A file of JSON records, one per line, that only grows, and in which any damage is found.

Each line is `{"crc":"89abcdef",...}`. The checksum is the CRC-32 of everything before it in the
file, without the checksums themselves, and of the rest of the line. So a changed, moved, missing,
repeated or foreign line is found at its place. A killed process leaves at most one last line
without a line feed, which the next writer cuts off.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import StudyError

SYNC_INTERVAL = 1.0  # seconds of records that a power cut may lose; their trials run again
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file of records holds.

    Attributes:
        records: The intact records, up to the first damaged line.
        size: The bytes that these records take.
        crc: The checksum of the last of them.
        torn: The bytes of an unfinished last line.
        damage: What is wrong with line `len(records) + 1`, "" where nothing is.
    """

    records: list[Record]
    size: int
    crc: int
    torn: int = 0
    damage: str = ""


def parse(data: bytes) -> Contents:
    """Return the records of a file's contents, up to the first damaged line."""
    *lines, rest = data.split(b"\n")
    records: list[Record] = []
    size, crc = 0, 0
    for line in lines:
        body = line[18:]
        following = zlib.crc32(body, crc)
        if line[:18] != _prefix(following):
            return Contents(records, size, crc, damage="the checksum is wrong")
        try:
            record = json.loads(b"{" + body)
        except ValueError as error:
            return Contents(records, size, crc, damage=f"the line is not JSON ({error})")
        records.append(record)
        size, crc = size + len(line) + 1, following
    return Contents(records, size, crc, torn=len(rest))


def _prefix(crc: int) -> bytes:
    return b'{"crc":"%08x",' % crc


def _line(record: Record, crc: int) -> tuple[bytes, int]:
    """Return the line of a record that follows one with checksum `crc`, and its own checksum."""
    body = json.dumps(record, separators=(",", ":")).encode()[1:]
    crc = zlib.crc32(body, crc)
    return _prefix(crc) + body + b"\n", crc


class Writer:
    """Appends records to a file. Raises StudyError where the file cannot be written."""

    def __init__(self, path: Path, contents: Contents) -> None:
        """Open a file that exists; `contents` is what `parse` found in it. A torn last line is cut off."""
        self._path, self._crc = path, contents.crc
        self._synced = 0.0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            os.ftruncate(self._file, contents.size)
        except OSError as error:
            raise self._failure(error) from error

    @classmethod
    def create(cls, path: Path, header: Record) -> Writer:
        """Create a file with its first record: both appear together, or neither does."""
        line, crc = _line(header, 0)
        replace(path, line)
        return cls(path, Contents([header], len(line), crc))

    def append(self, records: Sequence[Record]) -> None:
        """Write records at once. Where the disk is full, none of them remains in the file."""
        lines, crc = [], self._crc
        for record in records:
            line, crc = _line(record, crc)
            lines.append(line)
        data = b"".join(lines)
        try:
            size = os.fstat(self._file).st_size
            try:
                if os.write(self._file, data) != len(data):
                    raise OSError(28, "No space left on device")
            except OSError:
                os.ftruncate(self._file, size)
                raise
        except OSError as error:
            raise self._failure(error) from error
        self._crc = crc

    def sync(self) -> None:
        """Protect what was written from a power cut, at most every SYNC_INTERVAL seconds."""
        if time.monotonic() - self._synced > SYNC_INTERVAL:
            self._flush()
            self._synced = time.monotonic()

    def close(self) -> None:
        """Flush and close the file; harmless when repeated."""
        if self._file >= 0:
            try:
                self._flush()
            finally:
                os.close(self._file)
                self._file = -1

    def _flush(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> StudyError:
        return unwritable(self._path, error)


def unwritable(path: Path, error: OSError) -> StudyError:
    """Return the error of a study that is paused because a file of it cannot be written."""
    return StudyError(
        f"{path} cannot be written ({error.strerror}), so the search is paused. "
        "Finished trials are kept: make room and run the same command again"
    )


def replace(path: Path, data: bytes) -> None:
    """Write a file as a whole, safe from a power cut, or leave the old one. Raises StudyError."""
    draft = path.with_name(path.name + ".new")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise unwritable(path, error) from error
