"""Shows a search while it runs: a live table, lines where stdout is no terminal, or JSON events.

`follow(engine.run(experiment), ...)` draws the events of either engine and returns the last Result.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.analysis import gain
from tuner.cli import table
from tuner.cli.console import SafeConsole
from tuner.cli.terminal import plain, say
from tuner.commands import gantune
from tuner.engines.base import Event, EventKind
from tuner.experiment.final import simplest_form
from tuner.experiment.model import Experiment
from tuner.result import Result, StudyState, Trial, TrialState

REFRESHES = 4  # per second; the table is drawn between events too, for its clocks
# lines of the screen that are not trials: title, bar, best, header, note, and room below
CHROME = 8


class Output(StrEnum):
    """How a search is shown."""

    LIVE = "live"
    LINES = "lines"
    JSON = "json"

    @classmethod
    def choose(cls, form: str) -> Output:
        """Return JSON if `form` is json, the live table on a terminal, and lines otherwise."""
        if form == "json":
            return cls.JSON
        return (
            cls.LIVE
            if SafeConsole().is_terminal and not SafeConsole().is_dumb_terminal
            else cls.LINES
        )


def follow(
    events: Iterable[Event], *, total: int | None, output: Output, note: Callable[[], str] = str
) -> Result:
    """Show `events` until they end and return the last Result.

    `total` is the number of trials at which the search ends, None where it has no limit. `note` is
    asked at each drawing for a line to show below (what a Ctrl-C has set off). Warnings go to
    stderr in every mode but JSON.
    """
    if output is Output.JSON:
        return _each(events, lambda event: say(json.dumps(event_json(event))))
    if output is Output.LINES:
        return _each(events, Lines(total).show)
    screen = Screen(total, note)
    console = SafeConsole()
    with Live(screen, console=console, refresh_per_second=REFRESHES, transient=True) as live:

        def draw(event: Event) -> None:
            if event.kind is EventKind.WARNING:
                live.console.print(Text(f"warning: {plain(event.message)}", style="yellow"))
            screen.update(event.result)

        return _each(events, draw)


def _each(events: Iterable[Event], show: Callable[[Event], None]) -> Result:
    result: Result | None = None
    for event in events:
        show(event)
        result = event.result
    if result is None:
        raise RuntimeError("an engine's events must end with a STUDY_ENDED event")
    return result


def event_json(event: Event) -> dict[str, object]:
    """An event as `--format json` prints it, one per line (docs/reference/result.md)."""
    best = event.result.best
    shape: dict[str, object] = {
        "event": event.kind.value,
        "time": datetime.now(UTC).isoformat(),
        "study": event.result.name,
        "state": event.result.state.value,
        "best": best.number if best else None,
    }
    if event.trial is not None:
        shape["trial"] = event.trial.to_json()
    if event.message:
        shape["message"] = event.message
    if event.kind is EventKind.STUDY_ENDED:
        shape["result"] = event.result.to_json()
    return shape


def line(event: Event, total: int | None) -> str:
    """An event as a plain line; empty for those that would only make noise (each report of a running trial)."""
    trial, result = event.trial, event.result
    if event.kind is EventKind.TRIAL_STARTED and trial:
        return f"{_of(trial, total)} started  {table.assignments(trial)}"
    if event.kind is EventKind.TRIAL_REPORTED and trial and trial.reason:
        return f"{_of(trial, total)} {table.trouble(trial)}: {plain(trial.reason)}"
    if event.kind is EventKind.TRIAL_ENDED and trial:
        return _ended(trial, result, total)
    return ""


def _ended(trial: Trial, result: Result, total: int | None) -> str:
    metric = result.objective.metric
    word, _ = table.WORDS[trial.state]
    value = f"  {metric}={table.number(trial.metrics[metric])}" if metric in trial.metrics else ""
    reason = f"  ({plain(trial.reason)})" if trial.reason else ""
    best = result.best
    mark = "  <- best so far" if best is not None and best.number == trial.number else ""
    return f"{_of(trial, total)} {word}{value}  {table.assignments(trial)}  {table.took(trial)}{reason}{mark}"


def _of(trial: Trial, total: int | None) -> str:
    width = len(str(total or ""))
    return f"trial {trial.number:>{width}}"


class Lines:
    """Prints events as lines. The scheduler's reasons alternate, so each reason of a trial is printed once."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._pending: set[tuple[int, str]] = set()

    def show(self, event: Event) -> None:
        """Print an event, unless it says nothing new."""
        if event.kind is EventKind.WARNING:
            say(f"warning: {plain(event.message)}", err=True)
            return
        if event.kind is EventKind.TRIAL_REPORTED and event.trial is not None:
            reason = (event.trial.number, event.trial.reason)
            if reason in self._pending:
                return
            self._pending.add(reason)
        if text := line(event, self._total):
            say(text)


