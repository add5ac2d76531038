"""`gantune next NAME`: write the next manifest from what a study has found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.options import (
    client,
    cluster_options,
    engine_option,
    ensure_free,
    force_option,
    store_option,
    study_names,
)
from tuner.cli.terminal import say
from tuner.commands import Command, gantune

if TYPE_CHECKING:
    from tuner.client import EngineKind


@click.command("next")
@click.argument("name", shell_complete=study_names)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Write to this file; - is stdout. [default: the name of the next study, with .yaml]",
)
@click.option(
    "--as", "new_name", metavar="NAME", default="", help="Name the next study. [default: NAME-2]"
)
@force_option
@engine_option
@cluster_options
@store_option
def next_(
    name: str,
    output: Path | None,
    new_name: str,
    force: bool,
    local: bool | None,
    store_dir: Path,
    **where: Any,
) -> None:
    """Write the manifest of the search after the study NAME.

    Parameters that do not matter get the value of the best trial. Ranges shrink to where good
    trials are, and widen where the best trials sit on a bound. Each change has its reason as a
    comment in the file.

    \b
    gantune next gan-bayes -o next.yaml
    """
    from tuner.analysis.advice import advice
    from tuner.analysis.next_manifest import next_name, revise
    from tuner.cli.study import read

    facade = client(store_dir, **where)
    result, kind = read(facade, name, local=local)
    study = facade.view(name, kind, images=False)
    experiment = study.experiment
    new = new_name or next_name(experiment.name)
    path = output or Path(f"{new}.yaml")
    if str(path) != "-":
        ensure_free(path, force)
    changes = advice(result, experiment)
    written = revise(study.source, experiment, changes, name=new)
    if str(path) == "-":
        say(written, nl=False)
    else:
        path.write_text(written, encoding="utf-8")
    for change in changes:
        say(str(change), err=True)
    if not changes:
        say("no change: there are too few trials, or they show no trend", err=True)
    if str(path) != "-":
        say(f"next: {_command(path, name, kind)}", err=True)


def _command(path: Path, name: str, kind: EngineKind) -> Command:
    """Return the command that runs the next search where the last one ran."""
    from tuner.client import EngineKind

    if kind is EngineKind.KATIB:
        return gantune("submit", path)
    return gantune("run", path, "--local", "--warm-start", f"{kind.value}/{name}")
