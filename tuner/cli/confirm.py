"""`gantune confirm NAME`: train the best trials again on new seeds."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.options import (
    client,
    cluster_options,
    engine_option,
    format_option,
    store_option,
    study_names,
)
from tuner.cli.run import again, workers_option
from tuner.cli.terminal import say
from tuner.errors import StudyError, UnsupportedError

if TYPE_CHECKING:
    from tuner.analysis.confirm import Confirmation
    from tuner.client import Client
    from tuner.experiment.model import Experiment
    from tuner.result import Result


@click.command()
@click.argument("name", shell_complete=study_names)
@click.option(
    "--top",
    "count",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Train so many trials.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Train each so many times.",
)
@click.option(
    "--seed-flag",
    metavar="FLAG",
    default="",
    help="Name the program's flag, if the manifest sets no seed.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Write the Experiments for a cluster to this file instead of running them; - is stdout.",
)
@click.option(
    "--show",
    is_flag=True,
    help="Report what has run, here or on the cluster, without running more.",
)
@workers_option("Run so many trials at a time.")
@click.option("--fresh", is_flag=True, help="Start over.")
@format_option("table", "json")
@engine_option
@cluster_options
@store_option
def confirm(
    name: str,
    count: int,
    seeds: int,
    seed_flag: str,
    output: Path | None,
    show: bool,
    form: str,
    local: bool | None,
    store_dir: Path,
    **given: Any,
) -> int:
    """Train the best trials of the study NAME again on new seeds, on this machine.

    Reports the mean over the seeds, the spread and the rank of each trial, and whether the winner's
    lead exceeds seed noise. Each trial becomes a study NAME-confirm-NUMBER, a grid over the seed.
    The same command continues after an interruption.

    \b
    gantune confirm gan-bayes --top 3 --seeds 5
    gantune confirm gan-bayes -o confirm.yaml    for kubectl apply; then: gantune confirm gan-bayes --show
    """
    from tuner.analysis import confirm as analysis
    from tuner.cli.study import read

    where = {key: given.pop(key) for key in ("namespace", "context", "katib_namespace")}
    facade = client(store_dir, **where)
    result, kind = read(facade, name, local=local)
    trials = analysis.top(result, count)
    if not trials:
        raise StudyError(
            f"{name} has no trial with a finite {result.objective.metric}, so there is none to confirm"
        )
    if show:
        repeated: list[Result] | None = [
            read(facade, analysis.study_name(name, one), local=None)[0] for one in trials
        ]
    else:
        made = analysis.experiments(facade.experiment(name, kind), trials, seeds, seed_flag)
        if output is not None:
            _write(made, output)
            return 0
        repeated = _run(facade, made, quiet=form == "json", **given)
    if repeated is None:
        say(f"interrupted; to continue: {again(sys.argv[1:])}", err=True)
        return 130
    found = analysis.confirm(result, trials, repeated)
    if form == "json":
        say(json.dumps(found.to_json(), indent=2))
    else:
        _print(found)
    return 0


def _run(
    facade: Client, made: Sequence[Experiment], *, quiet: bool, workers: int | None, fresh: bool
) -> list[Result] | None:
    """Run the studies one after another; None where Ctrl-C ended one."""
    from tuner.cli.interrupts import Interrupts
    from tuner.cli.live import Output, follow
    from tuner.result import StudyState

    results = []
    for experiment in made:
        engine = facade.local(workers=workers, fresh=fresh)
        stop = partial(engine.stop, experiment.name)
        with Interrupts(partial(stop, drain=True), stop) as interrupts:
            events = engine.run(experiment)
            say(f"{experiment.name}: {experiment.max_trials} seeds", err=True)
            if quiet:
                results.append([event.result for event in events][-1])
            else:
                results.append(
                    follow(
                        events,
                        total=experiment.max_trials,
                        output=Output.LINES,
                        note=interrupts.note,
                    )
                )
        if interrupts.exit_code and results[-1].state is StudyState.STOPPED:
            return None
    return results


def _write(made: Sequence[Experiment], path: Path) -> None:
    """Write the Experiments as one file, each checked."""
    from tuner.analysis.next_manifest import to_yaml

    written = to_yaml([experiment.document for experiment in made])
    if str(path) == "-":
        say(written, nl=False)
        return
    if path.exists():
        raise UnsupportedError(f"{path} exists. Choose another file with -o, or remove it")
    path.write_text(written, encoding="utf-8")
    say(f"{path}: {len(made)} Experiments, each a grid over {made[0].max_trials} seeds", err=True)
    say(f"next: kubectl apply -f {shlex.quote(str(path))}", err=True)


def _print(found: Confirmation) -> None:
    from rich.table import Table
    from rich.text import Text

    from tuner.cli.console import SafeConsole
    from tuner.cli.table import assignments, number

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (
        "rank",
        "trial",
        f"mean {found.objective.metric}",
        "spread",
        "seeds",
        "in the search",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("parameters", overflow="ellipsis", no_wrap=True)
    for rank, each in enumerate(found.ranked, 1):
        seeds = f"{len(each.values)}" + (f" ({each.missing} failed)" if each.missing else "")
        figures = ["" if math.isnan(value) else number(value) for value in (each.mean, each.spread)]
        cells = [
            str(rank),
            str(each.trial.number),
            *figures,
            seeds,
            number(each.searched),
            assignments(each.trial),
        ]
        table.add_row(*(Text(cell) for cell in cells), style="bold green" if rank == 1 else "")
    console = SafeConsole()
    console.print(table)
    console.print(Text("\n".join(["", *found.sentences()])))
