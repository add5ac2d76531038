"""Checks the trainer on a GPU within five minutes: speed, memory, determinism, equality with the CPU, and the GPU tests.

    python -m bench.gpu_check                    on a GPU; `make gpu-check` is the same
    python -m bench.gpu_check --device cpu       only shows that the command works

Prints one row per model, precision and number of stacked trials: trial-steps per second and the peak
memory. "eager" is without the CUDA graph. Then it compares weights: two runs on the device, and the
device with the CPU. It exits with 1 if the device is not deterministic, differs from the CPU, or
fails a test.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from bench.provenance import line
from trainer import machine
from trainer.config import Config
from trainer.loop import architecture
from trainer.step import Step

LIMIT = 290  # seconds for everything, of the five minutes
SHAPES = {"mlp": (1, 28, 28), "dcgan": (3, 32, 32), "resnet": (3, 32, 32)}
PRESETS = {"mlp": "article", "dcgan": "stable", "resnet": "r3gan"}
STACKS = (1, 4, 16, 64)
COMPARED, TOLERANCE = 20, 1e-3
"""Steps before weights are compared, and the largest relative difference between the device and the CPU."""


def main() -> int:
    """Print the table and the comparisons, run the tests, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=1.5, help="time per row (default 1.5)")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(
            f"bench.gpu_check: torch {torch.__version__} finds no CUDA device. Run it on a machine"
            " with a GPU, or use --device cpu to try the command",
            file=sys.stderr,
        )
        return 2
    device, start = torch.device(args.device), time.monotonic()
    print(f"{line('torch')}; {machine.description(device)}")
    print(
        "| model | precision | trials | trial-steps/s | peak MiB |\n| --- | --- | --- | --- | --- |"
    )
    for model in SHAPES:
        for precision, trials, eager in rows(device):
            speed, peak = measure(model, precision, trials, eager, device, args.seconds)
            name = f"{precision}{', eager' if eager else ''}"
            print(f"| {model} | {name} | {trials} | {speed:.0f} | {peak:.0f} |", flush=True)
    compared = [compare(model, device) for model in SHAPES]  # all, also after one that differs
    left = LIMIT - (time.monotonic() - start)
    return 0 if all(compared) and (device.type == "cpu" or tests_pass(left)) else 1


def rows(device: torch.device) -> Iterator[tuple[str, int, bool]]:
    """Yield (precision, stacked trials, without a CUDA graph) of each row."""
    if device.type == "cuda":
        yield "fp32", 1, True
        yield "tf32", 1, False
        yield "bf16", 1, False
    for trials in STACKS if device.type == "cuda" else (1, 2):
        yield "fp32", trials, False


def configs(model: str, precision: str, trials: int, device: torch.device) -> list[Config]:
    flags = [f"--preset={PRESETS[model]}", f"--model={model}", f"--precision={precision}"]
    flags += [f"--device={device.type}", "--threads=1"]
    return [Config.parse([*flags, f"--seed={seed}"]) for seed in range(trials)]


def step_of(stack: list[Config], device: torch.device) -> Step:
    """Return the step of a stack on random images, the same on every device."""
    shape = SHAPES[stack[0].model]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4096, *shape), dtype=torch.uint8, generator=generator)
    return Step(architecture(stack[0], shape), stack, images.to(device))


def measure(
    model: str, precision: str, trials: int, eager: bool, device: torch.device, seconds: float
) -> tuple[float, float]:
    """Return trial-steps per second, and the peak memory of the device in MiB (0 on the CPU)."""
    stack = configs(model, precision, trials, device)
    with machine.settings(stack[0]):
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        step = step_of(stack, device)

        def call() -> None:
            if eager:
                step.draw()
                step.update()
            else:
                step()

        call()
        synchronise(device)
        start, steps = time.perf_counter(), 0
        while (spent := time.perf_counter() - start) < seconds or not steps:
            for _ in range(10 if device.type == "cuda" else 1):
                call()
                steps += 1
            synchronise(device)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0
    return steps * trials / max(spent, 1e-9), peak


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def compare(model: str, device: torch.device) -> bool:
    """Print whether two runs on the device are equal, and how far they are from the CPU."""
    stack = configs(model, "fp32", 2, device)
    first, second = (trained(stack, device) for _ in range(2))
    same = torch.equal(first.flatten(), second.flatten())
    print(f"{model}: two runs {'are equal bit for bit' if same else 'DIFFER'}", flush=True)
    # The generators of the two devices draw different numbers, so both start from the same state.
    start = step_of(stack, torch.device("cpu"))
    there = step_of(stack, device)
    with torch.no_grad():
        there.g.flat.copy_(start.g.flat)
        there.d.flat.copy_(start.d.flat)
    for _ in range(COMPARED):
        start.draw()
        start.update()
        there.z.copy_(start.z)
        there.index.copy_(start.index)
        there.update()
    difference = (there.g.flat.cpu() - start.g.flat).norm() / start.g.flat.norm()
    print(f"{model}: relative difference from the CPU after {COMPARED} steps {difference:.1e}")
    return same and float(difference) <= TOLERANCE


def trained(stack: list[Config], device: torch.device) -> torch.Tensor:
    """Return the generator's weights [E, N] after a few steps."""
    step = step_of(stack, device)
    for _ in range(COMPARED):
        step()
    return step.g.flat.cpu()


def tests_pass(seconds: float) -> bool:
    """Run the tests that need a GPU. Returns False if they fail or do not finish in time."""
    command = [sys.executable, "-m", "pytest", "-q", "--with-gpu", "-m", "gpu", "tests/trainer"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, cwd=Path(__file__).parents[1], timeout=max(seconds, 1), check=False
        )
        return done.returncode == 0
    print(f"the tests did not finish within {seconds:.0f} s", file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
