"""What `gantune report NAME` prints in the terminal: the best trial, importances, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from tuner.analysis import gain
from tuner.cli import table
from tuner.cli.terminal import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tuner.report import View

BAR = 24  # characters of the longest bar


def summary(study: View) -> Iterator[RenderableType]:
    """Yield the lines about one study."""
    from tuner.analysis.advice import advice
    from tuner.report.plots.expected import draw as expected
    from tuner.report.plots.importances import why_not

    result = study.result
    yield Text.assemble((result.name, "bold"), f" ({study.engine}): {table.goal(result)}")
    yield Text(f"{result.state.value.lower()}, {table.counts(result)}")
    yield from (
        Text(line, style="red", overflow="ellipsis", no_wrap=True)
        for line in table.failures(result)
    )
    yield table.best_line(result)
    yield from (Text(plain(text)) for text in gain.sentences(result))
    yield Text("")
    if study.effects:
        yield Text("parameter importances (share of the total effect, 80 % interval)", style="dim")
        yield _bars(study)
    else:
        yield Text(why_not(len(study.complete), len(study.experiment.parameters)), style="dim")
    if len(study.scored) > 1:
        yield Text(expected(study).text, style="dim")
    changes = advice(result, study.experiment)
    if changes:
        yield Text("")
        yield Text(plain(f"next search (`gantune next {result.name}` writes it)"), style="dim")
        yield from (Text(f"  {plain(str(change))}") for change in changes)


def _bars(study: View) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, effect in study.effects.items():
        bar = (
            "\N{FULL BLOCK}" * max(1, round(BAR * effect.value))
            if effect.value >= 0.5 / BAR
            else ""
        )
        share = f"{effect.value:.2f}  {effect.low:.2f} to {effect.high:.2f}"
        grid.add_row(Text(plain(name)), Text(share), Text(bar, style="blue"))
    return grid
