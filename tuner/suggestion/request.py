"""Katib's messages as the types of this project: the Experiment, and the trials so far.

The Experiment is checked by the rules of `gantune check`, so that both give the same messages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tuner.check import settings, space, spec
from tuner.check.rule import Severity
from tuner.check.view import View
from tuner.errors import GantuneError, ManifestError
from tuner.experiment.model import AlgorithmSpec, Experiment, TrialTemplate
from tuner.manifest import parameter
from tuner.result import Goal, Objective
from tuner.samplers import ALGORITHMS, SEED_SETTING
from tuner.samplers.labels import (
    ISSUED_SETTING,
    LONGEST_NUMBER,
    NOT_STOPPED_SETTING,
    NUMBER_LABEL,
    SEARCH_LABEL,
    SEARCH_SETTING,
)
from tuner.samplers.transform import Dimension
from tuner.space import Value

# pbt needs the local engine
SERVED = tuple(name for name in ALGORITHMS if name != "pbt")
KEPT_SETTINGS = (SEARCH_SETTING, ISSUED_SETTING, NOT_STOPPED_SETTING)  # of our replies
MOST_TRIALS = 10_000  # in one request
MOST_CMAES = 4_000  # cmaes repeats all its steps, which takes 30 s then; Katib waits 60 s
MOST_PARALLEL = 1_000  # suggestions in one request
_RULES = (*spec.RULES, *space.RULES, *settings.RULES)
_SKIPPED = (  # what a request does not contain, and what only Katib's own hyperband needs
    "hyperband",
    "name",
    "objective",
    "metric-strategy",
    "resume-policy",
    "failed-above-max",
    "parallel-above-max",
)
_FINISHED = ("SUCCEEDED", "KILLED", "FAILED", "METRICSUNAVAILABLE", "EARLYSTOPPED")
_SCORED = ("SUCCEEDED", "EARLYSTOPPED")


class BadRequest(GantuneError):
    """A request that cannot be answered. The message says why, in one sentence."""


@dataclass(frozen=True, slots=True)
class Record:
    """One trial of a request. `value` is None for a trial that has no finite objective, or has not finished."""

    name: str
    texts: Mapping[str, str]  # the parameter assignments
    finished: bool
    value: float | None = None
    stopped: bool = False  # by Katib's metrics collector
    number: int | None = None  # None for a trial of another suggestion service
    search: str = ""  # the ID of the search that proposed it
    started: str = ""


def experiment_of(message: Any) -> Experiment:
    """Return the Experiment of a request. Raises BadRequest for the first rule that it breaks."""
    document = _document(message)
    algorithm = document["spec"]["algorithm"]["algorithmName"]
    if algorithm not in SERVED:
        raise BadRequest(
            f"algorithm {algorithm[:60]!r} is not available from this suggestion service; "
            f"these are: {', '.join(SERVED)}"
        )
    _check(document)
    objective, given = message.spec.objective, message.spec.algorithm.algorithm_settings
    try:
        parameters = tuple(
            parameter(item, ("spec", "parameters", i))
            for i, item in enumerate(document["spec"]["parameters"])
        )
    except ManifestError as error:
        raise BadRequest(error.message) from error
    return Experiment(
        name=message.name,
        namespace="",
        objective=Objective(objective.objective_metric_name, _goal(objective)),
        additional_metrics=tuple(objective.additional_metric_names),
        strategies={},
        algorithm=AlgorithmSpec(algorithm, {setting.name: setting.value for setting in given}),
        parameters=parameters,
        template=TrialTemplate({}, "", {}),
        early_stopping=_medianstop(message.spec),
        parallel_trials=max(message.spec.parallel_trial_count, 1),
        max_trials=message.spec.max_trial_count or None,
    )


def _medianstop(sent: Any) -> AlgorithmSpec | None:
    """Return the early stopping of a request; None for one that Katib alone provides."""
    early = sent.early_stopping
    if early.algorithm_name != "medianstop" or sent.algorithm.algorithm_name == "hyperband":
        return None
    return AlgorithmSpec(
        early.algorithm_name, {each.name: each.value for each in early.algorithm_settings}
    )


def _goal(objective: Any) -> Goal:
    name = (
        type(objective)
        .DESCRIPTOR.fields_by_name["type"]
        .enum_type.values_by_number[objective.type]
        .name
    )
    if name not in ("MINIMIZE", "MAXIMIZE"):
        raise BadRequest("the type of the objective must be minimize or maximize")
    return Goal.MINIMIZE if name == "MINIMIZE" else Goal.MAXIMIZE


def _document(message: Any) -> dict[str, Any]:
    """Return the part of the manifest that a request carries."""
    sent = message.spec
    body: dict[str, Any] = {
        "algorithm": {
            "algorithmName": sent.algorithm.algorithm_name,
            "algorithmSettings": [
                {"name": setting.name, "value": setting.value}
                for setting in sent.algorithm.algorithm_settings
            ],
        },
        "parallelTrialCount": sent.parallel_trial_count or 1,
        "parameters": [_parameter(item) for item in sent.parameter_specs.parameters],
    }
    if sent.max_trial_count:
        body["maxTrialCount"] = sent.max_trial_count
    return {"metadata": {"name": message.name}, "spec": body}


def _parameter(message: Any) -> dict[str, Any]:
    sent = message.feasible_space
    kinds = type(message).DESCRIPTOR.fields_by_name["parameter_type"].enum_type.values_by_number
    kind = kinds[message.parameter_type].name if message.parameter_type in kinds else "UNKNOWN_TYPE"
    names = type(sent).DESCRIPTOR.fields_by_name["distribution"].enum_type.values_by_number
    distribution = names[sent.distribution].name if sent.distribution in names else ""
    feasible: dict[str, Any] = {
        key: text for key in ("min", "max", "step") if (text := getattr(sent, key))
    }
    if sent.list:
        feasible["list"] = list(sent.list)
    if distribution and kind in ("DOUBLE", "INT"):
        feasible["distribution"] = _DISTRIBUTIONS.get(distribution, "uniform")
    return {
        "name": message.name,
        "parameterType": kind.removesuffix("_TYPE").lower(),
        "feasibleSpace": feasible,
    }


_DISTRIBUTIONS = {
    "UNIFORM": "uniform",
    "LOG_UNIFORM": "logUniform",
    "NORMAL": "normal",
    "LOG_NORMAL": "logNormal",
}


def _check(document: dict[str, Any]) -> None:
    """Raise BadRequest for the first error that the rules find."""
    listed = document["spec"]["algorithm"]["algorithmSettings"]
    # every reply contains the seed, which Katib's own hyperband does not have
    judged = [
        setting
        for setting in listed
        if setting["name"] not in KEPT_SETTINGS
        and not (
            document["spec"]["algorithm"]["algorithmName"] == "hyperband"
            and setting["name"] == SEED_SETTING
            and setting["value"].isdecimal()
        )
    ]
    algorithm = document["spec"]["algorithm"] | {"algorithmSettings": judged}
    view = View(document | {"spec": document["spec"] | {"algorithm": algorithm}})
    for rule in _RULES:
        if rule.severity is Severity.ERROR and not rule.strict and rule.name not in _SKIPPED:
            for _, message in rule.find(view):
                raise BadRequest(message)


_MORE = "start a new one that is warm-started from it"


@dataclass(frozen=True, slots=True)
class Counts:
    """What a request asks for.

    Attributes:
        count: The suggestions that it asks for.
        stored: The suggestions that the caller has already.
        stateless: Whether the caller keeps no settings, and sends all its trials instead.
    """

    count: int
    stored: int
    stateless: bool


def counts_of(message: Any) -> Counts:
    """Return what a request asks for.

    Katib counts the suggestions of this request in the total, and keeps the settings of a reply. An
    OptimizationJob's controller sends the number of its trials as the total, and keeps no settings.
    """
    count, total, trials = (
        message.current_request_number,
        message.total_request_number,
        len(message.trials),
    )
    if not 1 <= count <= MOST_PARALLEL:
        raise BadRequest(f"current_request_number must be from 1 to {MOST_PARALLEL}, got {count}")
    if total < 0:
        raise BadRequest(f"total_request_number must be at least 0, got {total}")
    settings = {each.name for each in message.experiment.spec.algorithm.algorithm_settings}
    stateless = SEARCH_SETTING not in settings and (total < count or _sends_all(message))
    algorithm = message.experiment.spec.algorithm.algorithm_name
    most = MOST_CMAES if algorithm == "cmaes" else MOST_TRIALS
    largest = max(total, trials + count if stateless else trials)
    if largest > most:
        raise BadRequest(
            f"a search with {algorithm} may have {most} trials, got {largest}; {_MORE}"
        )
    return Counts(count, trials if stateless else max(total - count, 0), stateless)


def _sends_all(message: Any) -> bool:
    """Return whether the total is the number of trials that were sent, which Katib never sends.

    Katib may send as many trials of an Experiment of the same name in another namespace. These do
    not leave as many places free as the request asks for.
    """
    running = sum(_condition(trial) not in _FINISHED for trial in message.trials)
    most = message.experiment.spec.parallel_trial_count
    return message.total_request_number == len(message.trials) and (
        not most or running + message.current_request_number <= most
    )


def records_of(messages: Iterable[Any], experiment: Experiment) -> list[Record]:
    """Return the trials of a request in the order in which they started, the waiting ones last."""
    records = [_record(message, experiment) for message in messages]
    return sorted(records, key=lambda record: (not record.started, record.started, record.name))


def _record(message: Any, experiment: Experiment) -> Record:
    condition = _condition(message)
    value = None
    if condition in _SCORED:
        metric = experiment.objective.metric
        value = next(
            (
                _finite(one.value)
                for one in message.status.observation.metrics
                if one.name == metric
            ),
            None,
        )
    labels = message.spec.labels
    number = labels.get(NUMBER_LABEL, "")
    return Record(
        name=message.name,
        texts={one.name: one.value for one in message.spec.parameter_assignments.assignments},
        finished=condition in _FINISHED,
        value=value,
        stopped=condition == "EARLYSTOPPED",
        number=int(number)
        if number.isascii() and number.isdigit() and len(number) < LONGEST_NUMBER
        else None,
        search=labels.get(SEARCH_LABEL, ""),
        started=message.status.start_time,
    )


def _condition(message: Any) -> str:
    names = type(message.status).DESCRIPTOR.fields_by_name["condition"].enum_type.values_by_number
    number = message.status.condition
    return names[number].name if number in names else "UNKNOWN"


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def decoded(record: Record, dimensions: Iterable[Dimension]) -> dict[str, Value]:
    """Return a trial's values as the search space types them. Raises BadRequest if they are not in the space."""
    values: dict[str, Value] = {}
    for each in dimensions:
        if (written := record.texts.get(each.name)) is None:
            raise BadRequest(
                f"trial {record.name[:60]} has no value for parameter {each.name}; {_CHANGED}"
            )
        try:
            values[each.name] = each.find(written)
        except (ValueError, OverflowError) as error:
            raise BadRequest(
                f"trial {record.name[:60]} is outside the search space: {str(error)[:200]}; {_CHANGED}"
            ) from error
    return values


_CHANGED = "if you changed the search space, submit the Experiment under another name"
