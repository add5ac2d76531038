"""What the presets are worth: fd on digits after 250,000 images, geometric mean over seeds.

    python -m bench.presets [--seeds 3] [--images 250000]

`--preset stable` at its default learning rate against `--preset seed` at the best of five learning rates. The seeds of
one setting are trained side by side in one stack, which is the same computation as one by one.
"""

import argparse
import math
from dataclasses import replace

from bench.provenance import line
from bench.training import digits
from trainer.config import Config

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def fd(flags: list[str], seeds: int, images: int) -> tuple[float, list[float]]:
    """The geometric mean over seeds of the final fd, and each of them."""
    config = Config.parse(["--dataset=digits", "--evals=1", f"--epochs={images / 1348}", "--bs=64", *flags])
    last: dict[int, float] = {}
    for evaluation in digits([replace(config, seed=seed) for seed in range(seeds)]):
        last[evaluation.trial] = evaluation.values["fd"]
    return math.exp(sum(map(math.log, last.values())) / len(last)), [last[e] for e in sorted(last)]


def main() -> None:
    """Print a row a setting, and the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=250_000)
    args = parser.parse_args()
    print(line("torch"))
    print(f"digits, {args.images} images a run, geometric mean of n = {args.seeds} seeds")
    best = math.inf
    for lr in RATES:
        mean, each = fd(["--preset=seed", f"--lr={lr:g}"], args.seeds, args.images)
        best = min(best, mean)
        print(f"--preset seed --lr {lr:<8g} fd {mean:7.1f}   {' '.join(f'{value:.1f}' for value in each)}", flush=True)
    stable, each = fd(["--preset=stable"], args.seeds, args.images)
    print(f"--preset stable            fd {stable:7.1f}   {' '.join(f'{value:.1f}' for value in each)}")
    print(f"stable at its default lr over seed at its best lr: {stable / best:.3f}")


if __name__ == "__main__":
    main()
