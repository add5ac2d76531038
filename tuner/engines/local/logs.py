"""What a trial printed, line by line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tuner.commands import gantune
from tuner.errors import StudyNotFound
from tuner.result import Result, Trial, TrialState

POLL = 0.2  # seconds between two looks at a log that is followed
_TAIL = 4096  # bytes of a log that are searched for its last line


def choose(result: Result, which: str | None, *, best: bool) -> Trial:
    """Return the trial of that name or number; the best; else the newest that runs; else the newest that ran."""
    if best:
        if result.best is None:
            raise StudyNotFound(
                f"{result.name} has no best trial yet: no trial gave {result.objective.metric}"
            )
        return result.best
    if which is not None:
        for trial in result.trials:
            if which in (trial.name, str(trial.number)):
                return trial
        raise StudyNotFound(
            f"{result.name} has no trial {which}: `{gantune('status', result.name)}` lists them"
        )
    begun = [
        trial for trial in result.trials if trial.state is not TrialState.WAITING and trial.started
    ]
    if not begun:
        raise StudyNotFound(f"no trial of {result.name} has run yet")
    running = [trial for trial in begun if trial.state is TrialState.RUNNING]
    return (running or begun)[-1]


def lines(path: Path, runs: Callable[[], bool] | None) -> Iterator[str]:
    """Yield the lines of a log, and while `runs()` those that are added. Raises StudyNotFound where there is none."""
    try:
        file = path.open(encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise StudyNotFound(
            f"{path} cannot be read ({error.strerror}): the trial has not run yet"
        ) from error
    with file:
        rest = ""
        while True:
            alive = runs is not None and runs()  # asked first: what it printed last is read below
            while text := file.readline():
                rest += text
                if rest.endswith("\n"):
                    yield rest[:-1]
                    rest = ""
            if not alive:
                break
            time.sleep(POLL)
        if rest:
            yield rest


def last_line(log: Path) -> str:
    """The last line with text in a log, cut to 200 characters; "" without one."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - _TAIL, 0))
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines()]
    except OSError:
        return ""
    return next((line[:200] for line in reversed(lines) if line), "")
