"""Prepares a data set once, outside any trial: download, verify, decode, train the metric's feature extractor, store.

    python -m trainer.prepare --dataset mnist --data-dir data
    python -m trainer.prepare --dataset ./photos --data-dir data     (a folder of images, or an .npz)

Stores DIR/NAME/images.npz and DIR/NAME/extractor.safetensors, both at once or neither. With labels (mnist, digits; a
folder with one sub-folder per class; an .npz with `labels`) the extractor is a classifier of them; without, it is a
classifier of how an image was mirrored (after Gidaris 2018, arXiv 1803.07728), which needs none.
"""

import argparse
import contextlib
import hashlib
import shutil
import sys
import uuid
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from trainer.data import DOWNLOADABLE, EXTRACTOR_FILE, IMAGES_FILE, DataError, digest, fingerprint, set_name, to_unit
from trainer.evaluate import FEATURES, FORMAT, MAX_SAMPLES, features, full_precision, weight_shapes

STEPS = 2000  # of the extractor's training
BATCH = 128
SUFFIXES = (".png", ".jpg", ".jpeg")
IDX_FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
MIN_IMAGES = 100  # 20 of them held out


@dataclass(frozen=True)
class Source:
    """Decoded images, uint8 [N, C, H, W], and int64 labels [N], or None where there are none."""

    train: np.ndarray
    held_out: np.ndarray
    train_labels: np.ndarray | None
    held_out_labels: np.ndarray | None
    fingerprint: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def main(argv: list[str] | None = None) -> int:
    """The command line. Returns 0, or 2 after one line on stderr."""
    parser = _Parser(prog="python -m trainer.prepare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dataset", required=True, help="digits, mnist, fashion-mnist, or a folder or .npz of images")
    parser.add_argument("--data-dir", required=True, type=Path, help="directory that holds prepared data sets")
    parser.add_argument("--force", action="store_true", help="prepare again over what is stored")
    args = parser.parse_args(argv)
    try:
        print(prepare(args.dataset, args.data_dir, force=args.force))
    except DataError as error:
        print(f"python -m trainer.prepare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("python -m trainer.prepare: interrupted, nothing stored", file=sys.stderr)
        return 130
    return 0


def prepare(dataset: str, data_dir: Path, *, force: bool = False, steps: int = STEPS) -> str:
    """Stores a data set under data_dir and returns one line that says what. Raises DataError; then stores nothing."""
    target = data_dir / set_name(dataset)
    if not force and (target / IMAGES_FILE).is_file() and (target / EXTRACTOR_FILE).is_file():
        return f"{target} is prepared already; --force does it again"
    if target.exists() and not (target / IMAGES_FILE).is_file():
        raise DataError(f"{target} exists and is no prepared data set: choose another --data-dir")
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")  # in containers every pid is 1
    try:
        part.mkdir(parents=True)
        source = read(dataset, data_dir)
        print(f"training the feature extractor on {len(source.train)} images; this takes minutes", file=sys.stderr)
        weights, note = train_extractor(source, steps)
        _write(part, source, weights, note)
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    except OSError as error:
        raise DataError(f"cannot write --data-dir {data_dir}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sha = hashlib.sha256((target / EXTRACTOR_FILE).read_bytes()).hexdigest()
    counts = f"{len(source.train)} to train on, {len(source.held_out)} held out"
    shape = "x".join(map(str, source.train.shape[1:]))
    return f"{target}: {shape} images, {counts}; extractor {sha[:12]} {note}"


def _write(folder: Path, source: Source, weights: dict[str, Tensor], note: str) -> None:
    arrays = {"train": source.train, "held_out": source.held_out, "fingerprint": np.array(source.fingerprint)}
    if source.train_labels is not None and source.held_out_labels is not None:
        arrays |= {"train_labels": source.train_labels, "held_out_labels": source.held_out_labels}
    np.savez(folder / IMAGES_FILE, allow_pickle=False, **arrays)
    about = f"{FORMAT}; of images {digest(source.train, source.held_out)}; {note}"
    safetensors.torch.save_file(weights, folder / EXTRACTOR_FILE, {"about": about})  # one key: their order is random


def read(dataset: str, data_dir: Path) -> Source:
    """Reads (and for mnist and fashion-mnist downloads) the images of a data set. Raises DataError."""
    if dataset == "digits":
        return read_digits()
    if dataset in DOWNLOADABLE:
        return read_downloadable(dataset, data_dir)
    path = Path(dataset)
    if not path.exists():
        names = f"digits, {', '.join(DOWNLOADABLE)}, or a folder or .npz of images"
        raise DataError(f"--dataset {dataset}: no such file or folder; known: {names}")
    images, labels = read_folder(path) if path.is_dir() else read_npz(path)
    if len(images) < MIN_IMAGES:
        raise DataError(f"{path} holds {len(images)} images; at least {MIN_IMAGES} are needed")
    held = np.arange(len(images)) % 5 == 4
    held &= held.cumsum() <= MAX_SAMPLES
    train_labels, held_out_labels = (None, None) if labels is None else (labels[~held], labels[held])
    return Source(images[~held], images[held], train_labels, held_out_labels, fingerprint(path))


def read_digits() -> Source:
    """The bundled digits from scikit-learn, which ships them: how assets/digits.npz was made."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("remaking the bundled digits needs scikit-learn: pip install scikit-learn") from error
    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels, held = bunch.target.astype(np.int64), np.arange(len(images)) % 4 == 3
    return Source(images[~held], images[held], labels[~held], labels[held], "scikit-learn load_digits")


def read_downloadable(dataset: str, data_dir: Path) -> Source:
    """mnist or fashion-mnist through torchvision: kept raw IDX files are read, else downloaded and checked by MD5."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DataError(f"--dataset {dataset} needs torchvision: pip install 'gan-tuner[train]'") from error
    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[dataset]
    raw = data_dir / kind.__name__ / "raw"
    present = all((raw / name).is_file() for name in IDX_FILES)
    try:
        parts = [kind(data_dir, train=train, download=not present) for train in (True, False)]
        arrays = [(part.data.numpy()[:, None], part.targets.numpy().astype(np.int64)) for part in parts]
    except Exception as error:  # torchvision's readers and urllib raise a dozen kinds
        if present:
            raise DataError(f"the IDX files in {raw} are corrupt ({_reason(error)}): delete them and retry") from error
        for folder in (raw, raw.parent):
            with contextlib.suppress(OSError):  # not empty: another download's
                folder.rmdir()
        remedy = f"try again with a network, or put the four IDX files into {raw}"
        raise DataError(f"cannot download {dataset} ({_reason(error)}): {remedy}") from error
    for images, labels in arrays:
        if images.dtype != np.uint8 or images.shape[1:] != (1, 28, 28) or len(images) != len(labels):
            got = f"{images.dtype} {list(images.shape)} and {len(labels)} labels"
            raise DataError(f"the IDX files in {raw} must hold uint8 28x28 images, each with a label, got {got}")
        if len(images) < MIN_IMAGES:
            raise DataError(f"the IDX files in {raw} hold {len(images)} images; at least {MIN_IMAGES} are needed")
    (train, train_labels), (held_out, held_out_labels) = arrays
    return Source(train, held_out[:MAX_SAMPLES], train_labels, held_out_labels[:MAX_SAMPLES], "torchvision")


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def read_folder(folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """PNG and JPEG files under a folder, sorted by path: uint8 [N, C, H, W], grey if all are, else RGB.

    Labels are the sub-folders' names if every image lies in one and there are at least two. All images must have one
    size: scaling is the user's decision. Raises DataError, which names the file.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"{folder} holds no {', '.join(SUFFIXES)} file")
    images = [_decode(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            sizes = [f"{i.shape[1]}x{i.shape[0]}" for i in (images[0], image)]
            rule = "all images must have one size"
            raise DataError(f"{rule}, got {paths[0].name} {sizes[0]} and {path.name} {sizes[1]}: resize or crop them")
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
        stacked = np.stack(images).transpose(0, 3, 1, 2)
    else:
        stacked = np.stack(images)[:, None]
    classes = [path.relative_to(folder).parts[0] if path.parent != folder else "" for path in paths]
    names = sorted(set(classes))
    labels = np.array([names.index(name) for name in classes]) if len(names) > 1 and "" not in names else None
    return np.ascontiguousarray(stacked), labels


def _decode(path: Path) -> np.ndarray:
    """One image file as uint8 [H, W] or [H, W, 3]."""
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path, formats=("PNG", "JPEG")) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if image.mode[0] in "IF":
                raise DataError(f"{path} has more than 8 bits a channel ({image.mode}): convert it to 8 bits")
            return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"cannot read image {path} ({_reason(error)}): mend or remove it") from error


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """An .npz with `images`, uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] with C of 1 or 3, and maybe int `labels`."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile) or "images" not in arrays:
                raise DataError(f"{path} must be an .npz with an array `images`")
            images, labels = arrays["images"], arrays.get("labels")
    except DataError:
        raise
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path} as an .npz of images ({_reason(error)})") from error
    got = f"got {images.dtype} {list(images.shape)}"
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.size == 0:
        raise DataError(f"`images` in {path} must be uint8 [N, H, W], [N, H, W, C] or [N, C, H, W], {got}")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    elif images.shape[1] not in (1, 3):
        raise DataError(f"`images` in {path} must have 1 or 3 channels, {got}")
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]):
        got = f"got {labels.dtype} {list(labels.shape)}"
        raise DataError(f"`labels` in {path} must be {len(images)} whole numbers, one an image, {got}")
    return np.ascontiguousarray(images), None if labels is None else np.unique(labels, return_inverse=True)[1]


