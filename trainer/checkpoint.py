"""Files that survive a kill: the checkpoint of a run, and the trained generator's weights. safetensors, no pickle.

A write goes to a file beside the target, reaches the disk, and takes the target's name in one step: whoever reads finds
the old file or the new one, never a part. A checkpoint carries its own checksum and the settings it belongs to.
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


class CheckpointError(Exception):
    """A checkpoint that must not be used: one line with the file, the rule and the remedy."""


def write_atomically(path: Path, content: bytes) -> None:
    """Raises OSError; `path` then is as it was, and no part of the new content is left behind."""
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
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder; the file itself is synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def save(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Store a run's state: tensors, and what JSON can hold. Raises OSError."""
    text = json.dumps(meta)
    tensors = {name: t.detach().cpu() for name, t in tensors.items()}
    metadata = {"format": FORMAT, "meta": text, "sha256": _digest(tensors, text)}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` stored. Raises CheckpointError when the file is truncated, altered or something else."""
    tensors, metadata = _read(path, "move it away, or use --resume=never or another --output-dir")
    text = metadata.get("meta", "")
    if metadata.get("sha256") != _digest(tensors, text):
        raise CheckpointError(f"{path}: the content does not match its checksum; move it away, or use --resume=never")
    return tensors, json.loads(text)


def check_same(path: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises CheckpointError naming the first setting in which the stored run is not the wanted one."""
    for name in sorted(stored.keys() | wanted.keys()):
        if stored.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{path} belongs to another run: {name} is {stored.get(name)} there and {wanted.get(name)} here;"
                " use the same flags, another --output-dir, or --resume=never to start afresh"
            )


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Tensors alone, atomically. Raises OSError."""
    write_atomically(path, safetensors.torch.save({k: w.detach().cpu().contiguous() for k, w in weights.items()}))


def _read(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(f"{path} is not a checkpoint of this version ({FORMAT}); {remedy}")
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read, it is truncated or no safetensors file ({error}); {remedy}"
        ) from error


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    sha = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
