"""How long must the feature extractor train? Its scores of damaged real images, by number of batches.

    python -m bench.extractor --dataset ./photos [--steps 2000,1000,400]      a folder or .npz of images, as for prepare

Trains an extractor for each number of batches, and lets each one score the same images: training
images that were damaged in known ways, each with increasing severity. A good extractor gives real
images a low fd, and a higher fd to more damage. The last column compares its order of all damaged
sets with that of the first extractor (Spearman).
"""

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the conventional name
from scipy.stats import spearmanr
from torch import Tensor

from bench.provenance import line
from trainer.data import Images
from trainer.evaluate import Evaluator, Extractor
from trainer.sources import read
from trainer.train_extractor import train_extractor

Damage = Callable[[Tensor, float, torch.Generator], Tensor]


def noisy(images: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of this standard deviation, in shares of the range."""
    return images + severity * torch.randn(images.shape, generator=generator)


def blurred(images: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """Scale down by this factor, and up again."""
    size = images.shape[2:]
    small = [max(1, round(side / severity)) for side in size]
    return F.interpolate(F.interpolate(images, small, mode="area"), size, mode="bilinear")


def faded(images: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """Blend with the mean image; the severity is its share."""
    return images.lerp(images.mean(0, keepdim=True), severity)


def mixed(images: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """Replace this share of the width by that of another image."""
    other, columns = images.roll(1, 0), round(severity * images.shape[3])
    return torch.cat([other[..., :columns], images[..., columns:]], 3)


def collapsed(images: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """Repeat the images that are left without this share."""
    kept = max(1, round((1 - severity) * len(images)))
    return images[torch.arange(len(images)) % kept]


DAMAGES: dict[str, tuple[Damage, tuple[float, ...]]] = {
    "noise": (noisy, (0.02, 0.05, 0.1, 0.2, 0.4)),
    "blur": (blurred, (1.5, 2, 3, 5, 8)),
    "fade": (faded, (0.1, 0.2, 0.4, 0.6, 0.8)),
    "mix": (mixed, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "collapse": (collapsed, (0.5, 0.8, 0.9, 0.95, 0.99)),
}


def damaged(images: Tensor) -> dict[str, list[Tensor]]:
    """Return uint8 images by damage, from the least to the most severe."""
    generator, scaled = torch.Generator().manual_seed(0), images / 255
    return {
        name: [
            (damage(scaled, each, generator) * 255).round().clamp(0, 255).to(torch.uint8)
            for each in severities
        ]
        for name, (damage, severities) in DAMAGES.items()
    }


def main() -> None:
    """Print a row for each number of batches."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dataset", required=True, help="a folder or .npz file of images")
    parser.add_argument("--steps", default="2000,1000,400", help="batches (default 2000,1000,400)")
    parser.add_argument("--samples", type=int, default=2000, help="images per score (default 2000)")
    args = parser.parse_args()
    source = read(args.dataset, Path())
    train, held_out = torch.from_numpy(source.train), torch.from_numpy(source.held_out)
    images = Images(args.dataset, train, held_out, "")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    real = train[order[: args.samples]]
    sets = damaged(real)
    print(line("torch"), f"{torch.get_num_threads()} threads")
    first: list[float] = []
    for steps in map(int, args.steps.split(",")):
        cpu = time.process_time()
        weights, note = train_extractor(source, steps)
        cpu = time.process_time() - cpu
        evaluator = Evaluator(images, Extractor(weights, ""), len(real))
        floor = evaluator(real)["fd"]
        scores = {name: [evaluator(each)["fd"] for each in found] for name, found in sets.items()}
        every = [score for found in scores.values() for score in found]
        first = first or every
        ordered = sum(a < b for found in scores.values() for a, b in pairwise([floor, *found]))
        agreement = spearmanr(first, every).statistic
        print(
            f"{steps} batches, {cpu:.0f} s of CPU time: {note}; floor {floor:.2f};"
            f" more damage scores worse in {ordered} of {len(every)} steps; Spearman {agreement:.3f}"
        )
        for name, found in scores.items():
            print(f"    {name:9}" + "".join(f"{score:9.2f}" for score in found), flush=True)


if __name__ == "__main__":
    main()
