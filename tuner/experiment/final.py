"""Renders the command of the final training: the trial's own command with the best parameters.

`flags` are those elements of the trial's command that carry search parameters, so that
`python -m trainer $(gantune best gan-bayes --format args) --epochs 200` is the final training.
`variables` gives the parameters to a shell, and `CommandLine` is the complete command for any
machine that has the program: arguments that name the pod's volumes, its metrics file or the trial
itself are left out. Values are data: each is quoted for the shell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tuner.errors import CommandError
from tuner.experiment.command import (
    collector_mount,
    filled,
    insert,
    static_environment,
    written,
)
from tuner.experiment.model import Experiment, TrialTemplate
from tuner.katib.containers import primary_container
from tuner.katib.facts import PLACEHOLDER, WRAPPED_COLLECTORS
from tuner.katib.shell import code_items
from tuner.space import Value, text

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of a shell variable
_OBJECT = "training"  # in place of the names of the trial's objects
META = re.compile(r"\$\{trial(?:Spec|Parameters)\.[^}]*\}")
SHELLS = ("sh", "bash", "dash", "ash", "zsh", "ksh")
# Names that change how a shell, the loader or an interpreter runs what comes next. zsh ties `path`
# to PATH.
RESERVED_VARIABLE = re.compile(
    r"(?:LD_|DYLD_|PYTHON|PERL5|RUBY|NODE_|GIT_|BASH|ZSH).*"
    r"|PATH|path|CDPATH|cdpath|FPATH|fpath|IFS|ENV|HOME|SHELL|SHELLOPTS|ZDOTDIR|PS[0-4]|PROMPT.*"
    r"|PWD|OLDPWD|UID|EUID|PPID|TMPDIR|TERM|USER|LOGNAME|EDITOR|PAGER"
)


def flags(experiment: Experiment, parameters: Mapping[str, Value]) -> list[str]:
    """Return the elements of the trial's command that carry `parameters`, with their values.

    Raises CommandError where flags cannot be told apart: a shell script, a positional value, a
    parameter that reaches the trial in another way.
    """
    container = primary_container(experiment.template.spec, experiment.template.primary_container)
    argv = [
        str(part) for part in [*(container.get("command") or []), *(container.get("args") or [])]
    ]
    if argv and PurePosixPath(argv[0]).name in SHELLS:
        raise CommandError(
            f"flags cannot be taken out of a shell script ({argv[0]}), the command of "
            f"{experiment.name}'s trials: use --format env or json"
        )
    found: list[str] = []
    given: set[str] = set()
    for index, element in enumerate(argv):
        names = _carried(element, experiment.template, parameters)
        if not names:
            continue
        if not element.startswith("-"):
            flag = argv[index - 1] if index > 0 else ""
            if not _is_flag(flag):
                raise CommandError(
                    f"{element!r} has no flag in the command of {experiment.name}'s trials, so its "
                    "place matters: use --format env or json"
                )
            found.append(flag)
        found.append(_filled(element, experiment.template, parameters))
        given |= names
    if missing := [name for name in parameters if name not in given]:
        raise CommandError(
            f"no flag of {experiment.name}'s trials carries {', '.join(missing)}: use --format env or json"
        )
    return found


def variables(experiment: Experiment, parameters: Mapping[str, Value]) -> dict[str, str]:
    """Return shell variables, named as the container's env entry, or else as the parameter.

    Characters that a shell name cannot have become `_`. Raises CommandError where two would share a
    name, or where a name is reserved.
    """
    found: dict[str, str] = {}
    given: set[str] = set()
    for entry in (
        primary_container(experiment.template.spec, experiment.template.primary_container).get(
            "env"
        )
        or []
    ):
        value = str(entry.get("value", ""))
        if names := _carried(value, experiment.template, parameters):
            found[_shell_name(str(entry["name"]))] = _filled(value, experiment.template, parameters)
            given |= names
    for name, chosen in parameters.items():
        if name in given:
            continue
        if (variable := _shell_name(name)) in found:
            raise CommandError(
                f"two parameters would be the variable {variable}: use --format json"
            )
        found[variable] = text(chosen)
    if reserved := [name for name in found if RESERVED_VARIABLE.fullmatch(name)]:
        raise CommandError(
            f"the variable {reserved[0]} would change how the shell or the next program runs: "
            "use --format json"
        )
    return found


def simplest_form(experiment: Experiment, parameters: Mapping[str, Value]) -> str:
    """Return the first of `--format` args, env and json that can express `parameters`."""
    for form, attempt in (("args", flags), ("env", variables)):
        try:
            attempt(experiment, parameters)
        except CommandError:
            continue
        return form
    return "json"


def quoted(argv: Sequence[str]) -> tuple[str, bool]:
    """Return `argv` as a line of shell, and whether a plain `$(...)` would split it wrongly."""
    return shlex.join(argv), any(shlex.quote(element) != element for element in argv)


def _carried(element: str, template: TrialTemplate, parameters: Mapping[str, Value]) -> set[str]:
    """Return the search parameters in `element`; none if it also holds the trial's own name."""
    references = [template.references.get(name, "") for name in PLACEHOLDER.findall(element)]
    if len(references) != len(META.findall(element)) or not all(
        name in parameters for name in references
    ):
        return set()
    return set(references)


