"""`gantune check-store`, `retry`: repair and continue a local study."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.cli.options import client, events_option, store_option, study_names
from tuner.cli.run import workers_option
from tuner.cli.terminal import say
from tuner.errors import StudyDamaged, StudyError


@click.command("check-store")
@click.argument("name", required=False, shell_complete=study_names)
@click.option(
    "--repair",
    is_flag=True,
    help="Keep the intact records of NAME; the damaged file stays next to them.",
)
@store_option
def check_store(name: str | None, repair: bool, store_dir: Path) -> int:
    """Check the journals of local studies: of NAME, or of all.

    The exit code is 1 if one is damaged. `--repair` keeps the records before the damage, and lost
    trials run again.
    """
    from tuner.client import EngineKind

    facade = client(store_dir)
    store = facade.store
    if repair and name is None:
        raise click.UsageError("--repair needs the NAME of a study")
    studies = store.of(EngineKind.LOCAL)
    if name is not None and name not in studies.names() and store.find(name) is EngineKind.KATIB:
        raise StudyError(f"study {name} runs on a cluster, so it has no journal on this machine")
    if name is not None and not studies.folder(name).exists():
        raise facade.store.unknown(name)
    code = 0
    for each in [name] if name is not None else studies.names():
        try:
            health = facade.check_store(each, repair=repair)
            if health.damage:
                raise StudyDamaged(f"{health.path}:{health.damage}")
            torn = ", an unfinished last line" if health.torn else ""
            say(
                f"{each}: {health.records} records of {health.finished} finished trials are intact{torn}"
            )
        except StudyError as error:
            say(f"{each}: {error}", err=True)
            code = 1
    return code


@click.command()
@click.argument("name", shell_complete=study_names)
@click.option(
    "--trial",
    "trials",
    type=click.IntRange(min=0),
    multiple=True,
    help="Choose a trial; the default is all failed trials.",
)
@workers_option("Run so many trials at a time.")
@events_option
@store_option
def retry(
    name: str, trials: tuple[int, ...], workers: int | None, form: str, store_dir: Path
) -> int:
    """Run failed trials of the local study NAME again, and continue the search.

    Each trial runs from scratch with the same parameters, and its earlier outcome is forgotten. Use
    it in the directory from which the search was started.

    \b
    gantune retry gan-bayes --trial 3
    """
    from tuner.cli.live import Output
    from tuner.cli.run import Options, run_here
    from tuner.client import EngineKind

    facade = client(store_dir)
    numbers = facade.reset(name, trials or None)
    if numbers:
        say(f"runs again: trial {', '.join(map(str, numbers))}", err=True)
    options = Options(workers=workers, seed=None, max_trials=None, fresh=False, warm_start=None)
    return run_here(facade.experiment(name, EngineKind.LOCAL), options, Output.choose(form), facade)
