"""Finds which suggestion service serves an Experiment, and what this means for its manifest.

katib-config maps each algorithm to an image. The service of this project runs first trials and warm
starts, which are algorithm settings that Katib's own services refuse. Each of those has known
faults (tuner.check.portable).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from tuner.check import STOCK_SERVICE_RULES, check_document
from tuner.errors import UnsupportedError
from tuner.experiment.early_stopping import (
    STOP_VARIABLE,
    STOPPED_METRIC,
    medianstop_text,
    rules,
)
from tuner.experiment.model import AlgorithmSpec, Experiment
from tuner.katib.yamlfile import Document
from tuner.kube import quantity
from tuner.result import Goal, Result
from tuner.samplers.earlier import EARLIER_SETTING, Scored, chosen
from tuner.samplers.earlier import to_text as earlier_text
from tuner.samplers.first import FIRST_ANNOTATION, FIRST_SETTING, left_out, parse
from tuner.samplers.first import to_text as first_text
from tuner.samplers.labels import FACTORS_SETTING, MEDIAN_SETTING, STOP_LABEL
from tuner.samplers.transform import dimension

OVERLAY = "manifests/overlays/katib-suggestions"
DEFAULT_MEMORY = "100Mi"  # pkg/apis/config/v1beta1/defaults.go
# bytes of memory, and how many trials less than that was enough for
SKOPT_TRIALS = ((256 << 20, 45), (512 << 20, 90))
_STOCK = re.compile(r"suggestion-(hyperopt|optuna|skopt|goptuna|hyperband|pbt|enas|darts)\b")
_OURS = re.compile(r"(?:^|/)suggestion(?:[:@]|$)")
Object = Mapping[str, Any]


class Kind(Enum):
    """Who provides the service."""

    OURS = "the suggestion service of gan-tuner"
    STOCK = "Katib's own service"
    UNKNOWN = "a service that this client does not know"


@dataclass(frozen=True, slots=True)
class Service:
    """The service for one algorithm. `image` is "" if katib-config could not be read."""

    kind: Kind
    image: str = ""
    memory: str = DEFAULT_MEMORY

    def describe(self, algorithm: str) -> str:
        """Return one sentence that says who answers for `algorithm`."""
        return f"{algorithm} is served by {self.kind.value} ({self.image or 'katib-config could not be read'})"


def service_of(entry: Object | None) -> Service:
    """Return the service of an entry of katib-config's `runtime.suggestions`."""
    image = str((entry or {}).get("image", ""))
    memory = str(
        (((entry or {}).get("resources") or {}).get("limits") or {}).get("memory") or DEFAULT_MEMORY
    )
    found = _STOCK.search(image)
    return Service(
        Kind.OURS if _OURS.search(image) else Kind.STOCK if found else Kind.UNKNOWN, image, memory
    )


def prepared(
    experiment: Experiment, service: Service, earlier: Result | None
) -> tuple[Experiment, list[str]]:
    """Return the Experiment with the settings that our service reads, and what is not as the manifest asks.

    Raises:
        UnsupportedError: There is an earlier study, and Katib's own service answers.
    """
    settings: dict[str, str] = {}
    notes = list(faults(experiment, service)) if service.kind is not Kind.OURS else []
    if experiment.first_trials:
        if service.kind is Kind.OURS:
            settings[FIRST_SETTING] = first_text(experiment.first_trials)
            if short := left_out(experiment.first_trials, experiment.max_trials):
                notes.append(f"{short} or more")
        else:
            count = len(experiment.first_trials)
            notes.append(
                f"the manifest's {count} first trials will not run: {_only_ours(experiment, service)}"
            )
    if service.kind is Kind.OURS:
        settings |= _stopping(experiment)
        notes += _obeys(experiment)
    elif experiment.stop_factors:
        notes.append(f"the stop factors stop no trial: {_only_ours(experiment, service)}")
    if earlier is not None:
        if service.kind is Kind.STOCK:
            raise UnsupportedError(
                f"--warm-start is not possible: {_only_ours(experiment, service)}"
            )
        known, note = _known(experiment, earlier)
        settings[EARLIER_SETTING] = earlier_text(
            known, [parameter.name for parameter in experiment.parameters]
        )
        notes.append(note)
    prepared = _with_settings(experiment, settings) if settings else experiment
    return _recorded(prepared) if service.kind is Kind.OURS else prepared, notes


def with_first_of(experiment: Experiment, item: Object) -> Experiment:
    """Return the Experiment with the first trials of its object on the cluster, which may name others."""
    text = str((item["metadata"].get("annotations") or {}).get(FIRST_ANNOTATION) or "")
    try:
        first = (
            parse(text, [dimension(parameter) for parameter in experiment.parameters])
            if text
            else ()
        )
    except UnsupportedError:  # Katib ignores annotations, so anything may be written there
        text, first = "", ()
    metadata = dict(experiment.document.get("metadata") or {})
    others = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key != FIRST_ANNOTATION
    }
    metadata["annotations"] = others | ({FIRST_ANNOTATION: text} if text else {})
    return replace(
        experiment, first_trials=first, document={**experiment.document, "metadata": metadata}
    )


