"""The commands that change or follow a study: submit, watch, logs, extend, stop, delete; and `run --cluster`.

Exit codes of a watch: 0 the search succeeded, 1 it failed, 3 it was stopped, 4 it was deleted under
way, 5 its deadline (--timeout) passed, 6 the cluster refused or did not answer, 130 Ctrl-C (the
search continues in the cluster).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.options import (
    client,
    cluster_options,
    engine_option,
    events_option,
    load,
    store_option,
    study_names,
)
from tuner.cli.terminal import say
from tuner.commands import gantune
from tuner.result import StudyState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tuner.client import Client
    from tuner.engines.base import Engine, Event
    from tuner.experiment.model import Experiment

# 5 and 6 are tuner.errors' Deadline and ClusterError.
EXIT_CODES = {StudyState.FAILED: 1, StudyState.STOPPED: 3, StudyState.DELETED: 4}


def run(experiment: Experiment, engine: Engine, *, form: str = "table") -> int:
    """Run `gantune run FILE --cluster`: submit, then watch. Returns the exit code."""
    name = experiment.name or experiment.generate_name
    return follow(
        engine.run(experiment), name, experiment.max_trials, lambda: experiment, form=form
    )


def follow(
    events: Iterator[Event],
    name: str,
    total: int | None,
    experiment: Callable[[], Experiment],
    *,
    form: str = "table",
    options: Sequence[str] = (),
) -> int:
    """Show a search until it finishes.

    Args:
        events: The events of the search.
        name: Its name, as far as it is known before the first event.
        total: How many trials it will have, if that is known.
        experiment: Returns its Experiment. It is called after the last event, if there is a best
            trial.
        form: The value of --format.
        options: The options that choose the study in the next command.

    Returns:
        The exit code, which says how the search finished.
    """
    from tuner.cli import live

    def named() -> Iterator[Event]:
        nonlocal name
        for event in events:
            name = event.result.name
            yield event

    output = live.Output.choose(form)
    try:
        result = live.follow(named(), total=total, output=output)
    except KeyboardInterrupt:
        watch, stop = gantune("watch", name, *options), gantune("stop", name, *options)
        say(f"left {name} running; `{watch}` comes back, `{stop}` ends it", err=True)
        return 130
    if output is not live.Output.JSON:
        live.print_final(result, experiment, options)
    return EXIT_CODES.get(result.state, 0)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", "which", default=None, help="Choose the Experiment, if FILE holds several.")
@click.option(
    "--warm-start", metavar="OTHER", help="Give the sampler the trials of study OTHER first."
)
@cluster_options
@store_option
def submit(file: Path, which: str | None, warm_start: str | None, **where: Any) -> None:
    """Create the Experiment of FILE on the cluster, or join the one that is there with the same spec.

    --warm-start needs the suggestion service of gan-tuner (manifests/overlays/katib-suggestions).
    """
    experiment = load(file, which, warnings=True)
    name = client(**where).submit(experiment, warm_start=warm_start)
    say(name)
    say(f"next: {gantune('watch', name)}", err=True)


@click.command()
@click.argument("name", shell_complete=study_names)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Stop waiting after so many seconds.",
)
@events_option
@engine_option
@cluster_options
@store_option
def watch(name: str, timeout: float | None, form: str, local: bool | None, **where: Any) -> int:
    """Follow the study NAME until it finishes: trials, metrics, and why a pod does not run.

    A local study that runs in another terminal is followed from its files.

    Exit codes: 0 succeeded, 1 failed, 3 stopped, 4 deleted, 5 --timeout passed, 6 the cluster
    refused or is silent, 130 Ctrl-C (the search continues).
    """
    return follow_study(client(**where), name, local=local, timeout=timeout, form=form)


def follow_study(
    facade: Client, name: str, *, local: bool | None, timeout: float | None = None, form: str
) -> int:
    """Show a study of either engine until it finishes; returns the exit code."""
    from tuner.client import EngineKind

    engine = facade.engine(name, local=local, timeout=timeout)
    here = local or facade.find(name, local=local) is EngineKind.LOCAL
    kind = EngineKind.LOCAL if here else EngineKind.KATIB
    events = engine.watch(name)
    return follow(
        events,
        name,
        facade.max_trials(name, kind),
        lambda: facade.experiment(name, kind),
        form=form,
        options=facade.choosing(name, kind),
    )


@click.command()
@click.argument("name", shell_complete=study_names)
@click.option(
    "--trial", default=None, help="Choose a trial by name or number; the default is the newest."
)
@click.option("--best", is_flag=True, help="Choose the best trial.")
@click.option(
    "-f", "--follow", "follow_", is_flag=True, help="Continue to print while the trial runs."
)
@engine_option
@cluster_options
@store_option
def logs(
    name: str, trial: str | None, best: bool, follow_: bool, local: bool | None, **where: Any
) -> None:
    """Print the output of a trial of the study NAME."""
    if trial is not None and best:
        raise click.UsageError("--trial and --best exclude each other")
    for line in (
        client(**where).engine(name, local=local).logs(name, trial, best=best, follow=follow_)
    ):
        say(line)


@click.command()
@click.argument("name", shell_complete=study_names)
@click.option(
    "--max-trials", type=click.IntRange(min=1), required=True, help="Set the new maxTrialCount."
)
@engine_option
@cluster_options
@store_option
def extend(name: str, max_trials: int, local: bool | None, **where: Any) -> None:
    """Give the study NAME more trials: a local study when it is run again, one on a cluster if Katib allows it."""
    client(**where).engine(name, local=local).extend(name, max_trials)
    say(f"{name}: maxTrialCount is now {max_trials}", err=True)


@click.command()
@click.argument("name", shell_complete=study_names)
@engine_option
@cluster_options
@store_option
def stop(name: str, local: bool | None, **where: Any) -> None:
    """Stop the study NAME and its running trials; finished trials are kept.

    The process that runs a local study receives SIGTERM. An Experiment stays on the cluster.
    """
    facade = client(**where)
    facade.engine(name, local=local).stop(name)
    kind = facade.find(name, local=local)
    if kind is None:
        raise facade.store.unknown(name)
    # a study that had finished before is not stopped
    state = facade.result(name, kind).state.value.lower()
    which = name, *facade.choosing(name, kind)
    best, report = gantune("best", *which), gantune("report", *which)
    say(f"{name}: {state}; `{best}` and `{report}` still work", err=True)


@click.command()
@click.argument("name", shell_complete=study_names)
@engine_option
@cluster_options
@store_option
def delete(name: str, local: bool | None, store_dir: Path, **where: Any) -> None:
    """Delete the study NAME: a local one with its files, one on the cluster after its results are collected."""
    from tuner.client import EngineKind

    facade = client(store_dir, **where)
    here = local or facade.find(name, local=local) is EngineKind.LOCAL
    result = facade.engine(name, local=local).delete(name)
    best = f", best trial {result.best.number}" if result.best else ""
    kept = "" if here else f" kept in {store_dir}"
    say(f"{name}: deleted; {len(result.trials)} trials{kept}{best}", err=True)
