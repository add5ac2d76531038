"""Reads the images of a data set from their source: scikit-learn, torchvision, a folder of images, or an .npz file.

The files may come from anybody. Their sizes are compared with a limit (npz.MAX_BYTES) and with the
available memory before anything is decoded.
"""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from trainer import memory, npz
from trainer.config import UsageError
from trainer.data import DOWNLOADABLE, DOWNLOADED, DataError, fingerprint
from trainer.evaluate import MAX_SAMPLES
from trainer.process import progress

SUFFIXES = (".png", ".jpg", ".jpeg")
IDX_FILES = [
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
]
MIN_IMAGES = 100  # 20 of them are held out
MAX_SIDE = 4096  # pixels; larger images need more than any network of this trainer can use


@dataclass(frozen=True)
class Source:
    """Decoded images, uint8 [N, C, H, W], and int64 labels [N], or None without labels."""

    train: np.ndarray
    held_out: np.ndarray
    train_labels: np.ndarray | None
    held_out_labels: np.ndarray | None
    fingerprint: str


def read(dataset: str, data_dir: Path) -> Source:
    """Read the images of a data set, after a download for mnist and fashion-mnist. Raises DataError."""
    if dataset == "digits":
        return read_digits()
    if dataset in DOWNLOADABLE:
        return read_downloadable(dataset, data_dir)
    path = Path(dataset)
    if not path.exists():
        names = f"digits, {', '.join(DOWNLOADABLE)}, or a folder or .npz of images"
        raise DataError(f"--dataset {dataset}: no such file or folder (known: {names})")
    images, labels = read_folder(path) if path.is_dir() else read_npz(path)
    if len(images) < MIN_IMAGES:
        raise DataError(
            f"{path} has {len(images)} images, but at least {MIN_IMAGES} are needed. Add images"
        )
    held = np.arange(len(images)) % 5 == 4
    held &= held.cumsum() <= MAX_SAMPLES
    train_labels, held_out_labels = (
        (None, None) if labels is None else (labels[~held], labels[held])
    )
    return Source(images[~held], images[held], train_labels, held_out_labels, fingerprint(path))


def read_digits() -> Source:
    """Read the bundled digits from scikit-learn, as assets/digits.npz was made."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "--dataset digits needs scikit-learn. Install it: pip install scikit-learn"
        ) from error
    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels, held = bunch.target.astype(np.int64), np.arange(len(images)) % 4 == 3
    return Source(
        images[~held], images[held], labels[~held], labels[held], "scikit-learn load_digits"
    )


def read_downloadable(dataset: str, data_dir: Path) -> Source:
    """Read mnist or fashion-mnist with torchvision: from IDX files in data_dir, or from a download checked by MD5."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DataError(
            f"--dataset {dataset} needs torchvision. Install it: pip install 'gan-tuner[trainer]'"
        ) from error
    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[dataset]
    raw = data_dir / kind.__name__ / "raw"
    present = all((raw / name).is_file() for name in IDX_FILES)
    try:
        parts = [kind(data_dir, train=train, download=not present) for train in (True, False)]
        arrays = [
            (part.data.numpy()[:, None], part.targets.numpy().astype(np.int64)) for part in parts
        ]
    except Exception as error:  # torchvision's readers and urllib raise a dozen types
        if present:
            raise DataError(
                f"the IDX files in {raw} are damaged ({_reason(error)}). Delete them and retry"
            ) from error
        for folder in (raw, raw.parent):
            with contextlib.suppress(OSError):  # not empty: it belongs to another download
                folder.rmdir()
        fix = f"Try again with a network, or put the four IDX files into {raw}"
        raise DataError(f"cannot download {dataset} ({_reason(error)}). {fix}") from error
    for images, labels in arrays:
        if (
            images.dtype != np.uint8
            or images.shape[1:] != (1, 28, 28)
            or len(images) != len(labels)
        ):
            got = f"{images.dtype} {list(images.shape)} and {len(labels)} labels"
            raise DataError(
                f"the IDX files in {raw} must hold uint8 28x28 images, each with a label, got {got}"
            )
        if len(images) < MIN_IMAGES:
            raise DataError(
                f"the IDX files in {raw} have {len(images)} images, but at least {MIN_IMAGES} are needed"
            )
    (train, train_labels), (held_out, held_out_labels) = arrays
    return Source(
        train, held_out[:MAX_SAMPLES], train_labels, held_out_labels[:MAX_SAMPLES], DOWNLOADED
    )


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def read_folder(folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the PNG and JPEG files in a folder, sorted by path: uint8 [N, C, H, W], grey if all are grey, else RGB.

    Transparent images are composed on white. All images must have the same size, because scaling is
    the user's decision. Labels are the names of the sub-folders, if every image is in one and there
    are at least two. Raises DataError with the name of the file.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"{folder} has no {', '.join(SUFFIXES)} file")
    channels, width, height = _layout(paths)
    _require_size(folder, (len(paths), channels, height, width))
    images = np.empty((len(paths), channels, height, width), np.uint8)
    transparent = 0
    for i, path in enumerate(progress(paths, f"reading {len(paths)} images")):
        with _opened(path) as image:
            opaque: Image.Image = image
            if image.has_transparency_data:
                transparent += 1
                white = Image.new("RGBA", image.size, "white")
                opaque = Image.alpha_composite(white, image.convert("RGBA"))
            pixels = np.asarray(opaque.convert("L" if channels == 1 else "RGB"))
        images[i] = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    if transparent:
        print(f"{transparent} transparent images were composed on white", file=sys.stderr)
    classes = [path.relative_to(folder).parts[0] if path.parent != folder else "" for path in paths]
    names = sorted(set(classes))
    labels = (
        np.array([names.index(name) for name in classes])
        if len(names) > 1 and "" not in names
        else None
    )
    return images, labels


