"""`gantune list`, `status`, `best`: read a study, whichever engine ran it."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.console import SafeConsole
from tuner.cli.options import (
    client,
    cluster_options,
    engine_option,
    format_option,
    store_option,
    study_names,
)
from tuner.cli.terminal import plain, say
from tuner.commands import gantune
from tuner.errors import CommandError, StudyError

if TYPE_CHECKING:
    from tuner.client import Client, EngineKind
    from tuner.experiment.model import Experiment
    from tuner.result import Result, Trial


def read(facade: Client, name: str, *, local: bool | None) -> tuple[Result, EngineKind]:
    """Return the study's Result and engine; raises what `Client.refresh` raises."""
    kind = facade.refresh(name, local=local).kind
    return facade.result(name, kind), kind


STATUS_ROWS = 500  # of the table; rich takes seconds to draw thousands


@click.command("list")
@format_option("table", "json")
@click.option(
    "--cluster",
    "on_cluster",
    is_flag=True,
    help="List the Experiments of a namespace on the cluster.",
)
@cluster_options
@store_option
def list_(form: str, on_cluster: bool, store_dir: Path, **where: Any) -> None:
    """List the studies of the store, or with --cluster the Experiments of a namespace."""
    facade = client(store_dir, **where)
    if on_cluster:
        _list_cluster(facade, form)
        return
    from tuner.client import EngineKind
    from tuner.result import StudyState

    results: list[tuple[Result, EngineKind]] = []
    away = False  # only one request waits for a cluster that does not answer
    for name, kind in facade.store.all():
        try:
            if (
                not away
                and kind is EngineKind.KATIB
                and facade.result(name, kind).state is StudyState.RUNNING
            ):
                away = facade.refresh(name, local=False).error is not None
            results.append((facade.result(name, kind), kind))
        except StudyError as error:  # one damaged study does not hide the others
            say(f"warning: {' '.join(str(error).split())}", err=True)
    if form == "json":
        say(json.dumps([_summary(result, kind) for result, kind in results], indent=2))
    elif not results:
        say(f"no studies in {store_dir}: begin one with `{gantune('run', 'FILE')}`", err=True)
    else:
        _print_list(results)


def _list_cluster(facade: Client, form: str) -> None:
    """Print the Experiments of a namespace."""
    from rich.table import Table
    from rich.text import Text

    found = facade.cluster().studies()
    if form == "json":
        rows = [
            each._asdict()
            | {
                "state": each.state.value,
                "created": each.created.isoformat() if each.created else None,
            }
            for each in found
        ]
        say(json.dumps(rows, indent=2))
        return
    if not found:
        say(
            f"no Experiments in namespace {facade.listed_namespace}: create one with "
            f"`{gantune('submit', 'FILE')}`",
            err=True,
        )
        return
    console = SafeConsole()
    listing = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("study", "state", "finished", "created"):
        listing.add_column(heading, no_wrap=True, overflow="ellipsis")
    for each in found:
        finished = (
            f"{each.finished} of {each.max_trials}" if each.max_trials else str(each.finished)
        )
        created = f"{each.created:%Y-%m-%d %H:%M}" if each.created else ""
        listing.add_row(*(Text(cell) for cell in (each.name, each.state.value, finished, created)))
    console.print(listing)


def _summary(result: Result, engine: EngineKind) -> dict[str, object]:
    best = result.best
    return {
        "name": result.name,
        "engine": engine.value,
        "state": result.state.value,
        "objective": result.to_json()["objective"],
        "trials": len(result.trials),
        "ended": sum(trial.state.finished for trial in result.trials),
        "best": best.to_json() if best else None,
    }


