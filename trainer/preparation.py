"""Stores a data set and its feature extractor in one step: both are there afterwards, or nothing has changed."""

import hashlib
import shutil
import uuid
from pathlib import Path

import numpy as np
import safetensors.torch
from torch import Tensor

from trainer.data import (
    DOWNLOADABLE,
    DOWNLOADED,
    EXTRACTOR_FILE,
    IMAGES_FILE,
    DataError,
    digest,
    fingerprint,
    recorded_fingerprint,
    set_name,
)
from trainer.evaluate import FORMAT
from trainer.npz import NpzError
from trainer.sources import Source, read
from trainer.train_extractor import train_extractor


def prepare(dataset: str, data_dir: Path, *, force: bool = False, steps: int | None = None) -> str:
    """Store a data set under data_dir and return one line that describes it.

    Args:
        dataset: `digits`, `mnist`, `fashion-mnist`, or the path of a folder or .npz file.
        data_dir: The directory of prepared data sets.
        force: Replace a set that is already stored.
        steps: Training steps of the extractor; the default depends on the size of the images.

    Raises:
        DataError: The set is not usable or cannot be stored; nothing is stored then.
    """
    target = data_dir / set_name(dataset)
    if not force and (target / IMAGES_FILE).is_file() and (target / EXTRACTOR_FILE).is_file():
        _require_same_source(dataset, target)
        return f"{target} is already prepared. Use --force to prepare it again"
    if target.exists() and not (target / IMAGES_FILE).is_file():
        raise DataError(
            f"{target} exists and is not a prepared data set. Choose another --data-dir"
        )
    # in containers every process has id 1
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        source = read(dataset, data_dir)
        weights, note = train_extractor(source, steps)
        _write(part, source, weights, note)
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    except OSError as error:
        raise DataError(
            f"cannot write --data-dir {data_dir} ({error.strerror or error}). Choose another directory"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sha = hashlib.sha256((target / EXTRACTOR_FILE).read_bytes()).hexdigest()
    counts = f"{len(source.train)} training images, {len(source.held_out)} held out"
    shape = "x".join(map(str, source.train.shape[1:]))
    return f"{target}: {shape} images, {counts}; extractor {sha[:12]} {note}"


def _require_same_source(dataset: str, target: Path) -> None:
    """Raise DataError if `target` was prepared from another source: a folder may have the name of another set."""
    source = Path(dataset)
    try:
        recorded = recorded_fingerprint(target)
    except NpzError as error:
        raise DataError(
            f"{target} is damaged ({error}). Use --force to prepare it again"
        ) from error
    if dataset in DOWNLOADABLE:
        same = recorded == DOWNLOADED
    else:
        same = dataset == "digits" or not source.exists() or recorded == fingerprint(source)
    if not same:
        fix = "Use --force to replace it, or another --data-dir"
        raise DataError(
            f"{target} was made from another source than --dataset {dataset}, or it has changed. {fix}"
        )


def _write(folder: Path, source: Source, weights: dict[str, Tensor], note: str) -> None:
    arrays = {
        "train": source.train,
        "held_out": source.held_out,
        "fingerprint": np.array(source.fingerprint),
    }
    if source.train_labels is not None and source.held_out_labels is not None:
        arrays |= {"train_labels": source.train_labels, "held_out_labels": source.held_out_labels}
    # compressed, MNIST fits the copy that a local trial may get of its start directory
    np.savez_compressed(folder / IMAGES_FILE, allow_pickle=False, **arrays)
    about = f"{FORMAT}; of images {digest(source.train, source.held_out)}; {note}"
    # one key: their order is random
    safetensors.torch.save_file(weights, folder / EXTRACTOR_FILE, {"about": about})
