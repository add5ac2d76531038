"""`gantune run FILE`: runs a search on the cluster or on this machine, and shows it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuner.cli.options import (
    Command,
    client,
    cluster_options,
    events_option,
    load,
    store_option,
)
from tuner.cli.terminal import say
from tuner.commands import gantune
from tuner.errors import StudyNotFound

if TYPE_CHECKING:
    from tuner.cli.live import Output
    from tuner.client import Client
    from tuner.experiment.model import Experiment
    from tuner.result import Result

AUTO = "auto"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PATIENCE = 3.0  # seconds to find out whether a cluster answers


def workers(ctx: click.Context, param: click.Parameter, value: str) -> int | None:
    """`auto` (None) or a positive number."""
    if value == AUTO:
        return None
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise click.BadParameter(f"a number of workers is {AUTO}, or 1 or more, got {value!r}")
    return int(value)


def workers_option(help_text: str) -> Callable[[Command], Command]:
    """`--workers auto|N` of the commands that run trials."""
    return click.option(
        "--workers",
        metavar="auto|N",
        callback=workers,
        default=AUTO,
        show_default=True,
        help=help_text,
    )


def first_trials(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[dict[str, str], ...]:
    """Return the values of each --first lr=2e-3,bs=64 by parameter name."""
    return tuple(_assignments(value) for value in values)


def _assignments(text: str) -> dict[str, str]:
    # a value may contain commas
    pairs = [pair.partition("=") for pair in re.split(r",(?=[^,=]+=)", text)]
    if any(not name.strip() or not value.strip() for name, _, value in pairs):
        raise click.BadParameter(f"a first trial is NAME=VALUE,NAME=VALUE,... and {text!r} is not")
    found = {name.strip(): value.strip() for name, _, value in pairs}
    if len(found) < len(pairs):
        raise click.BadParameter(f"{text!r} names a parameter twice; remove one")
    return found


def words(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Return a command line as its words; no shell sees them."""
    try:
        return tuple(shlex.split(value or ""))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} cannot be split into words: {error}") from error


@dataclass(frozen=True)
class Options:
    """What the command line gave, for the local engine."""

    workers: int | None
    seed: int | None
    max_trials: int | None
    fresh: bool
    warm_start: str | None
    debug: bool = False
    first: tuple[dict[str, str], ...] = ()
    command: tuple[str, ...] = ()


@click.command("run")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--local", is_flag=True, help="Run on this machine with Optuna.")
@click.option(
    "--cluster", "remote", is_flag=True, help="Run on the cluster (the default, if it has Katib)."
)
@click.option("--name", help="Choose the Experiment, if FILE holds several.")
@workers_option("Local: run so many trials at a time.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Local: use this seed instead of the manifest's random_state.",
)
@click.option(
    "--max-trials",
    type=click.IntRange(min=1),
    help="Local: use this number instead of maxTrialCount; a study can be extended.",
)
@click.option("--fresh", is_flag=True, help="Local: delete the study of this name and start over.")
@click.option(
    "--warm-start", metavar="OTHER", help="Give the sampler the trials of study OTHER first."
)
@click.option(
    "--first",
    metavar="NAME=VALUE,...",
    multiple=True,
    callback=first_trials,
    help="Run this trial before those of the sampler; may be repeated. Parameters that it does not name are as in the "
    "manifest's first trial.",
)
@click.option(
    "--command",
    callback=words,
    help="Local: run this command, if the manifest leaves it to the image. The manifest's args follow it.",
)
@click.option(
    "--debug", is_flag=True, help="Local: run one trial at a time in this process, for breakpoints."
)
@events_option
@cluster_options
@store_option
def run(
    file: Path,
    local: bool,
    remote: bool,
    name: str | None,
    form: str,
    store_dir: Path,
    namespace: str,
    context: str | None,
    katib_namespace: str,
    **given: object,
) -> int:
    """Search for the best trial of the Experiment in FILE, and show the search until it finishes.

    `-` reads standard input.

    The same command continues an interrupted local study. The first Ctrl-C lets the running trials
    finish, and the second stops them.

    \b
    gantune run manifests/bayes.yaml --local --workers 2
    gantune run manifests/bayes.yaml --local --max-trials 40    continue with more trials
    """
    from tuner.cli.live import Output

    if local and remote:
        raise click.UsageError("--local and --cluster exclude each other")
    options = Options(**given)  # type: ignore[arg-type]
    facade = client(
        store_dir, namespace=namespace, context=context, katib_namespace=katib_namespace
    )
    if remote:
        _refuse_local_options(options)
    experiment = load(file, name, warnings=remote)
    output = Output.choose(form)
    # the table would be drawn over the debugger's prompt
    if options.debug and output is Output.LIVE:
        output = Output.LINES
    here, why = (local, "as asked") if local or remote else _where(facade)
    if not (local or remote):
        say(f"runs {'here' if here else 'on the cluster'}: {why}", err=True)
    if here:
        return run_here(experiment, options, output, facade)
    _refuse_local_options(options)
    from tuner.cli import cluster
    from tuner.experiment.model import with_first_trials

    experiment = with_first_trials(experiment, options.first) if options.first else experiment
    earlier = facade.earlier(options.warm_start) if options.warm_start else None
    return cluster.run(experiment, facade.cluster(earlier=earlier), form=form)


