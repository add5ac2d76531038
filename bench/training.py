"""Trainings for the benchmarks that need real scores: side by side on the bundled digits, or one of any data set."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from trainer.config import Config
from trainer.data import load
from trainer.evaluate import Evaluator, load_extractor
from trainer.loop import Evaluation, Training

ROOT = Path(__file__).parents[1]


def digits(configs: Sequence[Config]) -> Iterator[Evaluation]:
    """The evaluations of a stack of trials that share what a stack must share."""
    images = load("digits", None, torch.device("cpu"))
    evaluator = Evaluator(images, load_extractor(images), configs[0].samples)
    yield from Training(configs, images, evaluator).run()


def final(argv: Sequence[str], folder: Path) -> dict[str, float]:
    """Train with these flags into a folder and return the final metrics. The trainer does not repeat a finished run."""
    python("-m", "trainer", *argv, "--threads=1", f"--output-dir={folder}")
    metrics: dict[str, float] = json.loads((folder / "run.json").read_text())["final"]
    return metrics


def python(*argv: str) -> None:
    """Run Python in the repository. An error of the program ends this one with its message."""
    done = subprocess.run(
        [sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(
            f"python {' '.join(argv)} failed with exit code {done.returncode}: {(done.stderr or done.stdout).strip()}"
        )
