"""The command line: `gantune`, also `python -m tuner`.

Sub-commands are imported when they are called, so that `gantune --help` costs no more than click. A
command returns its exit code, or None for 0; what it raises becomes one line on stderr here, and
nowhere else.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from tuner import __version__
from tuner.cli import repeat
from tuner.cli.terminal import plain, say
from tuner.errors import GantuneError

# Name -> the module that holds the click command of that name, and its line in `gantune --help`.
COMMANDS = {
    "init": ("tuner.cli.init", "Draft a manifest for any program."),
    "check": ("tuner.cli.check", "Check Experiment manifests and print each problem."),
    "run": ("tuner.cli.run", "Run a search on the cluster or on this machine."),
    "submit": ("tuner.cli.cluster", "Create an Experiment on the cluster."),
    "watch": ("tuner.cli.cluster", "Follow a study until it finishes."),
    "list": ("tuner.cli.study", "List studies."),
    "status": ("tuner.cli.study", "Show the state of a study, trial by trial."),
    "best": (
        "tuner.cli.study",
        "Print the best trial: a table, JSON, or flags for the final training.",
    ),
    "report": ("tuner.cli.report", "Show what a study has found, or write it as one HTML page."),
    "next": ("tuner.cli.next", "Write the next manifest from what a study has found."),
    "confirm": (
        "tuner.cli.confirm",
        "Train the best trials again on new seeds: is the winner real?",
    ),
    "export": (
        "tuner.cli.storage",
        "Write a study as CSV, JSON, Parquet, YAML, or an Optuna storage.",
    ),
    "logs": ("tuner.cli.cluster", "Print the output of a trial."),
    "files": ("tuner.cli.files", "Copy the files that a trial wrote."),
    "extend": ("tuner.cli.cluster", "Give a study more trials."),
    "stop": ("tuner.cli.cluster", "Stop a study and keep its results."),
    "delete": ("tuner.cli.cluster", "Delete a study."),
    "retry": ("tuner.cli.recover", "Run failed trials of a local study again."),
    "check-store": (
        "tuner.cli.recover",
        "Check the journals of local studies, and repair a damaged one.",
    ),
}
ATTRIBUTES = {
    "list": "list_",
    "next": "next_",
    "check-store": "check_store",
}  # where the command cannot have its own name in Python
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(
            importlib.import_module(COMMANDS[cmd_name][0]), ATTRIBUTES.get(cmd_name, cmd_name)
        )
        assert isinstance(command, click.Command)  # noqa: S101 - a fault of ours, not of the user
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command as click does, and suggest a similar name for an unknown one."""
        if (
            args
            and not ctx.resilient_parsing
            and not args[0].startswith("-")
            and args[0] not in COMMANDS
        ):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"commands are {', '.join(COMMANDS)}"
            ctx.fail(f"no such command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table above, without an import."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="gantune")
def gantune() -> None:
    """Tune generative models with one Katib Experiment manifest: on a Kubernetes cluster, or on this machine.

    \b
    gantune check manifests/bayes.yaml          check the manifest
    gantune run manifests/bayes.yaml --local    search on this machine, with Optuna
    gantune best gan-bayes --format args        flags for the final training
    """


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `gantune` with `argv` (default: the process's own) and exit.

    Exit codes: 0 done, 1 what was asked about is not well (errors in a manifest, a failed search),
    2 wrong usage or input, 6 the cluster refused or did not answer, 130 interrupted; a watch has
    more (tuner.cli.cluster). Each error is one line on stderr.
    """
    repeat.forget()
    try:
        code = gantune.main(args=argv, prog_name="gantune", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        if error.ctx is not None:
            say(error.ctx.get_usage(), err=True)
        code = _complain(error.format_message(), error.exit_code)
    except click.ClickException as error:
        code = _complain(error.format_message(), error.exit_code)
    except GantuneError as error:
        code = _complain(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        code = _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # `gantune list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = PIPE_CLOSED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _complain(f"{where}{error.strerror or error}", 2)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, code: int) -> int:
    """Print one line to stderr and return the exit code."""
    say(f"gantune: error: {plain(message)}", err=True)
    return code
