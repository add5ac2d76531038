"""Remembers the options of this command line that suggested commands repeat (tuner.commands).

Those that come from the environment (GANTUNE_STORE, KUBECONFIG) are there for the next command too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from tuner import commands

_OPTIONS = {
    "namespace": "--namespace",
    "context": "--context",
    "katib_namespace": "--katib-namespace",
    "store_dir": "--store",
}
_given: dict[str, str] = {}  # of this command line: the values of the options by parameter name
# of this command line, which knows all verbs; empty without options
_roots: list[click.Context] = []


def remember(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Keep an option that was on the command line; a callback for click."""
    name = str(param.name)
    if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
        _given[name] = str(value)
        _roots[:] = [ctx.find_root()]
        commands.repeat(_missing)
    return value


def forget() -> None:
    """Forget the options, before the next command line."""
    _given.clear()
    _roots.clear()
    commands.repeat(None)


def _missing(words: Sequence[str]) -> list[str]:
    """Return the options that a verb takes and that are not among its words."""
    accepted = _parameters(words[0]) if words else set()
    if "--local" in words or any(word.startswith("local/") for word in words):
        accepted &= {"store_dir"}
    present = {word.partition("=")[0] for word in words}
    present |= {"--namespace"} if "-n" in present else set()
    found: list[str] = []
    for name, flag in _OPTIONS.items():
        if name in _given and name in accepted and flag not in present:
            found += [flag, _given[name]]
    return found


def _parameters(verb: str) -> set[str]:
    """Return the names of the parameters of a command; empty for an unknown one."""
    for root in _roots:
        if isinstance(root.command, click.Group) and (
            command := root.command.get_command(root, verb)
        ):
            return {str(param.name) for param in command.params}
    return set()
