"""Adapts an Experiment to a local run, so that more Experiments run without a change.

Each difference is a warning. What cannot run at all is refused elsewhere
(tuner.engines.local.engine).
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from tuner.errors import CommandError, UnsupportedError
from tuner.experiment.model import AlgorithmSpec, CollectorKind, Experiment
from tuner.katib.containers import primary_container

_MPI = ("mpirun", "mpiexec", "orterun", "horovodrun")
_MPI_VALUES = {  # how many values follow an option of Open MPI's mpirun; no other option has any
    **dict.fromkeys(
        (
            "-np",
            "--np",
            "-n",
            "--n",
            "-c",
            "-x",
            "-H",
            "-host",
            "--host",
            "-hostfile",
            "--hostfile",
        ),
        1,
    ),
    **dict.fromkeys(
        ("-machinefile", "--machinefile", "-bind-to", "--bind-to", "-map-by", "--map-by", "-wdir"),
        1,
    ),
    **dict.fromkeys(
        ("-npernode", "--npernode", "-N", "-prefix", "--prefix", "--rank-by", "-rank-by", "-p"), 1
    ),
    **dict.fromkeys(("-mca", "--mca", "-gmca", "--gmca"), 2),
}


def adapt(experiment: Experiment) -> tuple[Experiment, list[str]]:
    """Return the Experiment that runs on this machine, and a warning for each difference."""
    found: list[str] = []
    for step in (_collector, _restarts, _early_stopping, _mpi):
        experiment, warning = step(experiment)
        found += [warning] if warning else []
    return experiment, found


def with_command(experiment: Experiment, argv: Sequence[str]) -> Experiment:
    """Return the Experiment with a command for a primary container that leaves it to the image's entry point.

    Raises UnsupportedError where the manifest has a command.
    """
    document: dict[str, Any] = copy.deepcopy(dict(experiment.document))
    spec: dict[str, Any] = document["spec"]["trialTemplate"]["trialSpec"]
    container = primary_container(spec, experiment.template.primary_container)
    if container.get("command") or not isinstance(container, dict):
        raise UnsupportedError(
            "--command is for a container without a command, but "
            f"{container.get('name')} has one: change the manifest"
        )
    container["command"] = list(argv)
    return replace(experiment, template=replace(experiment.template, spec=spec), document=document)


def _collector(experiment: Experiment) -> tuple[Experiment, str]:
    """A Custom collector with a file is read as a File collector."""
    collector = experiment.collector
    if collector.kind is not CollectorKind.CUSTOM or not collector.path:
        return experiment, ""
    adapted = replace(experiment, collector=replace(collector, kind=CollectorKind.FILE))
    return adapted, (
        f"the container of the Custom collector does not run: {collector.path} is read as a File collector reads it. "
        "If its lines need another program, let the trial print name=value lines"
    )


def _restarts(experiment: Experiment) -> tuple[Experiment, str]:
    """CMA-ES runs without restarts."""
    algorithm = experiment.algorithm
    strategy = algorithm.settings.get("restart_strategy", "none")
    if algorithm.name != "cmaes" or strategy in ("", "none"):
        return experiment, ""
    settings = {
        name: value for name, value in algorithm.settings.items() if name != "restart_strategy"
    }
    adapted = replace(experiment, algorithm=AlgorithmSpec(algorithm.name, settings))
    return (
        adapted,
        f"cmaes runs without restarts, because Optuna has none: restart_strategy={strategy} has no effect",
    )


def _early_stopping(experiment: Experiment) -> tuple[Experiment, str]:
    """Hyperband stops trials itself."""
    early = experiment.early_stopping
    if experiment.algorithm.name != "hyperband" or early is None:
        return experiment, ""
    return replace(experiment, early_stopping=None), (
        f"{early.name} has no effect locally, because hyperband stops trials itself"
    )


def _mpi(experiment: Experiment) -> tuple[Experiment, str]:
    """Without mpirun, the program that it would start runs as one process."""
    template = experiment.template
    spec: dict[str, Any] = copy.deepcopy(dict(template.spec))
    try:
        container = primary_container(spec, template.primary_container)
    except CommandError:  # the launcher refuses it with its own words
        return experiment, ""
    items = [str(item) for key in ("command", "args") for item in container.get(key) or ()]
    launcher = PurePosixPath(items[0]).name if items else ""
    if launcher not in _MPI or shutil.which(items[0]) is not None:
        return experiment, ""
    program = _program(items[1:])
    if not program or not isinstance(container, dict):
        return experiment, ""
    container["command"] = program
    container.pop("args", None)
    adapted = replace(experiment, template=replace(template, spec=spec))
    return adapted, (
        f"{launcher} is not found on this machine, so {program[0]} runs as a single process (world size 1). "
        "Install Open MPI to run it as the manifest says"
    )


def _program(items: Sequence[str]) -> list[str]:
    """Return what follows the options of mpirun."""
    rest = list(items)
    while rest and rest[0].startswith("-"):
        rest = rest[1 + _MPI_VALUES.get(rest[0], 0) :]
    return rest