def train_extractor(source: Source, steps: int = STEPS) -> tuple[dict[str, Tensor], str]:
    """Trains the classifier whose features the metrics use; returns its weights without the head, and a note.

    AdamW, one-cycle cosine, images shifted by up to a pixel; fixed seed, so the same machine, thread count and versions
    give the same file. No label smoothing: it draws each class together (Kornblith 2021, arXiv 2010.16402), which may
    hide from the metric what differs within a class; docs/metrics.md has the trainings that were compared.
    """
    generator = torch.Generator().manual_seed(0)
    images, labels, task = _task(source.train, source.train_labels)
    classes = int(labels.max()) + 1
    channels, height, width = images.shape[1:]
    weights = {n: torch.zeros(s) for n, s in weight_shapes(channels, height, width).items() if n != "scale"}
    head = torch.zeros(classes, FEATURES)
    for tensor in (*weights.values(), head):
        if tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        tensor.requires_grad_()
    optimiser = torch.optim.AdamW([*weights.values(), head], lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    with full_precision():
        for _ in range(steps):
            picked = torch.randint(len(images), (BATCH,), generator=generator)
            logits = features(weights, _shift(to_unit(images[picked]), generator)) @ head.T
            optimiser.zero_grad()
            F.cross_entropy(logits, labels[picked]).backward()
            optimiser.step()
            schedule.step()
        weights = {name: tensor.detach() for name, tensor in weights.items()}
        with torch.inference_mode():
            checked, truth, _ = _task(source.held_out, source.held_out_labels)
            found = torch.cat([features(weights, to_unit(part)) for part in checked.split(512)])
            accuracy = float(((found @ head.T).argmax(1) == truth).double().mean())
            raw = torch.cat([features(weights, to_unit(p)) for p in torch.from_numpy(source.train).split(512)])
            variance = raw.double().var(0).mean()
    if not variance > 0:
        raise DataError("the images all look the same to the feature extractor: there is no distribution to learn")
    scale = variance.rsqrt().float()
    return weights | {"scale": scale}, f"classifies {task}, {accuracy:.1%} right on held-out images"


def _task(images: np.ndarray, labels: np.ndarray | None) -> tuple[Tensor, Tensor, str]:
    """Images and what to classify: their labels, or, without, which of 4 ways they were mirrored (0: not at all)."""
    tensor = torch.from_numpy(images)
    if labels is not None:
        return tensor, torch.from_numpy(labels), "labels"
    ways = [tensor, tensor.flip(2), tensor.flip(3), tensor.flip(2, 3)]
    return torch.cat(ways), torch.arange(4).repeat_interleave(len(tensor)), "mirrorings"


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """The batch moved by one of 9 offsets of at most a pixel, edges repeated."""
    down, right = torch.randint(3, (2,), generator=generator).tolist()
    height, width = images.shape[2:]
    return F.pad(images, (1, 1, 1, 1), mode="replicate")[:, :, down : down + height, right : right + width]


if __name__ == "__main__":
    sys.exit(main())