def _layout(paths: list[Path]) -> tuple[int, int, int]:
    """Read only the headers of the files: (channels, width, height), the same for all."""
    channels, size = 1, None
    for path in progress(paths, f"reading the sizes of {len(paths)} images"):
        with _opened(path) as image:
            if image.mode[0] in "IF":
                raise DataError(
                    f"{path} has more than 8 bits per channel ({image.mode}). Convert it to 8 bits"
                )
            channels = channels if image.mode in ("1", "L", "LA") else 3
            size = size or image.size
            if image.size != size:
                sizes = [f"{w}x{h}" for w, h in (size, image.size)]
                got = f"got {paths[0].name} {sizes[0]} and {path.name} {sizes[1]}"
                raise DataError(f"all images must have one size, {got}. Resize or crop them")
            if max(size) > MAX_SIDE:
                raise DataError(
                    f"{path} is {size[0]}x{size[1]}, the limit is {MAX_SIDE}x{MAX_SIDE}. Scale it down"
                )
    assert size is not None  # noqa: S101 - paths is not empty
    return channels, *size


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """One image file; whatever goes wrong with it in the block becomes a DataError."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=("PNG", "JPEG")) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield image
    except DataError:
        raise
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise DataError(
            f"cannot read image {path} ({_reason(error)}). Repair or remove it"
        ) from error


def _require_size(source: Path, shape: tuple[int, ...]) -> None:
    """Raise DataError if decoded images of this shape exceed the limit or the available memory."""
    total = int(np.prod(shape, dtype=object))
    if total > npz.MAX_BYTES:
        fix = "Use fewer or smaller images"
        raise DataError(
            f"{source} takes {memory.gib(total)} when decoded, the limit is {memory.gib(npz.MAX_BYTES)}. {fix}"
        )
    try:
        memory.require(2 * total, f"decoding {source}", "Use fewer or smaller images.")
    except UsageError as error:
        raise DataError(str(error)) from error


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read `images` and optional integer `labels` from an .npz file. Raises DataError.

    `images` is uint8 [N, H, W], [N, H, W, C] or [N, C, H, W], with C of 1 or 3.
    """
    try:
        arrays = npz.read(path, ["images"], ["labels"])
    except npz.NpzError as error:
        raise DataError(f"cannot read {path} as an .npz with an array `images`: {error}") from error
    images, labels = arrays["images"], arrays.get("labels")
    got = f"got {images.dtype} {list(images.shape)}"
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.size == 0:
        raise DataError(
            f"`images` in {path} must be uint8 [N, H, W], [N, H, W, C] or [N, C, H, W], {got}"
        )
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    elif images.shape[1] not in (1, 3):
        raise DataError(f"`images` in {path} must have 1 or 3 channels, {got}")
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]):
        got = f"got {labels.dtype} {list(labels.shape)}"
        raise DataError(
            f"`labels` in {path} must be {len(images)} whole numbers, one per image, {got}"
        )
    return np.ascontiguousarray(images), None if labels is None else np.unique(
        labels, return_inverse=True
    )[1]
