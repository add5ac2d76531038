"""The command line that trains with a trial's parameters, for a shell on any machine that has the program.

It is the trial's own command. What belongs to the trial's pod is left out: arguments that name its volumes, its metrics
file, or the trial itself.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from tuner.cli import export
from tuner.command import collector_mount, primary_container
from tuner.errors import CommandError
from tuner.katib import PLACEHOLDER
from tuner.manifest import Experiment
from tuner.space import Value, text


def line(experiment: Experiment, parameters: Mapping[str, Value]) -> str:
    """Return the command as one line of shell; "" where the template cannot be read or a parameter reaches no place."""
    try:
        container = primary_container(experiment.template.spec, experiment.template.primary_container)
        env = export.env(experiment, parameters)
    except CommandError:
        return ""
    argv = [str(part) for part in [*(container.get("command") or []), *(container.get("args") or [])]]
    is_script = bool(argv) and PurePosixPath(argv[0]).name in export.SHELLS
    kept = argv if is_script else _without_places(argv, _places(experiment, container))
    names = {name for part in argv for name in _parameters(experiment, part)}
    carried = {
        str(entry["name"]): env[str(entry["name"])]
        for entry in container.get("env") or []
        if _parameters(experiment, str(entry.get("value", ""))) and str(entry["name"]) in env
    }
    from_env = {n for entry in container.get("env") or [] for n in _parameters(experiment, str(entry.get("value", "")))}
    if not kept or set(parameters) - names - from_env:
        return ""
    filled = [_filled(experiment, part, parameters) for part in kept]
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in carried.items()), shlex.join(filled)])


def _places(experiment: Experiment, container: Mapping[str, Any]) -> re.Pattern[str]:
    """What no other machine has: the container's mounts, the metrics file, and names of the trial's objects."""
    mounts = [str(mount["mountPath"]).rstrip("/") for mount in container.get("volumeMounts") or []]
    if experiment.collector.path:
        mounts.append(collector_mount(experiment.collector.path))
    paths = "|".join(re.escape(mount) for mount in mounts if mount)
    meta = [label for label, reference in experiment.template.references.items() if "${trialSpec." in reference]
    objects = "|".join([r"\$\{trialSpec\.", *(re.escape(f"${{trialParameters.{label}}}") for label in meta)])
    return re.compile(f"(?:^|=|:)(?:{paths})(?:/|$)|{objects}" if paths else objects)


def _without_places(argv: list[str], places: re.Pattern[str]) -> list[str]:
    """`argv` without the arguments that name such a place, `--flag PLACE` with its flag."""
    kept: list[str] = []
    for part in argv:
        if not places.search(part):
            kept.append(part)
        elif not part.startswith("-") and kept and re.fullmatch(r"--?[A-Za-z][\w-]*", kept[-1]) and kept[-1] != "-m":
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
