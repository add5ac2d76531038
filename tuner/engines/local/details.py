"""What the local engine knows of a study beyond its result, for those who only read it. Needs no lock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tuner.engines.local.adapt import adapt
from tuner.engines.local.journal import Journal
from tuner.engines.local.reading import metrics_reader
from tuner.experiment.early_stopping import Cut
from tuner.experiment.model import Experiment
from tuner.result import Observation, Result, StudyState, Trial
from tuner.store.curves import Curves
from tuner.store.lock import Lock


@dataclass(frozen=True, slots=True)
class Details:
    """What was decided once for a study, and its result.

    Attributes:
        seed: The sampler's seed; None before the first trial is proposed.
        warm_start: The study whose trials the sampler received first; "" without one.
        known: How many trials these were.
        cuts: The early-stopping rule of each trial that has one, by the trial's number.
    """

    result: Result
    seed: int | None
    warm_start: str
    known: int
    cuts: dict[int, tuple[Cut, ...]]


def details(folder: Path, identity: str, experiment: Experiment) -> Details:
    """Return the details of the study in `folder`. Raises StudyError where its journal cannot be read."""
    alive = Lock.held(folder)
    journal = Journal(folder, identity=identity)
    header = journal.header
    idle = StudyState.RUNNING if alive else StudyState.STOPPED
    return Details(
        result=journal.result(alive=alive)
        if header
        else Result(experiment.name, idle, experiment.objective),
        seed=header.get("seed"),
        warm_start=str(header.get("warm_start", "")),
        known=len(header.get("known", ())),
        cuts={entry.number: entry.cuts for entry in journal.entries if entry.cuts},
    )


def directories(folder: Path, trial: str) -> list[Path]:
    """Return the directories that a trial may have written to: its mounts, and its working directory."""
    return [folder / "trials" / trial / name for name in ("mounts", "files")]


def running_curves(
    experiment: Experiment, folder: Path, trials: Iterable[Trial]
) -> dict[str, Curves]:
    """Return what running trials have reported so far, by their names."""
    metrics = (experiment.objective.metric, *experiment.additional_metrics)
    found: dict[str, Curves] = {}
    adapted, _ = adapt(experiment)
    for trial in trials:
        tail = metrics_reader(adapted, folder / "trials" / trial.name)
        tail.poll()
        curves = {
            metric: tuple(Observation(metric, value) for value in tail.curve(metric))
            for metric in metrics
        }
        found[trial.name] = {metric: curve for metric, curve in curves.items() if curve}
    return found
