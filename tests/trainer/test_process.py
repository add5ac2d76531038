"""What the trainer's commands share: the progress of their long parts."""

import io

import pytest

from trainer import process


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose only item is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    return now


def report(clock, items, seconds_each):
    for _ in process.progress(range(items), "reading"):
        clock[0] += seconds_each


def test_prints_a_line_every_tenth(clock, capsys):
    report(clock, 200, 0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading: 10%, 90 s left"
    assert lines[-1] == "reading: 100%, 0 s left"
    assert len(lines) == 10


def test_prints_at_most_once_a_second(clock, capsys):
    report(clock, 40, 0.125)  # five seconds
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_short_work_is_silent(clock, capsys):
    report(clock, 10, 0.09)
    assert capsys.readouterr().err == ""


def test_updates_one_line_of_a_terminal(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    report(clock, 4, 2.0)
    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown == [
        "",
        *(f"reading: {25 * i}%, {8 - 2 * i} s left" for i in range(1, 5)),
        "",  # the line is empty again at the end
    ]


def test_error_replaces_the_unfinished_line(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    items = process.progress(range(4), "reading")
    next(items)
    clock[0] += 2.0
    next(items)
    process.fail("prepare", "bad")
    assert terminal.getvalue() == "\r\x1b[Kreading: 25%, 6 s left\r\x1b[Kprepare: bad\n"


def test_yields_every_item(clock):
    assert list(process.progress("abc", "reading")) == ["a", "b", "c"]