def _print_list(results: list[tuple[Result, EngineKind]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from tuner.cli import table

    console = SafeConsole()
    listing = Table(box=None, pad_edge=False, header_style="bold", width=console.width)
    for heading in ("study", "engine", "state", "trials"):
        listing.add_column(heading, no_wrap=True)
    # gives way where room is short
    listing.add_column("best", overflow="ellipsis", no_wrap=True, ratio=1)
    for result, kind in results:
        ended = sum(trial.state.finished for trial in result.trials)
        trials = f"{ended} of {len(result.trials)}" if ended < len(result.trials) else str(ended)
        cells = result.name, kind.value, result.state.value, trials, table.best_text(result)
        listing.add_row(*(Text(cell) for cell in cells))
    console.print(listing)


@click.command()
@click.argument("name", shell_complete=study_names)
@click.option(
    "--follow",
    "-f",
    "follow_",
    is_flag=True,
    help="Continue to show it until it finishes, as watch does.",
)
@format_option("table", "json")
@engine_option
@cluster_options
@store_option
def status(
    name: str, follow_: bool, form: str, local: bool | None, store_dir: Path, **where: Any
) -> int | None:
    """Show the state of the study NAME, trial by trial: of more than 500 trials, the best ones.

    `--format json` prints all of them.
    """
    facade = client(store_dir, **where)
    if follow_:
        from tuner.cli.cluster import follow_study

        return follow_study(facade, name, local=local, form=form)
    result, _ = read(facade, name, local=local)
    if form == "json":
        say(json.dumps(result.to_json(), indent=2))
        return None

    from tuner.cli import live, table

    console = SafeConsole()
    console.print(f"{result.name}: {table.goal(result)}")
    for part in live.final(result, console.size.width, rows=STATUS_ROWS):
        console.show(part)
    return None


@click.command()
@click.argument("name", shell_complete=study_names)
@format_option("table", "json", "yaml", "command", "args", "env")
@engine_option
@cluster_options
@store_option
def best(name: str, form: str, local: bool | None, store_dir: Path, **where: Any) -> None:
    """Print the best trial of the study NAME.

    \b
    command  the trial's own command:    eval "$(gantune best NAME --format command) --epochs 200"
    args     its flags with parameters:  python -m trainer $(gantune best NAME --format args)
    env      shell variables:            eval "$(gantune best NAME --format env)"
    """
    facade = client(store_dir, **where)
    result, kind = read(facade, name, local=local)
    trial = _best_of(result)
    if form == "json":
        say(json.dumps(trial.to_json(), indent=2))
    elif form == "yaml":
        say(_yaml(trial.to_json()), nl=False)
    elif form == "command":
        say(_command(facade.experiment(name, kind), trial))
    elif form == "args":
        _print_args(facade.experiment(name, kind), trial)
    elif form == "env":
        from tuner.experiment import final

        found = final.variables(facade.experiment(name, kind), trial.parameters)
        for variable, value in found.items():
            say(f"{variable}={shlex.quote(value)}")
    else:
        _print_trial(result, trial)


def _best_of(result: Result) -> Trial:
    if (best := result.best) is not None:
        return best
    from tuner.cli import table

    failed = [trial for trial in result.trials if trial.reason]
    last = f"; trial {failed[-1].number}: {plain(failed[-1].reason)}" if failed else ""
    raise StudyError(
        f"{result.name} has no trial with a finite {result.objective.metric}: {table.counts(result)}{last}"
    )


def _command(experiment: Experiment, trial: Trial) -> str:
    from tuner.experiment.final import CommandLine

    if line := CommandLine(experiment).line(trial.parameters):
        return line
    raise CommandError(
        f"the command of {experiment.name}'s trials does not carry all parameters, or would run a "
        "value as code: use --format json"
    )


def _print_args(experiment: Experiment, trial: Trial) -> None:
    from tuner.experiment import final

    line, split = final.quoted(final.flags(experiment, trial.parameters))
    say(line)
    if split:
        say(
            'note: a value is quoted, which $(...) does not undo: use `eval "COMMAND $(gantune best ...)"`',
            err=True,
        )


def _print_trial(result: Result, trial: Trial) -> None:
    from rich.table import Table
    from rich.text import Text

    from tuner.analysis import gain
    from tuner.cli import table

    grid = Table.grid(padding=(0, 2))
    objective = result.objective.metric
    rows = [
        ("study", result.name),
        ("trial", f"{trial.number} of {len(result.trials)} ({trial.name})"),
    ]
    rows += [(objective, table.long_number(trial.metrics[objective]))]
    rows += [("took", table.took(trial))] if table.took(trial) else []
    rows += [
        ("", ""),
        *((name, table.long_number(value)) for name, value in trial.parameters.items()),
    ]
    others = [
        (name, table.long_number(value))
        for name, value in trial.metrics.items()
        if name != objective
    ]
    rows += [("", ""), *others] if others else []
    for name, value in rows:
        grid.add_row(
            Text(name, style="dim"),
            Text(plain(value), style="bold green" if name == objective else ""),
        )
    console = SafeConsole()
    console.print(grid)
    if sentences := gain.sentences(result):
        console.print()
        for each in sentences:
            console.show(Text(plain(each)))
    if front := gain.front_lines(result):
        heading = (
            f"{objective} against training time, without the trials that another one beats in both:"
        )
        console.print(Text("\n".join(["", heading, *(f"  {line}" for line in front)])))


def _yaml(shape: object) -> str:
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    writer.dump(shape, stream)
    return stream.getvalue()
