"""Preparing data sets from real files: IDX as torchvision reads it, PNG and JPEG folders, .npz. No network."""

import os
import struct
import urllib.error
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from trainer import data, evaluate, preparation, prepare, sources
from trainer.__main__ import main as train
from trainer.train_extractor import batches

CPU = torch.device("cpu")
STEPS = 3


def blobs(n, height=28, width=28, classes=2, seed=0):
    """Return uint8 [n, height, width] with a bright half in class 1, and the classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    images = random.integers(0, 120, (n, height, width), dtype=np.uint8)
    images[labels == 1, : height // 2] += 100
    return images, labels


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(folder, n_train=300, n_test=120):
    for prefix, n, seed in (("train", n_train, 0), ("t10k", n_test, 1)):
        images, labels = blobs(n, seed=seed)
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)


def write_pngs(folder, images, name="{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / name.format(f"{i:04}"))


@pytest.mark.parametrize(
    ("dataset", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")]
)
def test_idx_files_are_prepared_and_loaded(dataset, folder, tmp_path):
    write_mnist(tmp_path / folder / "raw")
    said = preparation.prepare(dataset, tmp_path, steps=60)
    assert "1x28x28 images, 300 training images, 120 held out" in said
    images = data.load(dataset, tmp_path, CPU)
    assert np.array_equal(images.held_out[:, 0].numpy(), blobs(120, seed=1)[0])
    extractor = evaluate.load_extractor(images)
    assert extractor.sha256[:12] in said
    assert "classifies labels, 100.0% right" in said
    scores = evaluate.Evaluator(images, extractor, 120)(images.train[:120])
    assert scores["fd"] < 20
    assert sorted(path.name for path in (tmp_path / dataset).iterdir()) == [
        "extractor.safetensors",
        "images.npz",
    ]


def test_features_are_normalised_to_unit_variance(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw")
    preparation.prepare("mnist", tmp_path, steps=STEPS)
    images = data.load("mnist", tmp_path, CPU)
    variance = evaluate.load_extractor(images)(images.train).double().var(0).mean()
    assert float(variance) == pytest.approx(1, rel=1e-5)


def test_preparing_again_needs_force(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw", 150, 100)
    preparation.prepare("mnist", tmp_path, steps=STEPS)
    path = tmp_path / "mnist" / "extractor.safetensors"
    first, inode = path.read_bytes(), path.stat().st_ino
    assert "is already prepared" in preparation.prepare("mnist", tmp_path, steps=STEPS)
    assert path.stat().st_ino == inode
    preparation.prepare("mnist", tmp_path, steps=STEPS, force=True)
    assert path.stat().st_ino != inode
    assert path.read_bytes() == first


@pytest.mark.parametrize("keep", [3, 16, 5000])
def test_truncated_idx_file_is_refused(keep, tmp_path, capsys):
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    assert prepare.main(["--dataset", "mnist", "--data-dir", str(tmp_path)]) == 2
    assert_one_line(capsys, "IDX files", str(raw), "Delete them")
    assert os.listdir(tmp_path) == ["MNIST"]


def test_idx_images_of_another_size_are_refused(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    write_idx(raw / "train-images-idx3-ubyte", np.zeros((300, 20, 20)))
    with pytest.raises(data.DataError, match=r"must hold uint8 28x28 images.*\[300, 1, 20, 20\]"):
        preparation.prepare("mnist", tmp_path)


def test_missing_network_is_one_line(tmp_path, capsys, monkeypatch):
    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    assert prepare.main(["--dataset", "mnist", "--data-dir", str(tmp_path)]) == 2
    assert_one_line(
        capsys, "cannot download mnist", "Try again with a network, or put the four IDX files into"
    )
    assert os.listdir(tmp_path) == []


def assert_one_line(capsys, *parts):
    _, err = capsys.readouterr()
    assert "Traceback" not in err
    assert [line for line in err.splitlines() if line.startswith("python -m")] == [
        err.splitlines()[-1]
    ]
    for part in parts:
        assert part in err.splitlines()[-1]


def test_mixed_folder_becomes_rgb(tmp_path):
    images, _ = blobs(110, 12, 10)
    write_pngs(tmp_path / "photos", images[:100])
    write_pngs(tmp_path / "photos", np.repeat(images[100:, ..., None], 3, axis=3), "z{}.jpg")
    said = preparation.prepare(str(tmp_path / "photos"), tmp_path / "d", steps=STEPS)
    assert "3x12x10 images, 88 training images, 22 held out" in said
    assert "classifies mirrorings" in said
    loaded = data.load(str(tmp_path / "photos"), tmp_path / "d", CPU)
    assert np.array_equal(loaded.held_out[0, 2].numpy(), images[4])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_images_are_composed_on_white(mode, tmp_path, capsys):
    clear = np.zeros((10, 10, 4), np.uint8)  # black and transparent, with an opaque black half
    clear[5:, :, 3] = 255
    image = Image.fromarray(clear)
    image = image.quantize(4) if mode == "P" else image.convert(mode)  # convert drops P's alpha
    for name in "ab":
        image.save(tmp_path / f"{name}.png")
    images, _ = sources.read_folder(tmp_path)
    assert images.shape == (2, 1 if mode == "LA" else 3, 10, 10)
    assert (images[:, :, :5] == 255).all()
    assert (images[:, :, 5:] == 0).all()
    assert "2 transparent images were composed on white" in capsys.readouterr().err


def test_sub_folders_are_labels(tmp_path):
    images, labels = blobs(100, 9, 9)
    for name in (0, 1):
        write_pngs(tmp_path / "own" / f"class{name}", images[labels == name])
    assert "classifies labels" in preparation.prepare(
        str(tmp_path / "own"), tmp_path / "d", steps=STEPS
    )


def test_mixed_sizes_name_both_images(tmp_path, capsys):
    write_pngs(tmp_path / "own", blobs(100, 9, 9)[0])
    write_pngs(tmp_path / "own", blobs(1, 9, 8)[0], "odd{}.png")
    assert (
        prepare.main(["--dataset", str(tmp_path / "own"), "--data-dir", str(tmp_path / "d")]) == 2
    )
    assert_one_line(capsys, "one size, got 0000.png 9x9 and odd0000.png 8x9. Resize or crop")
    assert list((tmp_path / "d").iterdir()) == []


def write_truncated(path):
    Image.fromarray(blobs(1, 9, 9)[0][0]).save(path)
    path.write_bytes(path.read_bytes()[:90])


BAD_IMAGES = {
    "not an image": (lambda path: path.write_bytes(b"GIF89a not"), "cannot read image"),
    "truncated": (write_truncated, "cannot read image"),
    "16 bits": (
        lambda path: Image.fromarray(np.zeros((9, 9), np.uint16)).save(path),
        "more than 8 bits per channel",
    ),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_unusable_image_is_named(kind, tmp_path, capsys):
    write_pngs(tmp_path / "own", blobs(100, 9, 9)[0])
    write, reason = BAD_IMAGES[kind]
    write(tmp_path / "own" / "bad.png")
    assert (
        prepare.main(["--dataset", str(tmp_path / "own"), "--data-dir", str(tmp_path / "d")]) == 2
    )
    assert_one_line(capsys, reason, "bad.png")


@pytest.mark.parametrize("shape", [(100, 7, 6), (100, 7, 6, 3), (100, 7, 6, 1), (100, 3, 7, 6)])
def test_reads_all_npz_layouts(shape, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "own.npz", images=images)
    found, labels = sources.read_npz(tmp_path / "own.npz")
    assert labels is None
    channels = 3 if 3 in shape else 1
    assert found.shape == (100, channels, 7, 6)
    assert np.array_equal(
        found[5, 0],
        images[5, ..., 0] if shape[3:] in ((3,), (1,)) else images.reshape(found.shape)[5, 0],
    )


BAD_NPZ = {
    "floats": ({"images": np.zeros((100, 8, 8))}, "must be uint8"),
    "two channels": ({"images": np.zeros((100, 8, 8, 2), np.uint8)}, "must have 1 or 3 channels"),
    "another key": ({"x": np.zeros((100, 8, 8), np.uint8)}, "no array `images`"),
    "objects": ({"images": np.array([{}], dtype=object)}, "cannot read"),
    "few": ({"images": np.zeros((99, 8, 8), np.uint8)}, "has 99 images, but at least 100"),
    "labels": (
        {"images": np.zeros((100, 8, 8), np.uint8), "labels": np.zeros(99, int)},
        "`labels` in",
    ),
    "all the same": ({"images": np.zeros((100, 8, 8), np.uint8)}, "all images look the same"),
}


@pytest.mark.parametrize("kind", BAD_NPZ)
def test_npz_that_breaks_a_rule(kind, tmp_path):
    arrays, reason = BAD_NPZ[kind]
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(data.DataError, match=reason) as caught:
        preparation.prepare(str(tmp_path / "own.npz"), tmp_path / "d", steps=STEPS)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "d").iterdir()) == []


def test_file_that_is_no_npz(tmp_path, capsys):
    (tmp_path / "own.npz").write_bytes(b"PK\x03\x04 truncated")
    assert (
        prepare.main(["--dataset", str(tmp_path / "own.npz"), "--data-dir", str(tmp_path / "d")])
        == 2
    )
    assert_one_line(capsys, "cannot read", "own.npz as an .npz")


def test_other_folder_is_not_overwritten(tmp_path, capsys):
    np.savez(tmp_path / "own.npz", images=blobs(100)[0])
    precious = tmp_path / "d" / "own" / "precious.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    assert (
        prepare.main(
            ["--dataset", str(tmp_path / "own.npz"), "--data-dir", str(tmp_path / "d"), "--force"]
        )
        == 2
    )
    assert_one_line(capsys, "is not a prepared data set")
    assert precious.read_text() == "mine"


def test_unwritable_data_dir_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    np.savez(tmp_path / "own.npz", images=blobs(100)[0])
    assert (
        prepare.main(["--dataset", str(tmp_path / "own.npz"), "--data-dir", str(tmp_path / "file")])
        == 2
    )
    assert_one_line(capsys, "cannot write --data-dir")


def test_prepare_makes_the_bundled_digits():
    source, bundled = sources.read_digits(), data.load("digits", None, CPU)
    assert data.digest(source.train, source.held_out) == bundled.sha256


def test_bundled_extractor_separates_digits():
    """A linear classifier on the features of training images recognises held-out digits."""
    source, images = sources.read_digits(), data.load("digits", None, CPU)
    extractor = evaluate.load_extractor(images)
    targets = torch.nn.functional.one_hot(torch.from_numpy(source.train_labels)).double()
    train, held = (
        torch.nn.functional.pad(extractor(x).double(), (0, 1), value=1.0)
        for x in (images.train, images.held_out)
    )
    head = torch.linalg.lstsq(train, targets).solution
    right = ((held @ head).argmax(1) == torch.from_numpy(source.held_out_labels)).double().mean()
    assert right > 0.985


def test_folder_named_digits_has_own_extractor(tmp_path, monkeypatch, capsys):
    write_pngs(tmp_path / "digits", blobs(120, 8, 8)[0])
    monkeypatch.chdir(tmp_path)
    preparation.prepare("./digits", tmp_path / "d", steps=STEPS)
    own = data.load("./digits", tmp_path / "d", CPU)
    extractor = evaluate.load_extractor(own)
    bundled = evaluate.load_extractor(data.load("digits", None, CPU))
    assert extractor.sha256 != bundled.sha256
    # without a path: the bundled set
    assert own.sha256 != data.load("digits", tmp_path / "d", CPU).sha256
    argv = [
        "--dataset=./digits",
        "--data-dir=d",
        "--output-dir=o",
        "--epochs=1",
        "--evals=1",
        "--samples=64",
    ]
    assert train([*argv, "--threads=1"]) == 0
    assert extractor.sha256 in (tmp_path / "o" / "run.json").read_text()
    capsys.readouterr()


def test_folder_named_mnist_is_not_mnist(tmp_path, monkeypatch):
    write_pngs(tmp_path / "mnist", blobs(120)[0])
    monkeypatch.chdir(tmp_path)
    preparation.prepare("./mnist", tmp_path / "d", steps=STEPS)
    assert len(data.load("./mnist", tmp_path / "d", CPU).train) == 96
    with pytest.raises(data.DataError, match="was made from another source than --dataset mnist"):
        data.load("mnist", tmp_path / "d", CPU)
    with pytest.raises(
        data.DataError, match=r"another source than --dataset mnist.*Use --force to replace it"
    ):
        preparation.prepare("mnist", tmp_path / "d", steps=STEPS)


def test_images_beyond_the_limit_are_refused(tmp_path, capsys):
    """300 files of a few bytes whose headers declare 4000x4000 pixels: 4.5 GiB, none is decoded."""
    (tmp_path / "own").mkdir()
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", 4000, 4000, 8, 0, 0, 0, 0)
    header = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    )
    for i in range(310):
        (tmp_path / "own" / f"{i}.png").write_bytes(
            header + bytes(4) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
        )
    assert (
        prepare.main(["--dataset", str(tmp_path / "own"), "--data-dir", str(tmp_path / "d")]) == 2
    )
    assert_one_line(
        capsys, "takes 4.6 GiB when decoded, the limit is 4.0 GiB. Use fewer or smaller images"
    )


@pytest.mark.parametrize(("threads", "code"), [("1", 0), ("-1", 2), ("9999", 2)])
def test_threads_of_prepare(threads, code, tmp_path, capsys):
    write_mnist(tmp_path / "MNIST" / "raw")
    preparation.prepare("mnist", tmp_path, steps=STEPS)
    assert (
        prepare.main(["--dataset=mnist", f"--data-dir={tmp_path}", f"--threads={threads}"]) == code
    )
    assert torch.get_num_threads() == 1  # as the tests set it
    assert code == 0 or "--threads" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("side", "steps"), [(8, 2000), (28, 2000), (32, 1531), (64, 400), (256, 400)]
)
def test_larger_images_need_fewer_batches(side, steps):
    assert batches(side, side) == steps


@pytest.mark.slow
def test_bundled_extractor_is_reproducible(tmp_path):
    said = preparation.prepare("digits", tmp_path)
    accuracy = float(said.rpartition(", ")[2].partition("%")[0])
    assert accuracy > 98.5
