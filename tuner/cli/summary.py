"""What `gantune report NAME...` prints: the verdict, the history, importances, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from tuner.analysis import gain
from tuner.cli import table
from tuner.cli.terminal import plain
from tuner.commands import gantune

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tuner.analysis.view import View

BAR = 24  # characters of the longest bar
SPARK = 60  # characters of the history
ROWS = 6  # parameters, changes and settings that are listed
LEVELS = "▁▂▃▄▅▆▇█"
STYLES = {"good": "green", "warn": "yellow", "bad": "red", "plain": "dim"}


def summary(study: View) -> Iterator[RenderableType]:
    """Yield the lines about one study: at most 40 in a terminal of 80 columns."""
    from tuner.analysis.advice import advice
    from tuner.report.plots.importances import why_not
    from tuner.report.verdict import verdict

    result, found = study.result, verdict(study)
    yield Text.assemble((result.name, "bold"), f" ({study.engine}): {table.goal(result)}")
    yield Text(f"{result.state.value.lower()}, {table.counts(result)}")
    yield from (
        Text(line, style="red", overflow="ellipsis", no_wrap=True)
        for line in table.failures(result)
    )
    yield table.best_line(result)
    if found.badge:
        yield Text(plain(found.badge), style=STYLES[found.tone])
    if result.best is not None:
        yield from (Text(plain(text)) for text in gain.sentences(result)[1:])
    if len(study.scored) > 1:
        yield Text("")
        yield _history(study)
    yield Text("")
    if study.effects:
        yield Text("parameter importances (share of the effect, 80 % interval)", style="dim")
        yield _bars(study)
    else:
        yield Text(why_not(len(study.complete), len(study.experiment.parameters)), style="dim")
    changes = advice(result, study.experiment)
    if changes:
        yield Text("")
        yield Text(plain(f"next search (`{gantune('next', result.name)}` writes it)"), style="dim")
        yield from (
            Text(f"  {plain(str(change))}", overflow="ellipsis", no_wrap=True)
            for change in changes[:ROWS]
        )
    yield Text("")
    yield Text(plain(f"next: {found.next}"))


def compare(studies: Sequence[View]) -> Iterator[RenderableType]:
    """Yield which study is better, and what differs between them."""
    from tuner.report.data import duration, seconds
    from tuner.report.verdict import comparison, differences, label, percent

    sentence, tone = comparison(studies)
    yield Text(plain(sentence), style=f"bold {STYLES[tone]}")
    yield Text("")
    names = [label(study) for study in studies]
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", *names):
        grid.add_column(Text(plain(heading)), overflow="fold")
    rows: dict[str, list[str]] = {
        "best": [],
        "parameters": [],
        "gain": [],
        "trials": [],
        "took": [],
    }
    for study in studies:
        best, took = study.result.best, seconds(study.result)
        score = f"{study.metric} {table.number(best.metrics[study.metric])}" if best else "none"
        rows["best"].append(score)
        rows["parameters"].append(table.assignments(best) if best else "")
        rows["gain"].append("" if study.result.gain is None else percent(study.result.gain))
        rows["trials"].append(f"{len(study.scored)} scored of {len(study.result.trials)}")
        rows["took"].append("" if took is None else duration(took))
    settings = differences(studies)
    lines = [*rows.items(), *((name, values) for name, values in settings[:ROWS])]
    for name, values in lines:
        grid.add_row(Text(name, style="dim"), *(Text(plain(value)) for value in values))
    yield grid
    if len(settings) > ROWS:
        yield Text(f"{len(settings) - ROWS} more settings differ", style="dim")


def _history(study: View) -> Text:
    """Return one bar for each trial, or for the best of several where there are many."""
    from tuner.report.scale import scale

    on, result = scale(study), study.result
    per = -(-len(result.trials) // SPARK)
    bars = ""
    for start in range(0, len(result.trials), per):
        held = [
            value
            for trial in result.trials[start : start + per]
            if (value := result.value(trial)) is not None
        ]
        if not held:
            bars += "·"
            continue
        best = held[0]
        for value in held[1:]:
            best = value if result.objective.better(value, best) else best
        share = on.share(best)
        bars += LEVELS[min(len(LEVELS) - 1, int(share * len(LEVELS)))]
    each = "trial" if per == 1 else f"{per} trials"
    return Text.assemble(
        (f"{plain(study.metric)} of each {each}, from {on.least:.4g} to {on.most:.4g}\n", "dim"),
        (f"  {bars}", "blue"),
    )


def _bars(study: View) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, effect in list(study.effects.items())[:ROWS]:
        bar = (
            "\N{FULL BLOCK}" * max(1, round(BAR * effect.value))
            if effect.value >= 0.5 / BAR
            else ""
        )
        share = f"{effect.value:.2f}  {effect.low:.2f} to {effect.high:.2f}"
        grid.add_row(Text(plain(name)), Text(share), Text(bar, style="blue"))
    return grid
