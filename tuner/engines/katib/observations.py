"""Reads the observations of trials from Katib's DB manager, or else from the logs of their pods.

`tuner.store.curves` stores them. The curve of a finished trial is requested once: what the file already
holds is not fetched again. The file stays open meanwhile, so that writes still reach it after
another command has renamed its directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from tuner.engines.katib import logs
from tuner.errors import ClusterError, GantuneError, Timeout, Unreachable
from tuner.experiment.model import Experiment, FileFormat
from tuner.katib.facts import EXPERIMENT_LABEL, SIDECAR, TRIAL_LABEL
from tuner.kube import PODS, Cluster
from tuner.kube.dbmanager import DbManager
from tuner.metrics import JsonLineError, ObservationLog, compiled, parse_json, parse_text
from tuner.result import Observation, Result, Trial, TrialState
from tuner.store.curves import Writer, read

_LOG_LIMIT = 50  # trials whose curve is read from a log in one go: each costs a request
_LOGGED = (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED, TrialState.FAILED)
_SILENCES = 3  # consecutive calls without an answer after which the DB manager is not asked again


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
    """Add the curves of the trials that have finished since the last call. Returns what is missing, "" when nothing is.

    Raises only StudyError, if the file cannot be written, because a result without curves is still
    useful.
    """
    have = read(folder)
    wanted = [t for t in result.trials if t.state.finished and t.metrics and t.name not in have]
    if not wanted:
        return ""
    trouble: ClusterError | None = None
    missing = wanted
    with Writer(folder) as writer:
        try:
            with DbManager.open(cluster, katib_namespace, address) as database:
                missing, trouble = _from_database(database, wanted, writer)
        except ClusterError as error:
            trouble = error
        rest = len(missing) - (
            _from_logs(cluster, experiment, missing, namespace, writer) if missing else 0
        )
    return f"the curves of {rest} trials could not be read: {trouble}" if rest else ""


def running(
    cluster: Cluster,
    experiment: Experiment,
    trials: Iterable[Trial],
    pods: Iterable[dict[str, Any]],
    namespace: str,
) -> dict[str, ObservationLog]:
    """Return what running trials have reported so far, from the logs of their pods, by the trials' names.

    The metrics collector sends the values to Katib's DB manager only when a trial finishes. A trial
    that pushes its values has no collector, and nothing in its log.
    """
    try:
        parse = _parser(experiment)
    except GantuneError:  # a Go regular expression that Python cannot compile
        return {}
    by_trial = _by_trial(pods)
    found: dict[str, ObservationLog] = {}
    for trial in [t for t in trials if t.state is TrialState.RUNNING and t.name in by_trial][
        -_LOG_LIMIT:
    ]:
        try:
            found[trial.name] = _logged(cluster, by_trial[trial.name], namespace, parse)
        except ClusterError:  # its container has not started
            continue
    return found


def metric_lines(folder: Path, trial: str) -> list[str]:
    """Return the stored observations of a trial as it printed them, one line for each time."""
    lines: dict[str, list[str]] = {}
    for metric, values in read(folder).get(trial, {}).items():
        for value in values:
            time = f"{value.time:%Y-%m-%dT%H:%M:%S.%fZ} " if value.time else ""
            lines.setdefault(time, []).append(f"{metric}={value.value}")
    return [time + " ".join(values) for time, values in lines.items()]


def _by_trial(pods: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for item in pods:
        found.setdefault((item["metadata"].get("labels") or {}).get(TRIAL_LABEL, ""), []).append(
            item
        )
    return found


def _logged(
    cluster: Cluster,
    pods: list[dict[str, Any]],
    namespace: str,
    parse: Callable[[str], Iterable[Observation]],
) -> ObservationLog:
    """Return the observations in the log of a trial's metrics collector. Raises ClusterError where there is no log."""
    pod = logs.pod_with(SIDECAR, pods)  # it prints what it reads, under StdOut and File
    lines = logs.read(cluster, pod, SIDECAR, namespace)
    return ObservationLog(
        [seen for line in lines for seen in parse(line) if "metric_logs:" not in line]
    )


def _from_database(
    database: DbManager, trials: list[Trial], writer: Writer
) -> tuple[list[Trial], ClusterError | None]:
    """The trials whose curves could not be read, and the last reason. One that fails does not stop the others."""
    missing: list[Trial] = []
    trouble: ClusterError | None = None
    silences = 0
    for index, trial in enumerate(trials):
        try:
            writer.add(trial.name, ObservationLog(database.observations(trial.name)))
            silences = 0
        except ClusterError as error:
            missing.append(trial)
            trouble = error
            silences = silences + 1 if isinstance(error, Unreachable | Timeout) else 0
            if silences == _SILENCES:
                return missing + trials[index + 1 :], trouble
    return missing, trouble


def _from_logs(
    cluster: Cluster, experiment: Experiment, trials: list[Trial], namespace: str, writer: Writer
) -> int:
    """Return how many curves were read, of the newest trials whose pods still exist: one list, and one log each."""
    try:
        parse = _parser(experiment)
        pods = _by_trial(
            cluster.list(PODS, namespace=namespace, labels=f"{EXPERIMENT_LABEL}={experiment.name}")
        )
    except GantuneError:  # no pods, or a Go regular expression that Python cannot compile
        return 0
    count = 0
    for trial in [trial for trial in trials if trial.name in pods and trial.state in _LOGGED][
        -_LOG_LIMIT:
    ]:
        try:
            found = _logged(cluster, pods[trial.name], namespace, parse)
        except ClusterError:  # no log any more
            continue
        count += writer.add(trial.name, found)
    return count


def _parser(experiment: Experiment) -> Callable[[str], Iterable[Observation]]:
    """Return a parser of the collector's log. Raises ManifestError for a filter that Python cannot compile."""
    metrics = (experiment.objective.metric, *experiment.additional_metrics)
    if experiment.collector.format is FileFormat.JSON:
        return partial(_json_line, metrics)
    filters = compiled(experiment.collector.filters)
    return lambda line: parse_text(line, metrics, filters)


def _json_line(metrics: tuple[str, ...], line: str) -> list[Observation]:
    """Return the observations of a line of the metrics file. The collector's own lines are not JSON and have none."""
    try:
        return list(parse_json(line, metrics))
    except JsonLineError:
        return []
