"""The training of E trials as an iterator of evaluations. It prints nothing and opens no file.

    training = Training([config], images, evaluator)
    for evaluation in training.run():
        print(evaluation.values["fd"])

`state` and `load_state` continue it bit for bit from any point between two steps. A trial whose
losses or weights become non-finite finishes at once with the scores of its untrained generator and
diverged=1. Others are not affected.

Training time (`train_seconds`) is the wall-clock time of the steps: drawing noise and batches, and
updating both networks. It excludes imports, loading, evaluations and checkpoints. Trials in one
stack share it.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from trainer.config import IMAGES_PER_TRIAL, Config, flag, per_trial_fields
from trainer.data import Images
from trainer.evaluate import SCORES, Evaluator
from trainer.models import Arch
from trainer.report import GAUGES
from trainer.step import Step

NOISE_SEEDS = (1_000_003, 1_000_033)
"""Seeds of the two fixed noise draws. Every score is the mean over both, the same for all trials and devices."""
LOSSES_OF_UNTRAINED = ("discriminator_loss", "generator_loss")


@dataclass(frozen=True)
class Evaluation:
    """The scores of one trial after some steps. `values` are finite and in the order of the metric line."""

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
        self.schedule = sorted(
            {max(1, round(self.total * (i + 1) / c.evals)) for i in range(c.evals)}
        )
        self.done = 0  # steps
        self.evaluated = 0  # entries of the schedule
        self.evaluated_at = 0  # steps at the last evaluation
        self.train_seconds = 0.0
        self.seconds = 0.0  # the part of train_seconds since the last evaluation
        self.alive = [True] * len(configs)
        self.untrained: list[dict[str, float]] = []
        self.history: list[Evaluation] = []
        self.evaluating = False
        """True while the state does not change, so that a signal handler may raise an exception."""
        device = images.train.device
        self._noise = [
            torch.randn(
                evaluator.samples, c.latent_dim, generator=torch.Generator().manual_seed(s)
            ).to(device)
            for s in NOISE_SEEDS
        ]

    @property
    def finished(self) -> bool:
        return not any(self.alive) or self.evaluated == self.evaluations

    @property
    def weights(self) -> int:
        """How many weights both networks of one trial have."""
        return self.step.g.flat.shape[1] + self.step.d.flat.shape[1]

    @property
    def evaluations(self) -> int:
        """How many evaluations a trial has that does not diverge."""
        return len(self.schedule) if self.config.budget_seconds is None else self.config.evals

    @property
    def progress(self) -> str:
        """How much is done, in words."""
        if self.config.budget_seconds is None:
            return f"step {self.done} of {self.total}"
        return (
            f"step {self.done} after {self.train_seconds:.1f} s of {self.config.budget_seconds:g} s"
        )

    def run(self, between: Callable[[], None] = lambda: None) -> Iterator[Evaluation]:
        """Yield evaluations. `between` is called wherever the state is consistent: it may save the state, or raise."""
        if not self.untrained:
            self.untrained = [self._untrained(e) for e in range(self.step.trials)]
        while not self.finished:
            between()
            if not self._evaluation_is_due():
                self._advance()
                # reading the losses from a GPU would make it wait
                if self.step.device.type == "cpu":
                    yield from self._end_diverged(self._non_finite_losses())
            else:
                yield from self._end_diverged(self._non_finite())
                yield from self._evaluate()
        between()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return (tensors, JSON values): everything that the rest of the run depends on, and all evaluations so far."""
        meta = {
            "done": self.done, "evaluated": self.evaluated, "evaluated_at": self.evaluated_at,
            "seconds": self.seconds, "train_seconds": self.train_seconds, "alive": self.alive,
            "untrained": self.untrained,
            "history": [dataclasses.asdict(e) | {"time": e.time.isoformat()} for e in self.history],
        }  # fmt: skip
        return self.step.state(), meta

    def load_state(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Continue from what `state` returned. Raises ValueError if it cannot be a state of this run."""
        history = self._checked_history(meta)
        self._check_counts(meta, history)
        self.step.load_state(tensors)
        self.done, self.evaluated = meta["done"], meta["evaluated"]
        self.evaluated_at = meta["evaluated_at"]
        self.seconds, self.train_seconds = float(meta["seconds"]), float(meta["train_seconds"])
        self.alive, self.untrained, self.history = meta["alive"], meta["untrained"], history

    def _checked_history(self, meta: dict[str, Any]) -> list[Evaluation]:
        history = []
        for entry in _list(meta, "history"):
            evaluation = Evaluation(**entry | {"time": datetime.fromisoformat(entry["time"])})
            _require(
                evaluation.trial in range(self.step.trials),
                "history names a trial that does not exist",
            )
            _require(evaluation.time.tzinfo is not None, "history has a time without a zone")
            _require(list(evaluation.values) == list(GAUGES), "history has other metrics")
            _require(
                all(map(_is_finite, evaluation.values.values())),
                "history has a value that is not finite",
            )
            history.append(evaluation)
        return history

    def _check_counts(self, meta: dict[str, Any], history: list[Evaluation]) -> None:
        done, evaluated, last = (meta[name] for name in ("done", "evaluated", "evaluated_at"))
        _require(
            all(type(n) is int and n >= 0 for n in (done, evaluated, last)),
            "a count is not a whole number",
        )
        _require(evaluated <= self.evaluations and last <= done, "a count is too large")
        if self.config.budget_seconds is None:
            schedule = [0, *self.schedule]
            due = schedule[min(evaluated + 1, len(self.schedule))]
            _require(
                last == schedule[evaluated] and done <= due, "the counts do not fit the schedule"
            )
        for name in ("seconds", "train_seconds"):
            _require(
                _is_finite(meta[name]) and meta[name] >= 0, f"{name} is not a number of seconds"
            )
        alive, untrained = _list(meta, "alive"), _list(meta, "untrained")
        _require(
            len(alive) == self.step.trials and all(type(a) is bool for a in alive),
            "alive has other trials",
        )
        finished = not any(alive) or evaluated == self.evaluations
        _require(
            bool(history and history[-1].final) or not finished,
            "the run finished without a final evaluation",
        )
        _require(
            len(untrained) == (self.step.trials if done or untrained else 0),
            "untrained has other trials",
        )
        for scores in untrained:
            _require(set(scores) == {*SCORES, *LOSSES_OF_UNTRAINED}, "untrained has other metrics")
            _require(
                all(map(_is_finite, scores.values())), "untrained has a value that is not finite"
            )

    def generator(self, trial: int) -> dict[str, Tensor]:
        """Return the weights of one trial's evaluated generator, without the axis of trials."""
        return {k: p[trial] for k, p in self.step.g.like(self.step.ema).items()}

    def _evaluation_is_due(self) -> bool:
        budget = self.config.budget_seconds
        if budget is None:
            return self.done >= self.schedule[self.evaluated]
        return (
            self.done > self.evaluated_at
            and self.train_seconds >= budget * (self.evaluated + 1) / self.evaluations
        )

    def _advance(self) -> None:
        start = time.perf_counter()
        self.step()
        self.done += 1
        if self.config.budget_seconds is not None:
            self._synchronise()
        self._count_time(start)

    def _synchronise(self) -> None:
        """Wait for the steps in the queue of a GPU: their time is known only when they have finished."""
        if self.step.device.type == "cuda":
            torch.cuda.synchronize()

    def _count_time(self, start: float) -> None:
        spent = time.perf_counter() - start
        self.seconds, self.train_seconds = self.seconds + spent, self.train_seconds + spent

    def _evaluate(self) -> list[Evaluation]:
        start = time.perf_counter()
        self._synchronise()
        self._count_time(start)
        steps = self.done - self.evaluated_at
        means = (self.step.sums / steps).T.tolist()
        final = self.evaluated + 1 == self.evaluations
        speed = steps * self.images_per_step / max(self.seconds, 1e-9)
        found = [
            self._evaluation(e, means[e], self._score(e), speed, diverged=False, final=final)
            for e in range(self.step.trials)
            if self.alive[e]
        ]
        self.step.sums.zero_()
        self.evaluated, self.evaluated_at, self.seconds = self.evaluated + 1, self.done, 0.0
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
        self, trial: int, means: Sequence[float], scores: dict[str, float], speed: float, *,
        diverged: bool, final: bool,
    ) -> Evaluation:  # fmt: skip
        values = {
            "epoch": round(self.done * self.images_per_step / len(self.images.train), 4), "step": self.done,
            "loss": means[1], "generator_loss": means[1], "discriminator_loss": means[0],
            **scores, "images_per_second": round(speed, 1), "train_seconds": round(self.train_seconds, 3),
            "diverged": int(diverged),
        }  # fmt: skip
        return Evaluation(trial, datetime.now(UTC), values, final)

    def _untrained(self, trial: int) -> dict[str, float]:
        d, g = self.step.current_losses(
            self._noise[0][: self.config.bs].expand(self.step.trials, -1, -1)
        )[:, trial]
        return self._score(trial) | {"discriminator_loss": float(d), "generator_loss": float(g)}

    def _score(self, trial: int) -> dict[str, float]:
        """Return the scores of one trial, the mean over the two noise draws."""
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
    """Return the networks that the flags describe, for images of (C, H, W)."""
    return Arch(c.model, image, c.latent_dim, c.g_hidden or (), c.d_hidden or (), c.spectral_norm)


def check_stackable(configs: Sequence[Config]) -> None:
    """Raise ValueError with the first flag that differs although trials in one stack must share it."""
    where = (
        "preset", "output_dir", "metrics_file", "metrics_port", "metrics_host", "resume", "on_divergence",
        "checkpoint_interval",
    )  # fmt: skip
    free = {*per_trial_fields(), *where}
    for c in configs[1:]:
        for name, first in vars(configs[0]).items():
            if name not in free and getattr(c, name) != first:
                raise ValueError(
                    f"trials in one stack must share {flag(name)}, got {first} and {getattr(c, name)}."
                    " Train them in separate stacks"
                )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _list(meta: dict[str, Any], name: str) -> list[Any]:
    value = meta[name]
    _require(isinstance(value, list), f"{name} is not a list")
    return list(value)


def _is_finite(value: object) -> bool:
    """Whether a JSON value is a finite number; an integer may be too large for a float."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )
