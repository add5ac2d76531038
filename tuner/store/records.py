"""How every file of a study is stored: JSON records with checksums, in which any damage is found.

Each line is `{"crc":"89abcdef",...}`. The checksum is the CRC-32 of everything before it in the
file, without the checksums themselves, and of the rest of the line. So a changed, moved, missing,
repeated or foreign line is found at its place.

document    a file of one record, which is replaced as a whole (`seal`, `unseal`)
log         a file of records that only grows (`read`, `Writer`). A killed process leaves at most one last line without
            a line feed, which the next writer cuts off. A lost end is found by the commit mark, a document next to
            the log (`mark_of`): the size and the last checksum of what has reached the disk. It is written after
            that, so a power cut loses the last second of records, and the mark never names records that are lost
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tuner.errors import StudyDamaged, StudyError

# a document of an earlier version; no damage makes one of a newer document
_WITHOUT_CHECKSUM = re.compile(rb'\{"[a-z_]{4,}": ')
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


def read(path: Path, *, marked: bool = False) -> Contents:
    """Return the records of a log, checked against its commit mark.

    Raises OSError: FileNotFoundError for a missing log, with `marked` only if no mark names records.
    """
    mark = _read_mark(path)  # before the log, which may grow
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if marked and mark is not None and mark.records and int(mark.records[0]["size"]):
            return Contents([], 0, 0, damage=f"the file is missing, but not {mark_of(path).name}")
        raise
    contents = parse(data)
    return contents if contents.damage else _checked(contents, data, mark, mark_of(path).name)


def _checked(contents: Contents, data: bytes, mark: Contents | None, name: str) -> Contents:
    """Return the contents, with what is wrong according to the commit mark."""
    if mark is None:
        return dataclasses.replace(contents, damage=f"{name}, its commit mark, is missing")
    if len(mark.records) != 1 or mark.damage or mark.torn:
        return dataclasses.replace(contents, damage=f"{name}, its commit mark, is damaged")
    size, last = int(mark.records[0]["size"]), str(mark.records[0]["last"])
    if contents.size < size:
        lost = size - contents.size
        return dataclasses.replace(contents, damage=f"the last {lost} bytes are missing")
    committed = contents if contents.size == size else parse(data[:size])
    if (committed.size, f"{committed.crc:08x}") != (size, last):
        return dataclasses.replace(contents, damage=f"{name} is the mark of another file")
    return contents


def mark_of(path: Path) -> Path:
    """Return where the commit mark of a log is."""
    return path.with_suffix(".commit")


def _read_mark(path: Path) -> Contents | None:
    try:
        return parse(mark_of(path).read_bytes())
    except FileNotFoundError:
        return None


def _mark(size: int, crc: int) -> bytes:
    """Return a commit mark. All of them have the same length, so one is written over another."""
    return seal({"size": f"{size:015d}", "last": f"{crc:08x}"})


def seal(record: Mapping[str, Any]) -> bytes:
    """Return a document."""
    return _line(record, 0)[0]


def unseal(data: bytes) -> Record:
    """Return the record of a document. Raises ValueError if the document is damaged."""
    if _WITHOUT_CHECKSUM.match(data):
        return dict(json.loads(data))
    contents = parse(data)
    if contents.damage or contents.torn or len(contents.records) != 1:
        raise ValueError(contents.damage or "it is incomplete")
    return contents.records[0]


def _prefix(crc: int) -> bytes:
    return b'{"crc":"%08x",' % crc


def _line(record: Mapping[str, Any], crc: int) -> tuple[bytes, int]:
    """Return the line of a record that follows one with checksum `crc`, and its own checksum."""
    body = json.dumps(record, separators=(",", ":"), default=str).encode()[1:]
    crc = zlib.crc32(body, crc)
    return _prefix(crc) + body + b"\n", crc


class Writer:
    """Appends records to a file. Raises StudyError where the file cannot be written."""

    def __init__(self, path: Path, contents: Contents) -> None:
        """Open a log that exists; `contents` is what `read` found in it. A torn last line is cut off."""
        self._path, self._crc, self._size = path, contents.crc, contents.size
        self._synced = 0.0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            self._mark = os.open(mark_of(path), os.O_RDWR | os.O_CLOEXEC)
            os.ftruncate(self._file, contents.size)
        except OSError as error:
            raise self._failure(error) from error

    @classmethod
    def open(cls, path: Path) -> Writer:
        """Open a log, or create an empty one. Raises StudyDamaged for a damaged one."""
        try:
            try:
                contents = read(path, marked=True)
            except FileNotFoundError:
                mark_of(path).write_bytes(_mark(0, 0))
                path.touch()
                contents = read(path)
        except OSError as error:
            raise unwritable(path, error) from error
        ensure_intact(path, contents)
        return cls(path, contents)

    @classmethod
    def create(cls, path: Path, header: Record) -> Writer:
        """Create a log with its first record: both appear together, or neither does."""
        line, crc = _line(header, 0)
        replace(mark_of(path), _mark(len(line), crc))
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
        self._crc, self._size = crc, self._size + len(data)

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
                os.close(self._mark)
                self._file = self._mark = -1

    def _flush(self) -> None:
        try:
            os.fdatasync(self._file)
            mark = _mark(self._size, self._crc)
            if os.pread(self._mark, len(mark) + 1, 0) != mark:
                os.pwrite(self._mark, mark, 0)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> StudyError:
        return unwritable(self._path, error)


def repair(path: Path, contents: Contents) -> Path:
    """Keep the intact records of a damaged log, and the damaged file next to it. Returns where that is now.

    Raises StudyError.
    """
    names = (path.with_name(f"{path.name}.damaged{f'.{n}' if n else ''}") for n in count())
    saved = next(name for name in names if not name.exists())
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from error
    replace(saved, data)
    replace(path, data[: contents.size])
    replace(mark_of(path), _mark(contents.size, contents.crc))
    return saved


def ensure_intact(path: Path, contents: Contents) -> None:
    """Raise StudyDamaged for a damaged log."""
    if contents.damage:
        line = len(contents.records) + 1
        raise StudyDamaged(
            f"{path}:{line}: {contents.damage}. Restore the file, or keep the records before the "
            f"damage with `gantune check-store {path.parent.name} --repair`"
        )


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