class Screen:
    """The live picture: title, progress, best so far, the trials that fit, and a note. Rich draws it from a thread."""

    def __init__(
        self,
        total: int | None,
        note: Callable[[], str] = str,
        clock: Callable[[], float] = time.time,
    ):
        self.total, self.note, self.clock = total, note, clock
        self.began = clock()
        self.result: Result | None = None
        self.ended = 0

    def update(self, result: Result) -> None:
        """Show `result` from the next drawing on."""
        self.ended, self.result = sum(trial.state.finished for trial in result.trials), result

    def left(self) -> str:
        """`about 1:40 left`, from the pace at which trials have finished since this started; empty until one has."""
        ends = (
            [trial.ended.timestamp() for trial in self.result.trials if trial.ended]
            if self.result
            else []
        )
        here = [end for end in ends if end > self.began]
        if self.total is None or not here or self.ended >= self.total:
            return ""
        pace, since = (max(here) - self.began) / len(here), self.clock() - max(here)
        return f"about {table.duration(pace * (self.total - self.ended) - since)} left"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw."""
        if self.result is None:
            yield Text("starting ...", style="dim")
            return
        result, width = self.result, options.max_width
        rows = max(3, console.size.height - CHROME - len(table.waiting(result)))
        shown = table.choose(result, rows)
        yield Text.assemble((result.name, "bold"), f"  {table.goal(result)}")
        yield self._progress(width)
        best = table.best_line(result)
        best.truncate(width, overflow="ellipsis")
        yield best
        yield Text("")
        yield table.trials(result, shown, width)
        notes = [self.note()] if self.note() else []
        notes.extend(table.waiting(result))
        if len(shown) < len(result.trials):
            notes.append(
                f"{len(shown)} of {len(result.trials)} trials shown: those that run, the best 3, the newest"
            )
        yield Group(
            *(Text(text, style="yellow", overflow="ellipsis", no_wrap=True) for text in notes)
        )

    def _progress(self, width: int) -> Table:
        assert self.result is not None  # noqa: S101
        elapsed = table.duration(self.clock() - self.began)
        of = f"/{self.total}" if self.total else ""
        failed = sum(trial.state in table.FAILURES for trial in self.result.trials)
        waiting = sum(map(table.waits, self.result.trials))
        running = sum(trial.state is TrialState.RUNNING for trial in self.result.trials) - waiting
        asked = len(self.result.trials)
        chooses = (
            self.result.state is StudyState.RUNNING and self.ended == asked and asked != self.total
        )
        # a sampler can take a second
        work = f"choosing trial {asked}" if chooses else f"{running} running"
        parts = [f"{self.ended}{of} trials", work, f"{waiting} waiting" if waiting else ""]
        parts += [f"{failed} failed" if failed else "", elapsed]
        words = ", ".join(part for part in [*parts, self.left()] if part)
        grid = Table.grid(padding=(0, 1), expand=False)
        bar = ProgressBar(
            total=self.total or 1,
            completed=self.ended if self.total else 0,
            width=max(8, min(30, width - len(words) - 2)),
        )
        grid.add_row(bar, Text(words, no_wrap=True, overflow="ellipsis"))
        return grid


def final(result: Result, width: int, rows: int = 20) -> RenderResult:
    """What stays on the screen at the end: the best trials, the counts, the best."""
    shown = (
        result.trials
        if len(result.trials) <= rows
        else sorted(table.ranked(result)[:rows], key=lambda t: t.number)
    )
    yield table.trials(result, list(shown), width)
    if len(shown) < len(result.trials):
        yield Text(f"the best {len(shown)} of {len(result.trials)} trials", style="dim")
    yield Text("")
    yield Text(f"{result.name}: {result.state.value.lower()}, {table.counts(result)}")
    yield from (Text(text, style="red") for text in table.failures(result))
    if result.reason:
        yield Text(plain(result.reason), style="dim")
    for text in table.waiting(result):
        yield Text(text, style="yellow")
    yield table.best_line(result)
    yield from (Text(plain(text)) for text in gain.sentences(result))


def print_final(
    result: Result, experiment: Callable[[], Experiment], options: Sequence[str] = ()
) -> None:
    """Print `final` and the command that comes next.

    Args:
        result: The last state of the study.
        experiment: Returns its Experiment. It is called if there is a best trial.
        options: The options that choose the study in the next command.
    """
    console = SafeConsole(file=sys.stdout, soft_wrap=False)
    for part in final(result, console.size.width):
        console.show(part)
    if result.best:
        form = simplest_form(experiment(), result.best.parameters)
        best = gantune("best", result.name, *options, "--format", form)
        console.show(Text(f"next: {best}", style="dim"))
