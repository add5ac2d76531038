"""Files of a trial are received complete and verified, or not at all."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tuner.errors import StudyError
from tuner.store.transfer import FileRecord, checked, receive


def expected(**files: bytes) -> dict[str, FileRecord]:
    return {
        name: FileRecord(name, len(data), hashlib.sha256(data).hexdigest())
        for name, data in files.items()
    }


def sent(**files: bytes) -> Iterator[tuple[str, IO[bytes]]]:
    for name, data in files.items():
        yield name, io.BytesIO(data)


def test_files_are_written_and_hashed(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    files = {"a": b"1" * 600_000, "b": b""}
    found = receive(
        sent(**files, later=b"x"),
        expected(**files),
        tmp_path / "out",
        lambda done, total: seen.append((done, total)),
    )
    assert found == list(expected(**files).values())
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files
    assert seen[-1] == (600_000, 600_000)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a": b"2", "b": b""}, "a changed while it was copied"),
        ({"a": b"1"}, "b was not received"),
    ],
)
def test_incomplete_copy_leaves_no_directory(
    files: dict[str, bytes], reason: str, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    with pytest.raises(StudyError, match=reason):
        receive(sent(**files), expected(a=b"1", b=b""), target)
    assert not target.exists()
    receive(sent(a=b"1", b=b""), expected(a=b"1", b=b""), target)  # what was left is no obstacle
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in target.iterdir()) == ["a", "b"]


def test_directory_with_files_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(StudyError, match="is not empty: choose another directory"):
        receive(sent(a=b"1"), expected(a=b"1"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a", "a/../../b", "a//b", "", "a\0b", "a/" * 65]
)
def test_path_cannot_leave_the_directory(path: str) -> None:
    with pytest.raises(StudyError, match="unusable name"):
        checked(path)