def _filled(element: str, template: TrialTemplate, parameters: Mapping[str, Value]) -> str:
    values = {
        label: text(parameters[reference])
        for label, reference in template.references.items()
        if reference in parameters
    }
    return str(insert(element, values))


def _is_flag(element: str) -> bool:
    return (
        element.startswith("-")
        and element != "-m"
        and "=" not in element
        and not META.search(element)
    )


def _shell_name(name: str) -> str:
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    return cleaned if not cleaned[:1].isdigit() else f"_{cleaned}"


class CommandLine:
    """The command of an Experiment's trials, for use outside its pods."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._wrapped = experiment.collector.kind in WRAPPED_COLLECTORS
        try:
            container = primary_container(
                experiment.template.spec, experiment.template.primary_container
            )
        except CommandError:
            container = {}
        argv = written(container, wrapped=self._wrapped)
        if not code_items(argv):
            argv = _without_places(argv, _places(experiment, container))
        self._container = {**container, "command": argv, "args": []}
        self._env = static_environment(container)
        texts = [*argv, *self._env.values()]
        self._carried = {name for part in texts for name in _parameters(experiment, part)}
        self._given = [name for name, part in self._env.items() if _parameters(experiment, part)]
        self._runs = bool(argv) and all(NAME.fullmatch(name) for name in self._given)

    def line(self, parameters: Mapping[str, Value]) -> str:
        """Return the command as one line of shell.

        It is "" where the template cannot be read or misses a parameter, and where a value could be
        code for a shell or an interpreter of the command.
        """
        if not self._runs or set(parameters) - self._carried:
            return ""
        values = {
            label: text(parameters[reference]) if reference in parameters else _OBJECT
            for label, reference in self._experiment.template.references.items()
        }
        env = {name: insert(part, values) for name, part in self._env.items()}
        try:
            argv = filled(self._container, values, env, wrapped=self._wrapped)
        except CommandError:
            return ""
        given = [f"{name}={shlex.quote(env[name])}" for name in self._given]
        return " ".join([*given, shlex.join(META.sub(_OBJECT, part) for part in argv)])


def _places(experiment: Experiment, container: Mapping[str, Any]) -> re.Pattern[str]:
    """Return what no other machine has: mounts, the metrics file, names of the trial's objects."""
    mounts = [str(mount["mountPath"]).rstrip("/") for mount in container.get("volumeMounts") or []]
    if experiment.collector.path:
        mounts.append(collector_mount(experiment))
    paths = "|".join(re.escape(mount) for mount in mounts if mount)
    meta = [
        label
        for label, reference in experiment.template.references.items()
        if "${trialSpec." in reference
    ]
    objects = "|".join(
        [r"\$\{trialSpec\.", *(re.escape(f"${{trialParameters.{label}}}") for label in meta)]
    )
    return re.compile(f"(?:^|=|:)(?:{paths})(?:/|$)|{objects}" if paths else objects)


def _without_places(argv: list[str], places: re.Pattern[str]) -> list[str]:
    """Return `argv` without the arguments that name such a place, `--flag PLACE` with its flag."""
    kept: list[str] = []
    for part in argv:
        if not places.search(part):
            kept.append(part)
        elif (
            not part.startswith("-")
            and kept
            and re.fullmatch(r"--?[A-Za-z][\w-]*", kept[-1])
            and kept[-1] != "-m"
        ):
            kept.pop()
    return kept


def _parameters(experiment: Experiment, part: str) -> set[str]:
    found = (experiment.template.references.get(label, "") for label in PLACEHOLDER.findall(part))
    return {name for name in found if not name.startswith("${")}
