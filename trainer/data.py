"""Images: the bundled digits, or a set that `python -m trainer.prepare` stored, as one uint8 tensor on the device.

A trial never downloads and never decodes images. It reads one .npz with two arrays, `train` and
`held_out`, both uint8 [N, C, H, W]. Training uses `train` only; every metric is measured on
`held_out`.

`digits` is bundled: 1,797 real 8x8 handwritten digits (assets/README.md has the source and the
licence), values 0..16 scaled to 0..255. Every fourth image (index % 4 == 3 in scikit-learn's order)
is held out: 449 held-out images and 1,348 training images. This split never changes.
"""

import hashlib
import io
import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer import npz

ASSETS = resources.files("trainer") / "assets"
DOWNLOADABLE = ("mnist", "fashion-mnist")
IMAGES_FILE = "images.npz"
EXTRACTOR_FILE = "extractor.safetensors"
# width in pixels and brightness of the lines between the images of a grid
GRID_LINE, GRID_GREY = 2, 96
DOWNLOADED = "torchvision"
"""Fingerprint of a prepared set that came from torchvision."""


class DataError(ValueError):
    """A data set is missing, damaged, too large or breaks a rule. The message is one line with the fix."""


@dataclass(frozen=True)
class Images:
    """A data set.

    Attributes:
        name: The name under which it is reported.
        train: Training images, uint8 [N, C, H, W].
        held_out: Held-out images, uint8 [M, C, H, W], on the same device.
        sha256: Hash of both arrays and their shapes.
        folder: Where trainer.prepare stored it and its extractor; None: bundled with the package.
    """

    name: str
    train: Tensor
    held_out: Tensor
    sha256: str
    folder: Path | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        c, h, w = self.train.shape[1:]
        return c, h, w


def load(dataset: str, data_dir: Path | None, device: torch.device) -> Images:
    """Return the images of `digits` (bundled), or of a set that trainer.prepare stored in data_dir, on the device.

    Args:
        dataset: `digits`, `mnist`, `fashion-mnist`, or the path of the folder or .npz file that was
        prepared.
        data_dir: The directory with prepared data sets.
        device: Where the images are stored.

    Raises:
        DataError: The set is not usable.
    """
    folder = None
    if dataset == "digits":
        with np.load(
            io.BytesIO((ASSETS / "digits.npz").read_bytes()), allow_pickle=False
        ) as arrays:
            train, held_out = arrays["train"], arrays["held_out"]
    else:
        folder = prepared_dir(dataset, data_dir)
        train, held_out = _read_prepared(dataset, folder)
    return Images(
        name=set_name(dataset),
        train=torch.from_numpy(train).to(device),
        held_out=torch.from_numpy(held_out).to(device),
        sha256=digest(train, held_out),
        folder=folder,
    )


def set_name(dataset: str) -> str:
    """Return the name of a data set: `mnist`, or the last part of a path without its suffix."""
    return dataset if dataset in ("digits", *DOWNLOADABLE) else Path(os.path.abspath(dataset)).stem


def prepared_dir(dataset: str, data_dir: Path | None) -> Path:
    """Return the folder in which trainer.prepare stores a data set. Raises DataError if data_dir is not given."""
    if data_dir is None:
        raise DataError(
            f"--dataset {dataset} needs --data-dir, the directory that holds it. {_fix(dataset, None)}"
        )
    return data_dir / set_name(dataset)


