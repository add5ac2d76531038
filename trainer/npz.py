"""Read arrays from an .npz file that anybody may have made: no pickle, no encryption, and no more than it declares.

An .npz is a zip archive of .npy files. A small archive can declare or expand to any size, so every
size is compared with a limit, with the header of its array and with the available memory before a
byte of it is decoded.
"""

import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from trainer import memory
from trainer.config import UsageError

MAX_BYTES = 4 * memory.GIB
"""Decoded size of all images of a data set: what must fit the memory of the device, next to the training."""

MAX_HEADER = 10_000  # bytes of an .npy header; numpy's own limit
CHUNK = 2**20  # bytes that are decoded at a time
ENCRYPTED = 0x1  # bit of a zip entry's flags
KINDS = "biufU"  # booleans, numbers and text; objects would need pickle


class NpzError(ValueError):
    """The file is not an .npz that can be used. The message is the reason, without the path."""


def read(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Return the named arrays of an .npz file.

    Args:
        path: The file.
        required: Names of arrays that must be there.
        optional: Names of arrays that are read if they are there. All others are ignored.

    Raises:
        NpzError: The file is missing, damaged, forged, encrypted, too large, or has no such arrays.
    """
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            # numpy warns about files of Python 2; they are readable
            warnings.simplefilter("ignore")
            entries = _entries(archive, required, optional)
            memory.require(
                2 * sum(e.file_size for e in entries.values()), "decoding it", "Use fewer images."
            )
            return {name: _array(archive, entry) for name, entry in entries.items()}
    except NpzError:
        raise
    except (UsageError, EOFError) as error:
        raise NpzError(str(error) or "it is truncated") from error
    except OSError as error:
        raise NpzError(error.strerror or str(error)) from error
    except (
        Exception
    ) as error:  # zipfile, zlib, struct, ast and numpy raise a dozen types for a forged file
        reason = str(error).strip().splitlines()
        raise NpzError(reason[0] if reason else type(error).__name__) from error


def _entries(
    archive: zipfile.ZipFile, required: Sequence[str], optional: Sequence[str]
) -> dict[str, zipfile.ZipInfo]:
    names = archive.namelist()
    for name in (*required, *optional):
        count = names.count(f"{name}.npy")
        if count > 1 or (count == 0 and name in required):
            raise NpzError(f"it has {'two arrays' if count else 'no array'} `{name}`")
    entries = {
        name: archive.getinfo(f"{name}.npy")
        for name in (*required, *optional)
        if f"{name}.npy" in names
    }
    total = sum(entry.file_size for entry in entries.values())
    if total > MAX_BYTES:
        raise NpzError(
            f"its arrays take {memory.gib(total)} when decoded, the limit is {memory.gib(MAX_BYTES)}"
        )
    for name, entry in entries.items():
        if entry.flag_bits & ENCRYPTED:
            raise NpzError(f"array `{name}` is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NpzError(
                f"array `{name}` uses compression method {entry.compress_type}, expected stored or deflate"
            )
    return entries


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Decode one .npy entry whose declared size matches its header."""
    with archive.open(entry) as file:
        shape, fortran, dtype = _header(file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in KINDS or dtype.hasobject:
            raise NpzError(f"an array has the type {dtype}, expected numbers or text")
        if min(shape, default=0) < 0 or not 0 <= entry.file_size - size <= MAX_HEADER + 16:
            raise NpzError(
                f"an array of shape {list(shape)} does not match its {entry.file_size} bytes"
            )
        content = bytearray(size)
        filled = 0
        while part := file.read(min(CHUNK, size - filled)):
            content[filled : filled + len(part)] = part
            filled += len(part)
        if filled < size:
            raise EOFError
        if file.read(1):  # reading to the end also compares the checksum
            raise NpzError("an array is followed by other data")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise NpzError(f"an array has the format version {version}, expected 1.0 or 2.0")
    return readers[version](file)
