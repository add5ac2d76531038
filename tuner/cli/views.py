"""Studies as the report shows them, by the names that the command line takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tuner.cli import hints
from tuner.cli.options import choosing

if TYPE_CHECKING:
    from tuner.api import Client, EngineKind
    from tuner.report import View


def locate(facade: Client, name: str, *, local: bool | None) -> tuple[str, EngineKind]:
    """Return the name and the engine of a study, brought up to date. Raises StudyNotFound, StudyError if ambiguous."""
    from tuner.api import EngineKind

    prefix, _, own = name.rpartition("/")
    if prefix in tuple(EngineKind):
        name, local = own, prefix == EngineKind.LOCAL
    return name, facade.locate(name, local=local)


def look(facade: Client, name: str, kind: EngineKind) -> str:
    """Keep what only the cluster has of a study and a page shows: curves, and images of running trials.

    Returns which curves are missing, and why.
    """
    from tuner.api import EngineKind

    missing = facade.look(name) if kind is EngineKind.KATIB else ""
    return f"{name}: {missing}" if missing else ""


def view(facade: Client, name: str, kind: EngineKind, *, images: bool = True) -> View:
    """Return what the page shows of a study in the store, with the command line of each trial."""
    from tuner.cli import training

    found = facade.study(name, kind, images=images)
    trainer = training.Trainer(found.experiment)
    lines = {trial.number: trainer.line(trial.parameters) for trial in found.result.trials}
    commands = {number: line for number, line in lines.items() if line}
    write_next = hints.follow_up(f"gantune next {name}{choosing(facade, name, kind)}")
    return replace(found, commands=commands, next_command=write_next)
