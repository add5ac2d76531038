"""What the name of a metric says: a score, a loss or a counter, and of which data."""

from __future__ import annotations

import re
from enum import StrEnum


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


# What counts time or progress is no score, and held-out scores come before training scores.
_COUNTERS = word_set(
    "epoch epochs step steps iter iters iteration iterations batch batches time seconds elapsed "
    "eta lr rate speed throughput it fps images samples tokens memory mem params parameters seed "
    "device gpu gpus size version rows features classes fold folds"
)
_VALIDATION = word_set("val valid validation eval dev heldout holdout held cv cross oob")
_TEST = word_set("test testing")
_TRAINING = word_set("train training")
HIGHER = word_set(
    "acc accuracy auc auroc auprc f1 precision recall coverage density score reward return r2 bleu "
    "rouge map iou dice psnr ssim top1 top5 likelihood ndcg mcc kappa specificity sensitivity"
)
LOWER = word_set(
    "fd fid kid error err rmse mse mae mape rmsle perplexity ppl bpd bpc nll wer cer regret cost "
    "logloss mlogloss brier merror deviance rmsd"
)
LOSS = word_set("loss")
BEST = word_set("best max min top")


class Role(StrEnum):
    """The data that a metric is measured on."""

    VALIDATION = "validation"
    TEST = "test"
    TRAINING = "training"
    UNKNOWN = ""

    @property
    def held_out(self) -> bool:
        """Whether the model was not trained on this data."""
        return self in (Role.VALIDATION, Role.TEST)


def words(name: str) -> frozenset[str]:
    """Return the words of a name in lower case: `trainBatch-size` has train, batch and size."""
    return frozenset(_listed(name))


def _listed(name: str) -> list[str]:
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return [word for word in re.split(r"[\W_]+", apart.lower()) if word]


def slug(name: str) -> str:
    """Return a name as an identifier: `Test accuracy` becomes test_accuracy."""
    return "_".join(re.findall(r"[^\W_]+", name.lower()))


def role(text: str) -> Role:
    """Return the data that the last word that names any says, as in `Test accuracy`."""
    for word in reversed(_listed(text)):
        for words_, role_ in (
            (_VALIDATION, Role.VALIDATION),
            (_TEST, Role.TEST),
            (_TRAINING, Role.TRAINING),
        ):
            if word in words_:
                return role_
    return Role.UNKNOWN


def role_word(text: str) -> str:
    """Return the last word alone (not `train_acc`) that says which data is meant, as written."""
    found = re.findall(r"(?<![\w/.-])[A-Za-z]+(?![\w/-])", text)
    return next((word for word in reversed(found) if role(word) is not Role.UNKNOWN), "")


def is_score(name: str) -> bool:
    """Return whether a metric's name is one that scores a model."""
    return bool(words(name) & (HIGHER | LOWER | LOSS))


def is_loss(name: str) -> bool:
    """Return whether a metric is a loss, whose values only compare with those of the same loss."""
    return is_score(name) and not words(name) & (HIGHER | LOWER)


def is_counter(name: str) -> bool:
    """Return whether a metric's name says time or progress."""
    return bool(words(name) & _COUNTERS) and not is_score(name)
