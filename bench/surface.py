"""Real runs of the trainer over learning rate and batch size, tabulated: what simulated searches are run on.

    python -m bench.surface [--images 250000] [--seeds 2]      writes bench/surface.json; about ten minutes on 2 cores

The default preset on digits, which is what the shipped manifests search: 7 learning rates in
1e-5..1e-2, 3 batch sizes in 32..128, the same number of images each. All rates and seeds of one
batch size are trained in one stack.
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

from bench.provenance import line
from bench.training import digits
from trainer.config import Config

PATH = Path(__file__).with_suffix(".json")
RATES = [10 ** (-5 + i / 2) for i in range(7)]
BATCHES = [32, 64, 128]


def main() -> None:
    """Train, and write {"about", "lr", "bs", "fd": [lr][bs][seed]}."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--images", type=int, default=250_000)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    table = [[[math.nan] * args.seeds for _ in BATCHES] for _ in RATES]
    for column, bs in enumerate(BATCHES):
        flags = [f"--bs={bs}", "--evals=1", f"--epochs={args.images / 1348}"]
        base = Config.parse(flags)
        configs = [replace(base, lr=lr, seed=seed) for lr in RATES for seed in range(args.seeds)]
        for evaluation in digits(configs):
            row, seed = divmod(evaluation.trial, args.seeds)
            table[row][column][seed] = round(evaluation.values["fd"], 3)
        print(f"bs {bs}: best fd {min(min(row[column]) for row in table):.1f}", flush=True)
    about = f"python -m bench.surface --images {args.images} --seeds {args.seeds}: digits; {line('torch')}"
    PATH.write_text(
        json.dumps({"about": about, "lr": RATES, "bs": BATCHES, "fd": table}) + "\n",
        encoding="utf-8",
    )
    print(PATH)


if __name__ == "__main__":
    main()
