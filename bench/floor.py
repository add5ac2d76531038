"""Scores of real images, the floor of every metric, for several sample counts, and scores of bad images.

    python -m bench.floor

Prints the tables of docs/reference/metrics.md for digits and the bundled extractor. Real samples come from
the training split. About 5 seconds on 2 cores.
"""

import platform
import statistics
import time

import torch

from trainer.data import Images, load
from trainer.evaluate import Evaluator, Extractor, kid, load_extractor, weight_shapes

REPEATS = 5


def main() -> None:
    """Print the floor of every metric, scores of degenerate images, and the extractor's hash."""
    images = load("digits", None, torch.device("cpu"))
    extractor = load_extractor(images)
    print(
        f"torch {torch.__version__}, {platform.machine()}; data {images.sha256[:12]}, extractor {extractor.sha256[:12]}"
    )
    generator = torch.Generator().manual_seed(0)
    for count in (449, 1348):
        evaluator = Evaluator(images, extractor, count)
        orders = [
            torch.randperm(len(images.train), generator=generator)[:count] for _ in range(REPEATS)
        ]
        _show(f"{count} training images", [evaluator(images.train[order]) for order in orders])
    evaluator = Evaluator(images, extractor, 2000)
    for name, fakes in _wrong(images, generator).items():
        _show(name, [evaluator(fakes)])
    print("copied at threshold", round(evaluator.copy_threshold, 4))
    held, real = extractor(images.held_out), extractor(images.train[orders[0][:449]])
    noise = extractor(_wrong(images, generator)["uniform noise"][:449])
    print(
        f"kid against held-out images: training images {kid(held, real):.4f}, uniform noise {kid(held, noise):.4f}"
    )
    _time()


def _wrong(images: Images, generator: torch.Generator) -> dict[str, torch.Tensor]:
    shape = (2000, *images.shape)
    mean = images.train.float().mean(0, keepdim=True).to(torch.uint8)
    return {
        "the mean image": mean.expand(shape),
        "one training image": images.train[:1].expand(shape),
        "black": torch.zeros(shape, dtype=torch.uint8),
        "uniform noise": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
    }


def _show(name: str, scores: list[dict[str, float]]) -> None:
    medians = {key: statistics.median(score[key] for score in scores) for key in scores[0]}
    print(f"{name:22s} " + " ".join(f"{key}={value:.3g}" for key, value in medians.items()))


def _time() -> None:
    """Time the evaluation of 10,000 samples of 28x28, with as many images as MNIST has, of noise."""
    generator = torch.Generator().manual_seed(0)

    def noise(count: int) -> torch.Tensor:
        return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)

    weights = {
        name: torch.randn(shape, generator=generator) / 30
        for name, shape in weight_shapes(1, 28, 28).items()
    }
    evaluator = Evaluator(
        Images("noise", noise(60_000), noise(10_000), ""), Extractor(weights, ""), 10_000
    )
    fake = noise(10_000)
    walls, cpus = [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        evaluator(fake)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    threads = torch.get_num_threads()
    print(
        f"evaluation of 10,000 samples of 28x28, {threads} threads, n={REPEATS}: wall {statistics.median(walls):.2f} s",
        end="",
    )
    print(f" (min {min(walls):.2f}), cpu {statistics.median(cpus):.2f} s")


if __name__ == "__main__":
    main()
