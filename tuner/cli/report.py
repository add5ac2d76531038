"""`gantune report NAME...`: one HTML page, or a summary in the terminal."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.options import client, cluster_options, engine_option, store_option
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
    default="report.html",
    show_default=True,
    help="Write the page to this file; - is stdout.",
)
@engine_option
@cluster_options
@store_option
def report(names: tuple[str, ...], output: Path, local: bool | None, store_dir: Path, **where: Any) -> None:
    """Write one HTML page about the study NAME, or about several studies to compare them.

    The page needs no network. local/NAME and katib/NAME choose one of two studies with the same name.
    Needs plotly: pip install 'gan-tuner[report]'
    """
    facade = client(store_dir, **where)
    studies = [gather(facade, name, local=local) for name in names]
    from tuner.report import page

    document = page(studies)
    if str(output) == "-":
        sys.stdout.write(document)
        return
    output.write_text(document, encoding="utf-8")
    trials = ", ".join(f"{len(study.result.trials)} trials of {study.result.name}" for study in studies)
    say(f"{output}: {trials}", err=True)


def gather(facade: Client, name: str, *, local: bool | None) -> Study:
    """Return what the page shows of one study. Raises StudyNotFound, and StudyError where the name is ambiguous."""
    from tuner.api import EngineKind
    from tuner.cli import study, training

    prefix, _, own = name.rpartition("/")
    if prefix in tuple(EngineKind):
        name, local = own, prefix == EngineKind.LOCAL
    _, kind = study.read(facade, name, local=local)
    found = facade.study(name, kind)
    lines = {trial.number: training.line(found.experiment, trial.parameters) for trial in found.result.trials}
    return replace(found, commands={number: line for number, line in lines.items() if line})
