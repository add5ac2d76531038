"""Options that several commands share, each defined once."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tuner.cli import hints
from tuner.cli.terminal import say
from tuner.errors import UnsupportedError
from tuner.katib.facts import NAMESPACE
from tuner.store.files import STORE

if TYPE_CHECKING:
    from tuner.api import Client, EngineKind

Command = TypeVar("Command", bound=Callable[..., Any])


def client(store_dir: Path, **where: Any) -> Client:
    """Return the facade for the options of `store_option` and `cluster_options`; its warnings go to stderr."""
    from tuner.api import Client

    return Client(store_dir, **where, notify=lambda message: say(f"warning: {message}", err=True))


def study_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the studies of the store whose names start with what was typed, for the shell's completion."""
    from tuner.api import Client
    from tuner.errors import GantuneError

    try:
        names = dict.fromkeys(name for name, _ in Client(ctx.params.get("store_dir")).store.all())
    except GantuneError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def choosing(facade: Client, name: str, kind: EngineKind) -> str:
    """Return the option by which a command finds this study where both engines have the name."""
    others = [
        other
        for other in type(kind)
        if other is not kind and name in facade.store.of(other).names()
    ]
    return f" --{'local' if kind == 'local' else 'cluster'}" if others else ""


def store_option(command: Command) -> Command:
    """`--store DIR`, the same on every command that reads or writes a study."""
    return click.option(
        "--store",
        "store_dir",
        metavar="DIR",
        envvar="GANTUNE_STORE",
        type=click.Path(file_okay=False, path_type=Path),
        default=STORE,
        show_default=True,
        callback=hints.remember,
        help="Keep studies in this directory.",
    )(command)


def force_option(command: Command) -> Command:
    """`--force` of the commands that write a file; see `ensure_free`."""
    return click.option("--force", is_flag=True, help="Replace the file if it exists.")(command)


def ensure_free(path: Path, force: bool) -> None:
    """Raise UnsupportedError if a file exists that may not be replaced."""
    if path.exists() and not force:
        raise UnsupportedError(
            f"{path} exists. Choose another file with -o, or replace it with --force"
        )


def cluster_options(command: Command) -> Command:
    """`-n`, `--context`, `--katib-namespace`: the same on every command that may ask a cluster."""
    options = (
        click.option(
            "-n",
            "--namespace",
            default="",
            callback=hints.remember,
            help="Cluster: use this namespace, not the study's or context's.",
        ),
        click.option(
            "--context",
            callback=hints.remember,
            help="Cluster: use this context of the kubeconfig, not the current one.",
        ),
        click.option(
            "--katib-namespace",
            default=NAMESPACE,
            show_default=True,
            callback=hints.remember,
            help="Cluster: expect Katib in this namespace.",
        ),
    )
    return reduce(lambda inner, option: option(inner), reversed(options), command)


def engine_option(command: Command) -> Command:
    """`--local`, `--cluster`: which study, where both engines have one of that name. The command receives `local`.

    It is None without either. A namespace or a context can only mean the cluster.
    """

    @click.option("--local", is_flag=True, help="Choose the study on this machine.")
    @click.option("--cluster", "remote", is_flag=True, help="Choose the study on the cluster.")
    @wraps(command)
    def choose(*args: Any, local: bool, remote: bool, **given: Any) -> Any:
        if local and (remote or given.get("namespace") or given.get("context")):
            raise click.UsageError("--local excludes --cluster, --namespace and --context")
        remote = bool(remote or given.get("namespace") or given.get("context"))
        return command(*args, local=local if local or remote else None, **given)

    return choose  # type: ignore[return-value]


def format_option(
    *formats: str, help_text: str = "Choose the format."
) -> Callable[[Command], Command]:
    """`--format`, the first of `formats` by default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help=help_text,
    )


def events_option(command: Command) -> Command:
    """`--format table|json` of the commands that follow a search."""
    return format_option(
        "table", "json", help_text="Choose the format; json prints one event per line."
    )(command)
