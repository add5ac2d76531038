"""Files that survive a kill: the checkpoint of a run and the weights of the generator. safetensors, without pickle.

A file is written next to its target, synced to the disk, and renamed: a reader finds the old file
or the new one, never a part. A checkpoint holds its own checksum and the settings of its run.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

CHECKPOINT = "checkpoint.safetensors"
GENERATOR = "generator.safetensors"
FORMAT = "gan-tuner checkpoint 1"
FIX = "Move it away, or use --resume=never or another --output-dir"


class CheckpointError(Exception):
    """A checkpoint cannot be used. The message is one line with the file, the rule and the fix."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the content of `path`. Raises OSError, and then leaves `path` as it was and no other file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    # some network file systems cannot sync a folder; the file itself is synced
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def save(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Store the state of a run: tensors and JSON values. Raises OSError."""
    text = json.dumps(meta)
    tensors = {name: t.detach().cpu() for name, t in tensors.items()}
    metadata = {"format": FORMAT, "meta": text, "sha256": _digest(tensors, text)}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what `save` stored. Raises CheckpointError if the file is truncated, modified or not a checkpoint."""
    tensors, metadata = _read(path)
    text = metadata.get("meta", "")
    if metadata.get("sha256") != _digest(tensors, text):
        raise CheckpointError(f"{path}: the content does not match its checksum. {FIX}")
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the metadata is not valid JSON ({error}). {FIX}") from error
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path}: the metadata is not a JSON object. {FIX}")
    return tensors, meta


def check_same(path: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise CheckpointError with the first setting in which the stored run differs from the wanted run."""
    for name in sorted(stored.keys() | wanted.keys()):
        if stored.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{path} belongs to another run: {name} is {stored.get(name)} there and {wanted.get(name)} now."
                " Use the same flags, another --output-dir, or --resume=never to start again"
            )


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Store weights without metadata, atomically. Raises OSError."""
    write_atomically(
        path, safetensors.torch.save({k: w.detach().cpu().contiguous() for k, w in weights.items()})
    )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path} is not a checkpoint of this version ({FORMAT}). {FIX}"
                )
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file ({error}). {FIX}"
        ) from error


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
