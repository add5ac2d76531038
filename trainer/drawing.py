"""Draws images from the generator of a finished trial: its weights and the flags in run.json are all that it needs."""

import json
import math
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from trainer import memory
from trainer.config import WIDTHS
from trainer.data import from_unit
from trainer.models import Arch

WEIGHTS_FILE = "generator.safetensors"
RUN_FILE = "run.json"
CHUNK = 500  # images that are generated at a time
MAX_PIXELS = 2**26  # of one image


class SampleError(ValueError):
    """The folder has no usable trial. The message is one line."""


def draw(folder: Path, count: int, seed: int = 0) -> torch.Tensor:
    """Return uint8 [count, C, H, W] on the CPU. The same seed draws the same images. Raises SampleError, UsageError."""
    arch = _read_arch(folder / RUN_FILE)
    path = folder / WEIGHTS_FILE
    try:
        weights = safetensors.torch.load(_contents(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise SampleError(
            f"--from {folder}: cannot read {path} ({_reason(error)}). Has the trial finished?"
        ) from error
    if {name: tuple(tensor.shape) for name, tensor in weights.items()} != arch.generator_shapes():
        raise SampleError(
            f"--from {folder}: {path} does not hold the generator that {RUN_FILE} describes"
        )
    needed = count * (3 * math.prod(arch.image) + 4 * arch.latent_dim)
    memory.require(needed, f"-n {count}", "Draw fewer images.")
    noise = torch.randn(1, count, arch.latent_dim, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        stacked = {name: tensor.float()[None] for name, tensor in weights.items()}
        return torch.cat(
            [from_unit(arch.generate(stacked, part)[0]) for part in noise.split(CHUNK, 1)]
        )


def _contents(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # reading a named pipe would wait for its writer
        raise OSError("it is not a regular file")
    return path.read_bytes()


def _read_arch(path: Path) -> Arch:
    """Return the architecture from run.json: `image` [C, H, W] and `flags`."""
    try:
        run = json.loads(_contents(path))
        flags, (c, h, w) = run["flags"], map(int, run["image"])
        g_hidden, d_hidden = (tuple(map(int, flags[name])) for name in ("g_hidden", "d_hidden"))
        arch = Arch(str(flags["model"]), (c, h, w), int(flags["latent_dim"]), g_hidden, d_hidden)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise SampleError(
            f"--from {path.parent}: it has no run.json of a trial ({_reason(error)})"
        ) from error
    numbers = (c, h, w, arch.latent_dim, *g_hidden)
    if min(numbers) < 1 or c * h * w > MAX_PIXELS or arch.model not in WIDTHS or len(g_hidden) > 64:
        raise SampleError(
            f"--from {path.parent}: run.json describes no generator (image {[c, h, w]}, {arch.model})"
        )
    return arch


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
