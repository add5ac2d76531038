"""`gantune init` chooses the objective by names that settle it, and asks where they do not."""

from __future__ import annotations

import pytest

from tuner.errors import UnsupportedError
from tuner.init.objective import Choice, choose, goal_of
from tuner.metrics.names import is_counter
from tuner.metrics.reports import Reports
from tuner.result import Goal


def chosen(text: str, metric: str = "") -> Choice:
    reports = Reports()
    reports.read(text)
    return choose(reports.all, metric, sections=reports.sections)


@pytest.mark.parametrize(
    ("text", "name", "goal", "why"),
    [
        ("epoch=1 loss=2 accuracy=3", "accuracy", Goal.MAXIMIZE, "losses compare only"),
        ("train_loss=1 val_loss=2", "val_loss", Goal.MINIMIZE, "measured on held-out data"),
        ("Train accuracy: 90%\nTest accuracy: 86%", "Test accuracy", Goal.MAXIMIZE, "held-out"),
        ("Test accuracy: 86%\nTrain accuracy: 90%", "Test accuracy", Goal.MAXIMIZE, "held-out"),
        ("loss=1 val_acc=2 train_acc=3", "val_acc", Goal.MAXIMIZE, "held-out"),
        (
            "train_acc=1 accuracy=2",
            "accuracy",
            Goal.MAXIMIZE,
            "the others are measured on training",
        ),
        ("val_acc=1 test_acc=2", "val_acc", Goal.MAXIMIZE, "test data is kept for the end"),
        ("val_acc=1 best_val_acc=2", "val_acc", Goal.MAXIMIZE, "repeat their best"),
        ("ValLoss=1 TestF1=2", "TestF1", Goal.MAXIMIZE, "losses compare only"),
        ("train_acc=1", "train_acc", Goal.MAXIMIZE, "nothing is measured on held-out data"),
        ("error_rate=1 loss=2", "error_rate", Goal.MINIMIZE, "losses"),
        ("params=7\nquality=3", "quality", None, ""),
        ("Loaded digits: 1257\nerror: 3", "error", Goal.MINIMIZE, ""),
    ],
)
def test_objective_is_the_best_score(text: str, name: str, goal: Goal | None, why: str) -> None:
    choice = chosen(text)
    assert choice.report.name == name
    assert goal_of(name) is goal
    assert why in choice.why
    assert bool(choice.why) == bool(why)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acc=1 f1=2", r"could be the objective: acc \('acc=1 f1=2'\), f1 .* --metric acc"),
        ("epoch=1 step=2 seconds=3", "prints only counts, settings and times"),
        ("Train\naccuracy: 1\nTest\naccuracy: 2", "below a heading of training data"),
    ],
)
def test_ambiguous_objective_is_an_error(text: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        chosen(text)


def test_metric_names_the_objective() -> None:
    text = "Test accuracy: 86%\nTrain accuracy: 90%\nTrain: f1=1\nTest: f1=2"
    assert chosen(text, "train_accuracy").report.name == "Train accuracy"
    assert chosen(text, "test_f1").report.label == "Test"
    with pytest.raises(UnsupportedError, match="prints no metric 'fd'; it prints test_accuracy"):
        chosen(text, "fd")


def test_counters_are_no_score() -> None:
    assert is_counter("images_per_second")
    assert not is_counter("batch_loss")
