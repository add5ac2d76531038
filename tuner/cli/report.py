"""`gantune report NAME...`: one HTML page, or a summary in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.options import (
    client,
    cluster_options,
    engine_option,
    refresh,
    store_option,
    study_names,
)
from tuner.cli.terminal import say
from tuner.commands import gantune

if TYPE_CHECKING:
    from tuner.analysis.view import View


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, shell_complete=study_names)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Write the page to this file; - is stdout.",
)
@click.option(
    "--serve",
    is_flag=True,
    help="Serve the page, or without NAME all studies of the store, until Ctrl-C.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="With --serve: listen on this address."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="With --serve: 0 takes a free port.",
)
@engine_option
@cluster_options
@store_option
def report(
    names: tuple[str, ...],
    output: Path | None,
    serve: bool,
    host: str,
    port: int,
    local: bool | None,
    store_dir: Path,
    **where: Any,
) -> None:
    """Show what the study NAME has found; with -o, write one HTML page about one or more studies.

    The page needs no network. local/NAME and katib/NAME choose one of two studies with the same
    name.

    \b
    gantune report gan-bayes
    gantune report gan-bayes -o report.html
    gantune report gan-bayes gan-tpe -o both.html
    gantune report gan-bayes --serve
    gantune report --serve
    """
    if serve and output is not None:
        raise click.UsageError("--serve and --output exclude each other")
    if not names and not serve:
        raise click.UsageError("name a study, or list all studies with --serve")
    facade = client(store_dir, **where)
    if serve:
        from tuner.cli.serving import run

        run(facade, names, local=local, host=host, port=port)
        return
    found = [refresh(facade, name, local=local, curves=output is not None) for name in names]
    studies = [facade.view(*each, images=output is not None) for each in found]
    if output is None:
        _print(studies, names)
        return
    from tuner.report import page

    document = page(studies)
    if str(output) == "-":
        sys.stdout.write(document)
        return
    output.write_text(document, encoding="utf-8")
    trials = ", ".join(
        f"{len(study.result.trials)} trials of {study.result.name}" for study in studies
    )
    say(f"{output}: {trials}", err=True)


def _print(studies: list[View], names: tuple[str, ...]) -> None:
    from tuner.cli.console import SafeConsole
    from tuner.cli.summary import compare, summary

    console = SafeConsole()
    for part in compare(studies) if len(studies) > 1 else summary(studies[0]):
        console.show(part)
    console.print()
    say(f"write the page: {gantune('report', *names, '-o', 'report.html')}", err=True)
