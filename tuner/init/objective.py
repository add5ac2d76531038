"""Which of a program's metrics a search would minimise or maximise, by their names. A draft for a person to confirm."""

from __future__ import annotations

from collections.abc import Iterable

from tuner.init.ranges import word_set, words
from tuner.result import Goal

# Words of metric names. What counts time or progress is no score, and held-out scores come before
# training scores.
_COUNTERS = word_set(
    "epoch epochs step steps iter iters iteration iterations batch batches time seconds elapsed eta lr rate speed "
    "throughput it fps images samples tokens memory mem params parameters seed device gpu gpus size version"
)
_HELD_OUT = word_set("val valid validation test eval dev heldout holdout")
_TRAINING = word_set("train training")
_HIGHER = word_set(
    "acc accuracy auc auroc f1 precision recall coverage density score reward return r2 bleu rouge map iou dice psnr "
    "ssim top1 top5 likelihood"
)
_LOWER = word_set(
    "fd fid kid error err rmse mse mae mape perplexity ppl bpd bpc nll wer cer regret cost"
)
_LOSS = word_set("loss")


def is_counter(name: str) -> bool:
    """Return whether a metric's name says time or progress."""
    return bool(words(name) & _COUNTERS) and not is_score(name)


def is_score(name: str) -> bool:
    """Return whether a metric's name is one that scores a model."""
    return bool(words(name) & (_HIGHER | _LOWER | _LOSS))


def choose(names: Iterable[str]) -> str | None:
    """Return the most likely objective, None where all names say time or progress."""
    able = [name for name in names if not is_counter(name)]
    return min(able, key=_order, default=None)


def goal_of(name: str) -> Goal:
    """Return which way a metric is better, by its name; down where the name says nothing."""
    its = words(name)
    return Goal.MAXIMIZE if its & _HIGHER and not its & (_LOWER | _LOSS) else Goal.MINIMIZE


def _order(name: str) -> tuple[bool, bool, bool]:
    """Held-out before unnamed before training; other scores before the loss, which compares only equal losses."""
    its = words(name)
    return bool(its & _TRAINING), not its & _HELD_OUT, not its & (_HIGHER | _LOWER)
