"""Learning curves: from Katib's DB manager, and where that is out of reach, from the pods' logs.

Kept as `.gantune/NAME/curves.jsonl`, one line per value: {"trial", "metric", "time", "value"}. A trial that ended is
asked once: what the file holds already is not fetched again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from tuner.engines.katib import logs
from tuner.engines.katib.objects import time_of
from tuner.errors import ClusterError, GantuneError, StudyError, Timeout, Unreachable
from tuner.kube import Cluster
from tuner.kube.dbmanager import DbManager
from tuner.manifest import Experiment
from tuner.metrics import compiled, parse_text
from tuner.result import Observation, Result, Trial, TrialState

FILE = "curves.jsonl"
_LOG_LIMIT = 50  # trials whose curve is read from a log in one go: each costs two requests
_SILENCES = 3  # calls in a row without an answer, until the DB manager is left alone


def collect(
    cluster: Cluster,
    experiment: Experiment,
    result: Result,
    folder: Path,
    *,
    namespace: str,
    katib_namespace: str,
    address: str,
) -> str:
    """Add the curves of the trials that have ended since the last time. Returns what could not be had, "" when all was.

    Raises StudyError alone, where nothing can be written: a result without curves is still a result.
    """
    have = {trial for trial, _ in read(folder)}
    wanted = [t for t in result.trials if t.state.ended and t.metrics and t.name not in have]
    if not wanted:
        return ""
    trouble: ClusterError | None = None
    missing = wanted
    try:
        with DbManager.open(cluster, katib_namespace, address) as database:
            missing, trouble = _from_database(database, wanted, folder)
    except ClusterError as error:
        trouble = error
    failed = [t for t in missing[-_LOG_LIMIT:] if not _from_log(cluster, experiment, t, namespace, folder)]
    rest = len(failed) + max(0, len(missing) - _LOG_LIMIT)
    return f"the curves of {rest} trials could not be read: {trouble}" if rest else ""


def _from_database(database: DbManager, trials: list[Trial], folder: Path) -> tuple[list[Trial], ClusterError | None]:
    """The trials whose curves could not be had, and the last reason. One that fails does not stop the others."""
    missing: list[Trial] = []
    trouble: ClusterError | None = None
    silences = 0
    for index, trial in enumerate(trials):
        try:
            _append(folder, trial.name, database.observations(trial.name))
            silences = 0
        except ClusterError as error:
            missing.append(trial)
            trouble = error
            silences = silences + 1 if isinstance(error, Unreachable | Timeout) else 0
            if silences == _SILENCES:
                return missing + trials[index + 1 :], trouble
    return missing, trouble


def read(folder: Path) -> Iterator[tuple[str, Observation]]:
    """The stored curves as (trial's name, observation); a line that is cut short is passed over."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StudyError(f"{folder / FILE} cannot be read: {error.strerror}") from error
    for line in lines:
        try:
            shape = json.loads(line)
            yield shape["trial"], Observation(shape["metric"], float(shape["value"]), time_of(shape["time"]))
        except (ValueError, KeyError, TypeError):
            continue


def _from_log(cluster: Cluster, experiment: Experiment, trial: Trial, namespace: str, folder: Path) -> bool:
    if trial.state not in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED, TrialState.FAILED):
        return False
    metrics = (experiment.objective.metric, *experiment.additional_metrics)
    try:
        filters = compiled(experiment.collector.filters)
        container = logs.SIDECAR  # it echoes what it reads, under StdOut and File alike
        lines = list(logs.lines(cluster, experiment, trial, namespace, follow=False, name=container))
    except GantuneError:  # no log any more, or a filter of Go's that Python cannot take
        return False
    found = [seen for line in lines for seen in parse_text(line, metrics, filters) if "metric_logs:" not in line]
    _append(folder, trial.name, found)
    return bool(found)


def _append(folder: Path, trial: str, observations: Iterable[Observation]) -> None:
    shapes = [
        {"trial": trial, "metric": o.metric, "time": o.time.isoformat() if o.time else None, "value": o.value}
        for o in observations
        if math.isfinite(o.value)
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(shape) + "\n" for shape in shapes))
    except OSError as error:
        raise StudyError(f"{folder / FILE} cannot be written: {error.strerror}") from error
