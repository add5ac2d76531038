"""The commands that need a cluster: submit, watch, logs, extend, stop, delete; and `run --cluster`, for tuner.cli.run.

Exit codes of a watch: 0 the search succeeded, 1 it failed, 3 it was stopped, 4 it was deleted under way, 5 its deadline
(--timeout) passed, 6 the cluster refused or did not answer, 130 Ctrl-C (the search goes on in the cluster).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.options import cluster_options, store_option
from tuner.cli.terminal import say
from tuner.errors import ClusterError
from tuner.result import StudyState

if TYPE_CHECKING:
    from tuner.engines.katib import KatibEngine
    from tuner.manifest import Experiment
    from tuner.store import Store

# 5 and 6 are tuner.errors' Deadline and ClusterError.
EXIT_CODES = {StudyState.FAILED: 1, StudyState.STOPPED: 3, StudyState.DELETED: 4}


def engine(
    namespace: str, context: str | None, katib_namespace: str, store_dir: Path, deadline: float | None = None
) -> KatibEngine:
    """The engine of these options. Raises Unreachable without a kubeconfig; sends nothing yet."""
    from tuner.engines.katib import KatibEngine
    from tuner.kube import Cluster
    from tuner.store import Store

    return KatibEngine(
        Cluster.connect(context),
        Store(store_dir),
        namespace=namespace,
        katib_namespace=katib_namespace,
        deadline=deadline,
        notify=_warn,
    )


def _warn(message: str) -> None:
    say(f"warning: {message}", err=True)


def run(experiment: Experiment, katib: KatibEngine, *, as_json: bool = False) -> int:
    """`gantune run FILE --cluster`: submit, then watch. Returns the exit code."""
    name = katib.submit(experiment)
    say(f"{name} is on {katib.cluster.server}", err=True)  # made now, or there before and joined
    return follow(katib, name, experiment.max_trials, as_json=as_json)


def follow(katib: KatibEngine, name: str, total: int | None, *, as_json: bool = False) -> int:
    """Show a search until it ends; the exit code says how it did."""
    from tuner.cli import live

    output = live.Output.choose(as_json)
    try:
        result = live.follow(katib.watch(name), total=total, output=output)
    except KeyboardInterrupt:
        say(f"left {name} running; `gantune watch {name}` comes back, `gantune stop {name}` ends it", err=True)
        return 130
    if output is not live.Output.JSON:
        live.print_final(result)
    return EXIT_CODES.get(result.state, 0)


def refresh(store: Store, name: str, **where: Any) -> ClusterError | None:
    """Bring what the store holds of a search on the cluster up to date, where the cluster answers at once.

    Where it does not, what was collected last is shown with a warning. For a name that neither knows, the reason is
    returned, for the caller's error; a machine without any cluster gives none.
    """
    from tuner.engines.katib import refresh as collect
    from tuner.errors import NoCluster, NoKatib
    from tuner.store import EngineKind

    error = collect(store, name, notify=_warn, **where)
    if error and name in store.of(EngineKind.KATIB).names():
        say(f"warning: {name} is shown as it was collected last: {error}", err=True)
    return None if isinstance(error, NoCluster | NoKatib) else error


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", "which", default=None, help="Which Experiment, where FILE holds several.")
@cluster_options
@store_option
def submit(file: Path, which: str | None, **where: Any) -> None:
    """Create the Experiment of FILE on the cluster, or join the one that is there with the same spec."""
    from tuner.cli.run import load

    name = engine(**where).submit(load(file, which, warnings=True))
    say(name)
    say(f"next: gantune watch {name}", err=True)


@click.command()
@click.argument("name")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=None, help="Give up after so many seconds."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON event per line.")
@cluster_options
@store_option
def watch(name: str, timeout: float | None, as_json: bool, **where: Any) -> int:
    """Follow the Experiment NAME until it ends: trials, metrics, and why a pod does not run.

    Exit codes: 0 succeeded, 1 failed, 3 stopped, 4 deleted, 5 --timeout passed, 6 the cluster refused or is silent,
    130 Ctrl-C (the search goes on).
    """
    katib = engine(**where, deadline=timeout)
    return follow(katib, name, katib.max_trials(name), as_json=as_json)


@click.command()
@click.argument("name")
@click.option("--trial", default=None, help="A trial's name or number; else the newest.")
@click.option("--best", is_flag=True, help="The best trial.")
@click.option("-f", "--follow", "follow_", is_flag=True, help="Go on as it is written.")
@cluster_options
@store_option
def logs(name: str, trial: str | None, best: bool, follow_: bool, **where: Any) -> None:
    """Print what a trial of NAME printed, from the container that has it."""
    if trial is not None and best:
        raise click.UsageError("--trial and --best exclude each other")
    for line in engine(**where).logs(name, trial, best=best, follow=follow_):
        say(line)


@click.command()
@click.argument("name")
@click.option("--max-trials", type=click.IntRange(min=1), required=True, help="The new maxTrialCount.")
@cluster_options
@store_option
def extend(name: str, max_trials: int, **where: Any) -> None:
    """Give NAME more trials, as far as Katib allows it."""
    engine(**where).extend(name, max_trials)
    say(f"{name}: maxTrialCount is {max_trials} now", err=True)


@click.command()
@click.argument("name")
@cluster_options
@store_option
def stop(name: str, **where: Any) -> None:
    """End NAME and its running trials; finished trials and the Experiment stay."""
    katib = engine(**where)
    katib.stop(name)
    state = katib.store.result(name).state.value.lower()  # what had ended before is not stopped
    say(f"{name}: {state}; `gantune best {name}` and `gantune report {name}` work on", err=True)


@click.command()
@click.argument("name")
@cluster_options
@store_option
def delete(name: str, **where: Any) -> None:
    """Collect the results of NAME, then delete it from the cluster."""
    result = engine(**where).delete(name)
    best = f", best trial {result.best.number}" if result.best else ""
    say(f"{name}: deleted; {len(result.trials)} trials kept in {where['store_dir']}{best}", err=True)
