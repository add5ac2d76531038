"""Loading images: the bundled digits, prepared sets, and sets that are missing or damaged."""

import numpy as np
import pytest
import torch
from PIL import Image

from trainer import data

CPU = torch.device("cpu")
DIGITS_SHA256 = "d2d8c96060801a17"


def store(folder, **arrays):
    """Write DIR/NAME/images.npz as trainer.prepare does, with some arrays replaced."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    good = {
        "train": random.integers(0, 256, (80, 1, 6, 5), dtype=np.uint8),
        "held_out": random.integers(0, 256, (20, 1, 6, 5), dtype=np.uint8),
        "fingerprint": np.array("torchvision"),
    }
    np.savez(folder / "images.npz", **{k: v for k, v in (good | arrays).items() if v is not None})


def test_digits_equal_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images = data.load("digits", None, CPU)
    assert (images.name, images.shape) == ("digits", (1, 8, 8))
    assert (len(images.train), len(images.held_out), images.train.dtype) == (1348, 449, torch.uint8)
    source = torch.from_numpy(load_digits().images) * (255 / 16)
    assert torch.equal(images.held_out[:, 0], source[3::4].round().to(torch.uint8))
    held = {image.numpy().tobytes() for image in images.held_out}
    assert not held & {image.numpy().tobytes() for image in images.train}


def test_hash_depends_on_pixels_and_shape():
    array = np.arange(24, dtype=np.uint8)
    variants = [
        (array[:12].reshape(2, 1, 2, 3), array[12:].reshape(2, 1, 2, 3)),
        (array[:12].reshape(2, 1, 3, 2), array[12:].reshape(2, 1, 3, 2)),
        (array[:18].reshape(3, 1, 2, 3), array[18:].reshape(1, 1, 2, 3)),
        (array[::-1][:12].reshape(2, 1, 2, 3), array[12:].reshape(2, 1, 2, 3)),
    ]
    assert len({data.digest(*pair) for pair in variants}) == 4
    assert data.digest(*variants[0]) == data.digest(*(array.copy() for array in variants[0]))


def test_hash_of_the_bundled_digits():
    assert data.load("digits", None, CPU).sha256.startswith(DIGITS_SHA256)


@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_missing_data_names_the_command(dataset, tmp_path):
    with pytest.raises(data.DataError) as caught:
        data.load(dataset, tmp_path, CPU)
    assert f"python -m trainer.prepare --dataset {dataset} --data-dir {tmp_path}" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    with pytest.raises(
        data.DataError,
        match=f"needs --data-dir.*trainer.prepare --dataset {dataset} --data-dir DIR",
    ):
        data.load(dataset, None, CPU)
    assert list(tmp_path.iterdir()) == []


def test_unknown_name_lists_the_known(tmp_path):
    with pytest.raises(
        data.DataError, match=r"no .*cifar.*known: digits, mnist, fashion-mnist, or a folder"
    ):
        data.load("cifar", tmp_path, CPU)


def test_prepared_set_loads_without_its_source(tmp_path):
    store(tmp_path / "photos")
    images = data.load("/elsewhere/photos", tmp_path, CPU)
    assert (images.name, images.shape, len(images.held_out)) == ("photos", (1, 6, 5), 20)


def test_changed_source_is_refused(tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    (source / "a.png").write_bytes(b"1")
    store(tmp_path / "d" / "photos", fingerprint=np.array(data.fingerprint(source)))
    data.load(str(source), tmp_path / "d", CPU)
    (source / "b.png").write_bytes(b"2")
    with pytest.raises(
        data.DataError, match=r"another source than --dataset .*, or it has changed\. .* --force"
    ):
        data.load(str(source), tmp_path / "d", CPU)


BROKEN = {
    "no held_out": {"held_out": None},
    "floats": {"train": np.zeros((9, 1, 6, 5), np.float32)},
    "three axes": {"train": np.zeros((9, 6, 5), np.uint8)},
    "two shapes": {"held_out": np.zeros((9, 1, 5, 6), np.uint8)},
    "empty": {"train": np.zeros((0, 1, 6, 5), np.uint8)},
    "pickled objects": {"train": np.array([{"a": 1}], dtype=object)},
}


@pytest.mark.parametrize("kind", BROKEN)
def test_damaged_set_names_the_fix(kind, tmp_path):
    store(tmp_path / "mnist", **BROKEN[kind])
    with pytest.raises(
        data.DataError, match=r"is damaged \(.*\. Delete .*Prepare it once with"
    ) as caught:
        data.load("mnist", tmp_path, CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_truncated_file_is_refused(keep, tmp_path):
    store(tmp_path / "mnist")
    path = tmp_path / "mnist" / "images.npz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(data.DataError, match="is damaged"):
        data.load("mnist", tmp_path, CPU)


def test_unit_range_and_back_is_exact():
    images = torch.arange(256, dtype=torch.uint8)
    unit = data.to_unit(images)
    assert (unit.min(), unit.max(), unit.dtype) == (-1, 1, torch.float32)
    assert torch.equal(data.from_unit(unit), images)
    assert data.from_unit(torch.tensor([-9.0, 9.0, float("nan"), float("inf")])).tolist() == [
        0,
        255,
        128,
        255,
    ]


def test_grid_is_row_by_row(tmp_path):
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 8, 8) * 50
    data.write_grid(images, tmp_path / "grid.png", columns=2)
    with Image.open(tmp_path / "grid.png") as picture:
        assert (picture.mode, picture.size) == ("L", (66, 100))
        tiles = [picture.getpixel((16 + 34 * (i % 2), 16 + 34 * (i // 2))) for i in range(6)]
        assert picture.getpixel((32, 10)) == picture.getpixel((10, 33)) == data.GRID_GREY
    assert tiles == [0, 50, 100, 150, 200, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_grid_keeps_colours(tmp_path):
    image = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(4, 3, 40, 50)
    data.write_grid(image, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        assert (picture.mode, picture.size, picture.getpixel((101, 81))) == (
            "RGB",
            (102, 82),
            (10, 20, 30),
        )


@pytest.mark.parametrize(("size", "expected"), [(10, [0, 3, 6, 9]), (3, [0, 1, 2]), (1, [0])])
def test_spread_reaches_every_class(size: int, expected: list[int]) -> None:
    images = torch.arange(size, dtype=torch.uint8).reshape(size, 1, 1, 1)
    assert data.spread(images, 4).flatten().tolist() == expected