def digest(train: np.ndarray, held_out: np.ndarray) -> str:
    """Return the SHA-256 of two uint8 arrays with their shapes, which identifies a data set in run records."""
    sha = hashlib.sha256()
    for array in (train, held_out):
        sha.update(json.dumps(array.shape).encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def fingerprint(source: Path) -> str:
    """Return the SHA-256 of the names and sizes of a folder's files, or of a file's size: a fast test for changes."""
    if source.is_file():
        entries = [f"{source.stat().st_size}"]
    else:
        files = (path for path in source.rglob("*") if path.is_file())
        entries = sorted(
            f"{path.relative_to(source).as_posix()} {path.stat().st_size}" for path in files
        )
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


def recorded_fingerprint(folder: Path) -> str:
    """Return the fingerprint of the source from which a prepared set was made. Raises npz.NpzError."""
    return str(npz.read(folder / IMAGES_FILE, ["fingerprint"])["fingerprint"])


def _fix(dataset: str, data_dir: Path | None) -> str:
    return f"Prepare it once with: python -m trainer.prepare --dataset {dataset} --data-dir {data_dir or 'DIR'}"


def _read_prepared(dataset: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    path, source, fix = folder / IMAGES_FILE, Path(dataset), _fix(dataset, folder.parent)
    if not path.is_file():
        known = dataset in DOWNLOADABLE or source.exists()
        what = f"--dataset {dataset} is not prepared: there is no {path}"
        names = f"digits, {', '.join(DOWNLOADABLE)}, or a folder or .npz of images"
        raise DataError(f"{what}. {fix}" if known else f"{what} (known: {names})")
    try:
        arrays = npz.read(path, ["train", "held_out", "fingerprint"])
    except npz.NpzError as error:
        raise DataError(f"{path} is damaged ({error}). Delete {folder}. {fix}") from error
    train, held_out, recorded = arrays["train"], arrays["held_out"], str(arrays["fingerprint"])
    for key, array in (("train", train), ("held_out", held_out)):
        if (
            array.dtype != np.uint8
            or array.ndim != 4
            or array.shape[1:] != train.shape[1:]
            or array.size == 0
        ):
            rule = f"array {key} must be uint8 [N, C, H, W], got {array.dtype} {list(array.shape)}"
            raise DataError(f"{path} is damaged ({rule}). Delete {folder}. {fix}")
    if len(train) < 2 or len(held_out) < 2:
        raise DataError(
            f"{path} is damaged (train and held_out need at least 2 images). Delete {folder}. {fix}"
        )
    expected = recorded
    if dataset in DOWNLOADABLE:
        expected = DOWNLOADED
    elif source.exists():
        expected = fingerprint(source)
    if recorded != expected:
        raise DataError(
            f"{path} was made from another source than --dataset {dataset}, or it has changed. {fix} --force"
        )
    return train, held_out


def to_unit(images: Tensor) -> Tensor:
    """Map uint8 0..255 to float32 in [-1, 1], the range of the generator's Tanh."""
    return images.to(torch.float32) / 127.5 - 1.0


def from_unit(images: Tensor) -> Tensor:
    """Map floats in [-1, 1] to the nearest uint8. Other values are clipped, and NaN becomes mid-grey."""
    return ((images.float().nan_to_num(0.0) + 1.0) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


def spread(images: Tensor, count: int) -> Tensor:
    """Return at most `count` of the images [N, C, H, W], evenly chosen, because data sets are often sorted by class."""
    chosen = torch.linspace(0, len(images) - 1, min(count, len(images)), dtype=torch.float64)
    return images[chosen.long()]


def write_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """Write uint8 [N, C, H, W], with C of 1 or 3, as one PNG, row by row and atomically. The default is nearly square.

    Small images are enlarged by a whole factor to at least 32 pixels a side, so that people can see
    them. Grey lines separate the images.
    """
    from PIL import Image

    count, channels, height, width = images.shape
    columns = columns or max(1, round(count**0.5))
    rows = -(-count // columns)
    scale = max(1, -(-32 // max(height, width)))
    tiles = images.cpu().repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    tile_height, tile_width = height * scale + GRID_LINE, width * scale + GRID_LINE
    canvas = torch.full(
        (rows * columns, channels, tile_height, tile_width), GRID_GREY, dtype=torch.uint8
    )
    canvas[..., :-GRID_LINE, :-GRID_LINE] = 0
    canvas[:count, :, :-GRID_LINE, :-GRID_LINE] = tiles
    canvas = canvas.view(rows, columns, channels, tile_height, tile_width).permute(0, 3, 1, 4, 2)
    pixels = canvas.reshape(rows * tile_height, columns * tile_width, channels).numpy()
    pixels = pixels[:-GRID_LINE, :-GRID_LINE]
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(part, format="PNG")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
