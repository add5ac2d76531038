"""The live table, the plain lines and the JSON events, drawn by rich on terminals of a given size."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from tests.tuner.samples import result, search, trial
from tuner.cli import live, table
from tuner.engines.base import Event, EventKind
from tuner.result import Goal, Objective, Result, StudyState, Trial, TrialState

WIDE = {f"parameter_{index}": 0.123456 for index in range(12)}


def draw(renderable: object, width: int = 80, height: int = 24) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
    )
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def screen(of: Result, total: int | None = 20, note: str = "") -> live.Screen:
    made = live.Screen(total, lambda: note)
    made.update(of)
    return made


@pytest.mark.parametrize("count", [1, 20, 1000])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (200, 60)])
def test_the_live_table_fits_the_terminal(count, width, height):
    lines = draw(screen(search(count), count), width, height)
    assert len(lines) < height
    assert max(map(len, lines)) <= width


def test_twelve_parameters_share_one_column_at_80():
    done = trial(0, TrialState.SUCCEEDED, 2.0, **WIDE)
    lines = draw(table.trials(result(done), [done], 80))
    assert "parameters" in lines[0]
    assert "parameter_0=0.1235" in lines[1]
    assert max(map(len, lines)) <= 80


def test_narrow_table_shows_objective_first():
    done = [trial(number, TrialState.SUCCEEDED, 2.0 + number, lr=0.1, bs=8) for number in range(2)]
    equal = [
        replace(one, metrics={"generator_loss": 0.7, "loss": 0.7, "copied": 0.0, **one.metrics})
        for one in done
    ]
    header = draw(table.trials(result(*equal), equal, 80))[0].split()
    assert header == ["#", "state", "fd", "lr", "bs", "generator_loss", "copied", "time"]
    by_loss = replace(result(*equal), objective=Objective("loss", Goal.MINIMIZE))
    assert draw(table.trials(by_loss, equal, 120))[0].split() == [
        "#",
        "state",
        "loss",
        "lr",
        "bs",
        "copied",
        "fd",
        "time",
    ]


def test_long_table_shows_running_best_and_newest():
    found = search(1000)
    at_work = replace(found.trials[500], state=TrialState.RUNNING, metrics={})
    found = replace(found, trials=(*found.trials[:500], at_work, *found.trials[501:]))
    numbers = [shown.number for shown in table.choose(found, 10)]
    assert len(numbers) == 10
    assert numbers == sorted(numbers)
    assert 500 in numbers
    assert {best.number for best in table.ranked(found)[:3]} <= set(numbers)
    assert {999, 998, 997} <= set(numbers)
    assert "10 of 1000" not in draw(screen(found))[-1]
    assert any("of 1000 trials shown" in line for line in draw(screen(found)))


def test_more_running_trials_than_rows_still_fit():
    found = result(*(trial(number, TrialState.RUNNING) for number in range(50)))
    assert len(table.choose(found, 6)) == 6


def test_time_left_follows_recently_finished_trials():
    began = datetime(2026, 1, 2, 3, tzinfo=UTC)
    now = [began.timestamp()]
    shown = live.Screen(10, clock=lambda: now[0])

    def ended(number: int, seconds: int) -> Trial:
        return replace(
            trial(number, TrialState.SUCCEEDED, 1.0), ended=began + timedelta(seconds=seconds)
        )

    before = [ended(number, -number) for number in range(4)]
    # an earlier run's, or a watch's that came late
    shown.update(result(*before, trial(4, TrialState.RUNNING)))
    assert shown.left() == ""
    now[0] += 60
    shown.update(result(*before, ended(4, 30), ended(5, 60)))
    assert shown.left() == "about 2:00 left"  # 4 more at 30 s each
    now[0] += 20
    assert shown.left() == "about 1:40 left"


def test_live_table_says_while_the_sampler_chooses():
    def progress(count: int, total: int | None, **states: str) -> str:
        result = search(count)
        trials = (
            replace(trial, state=TrialState(states.get(f"t{trial.number}", "Succeeded")))
            for trial in result.trials
        )
        return "".join(
            draw(
                screen(replace(result, state=StudyState.RUNNING, trials=tuple(trials)), total=total)
            )
        )

    assert "3/20 trials, choosing trial 3, 0:" in progress(3, 20)
    assert "3 trials, choosing trial 3, 0:" in progress(3, None)
    assert "2/20 trials, 1 running, 0:" in progress(3, 20, t2="Running")
    assert "3/3 trials, 0 running, 0:" in progress(3, 3)


def test_markup_in_a_value_is_text():
    hostile = trial(
        0, TrialState.SUCCEEDED, 1.0, act="[red]x[/red] [link=file:///etc]y", other="a\nb\x1b[31m"
    )
    text = "\n".join(draw(table.trials(result(hostile), [hostile], 120), 120))
    assert "[red]x[/red] [link=file:///etc]y" in text
    assert "\x1b[31m" not in text


def test_best_is_never_a_failed_trial():
    found = result(trial(0, TrialState.FAILED, 0.1), trial(1, TrialState.SUCCEEDED, 0.5))
    assert "0.5 in trial 1" in table.best_line(found).plain
    assert "no trial has a finite fd" in table.best_line(result(trial(0, TrialState.FAILED))).plain


def test_failures_are_told_once_per_reason():
    found = result(*(trial(number, TrialState.FAILED) for number in range(30)))
    assert len(table.failures(found)) == 1
    assert "exit code 1" in table.failures(found)[0]


def events() -> list[Event]:
    begun = trial(0, TrialState.RUNNING, lr=1e-3)
    ended = trial(0, TrialState.SUCCEEDED, 2.5, lr=1e-3)
    last = result(ended)
    return [
        Event(EventKind.TRIAL_STARTED, result(begun, state=StudyState.RUNNING), begun),
        Event(
            EventKind.WARNING, result(begun, state=StudyState.RUNNING), message="disk nearly full"
        ),
        Event(EventKind.TRIAL_REPORTED, result(begun, state=StudyState.RUNNING), begun),
        Event(EventKind.TRIAL_ENDED, last, ended),
        Event(EventKind.STUDY_ENDED, last),
    ]


def test_plain_lines_where_there_is_no_terminal(capsys):
    assert live.follow(events(), total=1, output=live.Output.LINES) == events()[-1].result
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "trial 0 started  lr=0.001",
        "trial 0 done  fd=2.5  lr=0.001  0:10  <- best so far",
    ]
    assert err == "warning: disk nearly full\n"


@pytest.mark.parametrize(
    ("state", "reason", "word"),
    [
        (TrialState.WAITING, "its Job is refused: quota", "pending"),
        (TrialState.RUNNING, "Unschedulable: 1 Insufficient cpu", "pending"),
        (TrialState.RUNNING, "NodeNotReady: node lab does not answer", "not ready"),
        (TrialState.RUNNING, "its pod has completed, but Katib did not record it", "stuck"),
    ],
)
def test_pending_trial_is_not_said_to_run(state, reason, word):
    slow = Trial(3, "s-3", state, {"lr": 0.1}, reason=reason)
    shown = live.line(
        Event(EventKind.TRIAL_REPORTED, result(slow, state=StudyState.RUNNING), slow), 4
    )
    assert shown == f"trial 3 {word}: {reason}"


def test_alternating_reasons_are_printed_once(capsys):
    lines = live.Lines(4)
    for reason in ["1 Insufficient cpu", "1 node is down"] * 3:
        slow = Trial(3, "s-3", TrialState.RUNNING, {}, reason=f"Unschedulable: {reason}")
        lines.show(Event(EventKind.TRIAL_REPORTED, result(slow, state=StudyState.RUNNING), slow))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_json_lines_end_with_the_result(capsys):
    live.follow(events(), total=1, output=live.Output.JSON)
    out, err = capsys.readouterr()
    shapes = [json.loads(line) for line in out.splitlines()]
    assert [shape["event"] for shape in shapes] == [event.kind.value for event in events()]
    assert all({"event", "time", "study", "state", "best"} <= set(shape) for shape in shapes)
    assert Result.from_json(shapes[-1]["result"]) == events()[-1].result
    assert err == ""


def test_the_live_display_gives_the_cursor_back(monkeypatch):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, height=24)
    monkeypatch.setattr(live, "SafeConsole", lambda **_: console)

    def broken():
        yield events()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live.follow(broken(), total=1, output=live.Output.LIVE)
    text = stream.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3723, "1:02:03"), (-1, "0:00")],
)
def test_durations_are_short_words(seconds, text):
    assert table.duration(seconds) == text


def test_counts_name_every_state():
    words = table.counts(result(*(trial(n, state) for n, state in enumerate(TrialState))))
    assert len(re.findall(r"\d+ [a-z]", words)) == len(TrialState)
