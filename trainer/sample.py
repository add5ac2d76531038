"""Draws images from a finished trial: its generator's weights and the flags in run.json, nothing else.

python -m trainer.sample --from OUTPUT_DIR -n 64 -o grid.png
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import NoReturn

import safetensors
import safetensors.torch
import torch

from trainer.data import from_unit, write_grid
from trainer.models import Arch

WEIGHTS_FILE = "generator.safetensors"
RUN_FILE = "run.json"
MAX_SAMPLES = 10_000


class SampleError(ValueError):
    """The folder is not a trial's, or the picture cannot be written; the message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def main(argv: list[str] | None = None) -> int:
    """The command line. Returns 0, or 2 after one line on stderr."""
    parser = _Parser(prog="python -m trainer.sample", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--from", dest="folder", required=True, type=Path, help="--output-dir of a finished trial")
    parser.add_argument("-n", type=int, default=64, help=f"how many images, 1 to {MAX_SAMPLES:,} (default 64)")
    parser.add_argument("-o", "--output", type=Path, default=Path("grid.png"), help="PNG to write (default grid.png)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    args = parser.parse_args(argv)
    try:
        if not 1 <= args.n <= MAX_SAMPLES:
            raise SampleError(f"-n {args.n}: must be 1 to {MAX_SAMPLES}")
        if not 0 <= args.seed < 2**63:
            raise SampleError(f"--seed {args.seed}: must be 0 to 2^63 - 1")
        write_grid(sample(args.folder, args.n, args.seed), args.output)
    except SampleError as error:
        print(f"python -m trainer.sample: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"python -m trainer.sample: cannot write -o {args.output} ({error})", file=sys.stderr)
        return 2
    print(args.output)
    return 0


def sample(folder: Path, count: int, seed: int = 0) -> torch.Tensor:
    """Draws uint8 [count, C, H, W] on the CPU; the same seed draws the same images. Raises SampleError."""
    arch = _read_arch(folder / RUN_FILE)
    path = folder / WEIGHTS_FILE
    try:
        weights = safetensors.torch.load(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise SampleError(
            f"--from {folder}: cannot read {path} ({_reason(error)}); is it a trial that ended?"
        ) from error
    wanted = arch.generator_shapes()
    if {name: tuple(tensor.shape) for name, tensor in weights.items()} != wanted:
        raise SampleError(f"--from {folder}: {path} does not hold the generator that {RUN_FILE} describes")
    noise = torch.randn(1, count, arch.latent_dim, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        stacked = {name: tensor.float()[None] for name, tensor in weights.items()}
        return torch.cat([from_unit(arch.generate(stacked, part)[0]) for part in noise.split(500, 1)])


def _read_arch(path: Path) -> Arch:
    """The generator's architecture from run.json: `image` [C, H, W] and `flags`."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        flags, (c, h, w) = run["flags"], map(int, run["image"])
        image = c, h, w
        hidden = [tuple(map(int, flags[name])) for name in ("g_hidden", "d_hidden")]
        arch = Arch(str(flags["model"]), image, int(flags["latent_dim"]), hidden[0], hidden[1])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SampleError(f"--from {path.parent}: no run.json of a trial there ({_reason(error)})") from error
    numbers = (*image, arch.latent_dim, *hidden[0])
    if min(numbers) < 1 or math.prod(image) > 2**26 or arch.model not in ("mlp", "dcgan"):
        raise SampleError(f"--from {path.parent}: run.json describes no generator (image {list(image)}, {arch.model})")
    return arch


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
