"""Trainings side by side on the bundled digits, for the benchmarks that need real scores."""

from collections.abc import Iterator, Sequence

import torch

from trainer.config import Config
from trainer.data import load
from trainer.evaluate import Evaluator, load_extractor
from trainer.loop import Evaluation, Training


def digits(configs: Sequence[Config]) -> Iterator[Evaluation]:
    """The evaluations of a stack of trials that share what a stack must share."""
    images = load("digits", None, torch.device("cpu"))
    evaluator = Evaluator(images, load_extractor(images), configs[0].samples)
    yield from Training(configs, images, evaluator).run()