def _where(facade: Client) -> tuple[bool, str]:
    """Return whether to run on this machine, and why."""
    found, why = facade.katib_found(timeout=PATIENCE)
    return not found, why


def run_here(experiment: Experiment, options: Options, output: Output, facade: Client) -> int:
    """Run on this machine and show the search; a study on the cluster to warm-start from is collected first."""
    from tuner.cli.interrupts import Interrupts
    from tuner.cli.live import follow
    from tuner.client import EngineKind
    from tuner.result import StudyState

    if options.warm_start:
        other, kind = facade.store.earlier(options.warm_start, experiment.name)
        if kind is not EngineKind.LOCAL or options.warm_start == experiment.name:
            with suppress(StudyNotFound):  # the engine says so
                facade.refresh(other, local=False)
    engine = facade.local(
        workers=options.workers,
        seed=options.seed,
        max_trials=options.max_trials,
        fresh=options.fresh,
        warm_start=options.warm_start,
        first=options.first,
        command=options.command,
        debug=options.debug,
    )
    stop = partial(engine.stop, experiment.name)
    with Interrupts(partial(stop, drain=True), stop) as interrupts:
        events = engine.run(experiment)
        total = facade.max_trials(experiment.name, EngineKind.LOCAL)
        result = follow(events, total=total, output=output, note=interrupts.note)
    _conclude(result, output, experiment, facade.choosing(result.name, EngineKind.LOCAL))
    if result.state is StudyState.STOPPED:
        say(f"interrupted; to continue: {again(sys.argv[1:])}", err=True)
        return interrupts.exit_code or INTERRUPTED  # the debugger ends a search without a signal
    return _exit_code(result)


def again(argv: list[str]) -> str:
    """Return the command that continues what `argv` began: the same without --fresh."""
    return str(gantune(*(word for word in argv if word != "--fresh")))


def _refuse_local_options(options: Options) -> None:
    given = {
        "--workers": options.workers,
        "--seed": options.seed,
        "--max-trials": options.max_trials,
        "--fresh": options.fresh,
        "--debug": options.debug,
        "--command": options.command,
    }
    if wrong := [flag for flag, value in given.items() if value not in (None, False, ())]:
        raise click.UsageError(
            f"{', '.join(wrong)} is for local runs: add --local, or change the manifest"
        )


def _conclude(result: Result, output: Output, experiment: Experiment, options: list[str]) -> None:
    from tuner.cli.live import Output, print_final

    if output is not Output.JSON:
        print_final(result, lambda: experiment, options)


def _exit_code(result: Result) -> int:
    from tuner.result import StudyState

    return 1 if result.state is StudyState.FAILED else 0