def faults(experiment: Experiment, service: Service) -> Iterator[str]:
    """Yield the known faults of a stock service that this Experiment meets."""
    document = Document(dict(experiment.document), experiment.file, 0, {})
    for problem in check_document(document):
        if problem.rule not in STOCK_SERVICE_RULES:
            continue
        if problem.rule == "service-memory" and not _too_small(experiment, service):
            continue
        fix = (
            f"; or install {OVERLAY}, whose service does not have this fault"
            if service.kind is Kind.STOCK
            else ""
        )
        yield f"{problem.message}{fix}"


def _too_small(experiment: Experiment, service: Service) -> bool:
    memory, trials = int(quantity(service.memory)), experiment.max_trials or 0
    return any(memory < enough and trials > most for enough, most in SKOPT_TRIALS)


def _only_ours(experiment: Experiment, service: Service) -> str:
    return (
        f"{service.describe(experiment.algorithm.name)}, and only ours can do it: install {OVERLAY}"
    )


def _known(experiment: Experiment, earlier: Result) -> tuple[list[Scored], str]:
    """Return the trials of the earlier study that lie in the search space, and a sentence about them."""
    dimensions, metric = (
        [dimension(parameter) for parameter in experiment.parameters],
        experiment.objective.metric,
    )
    found: list[Scored] = []
    outside = 0
    for trial in earlier.trials:
        if (value := trial.metrics.get(metric)) is None or not trial.state.finished:
            continue
        try:
            found.append(
                ({each.name: each.find(trial.parameters[each.name]) for each in dimensions}, value)
            )
        except (KeyError, ValueError):
            outside += 1
    kept = chosen(found, maximize=experiment.objective.goal_type is Goal.MAXIMIZE)
    left = (
        f", {len(found) - len(kept)} are left out for their number"
        if len(kept) < len(found)
        else ""
    )
    note = f"{len(kept)} trials of {earlier.name} are known to the sampler{left}"
    return kept, note + (f", {outside} lie outside this space" if outside else "")


def _stopping(experiment: Experiment) -> dict[str, str]:
    """Return the settings by which our service learns which trials to stop."""
    if experiment.stop_factors:
        factors = {str(report): factor for report, factor in experiment.stop_factors}
        return {FACTORS_SETTING: json.dumps(factors)}
    return {MEDIAN_SETTING: medianstop_text(early)} if (early := ours(experiment)) else {}


def _stops(experiment: Experiment) -> bool:
    """Return whether our service stops trials. An early stopping that it does not know stays with Katib."""
    try:
        return rules(experiment) is not None
    except UnsupportedError:
        return False


def ours(experiment: Experiment) -> AlgorithmSpec | None:
    """Return the early stopping for which our suggestion service stands in for Katib's service."""
    early = experiment.early_stopping
    known = early is not None and early.name == "medianstop"
    return early if known and experiment.algorithm.name != "hyperband" else None


def _obeys(experiment: Experiment) -> list[str]:
    """Return a sentence if trials are to stop themselves, but their container does not receive the thresholds."""
    if not _stops(experiment):
        return []
    path = f"metadata.labels['{STOP_LABEL}']"
    if path in str(experiment.template.spec):
        return []
    return [
        f"no trial will stop early: its container must have the variable {STOP_VARIABLE} from "
        f"fieldRef {path}, and its program must obey it (docs/how-to/early-stopping.md)"
    ]


def _recorded(experiment: Experiment) -> Experiment:
    """Return the Experiment with the metric by which a stopped trial is recognized, if trials are stopped.

    Its document has no earlyStopping then: Katib would start a service of its own.
    """
    if not _stops(experiment):
        return experiment
    spec = copy.deepcopy(dict(experiment.document.get("spec") or {}))
    if ours(experiment):
        spec.pop("earlyStopping", None)
    names = spec["objective"].setdefault("additionalMetricNames", [])
    if STOPPED_METRIC not in names:
        names.append(STOPPED_METRIC)
        listed = spec["objective"].get("metricStrategies")
        if listed:
            listed.append({"name": STOPPED_METRIC, "value": "latest"})
    metrics = tuple(dict.fromkeys((*experiment.additional_metrics, STOPPED_METRIC)))
    return replace(
        experiment, additional_metrics=metrics, document={**experiment.document, "spec": spec}
    )


def _with_settings(experiment: Experiment, settings: Mapping[str, str]) -> Experiment:
    spec = dict(experiment.document.get("spec") or {})
    written = dict(spec.get("algorithm") or {})
    listed = [
        item for item in written.get("algorithmSettings") or () if item.get("name") not in settings
    ]
    written["algorithmSettings"] = [
        *listed,
        *({"name": name, "value": value} for name, value in settings.items()),
    ]
    algorithm = AlgorithmSpec(
        experiment.algorithm.name, {**experiment.algorithm.settings, **settings}
    )
    document = {**experiment.document, "spec": spec | {"algorithm": written}}
    return replace(experiment, algorithm=algorithm, document=document)
