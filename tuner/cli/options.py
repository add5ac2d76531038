"""Defines the options that several commands share, and reads what they name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tuner.cli import repeat
from tuner.cli.terminal import say
from tuner.commands import gantune
from tuner.errors import ManifestError, UnsupportedError
from tuner.katib.facts import NAMESPACE
from tuner.store.files import STORE

if TYPE_CHECKING:
    from tuner.client import Client, EngineKind
    from tuner.experiment.model import Experiment

STDIN_NAME = "<stdin>"
Command = TypeVar("Command", bound=Callable[..., Any])


def client(store_dir: Path, **where: Any) -> Client:
    """Return the client for the options of `store_option` and `cluster_options`.

    Its messages go to stderr, each warning once.
    """
    from tuner.client import Client

    warned: set[str] = set()

    def notify(message: str) -> None:
        if message not in warned:
            warned.add(message)
            say(f"warning: {message}", err=True)

    return Client(store_dir, **where, notify=notify, note=lambda message: say(message, err=True))


def load(file: Path, name: str | None, *, warnings: bool) -> Experiment:
    """Return the Experiment in `file`, or in standard input for `-`, after a check.

    Problems go to stderr. Warnings are about what Katib does differently: without `warnings` they
    are counted in one line. With them, the faults of Katib's own suggestion services are left out,
    because the engine knows which service will answer.

    Raises:
        ManifestError: The manifest is not YAML, or has an error.
    """
    from tuner.check import LOCAL_RULES, STOCK_SERVICE_RULES, Severity
    from tuner.manifest import read

    try:
        if str(file) == "-":
            experiment, problems = read(sys.stdin.buffer.read(), name, file=STDIN_NAME)
        else:
            experiment, problems = read(file, name)
    except ManifestError as error:
        # of the file itself, in contrast to which Experiment in it is meant
        if error.rule not in ("unreadable", "no-experiment", "several-experiments"):
            error.exit_code = 1
        if not error.problems:
            raise
        errors = [each for each in error.problems if each.severity is Severity.ERROR]
        others = [each for each in error.problems if each.severity is not Severity.ERROR]
        *before, last = errors
        for problem in [*before, *others]:
            say(str(problem), err=True)
        refusal = ManifestError(
            f"{last.message} [{last.rule}]", file=last.file, line=last.line, rule=last.rule
        )
        refusal.exit_code = 1
        raise refusal from error
    hidden = (*LOCAL_RULES, *STOCK_SERVICE_RULES) if warnings else LOCAL_RULES
    problems = [problem for problem in problems if problem.rule not in hidden]
    if warnings:
        for problem in problems:
            say(str(problem), err=True)
    elif problems:
        count = f"{len(problems)} warning{'s' if len(problems) > 1 else ''}"
        say(f"{file}: {count} for use on a cluster: {gantune('check', file)}", err=True)
    return experiment


def study_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the studies of the store whose names start with what was typed, for the shell's completion."""
    from tuner.client import Client
    from tuner.errors import GantuneError

    try:
        names = dict.fromkeys(name for name, _ in Client(ctx.params.get("store_dir")).store.all())
    except GantuneError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def refresh(
    facade: Client, name: str, *, local: bool | None, curves: bool
) -> tuple[str, EngineKind]:
    """Bring the study NAME, local/NAME or katib/NAME up to date; return its name and engine.

    Raises StudyNotFound, and StudyError if NAME is ambiguous.
    """
    from tuner.client import EngineKind

    prefix, _, own = name.rpartition("/")
    if prefix in tuple(EngineKind):
        name, local = own, prefix == EngineKind.LOCAL
    return name, facade.refresh(name, local=local, curves=curves).kind


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
        callback=repeat.remember,
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
            callback=repeat.remember,
            help="Cluster: use this namespace, not the study's or context's.",
        ),
        click.option(
            "--context",
            callback=repeat.remember,
            help="Cluster: use this context of the kubeconfig, not the current one.",
        ),
        click.option(
            "--katib-namespace",
            default=NAMESPACE,
            show_default=True,
            callback=repeat.remember,
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
