"""Quality of the two presets on digits: python -m bench.presets [--seeds 3] [--threads 1]

Compares --preset article at the best of 5 learning rates with --preset stable at its default
learning rate: geometric mean of fd over the seeds, and the floor. 250,000 images each, batch size
64. All trials of a preset train side by side.
"""

import argparse
import math
import time

import torch

from bench.provenance import line
from trainer import data
from trainer.config import PRESETS, Config
from trainer.evaluate import Evaluator, load_extractor
from trainer.loop import Training

RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    images = data.load("digits", None, torch.device("cpu"))
    extractor = load_extractor(images)
    evaluator = Evaluator(images, extractor, Config().samples)
    floor = Evaluator(images, extractor, len(images.train))(images.train)["fd"]
    print(
        f"digits, 250,000 images, batch 64, {evaluator.samples} samples x 2 draws, n = {args.seeds} seeds"
    )
    print(f"{line('torch')}, {args.threads} thread")
    print(f"{'floor (training against held-out images)':44} fd {floor:8.2f}")
    best = math.inf
    for rate, scores in trained(images, evaluator, "article", RATES, args.seeds).items():
        best = min(best, report(f"--preset article --lr {rate:g}", scores))
    default = float(PRESETS["stable"]["lr"])
    (scores,) = trained(images, evaluator, "stable", (default,), args.seeds).values()
    stable = report(f"--preset stable (--lr {default:g})", scores)
    print(f"stable / best of article = {stable / best:.3f} (target: at most 0.1)")


def trained(
    images: data.Images, evaluator: Evaluator, preset: str, rates: tuple[float, ...], seeds: int
) -> dict[float, list[float]]:
    """Return the final fd of each seed, by learning rate."""
    grid = [(rate, seed) for rate in rates for seed in range(seeds)]
    configs = [
        Config.parse([f"--preset={preset}", f"--lr={r}", f"--seed={s}", "--bs=64", "--evals=1"])
        for r, s in grid
    ]
    start = time.perf_counter()
    found: dict[float, list[float]] = {rate: [] for rate in rates}
    for evaluation in Training(configs, images, evaluator).run():
        found[grid[evaluation.trial][0]].append(evaluation.values["fd"])
    print(
        f"# {len(grid)} trials of --preset {preset} side by side: {time.perf_counter() - start:.0f} s"
    )
    return found


def report(name: str, scores: list[float]) -> float:
    """Print one row and return the geometric mean."""
    mean = math.exp(sum(map(math.log, scores)) / len(scores))
    print(
        f"{name:44} fd {mean:8.2f}   ({', '.join(f'{s:.1f}' for s in sorted(scores))})", flush=True
    )
    return mean


if __name__ == "__main__":
    main()
