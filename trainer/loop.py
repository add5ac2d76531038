"""The training of E trials as an iterator of evaluations. It prints nothing and touches no file.

    training = Training([config], images, evaluator)
    for evaluation in training.run():
        print(evaluation.values["fd"])

`state` and `load_state` cut it anywhere between two steps and continue it bit for bit. A trial whose losses or weights
become non-finite ends at once with the scores of its untrained generator and diverged=1; its neighbours do not notice.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from trainer.config import IMAGES_PER_TRIAL, Config, flag, per_trial_fields
from trainer.data import Images
from trainer.evaluate import Evaluator
from trainer.models import Arch
from trainer.step import Step

NOISE_SEEDS = (1_000_003, 1_000_033)
"""Seeds of the two fixed noise draws that every score is the mean of; the same for all trials and devices."""


@dataclass(frozen=True)
class Evaluation:
    """What is known of one trial after some steps; `values` are finite and in the order of the metric line."""

    trial: int
    time: datetime
    values: dict[str, float]
    final: bool

    @property
    def diverged(self) -> bool:
        return bool(self.values["diverged"])


class Training:
    """E trials on one device, side by side. Raises ValueError when their configs cannot share a step."""

    def __init__(self, configs: Sequence[Config], images: Images, evaluator: Evaluator) -> None:
        check_stackable(configs)
        c = configs[0]
        self.config, self.images, self.evaluator = c, images, evaluator
        self.arch = architecture(c, images.shape)
        self.step = Step(self.arch, configs, images.train)
        self.images_per_step = c.bs * c.n_critic
        budget = IMAGES_PER_TRIAL if c.epochs is None else c.epochs * len(images.train)
        self.total = max(1, round(budget / self.images_per_step))
        self.schedule = sorted({max(1, round(self.total * (i + 1) / c.evals)) for i in range(c.evals)})
        self.done = 0  # steps
        self.evaluated = 0  # entries of the schedule
        self.seconds = 0.0  # of training, since the last evaluation
        self.alive = [True] * len(configs)
        self.untrained: list[dict[str, float]] = []
        self.history: list[Evaluation] = []
        self.evaluating = False
        """True while nothing of the state changes, so that an exception from a signal handler does no harm."""
        device = images.train.device
        self._noise = [
            torch.randn(evaluator.samples, c.latent_dim, generator=torch.Generator().manual_seed(s)).to(device)
            for s in NOISE_SEEDS
        ]

    @property
    def finished(self) -> bool:
        return not any(self.alive) or self.evaluated == len(self.schedule)

    def run(self, between: Callable[[], None] = lambda: None) -> Iterator[Evaluation]:
        """Evaluations as they come. `between` is called wherever the state is whole: it may save it, or raise."""
        if not self.untrained:
            self.untrained = [self._untrained(e) for e in range(self.step.trials)]
        while not self.finished:
            between()
            if self.done < self.schedule[self.evaluated]:
                self._advance()
                if self.step.device.type == "cpu":  # elsewhere a look at the losses would make the device wait
                    yield from self._end_diverged(self._non_finite_losses())
            else:
                yield from self._end_diverged(self._non_finite())
                yield from self._evaluate()
        between()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, what JSON can hold): all that the rest of the run depends on, and the evaluations so far."""
        meta = {
            "done": self.done, "evaluated": self.evaluated, "seconds": self.seconds, "alive": self.alive,
            "untrained": self.untrained, "finished": self.finished,
            "history": [dataclasses.asdict(e) | {"time": e.time.isoformat()} for e in self.history],
        }  # fmt: skip
        return self.step.state(), meta

    def load_state(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.step.load_state(tensors)
        self.done, self.evaluated, self.seconds = meta["done"], meta["evaluated"], meta["seconds"]
        self.alive, self.untrained = meta["alive"], meta["untrained"]
        self.history = [Evaluation(**e | {"time": datetime.fromisoformat(e["time"])}) for e in meta["history"]]

    def generator(self, trial: int) -> dict[str, Tensor]:
        """Weights of the generator that is evaluated, without the axis of trials."""
        return {k: p[trial] for k, p in self.step.g.like(self.step.ema).items()}

    def _advance(self) -> None:
        start = time.perf_counter()
        self.step()
        self.done += 1
        self.seconds += time.perf_counter() - start

    def _evaluate(self) -> list[Evaluation]:
        if self.step.device.type == "cuda":  # the steps are queued; their time is over when they are done
            start = time.perf_counter()
            torch.cuda.synchronize()
            self.seconds += time.perf_counter() - start
        steps = self.done - (self.schedule[self.evaluated - 1] if self.evaluated else 0)
        means = (self.step.sums / steps).T.tolist()
        final = self.evaluated + 1 == len(self.schedule)
        speed = steps * self.images_per_step / max(self.seconds, 1e-9)
        found = [
            self._evaluation(e, means[e], self._score(e), speed, diverged=False, final=final)
            for e in range(self.step.trials)
            if self.alive[e]
        ]
        self.step.sums.zero_()
        self.evaluated, self.seconds = self.evaluated + 1, 0.0
        self.history += found
        return found

    def _end_diverged(self, broken: list[bool]) -> list[Evaluation]:
        found = []
        for e in range(self.step.trials):
            if broken[e] and self.alive[e]:
                scores = dict(self.untrained[e])
                pair = scores.pop("discriminator_loss"), scores.pop("generator_loss")
                found.append(self._evaluation(e, pair, scores, 0.0, diverged=True, final=True))
                self.alive[e] = False
        self.history += found
        return found

    def _evaluation(
        self, trial: int, means: Sequence[float], scores: dict[str, float], speed: float, *, diverged: bool, final: bool
    ) -> Evaluation:
        values = {
            "epoch": round(self.done * self.images_per_step / len(self.images.train), 4), "step": self.done,
            "loss": means[1], "generator_loss": means[1], "discriminator_loss": means[0],
            **scores, "images_per_second": round(speed, 1), "diverged": int(diverged),
        }  # fmt: skip
        return Evaluation(trial, datetime.now(UTC), values, final)

    def _untrained(self, trial: int) -> dict[str, float]:
        d, g = self.step.current_losses(self._noise[0][: self.config.bs].expand(self.step.trials, -1, -1))[:, trial]
        return self._score(trial) | {"discriminator_loss": float(d), "generator_loss": float(g)}

    def _score(self, trial: int) -> dict[str, float]:
        """Mean over the two noise draws."""
        self.evaluating = True
        try:
            scores = [self.evaluator(self.step.sample(trial, z)) for z in self._noise]
        finally:
            self.evaluating = False
        return {name: sum(s[name] for s in scores) / len(scores) for name in scores[0]}

    def _non_finite_losses(self) -> list[bool]:
        return [not math.isfinite(d + g) for d, g in self.step.sums.T.tolist()]

    def _non_finite(self) -> list[bool]:
        parts = (self.step.sums.T, self.step.g.flat, self.step.d.flat, self.step.ema)
        return torch.stack([~p.isfinite().all(1) for p in parts]).any(0).tolist()


def architecture(c: Config, image: tuple[int, int, int]) -> Arch:
    """The networks that the flags ask for, for images of (C, H, W)."""
    return Arch(c.model, image, c.latent_dim, c.g_hidden or (), c.d_hidden or (), c.spectral_norm)


def check_stackable(configs: Sequence[Config]) -> None:
    """Raises ValueError naming the first flag that trials side by side must share and do not."""
    where = ("preset", "output_dir", "metrics_file", "metrics_port", "resume", "on_divergence", "checkpoint_interval")
    free = {*per_trial_fields(), *where}
    for c in configs[1:]:
        for name, first in vars(configs[0]).items():
            if name not in free and getattr(c, name) != first:
                raise ValueError(
                    f"trials side by side must share {flag(name)}, got {first} and {getattr(c, name)};"
                    " train them in separate stacks"
                )
