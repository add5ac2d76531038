"""The command line that trains with a trial's parameters, for a shell on any machine that has the program.

It is the trial's own command. What belongs to the trial's pod is left out: arguments that name its
volumes, its metrics file, or the trial itself.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from tuner.cli import export
from tuner.errors import CommandError
from tuner.experiment.command import collector_mount
from tuner.experiment.model import Experiment
from tuner.katib.containers import primary_container
from tuner.katib.facts import PLACEHOLDER
from tuner.space import Value, text

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of a shell variable


class Trainer:
    """The command of an Experiment's trials, outside its pods."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        try:
            container = primary_container(
                experiment.template.spec, experiment.template.primary_container
            )
        except CommandError:
            container = {}
        argv = [
            str(part)
            for part in [*(container.get("command") or []), *(container.get("args") or [])]
        ]
        is_script = bool(argv) and PurePosixPath(argv[0]).name in export.SHELLS
        self._argv = argv if is_script else _without_places(argv, _places(experiment, container))
        entries = [
            (str(entry["name"]), str(entry.get("value", "")))
            for entry in container.get("env") or []
        ]
        self._env = [(name, value) for name, value in entries if _parameters(experiment, value)]
        texts = [*self._argv, *(value for _, value in self._env)]
        self._carried = {name for part in texts for name in _parameters(experiment, part)}
        self._runs = bool(self._argv) and all(NAME.fullmatch(name) for name, _ in self._env)

    def line(self, parameters: Mapping[str, Value]) -> str:
        """Return the command as one line of shell; "" where the template cannot be read or misses a parameter."""
        if not self._runs or set(parameters) - self._carried:
            return ""
        env = [
            f"{name}={shlex.quote(_filled(self._experiment, value, parameters))}"
            for name, value in self._env
        ]
        return " ".join(
            [*env, shlex.join(_filled(self._experiment, part, parameters) for part in self._argv)]
        )


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


def _filled(experiment: Experiment, part: str, parameters: Mapping[str, Value]) -> str:
    def value(match: re.Match[str]) -> str:
        reference = experiment.template.references.get(match[1], "")
        return text(parameters[reference]) if reference in parameters else "training"

    return export.META.sub("training", PLACEHOLDER.sub(value, part))
