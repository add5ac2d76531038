"""Images that trials wrote, as thumbnails in the page.

A trial takes part by writing an image named as in SAMPLES into one of its directories, and one
named as in REAL for real images. These files are untrusted: bytes and pixels are limited before
anything is decoded, only PNG and JPEG are decoded, and the page gets pixels that are encoded again,
never the file.
"""

from __future__ import annotations

import base64
import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import StudyError
from tuner.store.files import read_checked, replace_checked

SAMPLES = ("samples.png", "samples.jpg", "samples.jpeg")
REAL = ("real.png", "real.jpg", "real.jpeg")
KEPT = "samples"  # the directory of a study on a cluster that has images, such as TRIAL.jpg
REAL_TRIAL = "_real"  # no trial has such a name
MAX_BYTES = 16 << 20  # of a file
MAX_PIXELS = 1 << 24  # of an image
SIDE = 360  # pixels of a thumbnail's longer side
QUALITY = 80
DEPTH = 4  # directories below those that are searched
ENTRIES = 2_000  # that a search looks at


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG."""

    width: int
    height: int
    data: bytes

    @property
    def uri(self) -> str:
        """The image as a data: URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.data).decode()}"


def thumbnail(data: bytes) -> Thumbnail | None:
    """Return a PNG or JPEG as a thumbnail; None for anything else, and for more than MAX_PIXELS."""
    from PIL import Image

    try:
        with (
            warnings.catch_warnings(),
            Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image,
        ):
            warnings.simplefilter("error")  # Pillow warns of decompression bombs
            if image.width * image.height > MAX_PIXELS:
                return None
            small = image.convert("RGB")
            small.info = {}  # comments and EXIF data, which JPEG files would keep
            small.thumbnail((SIDE, SIDE))
            stream = io.BytesIO()
            small.save(stream, "JPEG", quality=QUALITY, optimize=True)
    except Exception:  # a decoder may raise anything for bytes that somebody crafted
        return None
    return Thumbnail(small.width, small.height, stream.getvalue())


def keep(study: Path, trial: str, folder: Path) -> None:
    """Keep the images of a trial on a cluster for its report. The files of the trial are in `folder`.

    Raises StudyError.
    """
    for name, names in ((f"{trial}.jpg", SAMPLES), (f"{REAL_TRIAL}.jpg", REAL)):
        data = find([folder], names)
        if data is None or (small := thumbnail(data)) is None:
            continue
        try:
            (study / KEPT).mkdir(exist_ok=True)
            replace_checked(study / KEPT / name, small.data)
        except OSError as error:
            raise StudyError(
                f"{study / KEPT / name} cannot be written: {error.strerror}"
            ) from error


def kept(study: Path, trial: str) -> Thumbnail | None:
    """Return the image of a trial that `keep` has stored; REAL_TRIAL gives the real images."""
    try:
        data = read_checked(study / KEPT / f"{trial}.jpg")
    except (OSError, ValueError):
        return None
    return thumbnail(data)


def find(folders: Sequence[Path], names: Sequence[str], *, since: float = 0.0) -> bytes | None:
    """Return the newest file with one of `names` below `folders`, written at `since` or later; None without one.

    Links are not followed, and directories deeper than DEPTH or beyond ENTRIES are not searched.
    """
    found = [(path.stat(follow_symlinks=False).st_mtime, path) for path in _named(folders, names)]
    for modified, path in sorted(found, reverse=True):
        if modified >= since and (data := _read(path)) is not None:
            return data
    return None


def _named(folders: Sequence[Path], names: Sequence[str]) -> Iterator[Path]:
    left = ENTRIES
    waiting = [(folder, 0) for folder in folders]
    for folder, depth in waiting:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        return
                    if entry.is_dir(follow_symlinks=False):
                        if depth < DEPTH:
                            waiting.append((Path(entry.path), depth + 1))
                    elif entry.name in names and entry.is_file(follow_symlinks=False):
                        yield Path(entry.path)
        except OSError:  # the trial removed it meanwhile, or made it unreadable
            continue


def _read(path: Path) -> bytes | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(file, "rb") as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return None
        data = stream.read(MAX_BYTES + 1)
    return data if len(data) <= MAX_BYTES else None
