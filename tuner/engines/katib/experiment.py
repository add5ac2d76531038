"""An Experiment and its trials on the cluster, read with a few lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tuner.engines.katib import logs, objects, trials
from tuner.engines.katib.objects import PodView, name_of
from tuner.errors import ClusterError, ManifestError, UnsupportedError
from tuner.experiment.model import Experiment
from tuner.katib.facts import EXPERIMENT_LABEL
from tuner.kube import CONFIG_MAPS, EXPERIMENTS, PODS, SUGGESTIONS, TRIALS, Cluster
from tuner.kube.errors import one_line
from tuner.manifest import from_document
from tuner.result import Result, StudyState, Trial, TrialState
from tuner.samplers.labels import FACTORS_SETTING, MEDIAN_SETTING, NOT_STOPPED_SETTING

Object = Mapping[str, Any]
# failed trials whose collector's log is read for one result: each costs a request
_COLLECTOR_LOGS = 10


@dataclass(frozen=True, slots=True)
class LiveExperiment:
    """An Experiment that the cluster holds."""

    item: dict[str, Any]
    experiment: Experiment
    namespace: str

    @property
    def name(self) -> str:
        """metadata.name."""
        return name_of(self.item)

    @property
    def uid(self) -> str:
        """metadata.uid, which differs between Experiments of the same name."""
        return str(self.item["metadata"].get("uid", ""))

    @property
    def state(self) -> StudyState:
        """The state of the study."""
        return objects.study_state(self.item)[0]

    @property
    def label(self) -> str:
        """The selector of its trials and pods."""
        return f"{EXPERIMENT_LABEL}={self.name}"


def fetch_live(cluster: Cluster, name: str, namespace: str) -> LiveExperiment:
    """Read it. Raises NotFound, and UnsupportedError where the object cannot be understood."""
    item = cluster.get(EXPERIMENTS, name, namespace=namespace)
    try:
        return LiveExperiment(item, _read(_with_template(cluster, item)), namespace)
    except ManifestError as error:
        raise UnsupportedError(f"Experiment {name} cannot be read: {error}") from error


def _read(document: dict[str, Any]) -> Experiment:
    """Return the Experiment without those annotations of ours that cannot be read. Katib runs it and ignores them."""
    try:
        return from_document(document)
    except ManifestError as error:
        if error.where[:2] != ("metadata", "annotations") or len(error.where) < 3:
            raise
        metadata = document["metadata"]
        kept = {
            key: value for key, value in metadata["annotations"].items() if key != error.where[2]
        }
    return _read(document | {"metadata": metadata | {"annotations": kept}})


def _with_template(cluster: Cluster, item: dict[str, Any]) -> dict[str, Any]:
    """The object with the trial template that a ConfigMap holds written out; {} where it cannot be read.

    Only exports need the template. To watch, to stop and to delete, it is not necessary.
    """
    template = item.get("spec", {}).get("trialTemplate") or {}
    source = template.get("configMap")
    if "trialSpec" in template or not source:
        return item
    try:
        where = {"name": source["configMapName"], "namespace": source["configMapNamespace"]}
        text = cluster.get(CONFIG_MAPS, **where)["data"][source["templatePath"]]
        written = YAML(typ="safe", pure=True).load(text)
    except (ClusterError, KeyError, YAMLError):
        written = None
    rest = {key: value for key, value in template.items() if key != "configMap"}
    rest["trialSpec"] = written if isinstance(written, dict) else {}
    return item | {"spec": item["spec"] | {"trialTemplate": rest}}


def read_result(
    cluster: Cluster,
    study: LiveExperiment,
    known: Iterable[Trial],
    notify: Callable[[str], None],
    *,
    pods: bool = True,
) -> Result:
    """Return the Experiment and all its trials, merged with the trials that were `known` before."""
    listed = [
        trials.listed_trial(found, study.experiment)
        for found in cluster.list(TRIALS, namespace=study.namespace, labels=study.label)
    ]
    wanting = any(
        one.trial.state is TrialState.FAILED or not one.trial.state.finished for one in listed
    )
    views = _pods(cluster, study, notify) if pods and wanting else {}
    failed = [
        one.trial.name
        for one in listed
        if one.trial.state is TrialState.FAILED and one.trial.name in views
    ]
    for name in failed[-_COLLECTOR_LOGS:]:
        views[name] = logs.explained(cluster, views[name], study.namespace)
    merged = trials.merged(listed, views, known)
    state, reason = objects.study_state(study.item)
    if state is StudyState.FAILED and "uggestion has failed" in reason:
        reason = _suggestion_says(cluster, study) or reason
    return Result(
        study.name, state, study.experiment.objective, merged, reason, study.experiment.baseline
    )


def _pods(
    cluster: Cluster, study: LiveExperiment, notify: Callable[[str], None]
) -> dict[str, PodView]:
    try:
        return trials.youngest(
            map(objects.pod, cluster.list(PODS, namespace=study.namespace, labels=study.label))
        )
    except ClusterError as error:
        notify(f"nodes and the reasons of failed pods are not shown: {error}")
        return {}


def not_stopped(cluster: Cluster, study: LiveExperiment) -> str:
    """Return why our suggestion service stops no trial although it is asked to, "" if it does."""
    settings = study.experiment.algorithm.settings
    if not {FACTORS_SETTING, MEDIAN_SETTING} & settings.keys():
        return ""
    try:
        suggestion = cluster.get(SUGGESTIONS, study.name, namespace=study.namespace)
    except ClusterError:
        return ""
    kept = suggestion.get("status", {}).get("algorithmSettings") or ()
    found = {str(one.get("name")): str(one.get("value", "")) for one in kept}
    return one_line(found.get(NOT_STOPPED_SETTING, ""))


def _suggestion_says(cluster: Cluster, study: LiveExperiment) -> str:
    try:
        suggestion = cluster.get(SUGGESTIONS, study.name, namespace=study.namespace)
    except ClusterError:
        return ""
    return one_line(str(objects.conditions(suggestion).get("Failed", {}).get("message", "")))
