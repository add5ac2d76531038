"""`gantune report NAME...`: one HTML page, or a summary in the terminal."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.options import DEFAULT_STORE, client, cluster_options, engine_option, store_option
from tuner.cli.terminal import say

if TYPE_CHECKING:
    from tuner.api import Client
    from tuner.report import Study


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Write the page to this file; - is stdout.",
)
@engine_option
@cluster_options
@store_option
def report(names: tuple[str, ...], output: Path | None, local: bool | None, store_dir: Path, **where: Any) -> None:
    """Show what the study NAME has found; with -o, write one HTML page about one or more studies.

    The page needs no network. local/NAME and katib/NAME choose one of two studies with the same name.
    It needs plotly: pip install 'gan-tuner[report]'

    \b
    gantune report gan-bayes
    gantune report gan-bayes -o report.html
    gantune report gan-bayes gan-tpe -o both.html
    """
    facade = client(store_dir, **where)
    if output is None:
        _print([gather(facade, name, local=local, images=False) for name in names], names, store_dir)
        return
    from tuner.report import page

    studies = [gather(facade, name, local=local) for name in names]
    document = page(studies)
    if str(output) == "-":
        sys.stdout.write(document)
        return
    output.write_text(document, encoding="utf-8")
    trials = ", ".join(f"{len(study.result.trials)} trials of {study.result.name}" for study in studies)
    say(f"{output}: {trials}", err=True)


def _print(studies: list[Study], names: tuple[str, ...], store_dir: Path) -> None:
    from tuner.cli.console import SafeConsole
    from tuner.cli.summary import summary

    console = SafeConsole()
    for study in studies:
        for part in summary(study):
            console.print(part)
        console.print()
    store = [] if store_dir == DEFAULT_STORE else ["--store", str(store_dir)]
    say(f"write the page: {shlex.join(['gantune', 'report', *names, *store, '-o', 'report.html'])}", err=True)


def gather(facade: Client, name: str, *, local: bool | None, images: bool = True) -> Study:
    """Return what the page shows of one study. Raises StudyNotFound, and StudyError where the name is ambiguous."""
    from tuner.api import EngineKind
    from tuner.cli import study, training

    prefix, _, own = name.rpartition("/")
    if prefix in tuple(EngineKind):
        name, local = own, prefix == EngineKind.LOCAL
    _, kind = study.read(facade, name, local=local)
    found = facade.study(name, kind, images=images)
    lines = {trial.number: training.line(found.experiment, trial.parameters) for trial in found.result.trials}
    return replace(found, commands={number: line for number, line in lines.items() if line})
