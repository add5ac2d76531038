"""Writes a study to an MLflow server: a parent run for the search, with a nested run for each trial.

A run is found again by its tags, so a repeated export updates it: a trial that has not changed since
is skipped, and the server ignores values that it already has.

    gantune export gan-bayes --to mlflow --tracking-uri http://127.0.0.1:5000
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import UnsupportedError
from tuner.experiment.model import Experiment
from tuner.result import Result, StudyState, Trial, TrialState
from tuner.store.curves import Curves

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

STUDY_TAG, TRIAL_TAG, DIGEST_TAG = "gan-tuner.study", "gan-tuner.trial", "gan-tuner.digest"
_BATCH = 1000  # metrics in one request, MLflow's limit
_STATES = {
    TrialState.SUCCEEDED: "FINISHED",
    TrialState.EARLY_STOPPED: "FINISHED",
    TrialState.METRICS_UNAVAILABLE: "FAILED",
    TrialState.FAILED: "FAILED",
    TrialState.KILLED: "KILLED",
}


def export(
    uri: str,
    result: Result,
    experiment: Experiment,
    curves: Mapping[str, Curves],
    *,
    tags: Mapping[str, str] | None = None,
    artifacts: Mapping[str, bytes] | None = None,
) -> int:
    """Write or update a study; returns how many trials were written because they are new or changed.

    Args:
        uri: The tracking server, such as http://127.0.0.1:5000, or a file or database URI.
        tags: What is needed to repeat the search, such as engine and seed, for the parent run.
        artifacts: Files of the parent run, by name.

    Raises:
        UnsupportedError: MLflow is not installed, or the server refuses or does not answer.
    """
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a line for each run
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UnsupportedError(
            "MLflow is not installed: pip install 'gan-tuner[mlflow]'"
        ) from error
    try:
        return _Export(MlflowClient(uri), result, experiment).write(
            curves, tags or {}, artifacts or {}
        )
    except (MlflowException, OSError) as error:
        reason = str(error).partition("\n")[0][:300]
        raise UnsupportedError(
            f"the MLflow server {uri} failed: {reason}. Check the address with --tracking-uri"
        ) from error


class _Export:
    """One export: the runs of a study in the MLflow experiment of the same name."""

    def __init__(self, client: MlflowClient, result: Result, experiment: Experiment) -> None:
        self._client, self._result, self._experiment = client, result, experiment
        found = client.get_experiment_by_name(result.name)
        self._id: str = found.experiment_id if found else client.create_experiment(result.name)

    def write(
        self, curves: Mapping[str, Curves], tags: Mapping[str, str], artifacts: Mapping[str, bytes]
    ) -> int:
        """Write the parent run and the trials that are new or changed; returns the number of these."""
        parent = self._run(STUDY_TAG, self._result.name, self._result.name, {})
        known = self._known(parent)
        written = 0
        for trial in self._result.trials:
            shape = [trial.to_json(), _points(curves.get(trial.name, {}))]
            digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()
            run = known.get(trial.name)
            if run is not None and run.data.tags.get(DIGEST_TAG) == digest:
                continue
            self._trial(parent, run, trial, curves.get(trial.name, {}), digest)
            written += 1
        self._finish(parent, tags, artifacts)
        return written

    def _run(self, tag: str, value: str, name: str, others: Mapping[str, str]) -> str:
        """Return the id of the run with a tag, which is created if there is none."""
        quoted = value.replace("'", "\\'")
        found = self._client.search_runs([self._id], f"tags.`{tag}` = '{quoted}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        run = self._client.create_run(self._id, tags={tag: value, **others}, run_name=name)
        return str(run.info.run_id)

    def _known(self, parent: str) -> dict[str, Run]:
        """Return the trials' runs that an earlier export wrote, by the trial's name."""
        runs: dict[str, Run] = {}
        token: str | None = ""
        while token is not None:
            page = self._client.search_runs(
                [self._id], f"tags.mlflow.parentRunId = '{parent}'", page_token=token or None
            )
            runs |= {run.data.tags[TRIAL_TAG]: run for run in page if TRIAL_TAG in run.data.tags}
            token = page.token or None
        return runs

    def _trial(
        self, parent: str, run: Run | None, trial: Trial, curves: Curves, digest: str
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        tags = {TRIAL_TAG: trial.name, "mlflow.parentRunId": parent}
        started = _milliseconds(trial.started)
        if run is None:
            run = self._client.create_run(
                self._id, start_time=started, tags=tags, run_name=trial.name
            )
        at = _milliseconds(trial.ended) or started or 0
        metrics = [
            Metric(name, value, _milliseconds(time) or at, step)
            for name, values in curves.items()
            for step, (time, value) in enumerate((one.time, one.value) for one in values)
        ]
        # last, so that it is the value that MLflow shows: the one after the metric's strategy
        metrics += [
            Metric(name, value, at, max(len(curves.get(name, ())), 1) - 1)
            for name, value in trial.metrics.items()
            if not curves.get(name) or curves[name][-1].value != value
        ]
        known = run.data.params
        params = [
            Param(name, str(value))
            for name, value in trial.parameters.items()
            if name not in known  # MLflow does not change parameters
        ]
        own = {"gan-tuner.state": trial.state.value, "gan-tuner.number": str(trial.number)}
        own |= {"gan-tuner.reason": trial.reason[:500]} if trial.reason else {}
        identifier = run.info.run_id
        for begin in range(0, len(metrics), _BATCH):
            self._client.log_batch(identifier, metrics=metrics[begin : begin + _BATCH])
        self._client.log_batch(
            identifier, params=params, tags=[RunTag(name, text) for name, text in own.items()]
        )
        if status := _STATES.get(trial.state):
            self._client.set_terminated(identifier, status, _milliseconds(trial.ended))
        # at the end: an export that was interrupted writes this trial again
        self._client.set_tag(identifier, DIGEST_TAG, digest)

    def _finish(self, parent: str, tags: Mapping[str, str], artifacts: Mapping[str, bytes]) -> None:
        result, best = self._result, self._result.best
        shown = {
            "gan-tuner.version": version("gan-tuner"),
            "gan-tuner.state": result.state.value,
            "gan-tuner.algorithm": self._experiment.algorithm.name,
            "gan-tuner.objective": f"{result.objective.goal_type.value} {result.objective.metric}",
            **({"gan-tuner.best": best.name} if best else {}),
            **{f"gan-tuner.{name.replace(' ', '_')}": text[:500] for name, text in tags.items()},
        }
        for name, text in shown.items():
            self._client.set_tag(parent, name, text)
        if best:
            metric = result.objective.metric
            self._client.log_metric(parent, f"best_{metric}", best.metrics[metric])
        with tempfile.TemporaryDirectory() as folder:
            for name, data in artifacts.items():
                path = Path(folder, name)
                path.write_bytes(data)
                self._client.log_artifact(parent, str(path))
        if result.state is not StudyState.RUNNING:
            failed = result.state is StudyState.FAILED
            self._client.set_terminated(parent, "FAILED" if failed else "FINISHED")


def _points(curves: Curves) -> dict[str, list[list[Any]]]:
    return {
        name: [[one.time.isoformat() if one.time else None, one.value] for one in values]
        for name, values in curves.items()
    }


def _milliseconds(time: Any) -> int | None:
    return int(time.timestamp() * 1000) if time else None
