"""Completes a spec as Katib's webhook does, to compare a manifest with an Experiment on a cluster.

Source: experiment_defaults.go. Verified against a real server's answers
(tests/tuner/recordings/responses.json).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tuner.experiment.early_stopping import STOPPED_METRIC
from tuner.katib.facts import DEFAULT_COLLECTOR, DEFAULT_PARALLEL_TRIALS, DEFAULT_PATHS
from tuner.samplers import SUBMITTED_SETTINGS
from tuner.samplers.labels import MEDIAN_SETTING

Object = Mapping[str, Any]
# what Katib allows to change, with parallelTrialCount
_BUDGET = ("maxTrialCount", "maxFailedTrialCount")
_CONDITION = 'status.conditions.#(type=="{}")#|#(status=="True")#'
_DONE = {"Job": "Complete", "TrainJob": "Complete"}  # every other kind that Katib knows: Succeeded
_PODS = {
    "TrainJob": {
        "jobset.sigs.k8s.io/replicatedjob-name": "node",
        "batch.kubernetes.io/job-completion-index": "0",
    },
    "TFJob": {"training.kubeflow.org/job-role": "master"},
    "PyTorchJob": {"training.kubeflow.org/job-role": "master"},
    "XGBoostJob": {"training.kubeflow.org/job-role": "master"},
    "MPIJob": {"training.kubeflow.org/job-role": "master"},
}


def defaulted(spec: Object) -> dict[str, Any]:
    """A copy of `spec` with the webhook's defaults."""
    full: dict[str, Any] = _without_nulls(spec)
    full.setdefault("parallelTrialCount", DEFAULT_PARALLEL_TRIALS)
    full.setdefault("resumePolicy", "Never")
    _objective(full.get("objective") or {})
    for parameter in full.get("parameters") or ():
        parameter.setdefault("feasibleSpace", {}).setdefault("distribution", "uniform")
    template = full.get("trialTemplate") or {}
    if isinstance(trial := template.get("trialSpec"), dict):
        kind = str(trial.get("kind", ""))
        template.setdefault("successCondition", _CONDITION.format(_DONE.get(kind, "Succeeded")))
        template.setdefault("failureCondition", _CONDITION.format("Failed"))
        if kind in _PODS:
            template.setdefault("primaryPodLabels", dict(_PODS[kind]))
    _collector(full.setdefault("metricsCollectorSpec", {}))
    return full


def _without_nulls(value: Any) -> Any:
    """A deep copy without the keys whose value is null (`metricStrategies:` alone): the API server drops them too."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _objective(objective: dict[str, Any]) -> None:
    default = {"minimize": "min", "maximize": "max"}.get(str(objective.get("type")), "latest")
    strategies = objective.setdefault("metricStrategies", [])
    named = {strategy.get("name") for strategy in strategies}
    for metric in [
        objective.get("objectiveMetricName"),
        *(objective.get("additionalMetricNames") or ()),
    ]:
        if metric not in named:
            strategies.append({"name": metric, "value": default})


def _collector(collector: dict[str, Any]) -> None:
    kind = collector.setdefault("collector", {}).setdefault("kind", DEFAULT_COLLECTOR)
    if kind in DEFAULT_PATHS:
        place = collector.setdefault("source", {}).setdefault("fileSystemPath", {})
        place.setdefault("kind", DEFAULT_PATHS[kind][0])
        place.setdefault("path", DEFAULT_PATHS[kind][1])
        if kind == "File":
            place.setdefault("format", "TEXT")


def _without_ours(spec: dict[str, Any]) -> None:
    """Undo what `gantune submit` changes, so that the manifest is recognized when it is submitted again."""
    algorithm = spec.get("algorithm") or {}
    listed = algorithm.get("algorithmSettings") or ()
    for item in listed:
        if item.get("name") == MEDIAN_SETTING:
            spec.setdefault("earlyStopping", _early_stopping(str(item.get("value"))))
    objective = spec.get("objective") or {}
    objective["additionalMetricNames"] = [
        name for name in objective.get("additionalMetricNames") or () if name != STOPPED_METRIC
    ]
    objective["metricStrategies"] = [
        item
        for item in objective.get("metricStrategies") or ()
        if item.get("name") != STOPPED_METRIC
    ]
    algorithm["algorithmSettings"] = [
        item for item in listed if item.get("name") not in SUBMITTED_SETTINGS
    ]


def _early_stopping(text: str) -> dict[str, Any]:
    """Return the earlyStopping that `gantune submit` wrote as a setting."""
    try:
        settings = json.loads(text)
    except ValueError:
        settings = {}
    listed = [{"name": name, "value": value} for name, value in dict(settings).items()]
    return {"algorithmName": MEDIAN_SETTING} | ({"algorithmSettings": listed} if listed else {})


def difference(held: Object, written: Object) -> list[str]:
    """Yield `path: held -> written` for each difference of two specs after defaulting, without the budget."""
    ours, theirs = defaulted(written), defaulted(held)
    _without_ours(ours)
    _without_ours(theirs)
    for key in _BUDGET:
        ours.pop(key, None)
        theirs.pop(key, None)
    return list(_differences(theirs, ours, "spec"))


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        for i in range(max(len(old), len(new))):
            yield from _differences(
                old[i] if i < len(old) else None, new[i] if i < len(new) else None, f"{path}[{i}]"
            )
    elif old != new and not (_absent(old) and _absent(new)):
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _absent(value: Any) -> bool:
    """Whether the API server may drop the key (omitempty). It keeps a 0: `goal: 0` is not the same as no goal."""
    return value is False or value in (None, "", [], {})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def completed(item: Object, reason: str, message: str) -> dict[str, Any]:
    """The status of an Experiment that is marked Succeeded now, as MarkExperimentStatusSucceeded does it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kept = [
        dict(c) for c in item.get("status", {}).get("conditions") or () if c["type"] != "Succeeded"
    ]
    for condition in kept:
        if condition["type"] in ("Running", "Restarting"):
            condition |= {"status": "False", "lastUpdateTime": now, "lastTransitionTime": now}
    done = {"type": "Succeeded", "status": "True", "reason": reason, "message": message}
    return {
        "conditions": [*kept, done | {"lastUpdateTime": now, "lastTransitionTime": now}],
        "completionTime": now,
    }
