"""Images that trials wrote are untrusted: they are bounded, decoded safely and encoded again."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tuner.store import images
from tuner.store.images import MAX_BYTES, SAMPLES, SIDE, find, thumbnail


def png(width: int = 40, height: int = 30, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height), 128).save(stream, "PNG")
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    """A PNG that claims to be huge."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_thumbnail_of_every_mode(mode: str) -> None:
    found = thumbnail(png(1000, 500, mode))
    assert found is not None
    assert (found.width, found.height) == (SIDE, SIDE // 2)
    with Image.open(io.BytesIO(found.data)) as image:
        assert (image.format, image.size) == ("JPEG", (found.width, found.height))


def test_thumbnail_keeps_no_metadata() -> None:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(
        stream, "JPEG", comment=b"<script>secret</script>", exif=b"Exif\0\0secret"
    )
    found = thumbnail(stream.getvalue())
    assert found is not None
    assert b"secret" not in found.data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg onload=alert(1)>",
        b"GIF89a" + bytes(20),
        png()[:40],
        bomb(5_000),
        bomb(60_000),
        bytes(100),
    ],
    ids=["empty", "svg", "gif", "cut", "large", "huge", "zeros"],
)
def test_no_thumbnail_of_bad_data(data: bytes) -> None:
    assert thumbnail(data) is None


def test_finds_the_newest_file(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "samples.png").write_bytes(b"old")
    os.utime(tmp_path / "samples.png", (1, 1))
    (tmp_path / "a" / "b" / "samples.jpg").write_bytes(b"new")
    (tmp_path / "a" / "other.png").write_bytes(b"other")
    assert find([tmp_path], SAMPLES) == b"new"
    (tmp_path / "a" / "b" / "samples.jpg").unlink()
    assert find([tmp_path, tmp_path / "missing"], SAMPLES) == b"old"
    assert find([tmp_path], SAMPLES, since=100.0) is None


def test_links_and_special_files_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / "samples.png").symlink_to(secret)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "samples.jpg").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "samples.jpeg")
    assert find([folder], SAMPLES) is None


def test_large_files_and_deep_directories_are_left_out(tmp_path: Path) -> None:
    with (tmp_path / "samples.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    deep = tmp_path.joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    (deep / "samples.png").write_bytes(b"deep")
    assert find([tmp_path], SAMPLES) is None


def test_search_stops_after_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "ENTRIES", 5)
    for number in range(20):
        (tmp_path / f"{number}").mkdir()
    (tmp_path / "0" / "samples.png").write_bytes(b"x")
    assert find([tmp_path], SAMPLES) is None
