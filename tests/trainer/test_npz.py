"""Reading .npz files that anybody may have made: real archives, forged byte by byte."""

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import npz

IMAGES = np.arange(600, dtype=np.uint8).reshape(10, 10, 6)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype.hasobject)
    return file.getvalue()


def archive(path, *entries, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


def test_arrays_are_read_as_numpy_wrote_them(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(
            tmp_path / "a.npz",
            images=IMAGES,
            turned=np.asfortranarray(IMAGES),
            name=np.array("x"),
            other=np.ones(3),
        )
        found = npz.read(tmp_path / "a.npz", ["images", "name"], ["turned", "labels"])
        assert found.keys() == {"images", "name", "turned"}
        assert np.array_equal(found["images"], IMAGES)
        assert np.array_equal(found["turned"], IMAGES)
        assert str(found["name"]) == "x"


def declare(path, size: int):
    """Overwrite the decoded size of every entry in the archive's directory."""
    content, at = bytearray(path.read_bytes()), 0
    while (at := content.find(b"PK\x01\x02", at + 1)) > 0:
        content[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(content)


def encrypt(path):
    """Set the flag of an encrypted entry."""
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)


def header(text: str) -> bytes:
    """An .npy file with any header and no data."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


FORGED = {
    "a declared size over the array": (lambda p: [archive(p, ("images.npy", npy(IMAGES))), declare(p, 2**20)], "match"),
    "a declared size below the array": (lambda p: [archive(p, ("images.npy", npy(IMAGES))), declare(p, 300)], "CRC"),
    "encryption": (lambda p: [archive(p, ("images.npy", npy(IMAGES))), encrypt(p)], "is encrypted"),
    "another compression": (
        lambda p: archive(p, ("images.npy", npy(IMAGES)), compression=zipfile.ZIP_LZMA), "compression method 14"
    ),
    "a shape beyond the data": (
        lambda p: archive(p, ("images.npy", header("{'descr': '|u1', 'fortran_order': False, 'shape': (9**99,)}"))), ""
    ),
    "a huge shape": (
        lambda p: archive(
            p, ("images.npy", header("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}"))
        ), "does not match"
    ),
    "a negative shape": (
        lambda p: archive(p, ("images.npy", header("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, -9)}"))),
        "does not match",
    ),
    "a deep header": (lambda p: archive(p, ("images.npy", header("(" * 9000))), ""),
    "objects": (lambda p: archive(p, ("images.npy", npy(np.array([{}], dtype=object)))), "expected numbers"),
    "no npy": (lambda p: archive(p, ("images.npy", b"hello")), ""),
    "an empty entry": (lambda p: archive(p, ("images.npy", b"")), ""),
    "another array": (lambda p: archive(p, ("pictures.npy", npy(IMAGES))), "no array `images`"),
    "more data than the array": (lambda p: archive(p, ("images.npy", npy(IMAGES) + b"more")), ""),
    "not a zip": (lambda p: p.write_bytes(b"PK\x03\x04 truncated"), "not a zip file"),
    "a folder": (lambda p: p.mkdir(), "directory"),
    "nothing": (lambda p: None, "No such file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_forged_file_is_refused(kind, tmp_path):
    make, reason = FORGED[kind]
    make(tmp_path / "a.npz")
    with pytest.raises(npz.NpzError) as caught:
        npz.read(tmp_path / "a.npz", ["images"])
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path):
    archive(tmp_path / "a.npz", ("images.npy", npy(IMAGES)), ("images.npy", npy(IMAGES)))
    with pytest.raises(npz.NpzError, match="two arrays `images`"):
        npz.read(tmp_path / "a.npz", ["images"])


def test_bomb_is_refused_before_decoding(tmp_path, monkeypatch):
    """A small archive that declares 8 GiB in two arrays."""
    head = header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**32 - 200},)}}")
    archive(
        tmp_path / "a.npz", ("images.npy", head + bytes(10**7)), ("labels.npy", head + bytes(10**7))
    )
    declare(tmp_path / "a.npz", 2**32 - 2)
    assert (tmp_path / "a.npz").stat().st_size < 30_000

    def decode(*_arguments):
        raise AssertionError("the data was decoded")

    monkeypatch.setattr(zipfile.ZipFile, "open", decode)
    with pytest.raises(npz.NpzError, match=r"take 8\.0 GiB when decoded, the limit is 4\.0 GiB"):
        npz.read(tmp_path / "a.npz", ["images"], ["labels"])


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_flipped_bytes_never_change_the_images(changes):
    """A damaged file is either refused with NpzError, or still holds the same images."""
    file = io.BytesIO()
    np.savez(file, images=IMAGES)
    content = bytearray(file.getvalue())
    for position, value in changes:
        content[position % len(content)] = value
    try:
        found = npz.read(io.BytesIO(content), ["images"])["images"]
    except npz.NpzError:
        return
    assert found.tobytes() == IMAGES.tobytes()
