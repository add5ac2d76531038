"""Real trainings over the wide search space, tabulated: what simulated studies of nine parameters are run on.

    python -m bench.wide_surface [--random 240] [--near 380] [--corner 48] [--workers 2]      about an hour on 2 cores

Digits, 100 epochs each, as in manifests/wide.yaml. The design has five parts: the default preset on
eight seeds, a random design, a neighbourhood of the best trainings so far (each child changes about
a third of its parent's values), a second seed of some of them for the noise, and the corner in
which the best of all these lie, with smaller batches and noise vectors than before. One JSON object
per training is appended to bench/wide-surface.jsonl, so an interrupted run continues.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import multiprocessing
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.provenance import line

PATH = Path(__file__).with_name("wide-surface.jsonl")
Point = dict[str, Any]
CHOICES: dict[str, tuple[Any, ...]] = {
    "beta1": (0.0, 0.5, 0.9),
    "loss": ("ns", "hinge", "lsgan", "rpgan"),
    "r1Gamma": (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0),
    "emaDecay": (0.0, 0.99, 0.995, 0.999),
    "nCritic": (1, 2),
    "latentDim": (8, 16, 32, 64, 128),
    "bs": (16, 32, 64, 128),
}
CORNER: dict[str, tuple[Any, ...]] = {
    "loss": CHOICES["loss"], "emaDecay": (0.99, 0.995, 0.999), "latentDim": (4, 8, 16), "bs": (8, 16, 32),
}  # fmt: skip
# all log-uniform
CORNER_RANGES = {"lr": (8e-4, 4e-3), "dLrRatio": (0.6, 1.8), "r1Gamma": (0.1, 5.0)}
RANGES = {"lr": (1e-5, 1e-2), "dLrRatio": (0.25, 4.0)}  # both log-uniform
DEFAULT: Point = {
    "lr": 2e-3, "bs": 64, "beta1": 0.0, "loss": "ns", "r1Gamma": 1.0, "emaDecay": 0.999, "nCritic": 1,
    "dLrRatio": 1.0, "latentDim": 100,
}  # fmt: skip
FLAGS = {
    "lr": "--lr", "bs": "--bs", "beta1": "--beta1", "loss": "--loss", "r1Gamma": "--r1-gamma",
    "emaDecay": "--ema-decay", "nCritic": "--n-critic", "dLrRatio": "--d-lr-ratio", "latentDim": "--latent-dim",
}  # fmt: skip
EPOCHS, EVALS, DEFAULT_SEEDS = 100, 10, 8


def train(job: tuple[Point, int]) -> dict[str, Any]:
    """Train one point with one seed; its fd and training fd at each evaluation."""
    point, seed = job
    argv = [f"{flag}={point[name]}" for name, flag in FLAGS.items()]
    return {
        "point": point,
        "seed": seed,
        **scores([*argv, f"--epochs={EPOCHS}", f"--evals={EVALS}", f"--seed={seed}"]),
    }


def scores(argv: Sequence[str]) -> dict[str, Any]:
    """Run the trainer with these arguments in this process; its fd and training fd at each evaluation."""
    from trainer.__main__ import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([*argv, "--threads=1"])
    text = out.getvalue()
    curve = [round(float(value), 4) for value in re.findall(r" fd=(\S+)", text)]
    held = [round(float(value), 4) for value in re.findall(r" train_fd=(\S+)", text)]
    return {"fd": curve, "train_fd": held, "diverged": " diverged=1" in text or bool(code)}


def draw(rng: random.Random, name: str) -> Any:
    """A value of one parameter, uniform in its choices or log-uniform in its range."""
    if name in CHOICES:
        return rng.choice(CHOICES[name])
    return _log_uniform(rng, *RANGES[name])


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.5g}")


def child(rng: random.Random, parent: Point) -> Point:
    """A neighbour: each value is kept with probability 2/3, moved nearby, or drawn anew."""
    point = dict(parent)
    for name in [*RANGES, *CHOICES]:
        if rng.random() > 1 / 3:
            continue
        if name in RANGES:
            low, high = RANGES[name]
            point[name] = float(
                f"{min(max(point[name] * math.exp(rng.gauss(0, 0.6)), low), high):.5g}"
            )
        else:
            point[name] = draw(rng, name)
    return point


def corner(rng: random.Random) -> Point:
    """A random point of the corner."""
    point = {**DEFAULT, **{name: rng.choice(choices) for name, choices in CORNER.items()}}
    return point | {name: _log_uniform(rng, *ends) for name, ends in CORNER_RANGES.items()}


def design(
    done: list[dict[str, Any]], randoms: int, near: int, corners: int
) -> Iterator[tuple[Point, int]]:
    """The trainings still to do, none of them twice; `done` grows while this is iterated."""
    seen = {key(run["point"], run["seed"]) for run in done}
    rng = random.Random(1)
    first = [(DEFAULT, seed) for seed in range(DEFAULT_SEEDS)]
    first += [({name: draw(rng, name) for name in FLAGS}, 0) for _ in range(randoms)]
    for job in first:
        if key(*job) not in seen:
            yield job
    # a later part begins only when these are done
    for number in range(max(len(done) - len(first), 0), near):
        rng = random.Random(1000 + number)
        parents = best(done)[: max(len(done) // 8, 5)]
        job = DEFAULT, 0
        while key(*job) in seen:
            job = (
                child(rng, rng.choice(parents)["point"] if rng.random() < 0.8 else DEFAULT),
                number % 3,
            )
        seen.add(key(*job))
        yield job
    ranked = best(done)
    for run in ranked[:: max(len(ranked) // 20, 1)]:
        for seed in (11, 12):
            if key(run["point"], seed) not in seen:
                yield run["point"], seed
    for number in range(corners):
        job = corner(random.Random(5000 + number)), number % 3
        if key(*job) not in seen:
            yield job


def key(point: Point, seed: int) -> str:
    """What makes a training the same as another one."""
    return json.dumps([point, seed], sort_keys=True)


def best(done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trainings that did not diverge, best first."""
    return sorted((run for run in done if not run["diverged"]), key=lambda run: run["fd"][-1])


def main() -> None:
    """Train what is missing and append it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--random", type=int, default=240)
    parser.add_argument("--near", type=int, default=380)
    parser.add_argument("--corner", type=int, default=48)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    done = [json.loads(row) for row in PATH.read_text().splitlines()[1:]] if PATH.exists() else []
    if not done:
        PATH.write_text(
            json.dumps({"about": f"python -m bench.wide_surface: digits; {line('torch')}"}) + "\n"
        )
    todo = design(done, args.random, args.near, args.corner)
    with (
        multiprocessing.get_context("spawn").Pool(args.workers) as pool,
        PATH.open("a", buffering=1) as file,
    ):
        running: list[Any] = []
        while True:
            while len(running) < args.workers and (job := next(todo, None)) is not None:
                running.append(pool.apply_async(train, (job,)))
            if not running:
                return
            run = running.pop(0).get()
            done.append(run)
            file.write(json.dumps(run) + "\n")
            if len(done) % 20 == 0:
                print(len(done), min(each["fd"][-1] for each in done), flush=True)


if __name__ == "__main__":
    main()
