"""Early stopping of one trial by --stop-at, and by the variable that a cluster sets."""

import json

import pytest

from tests.trainer.test_main import FAST, values
from trainer import stopping
from trainer.__main__ import main
from trainer.config import Config, UsageError

LONG = [*FAST[:-2], "--evals=4", FAST[-1]]


@pytest.mark.parametrize(
    ("text", "values", "missed"),
    [
        ("2gt0.5", [0.6, 0.6], True),
        ("2gt0.5", [0.6, 0.5], False),
        ("2gt0.5", [0.5, 9.0], False),
        ("2gt0.5", [0.6], False),
        ("1gt9_2lt-1.5e-07", [1.0, -1.0], False),
        ("1gt9_2lt-1.5e-07", [-1.0, -1.0], True),
        ("", [1.0], False),
    ],
)
def test_best_value_so_far_counts(text, values, missed):
    assert any(each.missed(values) for each in stopping.parse(text)) is missed


@pytest.mark.parametrize("text", ["4", "0gt1", "4ge1", "4gt", "4gt1e999", "4gtnan", "4gt1__5gt1"])
def test_unusable_threshold_is_refused(text):
    with pytest.raises(UsageError, match=r"such as 4gt0.5. Join several with _"):
        Config.parse([f"--stop-at={text}"])


def test_unknown_metric_is_refused(capsys):
    assert main([*FAST, "--stop-metric=fid"]) == 2
    assert "--stop-metric=fid: must be one of epoch" in capsys.readouterr().err


def test_trial_finishes_at_a_missed_threshold(tmp_path, capsys, monkeypatch):
    assert main(LONG) == 0
    complete = capsys.readouterr().out.splitlines()
    monkeypatch.setenv(stopping.VARIABLE, "1gt1e06_2gt1e-06_3gt0")
    argv = [*LONG, f"--output-dir={tmp_path}"]
    for _ in range(2):  # the second run finds the first one's checkpoint
        assert main(argv) == 0
        *reports, last = capsys.readouterr().out.splitlines()
        assert [values(line) for line in reports] == [values(line) for line in complete[:2]]
        assert last.split()[1:] == ["stopped=1"]
        record = json.loads((tmp_path / "run.json").read_text())
        assert record["finished"]
        assert record["final"]["step"] == int(values(reports[-1])["step"])
        assert (tmp_path / "generator.safetensors").exists()
    assert main([*argv, "--stop-at="]) == 0  # a flag overrides the variable
    lines = capsys.readouterr().out.splitlines()
    assert [values(line) for line in lines] == [values(line) for line in complete]
