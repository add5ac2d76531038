"""Metrics are found in any style of output, and the filter that comes with one reads its value."""

from __future__ import annotations

import pytest

from tuner.katib.filters import compiled
from tuner.metrics.parsing import parse_text
from tuner.metrics.reports import Reports, filters, hint


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("2026-01-02T03:04:05.123456Z epoch=3 fd=3.4", {"epoch": 3, "fd": 3.4}),
        ("12:30:59 Epoch 1: loss: 0.5 - acc: 0.75", {"loss": 0.5, "acc": 0.75}),
        ("[2026-01-01 10:00:00,123][INFO] - val_acc: 0.5", {"val_acc": 0.5}),
        ("Test accuracy: 86.0%", {"Test accuracy": 86}),
        ("Epoch 3/10 - train loss: 1e-3", {"train loss": 0.001}),
        ("Loss after epoch 3: 0.5", {"Loss": 0.5}),
        ("Accuracy of the network on the 10000 test images: 54 %",
         {"Accuracy of the network on the 10000 test images": 54}),
        ("Test set: Average loss: 0.02, Accuracy: 9905/10000 (99%)",
         {"Average loss": 0.02, "Accuracy": 9905}),
        ("{'eval_loss': 0.69, 'eval_f1': '0.5'}", {"eval_loss": 0.69, "eval_f1": 0.5}),
        ('{"test": {"acc": 0.5}, "n": 3}', {"acc": 0.5, "n": 3}),
        ("[0]\tvalidation_0-logloss:0.68", {"validation_0-logloss": 0.68}),
        ("[1]\tvalid_0's binary_logloss: 0.67", {"valid_0's binary_logloss": 0.67}),
        ("| val_acc | 0.85 |", {"val_acc": 0.85}),
        ("│ test_acc │ 0.85 │", {"test_acc": 0.85}),
        ("F1-score (macro): 0.8", {"F1-score (macro)": 0.8}),
        ("Epoch 1 train loss 0.5, test accuracy 0.8", {"train loss": 0.5, "test accuracy": 0.8}),
        ("the accuracy is 0.86", {"the accuracy": 0.86}),
        ("\x1b[1mval/acc\x1b[0m=-.4", {"val/acc": -0.4}),
        ("took 3 seconds, saved to run 12", {}),
    ],
)  # fmt: skip
def test_filters_read_what_is_found(line: str, found: dict[str, float]) -> None:
    reports = Reports()
    reports.read(line)
    assert [report.name for report in reports.all] == list(found)
    if "\x1b" not in line:  # Katib reads the escape sequences, too
        read = parse_text(line, list(found), compiled(filters(reports.all)))
        assert {each.metric: each.value for each in read} == found


def test_same_name_is_told_apart_by_its_line() -> None:
    reports = Reports()
    reports.read("Train: loss=1 acc=0.9\nTest: loss=2 acc=0.8")
    [test] = [each for each in reports.all if each.shown == "Test acc"]
    read = compiled(filters([test], reports.all))
    assert [each.value for each in parse_text("Test: loss=2 acc=0.8", ["acc"], read)] == [0.8]
    assert not list(parse_text("Train: loss=1 acc=0.9", ["acc"], read))


def test_hint_names_what_reads_the_metric() -> None:
    assert hint("x\nval_acc: 0.85", "val_acc").startswith(
        r"the output has `val_acc: 0.85`; add this filter: metricsFormat: ['\b(val_acc)\s*:\s*("
    )
    assert "set objectiveMetricName to 'Test accuracy' and add" in hint(
        "Test accuracy: 85%", "test_accuracy"
    )
    assert hint("loss: 3", "val_acc") == ""
    assert hint("val_acc=0.5", "val_acc") == ""
