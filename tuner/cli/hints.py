"""Follow-up commands in messages, completed so that they can be run as printed.

A message names the next command in backticks, as `gantune status gan-bayes`, whichever module wrote
it. It does not know by which options the user chose the store and the cluster. `complete` adds
those that were on the command line; what comes from the environment (GANTUNE_STORE, KUBECONFIG) is
there for the next command too.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import click

_IN_BACKTICKS = re.compile(r"`(gantune [^`\n]+)`")
_LINE = re.compile(
    r"^((?:next|write the page|interrupted; to continue): )(gantune [^\n]+)$", re.MULTILINE
)
_given: dict[str, str] = {}  # of this command line: the name of a parameter -> its option and value
# of this command line, which knows all verbs; empty without options
_roots: list[click.Context] = []
_OPTIONS = {
    "namespace": "--namespace",
    "context": "--context",
    "katib_namespace": "--katib-namespace",
    "store_dir": "--store",
}


def remember(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Keep an option that was on the command line; the callback of the options that messages repeat."""
    name = str(param.name)
    if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
        _given[name] = f"{_OPTIONS[name]} {shlex.quote(str(value))}"
        _roots[:] = [ctx.find_root()]
    return value


def forget() -> None:
    """Forget the options, before the next command line."""
    _given.clear()
    _roots.clear()


def complete(text: str) -> str:
    """Return a text with its follow-up commands completed."""
    if not _given or "gantune " not in text:
        return text
    text = _IN_BACKTICKS.sub(lambda found: f"`{follow_up(found[1])}`", text)
    return _LINE.sub(lambda found: f"{found[1]}{follow_up(found[2])}", text)


def follow_up(command: str) -> str:
    """Return one command with the options that its verb takes and that it does not have."""
    words = command.split()
    accepted = _parameters(words[1]) if len(words) > 1 else set()
    if "--local" in words or any(word.startswith("local/") for word in words):
        accepted &= {"store_dir"}
    for name, flag in _OPTIONS.items():
        flags = {flag, "-n"} if name == "namespace" else {flag}
        if name in _given and name in accepted and not flags & set(words):
            command += f" {_given[name]}"
    return command


def _parameters(verb: str) -> set[str]:
    """The names of the parameters of a command; empty for an unknown one."""
    for root in _roots:
        if isinstance(root.command, click.Group) and (
            command := root.command.get_command(root, verb)
        ):
            return {str(param.name) for param in command.params}
    return set()
