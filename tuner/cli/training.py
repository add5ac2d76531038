"""The command line that trains with a trial's parameters, for a shell on any machine that has the program.

It is the trial's own command. What belongs to the trial's pod is left out: arguments that name its
volumes, its metrics file, or the trial itself.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from tuner.cli import export
from tuner.errors import CommandError
from tuner.experiment.command import (
    collector_mount,
    filled,
    insert,
    static_environment,
    written,
)
from tuner.experiment.model import Experiment
from tuner.katib.containers import primary_container
from tuner.katib.facts import PLACEHOLDER, WRAPPED_COLLECTORS
from tuner.katib.shell import code_items
from tuner.space import Value, text

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of a shell variable
_OBJECT = "training"  # in place of the names of the trial's objects


class Trainer:
    """The command of an Experiment's trials, outside its pods."""

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
        return " ".join([*given, shlex.join(export.META.sub(_OBJECT, part) for part in argv)])


def _places(experiment: Experiment, container: Mapping[str, Any]) -> re.Pattern[str]:
    """What no other machine has: the container's mounts, the metrics file, and names of the trial's objects."""
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
    """`argv` without the arguments that name such a place, `--flag PLACE` with its flag."""
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
