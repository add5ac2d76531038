"""`gantune init -- COMMAND`: draft a manifest for any program."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.cli.options import ensure_free, force_option
from tuner.cli.terminal import say
from tuner.commands import gantune


# what follows the program's name is the program's, so no `--` is needed
@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Write to this file; - is stdout. [default: NAME.yaml]",
)
@click.option("--name", default="", help="Name the Experiment. [default: the program's name]")
@click.option(
    "--metric", "objective", default="", metavar="NAME", help="Choose the metric to optimise."
)
@click.option("--minimize", "goal", flag_value="minimize", help="Lower is better.")
@click.option("--maximize", "goal", flag_value="maximize", help="Higher is better.")
@click.option(
    "--tune",
    metavar="NAME,...",
    default="",
    help="Vary these: flags, keys, env:NAME or FILE:KEY. [default: those of COMMAND]",
)
@click.option(
    "--trials", type=click.IntRange(min=1), default=20, show_default=True, help="Set maxTrialCount."
)
@click.option("--image", default="", help="Set the image for a cluster. [default: NAME:0.1]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="Wait this long for the first metrics.",
)
@force_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def init(
    output: Path | None,
    goal: str | None,
    tune: str,
    timeout: float,
    force: bool,
    command: tuple[str, ...],
    **given: str,
) -> None:
    """Draft a manifest for the program that COMMAND runs.

    Reads the parameters from COMMAND and from the program's --help, and the metrics from one run in
    the current directory, which is stopped as soon as it has printed them.

    \b
    gantune init python train.py --lr 1e-3 --bs 64
    gantune init python train.py lr=1e-3 model.width=64
    gantune init --tune env:LR sh train.sh
    gantune init --tune lr --metric val_acc python train.py --config config.yaml
    """
    from tuner.init import Options, draft, text_of
    from tuner.result import Goal

    names = tuple(name for name in tune.replace(",", " ").split() if name)
    options = Options(goal=Goal(goal) if goal else None, tune=names, seconds=timeout, **given)  # type: ignore[arg-type]
    made = draft(command, options)
    path = output or Path(f"{made.name}.yaml")
    written = text_of(made)
    if str(path) == "-":
        say(written, nl=False)
        return
    ensure_free(path, force)
    path.write_text(written, encoding="utf-8")
    varied = ", ".join(parameter.name for parameter in made.parameters)
    say(
        f"{path}: {made.goal.value} {made.objective} over {varied} in {made.trials} trials",
        err=True,
    )
    say(f"{made.objective} is read from: {made.matched}", err=True)
    if made.why:
        say(f"it is the objective because {made.why} (--metric chooses another)", err=True)
    say(f"next: {gantune('run', path, '--local')}", err=True)
