"""Steps per second of the trainer by CPU threads, with and without a busy second process, in interleaved rounds.

    python -m bench.trainer_threads [--rounds 3] [--seconds 3] [--busy 0,1]

Each measurement is a process of its own, because OMP_WAIT_POLICY has an effect only before torch is
imported.

1 thread     OMP_NUM_THREADS=1
2 passive    two threads that sleep at a barrier: what `python -m trainer` sets
2 spinning   two threads that spin at a barrier: the default of OpenMP

For each it prints the ratio to one thread. Run it on an otherwise idle machine: the load at the
start is printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.provenance import line

SETTINGS = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 passive": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    "2 spinning": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "active"},
}
PIXELS = (64, 784)
PROGRAM = """
import sys, time
import torch
from trainer.config import Config
from trainer.models import Arch
from trainer.step import Step
pixels, seconds = int(sys.argv[1]), float(sys.argv[2])
side = int(pixels**0.5)
config = Config.parse(["--lr=1e-3", "--bs=64"])
images = torch.randint(0, 256, (5000, 1, side, side), dtype=torch.uint8)
hidden = tuple(config.g_hidden or ()), tuple(config.d_hidden or ())
step = Step(Arch(config.model, (1, side, side), config.latent_dim, *hidden), [config], images)
for _ in range(3):
    step()
begin, count = time.perf_counter(), 0
while (spent := time.perf_counter() - begin) < seconds:
    step()
    count += 1
print(count / spent)
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument(
        "--busy", default="0,1", help="numbers of busy processes, separated by commas"
    )
    args = parser.parse_args()
    print(line("torch"))
    print(
        f"load {os.getloadavg()[0]:.1f}; n = {args.rounds} rounds of {args.seconds:g} s; medians (range) of steps/s"
    )
    for pixels in PIXELS:
        for processes in map(int, args.busy.split(",")):
            rates: dict[str, list[float]] = {name: [] for name in SETTINGS}
            with busy(processes):
                for _ in range(args.rounds):
                    for name, variables in SETTINGS.items():
                        rates[name].append(_rate(pixels, args.seconds, variables))
            for name, values in rates.items():
                ratios = [a / b for a, b in zip(values, rates["1 thread"], strict=True)]
                print(
                    f"{pixels:4} pixels, {processes} busy: {name:11}{statistics.median(values):7.0f} "
                    f"({min(values):.0f} to {max(values):.0f})   {statistics.median(ratios):5.2f} of one thread"
                )


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many processes computing while the block runs."""
    running = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _rate(pixels: int, seconds: float, variables: dict[str, str]) -> float:
    env = {
        name: value for name, value in os.environ.items() if not name.startswith("OMP_")
    } | variables
    argv = [sys.executable, "-c", PROGRAM, str(pixels), str(seconds)]
    return float(subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
