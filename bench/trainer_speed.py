"""Steps per second of the trainer, compared with the article's loop and the best plain loop in interleaved rounds.

    python -m bench.trainer_speed [--rounds 5] [--seconds 3] [--stack 20]

MNIST-shaped data (60,000 random images of 28x28), batch 64, `--preset article`: the article's two
networks.

article    torchvision's MNIST with ToTensor and Normalize, a shuffling DataLoader, BCELoss on a Sigmoid, Adam,
           `.item()` after each step
plain      the same networks as nn.Sequential, images resident as one uint8 tensor, logits, no discriminator gradients
           in the generator's step, torch.optim.Adam(fused=True)
ours       trainer.step.Step, E = 1
stacked    trainer.step.Step, E = --stack, in trial-steps per second
"""

import argparse
import gzip
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from bench.provenance import line
from trainer.config import Config
from trainer.models import Arch
from trainer.step import Step

IMAGES, BATCH, LATENT, PIXELS = 60_000, 64, 100, 784


def article(folder: Path) -> Iterator[None]:
    """The article's loop; each `next` is one step."""
    from torchvision import datasets, transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    data = datasets.MNIST(folder, train=True, transform=transform)
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)
    g = nn.Sequential(*_generator(), nn.Tanh())
    d = nn.Sequential(*_discriminator(), nn.Sigmoid())
    g_optimizer, d_optimizer = (
        torch.optim.Adam(g.parameters(), lr=1e-3),
        torch.optim.Adam(d.parameters(), lr=1e-3),
    )
    criterion = nn.BCELoss()
    real_labels, fake_labels = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
    while True:
        for images, _ in loader:
            d_optimizer.zero_grad()
            d_real = criterion(d(images.view(BATCH, -1)), real_labels)
            fake = g(torch.randn(BATCH, LATENT))
            d_loss = d_real + criterion(d(fake.detach()), fake_labels)
            d_loss.backward()
            d_optimizer.step()
            g_optimizer.zero_grad()
            g_loss = criterion(d(fake), real_labels)
            g_loss.backward()
            g_optimizer.step()
            _ = d_loss.item(), g_loss.item()
            yield


def plain(images: torch.Tensor) -> Iterator[None]:
    """The best plain loop that we know; each `next` is one step."""
    g, d = nn.Sequential(*_generator(), nn.Tanh()), nn.Sequential(*_discriminator())
    g_optimizer = torch.optim.Adam(g.parameters(), lr=1e-3, fused=True)
    d_optimizer = torch.optim.Adam(d.parameters(), lr=1e-3, fused=True)
    flat = images.flatten(1)
    while True:
        for index in torch.randperm(IMAGES).split(BATCH):
            real = flat[index].float() / 127.5 - 1
            fake = g(torch.randn(len(index), LATENT))
            scores_real, scores_fake = d(torch.cat([real, fake.detach()])).chunk(2)
            d_optimizer.zero_grad()
            (
                functional.softplus(-scores_real).mean() + functional.softplus(scores_fake).mean()
            ).backward()
            d_optimizer.step()
            d.requires_grad_(False)
            g_optimizer.zero_grad()
            functional.softplus(-d(fake)).mean().backward()
            g_optimizer.step()
            d.requires_grad_(True)
            yield


def ours(images: torch.Tensor, trials: int) -> Iterator[None]:
    """The trainer's step; each `next` is one step of every trial."""
    configs = [
        Config.parse(["--preset=article", "--lr=1e-3", f"--bs={BATCH}", f"--seed={e}"])
        for e in range(trials)
    ]
    first = configs[0]
    arch = Arch(
        first.model,
        (1, 28, 28),
        first.latent_dim,
        tuple(first.g_hidden or ()),
        tuple(first.d_hidden or ()),
    )
    step = Step(arch, configs, images)
    while True:
        step()
        yield


def rate(steps: Iterator[None], seconds: float) -> float:
    """Return the steps per second over at least `seconds`, after a few steps to warm up."""
    for _ in range(3):
        next(steps)
    begin, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - begin) < seconds:
        next(steps)
        count += 1
    return count / spent


def main() -> None:
    """Print one row per loop and the ratios between them, as medians over the rounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--stack", type=int, default=20)
    args = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        _write_idx(Path(folder), images)
        sides: dict[str, tuple[Iterator[None], int]] = {
            "article": (article(Path(folder)), 1),
            "plain": (plain(images), 1),
            "ours": (ours(images, 1), 1),
            "stacked": (ours(images, args.stack), args.stack),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, (steps, trials) in sides.items():
                rates[name].append(rate(steps, args.seconds) * trials)
    print(line("torch", "torchvision"))
    print(
        f"batch {BATCH}, {PIXELS} pixels, n = {args.rounds} interleaved rounds of {args.seconds:g} s, medians"
    )
    for name, values in rates.items():
        print(
            f"{name:8} {statistics.median(values):8.0f} trial-steps/s   ({min(values):.0f} to {max(values):.0f})"
        )
    for over, under in (("ours", "article"), ("stacked", "article"), ("ours", "plain")):
        ratios = [a / b for a, b in zip(rates[over], rates[under], strict=True)]
        print(
            f"{over}/{under}: {statistics.median(ratios):.2f}   ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def _generator() -> list[nn.Module]:
    return [
        nn.Linear(LATENT, 128),
        nn.ReLU(),
        nn.Linear(128, 256),
        nn.ReLU(),
        nn.Linear(256, PIXELS),
    ]


def _discriminator() -> list[nn.Module]:
    slope: Callable[[], nn.Module] = lambda: nn.LeakyReLU(0.2)  # noqa: E731 - a name for one constructor
    return [nn.Linear(PIXELS, 256), slope(), nn.Linear(256, 128), slope(), nn.Linear(128, 1)]


def _write_idx(folder: Path, images: torch.Tensor) -> None:
    """Write the four files that torchvision's MNIST reads. Only the training images are used."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, pictures in (("train", images), ("t10k", images[:100])):
        labels = bytes(i for i, _ in zip(cycle(range(10)), pictures, strict=False))
        for name, head, body in (
            (
                f"{part}-images-idx3-ubyte",
                struct.pack(">IIII", 2051, len(pictures), 28, 28),
                pictures.numpy().tobytes(),
            ),
            (f"{part}-labels-idx1-ubyte", struct.pack(">II", 2049, len(labels)), labels),
        ):
            (raw / name).write_bytes(head + body)
            with gzip.open(raw / f"{name}.gz", "wb", compresslevel=1) as packed:
                packed.write(head + body)


if __name__ == "__main__":
    main()
