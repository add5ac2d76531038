"""`gantune run --debug` on a terminal: a breakpoint in a trial has the terminal for itself."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuner.cli.test_cli import gantune, start
from tests.tuner.experiments import LR, document

TRIAL = """\
def main(argv):
    value = argv[0]
    breakpoint()
    print("fd=" + value)
"""
SECONDS = 60.0  # for each text that is waited for


class Terminal:
    """Our end of a pseudo-terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.text = ""

    def wait_for(self, text: str) -> str:
        """Return what was printed up to `text`, and forget it."""
        until = time.monotonic() + SECONDS
        while text not in self.text:
            assert select.select([self._descriptor], [], [], until - time.monotonic())[0], self.text
            self.text += os.read(self._descriptor, 65536).decode()
        found, _, self.text = self.text.partition(text)
        return found

    def say(self, line: str) -> None:
        os.write(self._descriptor, line.encode() + b"\n")


@pytest.fixture
def terminal() -> Iterator[tuple[Terminal, int]]:
    mine, theirs = pty.openpty()
    yield Terminal(mine), theirs
    os.close(mine)
    os.close(theirs)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "stops.py").write_text(TRIAL)
    command, args = ["python", "-m", "stops"], ["${trialParameters.lr}"]
    shape = document(
        command=command, args=args, parameters=[LR], trials=2, parallel=2, name="stops"
    )
    (tmp_path / "stops.yaml").write_text(json.dumps(shape))
    return tmp_path


def test_breakpoint_has_the_terminal(home: Path, terminal: tuple[Terminal, int]) -> None:
    screen, theirs = terminal
    process = start(
        home, "run", "stops.yaml", "--local", "--debug", stdin=theirs, stdout=theirs, stderr=theirs
    )
    for _ in range(2):
        screen.wait_for("(Pdb) ")
        screen.say("p 'value', float(value) < 1")
        assert "('value', True)" in screen.wait_for("(Pdb) ")
        time.sleep(0.6)  # longer than a live table needs to redraw
        screen.say("c")
    shown = screen.wait_for("next: gantune best stops")
    assert process.wait(30) == 0
    assert not re.search(r"\x1b\[\?25l|\x1b\[\d*A", shown)  # no cursor is hidden or moved
    assert shown.count("fd=") >= 1


def test_quitting_the_debugger_ends_the_search(home: Path, terminal: tuple[Terminal, int]) -> None:
    screen, theirs = terminal
    process = start(
        home, "run", "stops.yaml", "--local", "--debug", stdin=theirs, stdout=theirs, stderr=theirs
    )
    screen.wait_for("(Pdb) ")
    screen.say("q")
    screen.wait_for("to continue: gantune run stops.yaml --local --debug")
    assert process.wait(30) == 130
    trials = json.loads(gantune(home, "status", "stops", "--format", "json")[1])["trials"]
    assert {trial["state"] for trial in trials} == {"Waiting"}
