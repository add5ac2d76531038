"""Images: the bundled digits, or a set that `python -m trainer.prepare` stored, as one uint8 tensor on the device.

A trial never downloads and never decodes: it reads one .npz with two arrays, `train` and `held_out`, both uint8
[N, C, H, W]. Training sees `train` only; every metric is measured on `held_out`.

`digits` is bundled: 1,797 real 8x8 handwritten digits (see assets/README.md for source and licence), values 0..16
scaled to 0..255. Its held-out split is every fourth image (index % 4 == 3 in scikit-learn's order): 449 held out,
1,348 to train on, the same for everybody and for ever.
"""

import hashlib
import io
import json
import os
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ASSETS = resources.files("trainer") / "assets"
DOWNLOADABLE = ("mnist", "fashion-mnist")
IMAGES_FILE = "images.npz"
EXTRACTOR_FILE = "extractor.safetensors"


class DataError(ValueError):
    """A data set is missing, unprepared, corrupt or against a rule; the message is one line with the remedy."""


@dataclass(frozen=True)
class Images:
    """A data set. train, held_out: uint8 [N, C, H, W] on one device; sha256: of both arrays and their shapes."""

    name: str
    train: Tensor
    held_out: Tensor
    sha256: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        c, h, w = self.train.shape[1:]
        return c, h, w


def load(dataset: str, data_dir: Path | None, device: torch.device) -> Images:
    """The images of `digits` (bundled), or of a set that trainer.prepare stored in data_dir, on the device.

    dataset: `digits`, `mnist`, `fashion-mnist`, or the folder or .npz that was prepared. Raises DataError.
    """
    if dataset == "digits":
        with np.load(io.BytesIO((ASSETS / "digits.npz").read_bytes()), allow_pickle=False) as arrays:
            train, held_out = arrays["train"], arrays["held_out"]
    else:
        train, held_out = _read_prepared(dataset, data_dir)
    return Images(
        name=set_name(dataset),
        train=torch.from_numpy(train).to(device),
        held_out=torch.from_numpy(held_out).to(device),
        sha256=digest(train, held_out),
    )


def set_name(dataset: str) -> str:
    """The name a data set is stored and reported under: `mnist`, or the last part of a path without its suffix."""
    return dataset if dataset in ("digits", *DOWNLOADABLE) else Path(os.path.abspath(dataset)).stem


def prepared_dir(dataset: str, data_dir: Path | None) -> Path:
    """Where trainer.prepare stores a data set. Raises DataError if data_dir is not given."""
    if data_dir is None:
        raise DataError(f"--dataset {dataset} needs --data-dir, the directory that holds it; {_remedy(dataset, None)}")
    return data_dir / set_name(dataset)


def digest(train: np.ndarray, held_out: np.ndarray) -> str:
    """SHA-256 of two uint8 arrays with their shapes: the identity of a data set in run records."""
    sha = hashlib.sha256()
    for array in (train, held_out):
        sha.update(json.dumps(array.shape).encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def fingerprint(source: Path) -> str:
    """SHA-256 of the names and sizes under a folder or of a file's size: tells at once that a source has changed."""
    if source.is_file():
        entries = [f"{source.stat().st_size}"]
    else:
        files = (path for path in source.rglob("*") if path.is_file())
        entries = sorted(f"{path.relative_to(source).as_posix()} {path.stat().st_size}" for path in files)
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


def _remedy(dataset: str, data_dir: Path | None) -> str:
    return f"prepare it once with: python -m trainer.prepare --dataset {dataset} --data-dir {data_dir or 'DIR'}"


def _read_prepared(dataset: str, data_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    folder = prepared_dir(dataset, data_dir)
    path, source = folder / IMAGES_FILE, Path(dataset)
    if not path.is_file():
        known = dataset in DOWNLOADABLE or source.exists()
        what = f"--dataset {dataset} is not prepared: there is no {path}"
        names = f"digits, {', '.join(DOWNLOADABLE)}, or a folder or .npz of images"
        raise DataError(f"{what}; {_remedy(dataset, data_dir)}" if known else f"{what} (known: {names})")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            train, held_out, recorded = arrays["train"], arrays["held_out"], str(arrays["fingerprint"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is corrupt ({reason}): delete {folder} and {_remedy(dataset, data_dir)}") from error
    for key, array in (("train", train), ("held_out", held_out)):
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1:] != train.shape[1:] or array.size == 0:
            rule = f"array {key} must be uint8 [N, C, H, W], got {array.dtype} {list(array.shape)}"
            raise DataError(f"{path} is corrupt ({rule}): delete {folder} and {_remedy(dataset, data_dir)}")
    if dataset not in DOWNLOADABLE and source.exists() and fingerprint(source) != recorded:
        remedy = f"{_remedy(dataset, data_dir)} --force"
        raise DataError(f"{source} is not what {path} was prepared from: it has changed or is another set; {remedy}")
    return train, held_out


def to_unit(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]: the range of the generator's Tanh."""
    return images.to(torch.float32) / 127.5 - 1.0


def from_unit(images: Tensor) -> Tensor:
    """Floats in [-1, 1] -> the nearest uint8; values outside are clipped, a NaN becomes mid-grey."""
    return ((images.float().nan_to_num(0.0) + 1.0) * 127.5).round_().clamp_(0, 255).to(torch.uint8)


def write_grid(images: Tensor, path: Path, columns: int | None = None) -> None:
    """Writes uint8 [N, C, H, W], C of 1 or 3, as one PNG: row by row, a near-square by default, atomically.

    Small images are enlarged by a whole factor to at least 32 pixels a side, so that a person can see them.
    """
    from PIL import Image

    count, channels, height, width = images.shape
    columns = columns or max(1, round(count**0.5))
    rows = -(-count // columns)
    scale = max(1, -(-32 // max(height, width)))
    tiles = images.cpu().repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    tile_height, tile_width = height * scale, width * scale
    canvas = torch.zeros(rows * columns, channels, tile_height, tile_width, dtype=torch.uint8)
    canvas[:count] = tiles
    canvas = canvas.view(rows, columns, channels, tile_height, tile_width).permute(0, 3, 1, 4, 2)
    pixels = canvas.reshape(rows * tile_height, columns * tile_width, channels).numpy()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(part, format="PNG")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
