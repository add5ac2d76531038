"""`gantune init` runs a program only until it knows its metrics, and leaves nothing of it behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from tuner.errors import CommandError
from tuner.init.probe import help_of, metrics_of
from tuner.metrics.reports import filters


def names(argv: list[str], settings: list[str]) -> list[str]:
    return [report.name for report in metrics_of(argv, settings, 60).reports.all]


def program(folder: Path, text: str) -> list[str]:
    path = folder / "program.py"
    path.write_text(f"import os, subprocess, sys, time\n{text}\n")
    return [sys.executable, str(path)]


def test_stops_after_a_repeated_metric(tmp_path: Path) -> None:
    line = "print(f'epoch={i} loss={i} val_acc=0.5'); time.sleep(0.05)"
    argv = program(tmp_path, f"for i in range(10**6):\n {line}")
    start = time.monotonic()
    assert names(argv, []) == ["epoch", "loss", "val_acc"]
    assert time.monotonic() - start < 10


def test_stops_when_no_new_metric_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.init.probe.SETTLE_SECONDS", 0.5)
    argv = program(
        tmp_path,
        "print('lr=0.1 params=7'); time.sleep(1)\nprint('loss=1')\nprint('fd=2')\ntime.sleep(600)",
    )
    assert names(argv, ["lr"]) == ["params", "loss", "fd"]


def test_settings_are_no_metrics(tmp_path: Path) -> None:
    argv = program(
        tmp_path, "print('batch-size=3 lr=1e-3 seed=')\nprint('quality=3')\nprint('bad=nan')"
    )
    assert names(argv, ["lr", "batch_size"]) == ["quality"]


def test_waits_for_held_out_data(tmp_path: Path) -> None:
    train = "for i in range(3): print(f'train_acc={i}'); time.sleep(0.2)"
    argv = program(tmp_path, f"{train}\nfor i in range(600): print('val_acc=1'); time.sleep(0.1)")
    assert names(argv, []) == ["train_acc", "val_acc"]


def test_reads_metrics_with_colons(tmp_path: Path) -> None:
    argv = program(tmp_path, "print('12:30:59 Epoch 1: loss: 0.5 - acc: 0.75')")
    found = metrics_of(argv, [], 60).reports.all
    assert [report.name for report in found] == ["loss", "acc"]
    assert filters(found)[0].startswith(r"\b(loss|acc)\s*:\s*")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "print('hello')",
            "finished and printed no metric. Its last line is 'hello'. Print each metric as name=value",
        ),
        ("pass", "It printed nothing"),
        (
            "sys.exit('no data')",
            "failed with exit code 1 before it printed a metric. Its last line is 'no data'",
        ),
        ("time.sleep(600)", "ran for 1 s and printed no metric"),
        ("while True: print('x' * 100)", "printed no metric"),
    ],
)
def test_says_why_there_is_no_metric(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CommandError) as error:
        metrics_of(program(tmp_path, text), [], 1 if "while" in text or "600" in text else 60)
    assert message in str(error.value)


def test_missing_program_is_named() -> None:
    with pytest.raises(CommandError, match="'no-such-program' is not found"):
        help_of(["no-such-program"])
    with pytest.raises(CommandError, match=r"is not executable: chmod \+x it"):
        help_of([__file__])


def test_ends_the_process_group(tmp_path: Path) -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'import time, signal; signal.signal(15, 1); time.sleep(600)'])"
    note = f"open('{tmp_path}/pid', 'w').write(str(p.pid))"
    argv = program(
        tmp_path, f"p = {child}\n{note}\nprint('val_acc=1')\nprint('val_acc=1')\ntime.sleep(600)"
    )
    assert names(argv, []) == ["val_acc"]
    pid = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 5
    while (
        psutil.pid_exists(pid)
        and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        and time.monotonic() < until
    ):
        time.sleep(0.05)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_help_of_failing_program_is_empty(tmp_path: Path) -> None:
    assert help_of(program(tmp_path, "print('--lr LR'); sys.exit(2)")) == ""
    assert "--lr" in help_of(program(tmp_path, "print('--lr LR')"))
    assert help_of(program(tmp_path, "assert sys.stdin.read() == ''")) == ""


def test_stops_when_a_file_has_the_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuner.init.probe.FILE_SECONDS", 0.2)
    rows = (
        "print('epoch,val_acc', file=f, flush=True)\nwhile True: print('1,0.5', file=f, flush=True)"
    )
    argv = program(tmp_path, f"f = open('log.csv', 'w')\n{rows}; time.sleep(0.1); print('.')")
    found = metrics_of(argv, [], 60)
    assert found.source is not None
    assert found.source.path == "log.csv"
    assert [report.name for report in found.reports.all] == ["epoch", "val_acc"]


def test_missing_module_names_the_interpreter(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=f"'absent'\". The interpreter is {sys.executable}"):
        metrics_of(program(tmp_path, "import absent"), [], 60)
