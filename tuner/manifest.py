"""Loads a Katib Experiment (kubeflow.org/v1beta1) from a file or an object.

`load(path)` reads one file, refuses what `gantune check` calls an error, and applies the defaults
of Katib's webhook (experiment_defaults.go), so that an Experiment always holds what the controller
would see. `from_document(object)` takes an Experiment that an API server holds already; it asks
only that the object can be understood.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path as FilePath
from typing import Any, TypeVar

from tuner import check
from tuner.check import Problem
from tuner.commands import gantune
from tuner.errors import ManifestError
from tuner.experiment import annotations as ours
from tuner.experiment.model import (
    AlgorithmSpec,
    Collector,
    CollectorKind,
    Experiment,
    FileFormat,
    Strategy,
    TrialTemplate,
)
from tuner.katib import yamlfile
from tuner.katib.facts import API_VERSION, DEFAULT_PARALLEL_TRIALS, DEFAULT_PATHS, is_experiment
from tuner.katib.yamlfile import Document, Path, show
from tuner.result import Goal, Objective
from tuner.samplers.transform import dimension
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


def load(path: str | FilePath, name: str | None = None) -> Experiment:
    """Return the Experiment of a file, or the one called `name` where the file holds several.

    Raises ManifestError, with file and line, for the first error that `gantune check` finds.
    """
    return read(path, name)[0]


def read(
    source: str | FilePath | bytes, name: str | None = None, *, file: str = ""
) -> tuple[Experiment, list[Problem]]:
    """Read and check a manifest once; return its Experiment, and the warnings of `gantune check`.

    Args:
        source: The path of a file, or what it contains.
        name: The name of the Experiment, where the file holds several.
        file: The name of the manifest in messages; "" takes the path.

    Raises:
        ManifestError: The manifest is not YAML, or has errors. Then `problems` has all of them, and
            the warnings.
    """
    data = source if isinstance(source, bytes) else yamlfile.read_bytes(source)
    file = file or ("" if isinstance(source, bytes) else str(source))
    documents = yamlfile.parse(data, file)
    problems = check.check_documents(documents)
    if errors := [each for each in problems if each.severity is check.Severity.ERROR]:
        raise _refusal(errors, problems)
    experiment = choose(documents, file, name, checked=True)
    text = data.decode("utf-8-sig", "replace") if file.endswith((".yaml", ".yml")) else ""
    return replace(experiment, source=text), problems


def from_object(value: Mapping[str, Any]) -> Experiment:
    """The Experiment of a plain object, such as a dict of a program; ManifestError as for a file."""
    return choose([Document(copy.deepcopy(dict(value)), "", 0, {})], "")


def choose(
    documents: list[Document], file: str, name: str | None = None, *, checked: bool = False
) -> Experiment:
    """The one Experiment among a file's documents, or the one called `name`.

    `checked` says that the rules of `gantune check` found no error in these documents.
    """
    found = [document for document in documents if is_experiment(document.value)]
    if not found:
        for document in documents:  # a misspelt kind or apiVersion
            _refuse(document)
        problem = check.missing(documents, file)[0]
        raise ManifestError(
            problem.message, file=file, line=problem.line if file else 0, rule=problem.rule
        )
    names = [_name_of(document.value) for document in found]
    wanted = [
        document for document, its in zip(found, names, strict=True) if name is None or its == name
    ]
    if len(wanted) == 1:
        return from_read(wanted[0], checked=checked)
    known = ", ".join(its or "(no name)" for its in names)
    if not wanted:
        raise ManifestError(
            f"no Experiment named {name!r} here; it holds {known}", file=file, rule="no-experiment"
        )
    if name is None:
        message = f"{len(wanted)} Experiments in this file ({known}); name the one to run"
        raise ManifestError(message, file=file, line=wanted[1].start, rule="several-experiments")
    message = f"{len(wanted)} Experiments are named {name!r}; names must differ"
    raise ManifestError(message, file=file, line=wanted[1].start, rule="duplicate-name")


def from_read(document: Document, *, checked: bool = False) -> Experiment:
    """One document that was read from a file; ManifestError with its line where a rule says error."""
    if not checked:
        _refuse(document)
    try:
        experiment = from_document(document.value)
    except ManifestError as error:
        line = document.line(error.where)
        raise ManifestError(
            error.message,
            file=document.file,
            line=line,
            path=error.path,
            rule=error.rule,
            where=error.where,
        ) from error
    return replace(experiment, file=document.file)


def _refuse(document: Document) -> None:
    """Raise ManifestError for the first error that the rules find."""
    problems = check.check_document(document)
    if errors := [each for each in problems if each.severity is check.Severity.ERROR]:
        raise _refusal(errors, problems)


def _refusal(errors: Sequence[Problem], problems: Sequence[Problem]) -> ManifestError:
    first = min(errors, key=lambda problem: problem.line)
    # "" for an object of Python
    hint = f": {gantune('check', first.file)}" if first.file else ""
    more = f" (and {len(errors) - 1} more{hint})" if len(errors) > 1 else ""
    return ManifestError(
        first.message + more,
        file=first.file,
        line=first.line,
        path=show(first.where),
        rule=first.rule,
        where=first.where,
        problems=problems,
    )


def from_document(document: Mapping[str, Any]) -> Experiment:
    """An Experiment object (as YAML or the API server gives it), defaulted; ManifestError with the path."""
    if not is_experiment(document):
        raise ManifestError(f"not an Experiment of {API_VERSION}", rule="no-experiment")
    metadata = _get(document, "metadata", dict, ()) or {}
    spec = _need(document, "spec", dict, ())
    at: Path = ("spec",)
    objective, additional, strategies = _objective(
        _need(spec, "objective", dict, at), (*at, "objective")
    )
    early = _get(spec, "earlyStopping", dict, at)
    parameters = tuple(
        parameter(item, (*at, "parameters", i))
        for i, item in enumerate(_items(spec, "parameters", dict, at))
    )
    stated = ours.read(
        _get(metadata, "annotations", dict, ("metadata",)) or {},
        [dimension(each) for each in parameters],
    )
    return Experiment(
        name=_get(metadata, "name", str, ("metadata",)) or "",
        namespace=_get(metadata, "namespace", str, ("metadata",)) or "",
        generate_name=_get(metadata, "generateName", str, ("metadata",)) or "",
        objective=replace(objective, seed_noise=stated.seed_noise, cost_metric=stated.cost_metric),
        additional_metrics=additional,
        strategies=strategies,
        algorithm=_algorithm(_need(spec, "algorithm", dict, at), (*at, "algorithm")),
        early_stopping=None if early is None else _algorithm(early, (*at, "earlyStopping")),
        parameters=parameters,
        first_trials=stated.first_trials,
        stop_factors=stated.stop_factors,
        required_files=stated.required_files,
        template=_template(_need(spec, "trialTemplate", dict, at), (*at, "trialTemplate")),
        collector=_collector(
            _get(spec, "metricsCollectorSpec", dict, at) or {}, (*at, "metricsCollectorSpec")
        ),
        parallel_trials=_or(_get(spec, "parallelTrialCount", int, at), DEFAULT_PARALLEL_TRIALS),
        max_trials=_get(spec, "maxTrialCount", int, at),
        max_failed_trials=_get(spec, "maxFailedTrialCount", int, at),
        resume_policy=_get(spec, "resumePolicy", str, at) or "Never",
        document=document,
    )


def _objective(
    spec: Mapping[str, Any], at: Path
) -> tuple[Objective, tuple[str, ...], dict[str, Strategy]]:
    goal_type = _enum(Goal, _need(spec, "type", str, at), (*at, "type"))
    goal = spec.get("goal")
    if goal is not None and (isinstance(goal, bool) or not isinstance(goal, int | float)):
        raise _wrong(goal, "a number", (*at, "goal"))
    objective = Objective(
        _need(spec, "objectiveMetricName", str, at),
        goal_type,
        None if goal is None else float(goal),
    )
    additional = tuple(_items(spec, "additionalMetricNames", str, at))
    default = Strategy.MIN if goal_type is Goal.MINIMIZE else Strategy.MAX
    strategies = dict.fromkeys((objective.metric, *additional), default)
    for i, item in enumerate(_items(spec, "metricStrategies", dict, at)):
        here = (*at, "metricStrategies", i)
        strategy = _enum(Strategy, _need(item, "value", str, here), (*here, "value"))
        strategies[_need(item, "name", str, here)] = strategy
    return objective, additional, strategies


def _algorithm(spec: Mapping[str, Any], at: Path) -> AlgorithmSpec:
    settings: dict[str, str] = {}
    for i, item in enumerate(_items(spec, "algorithmSettings", dict, at)):
        here = (*at, "algorithmSettings", i)
        settings[_need(item, "name", str, here)] = _get(item, "value", str, here) or ""
    return AlgorithmSpec(_need(spec, "algorithmName", str, at), settings)


def parameter(spec: Mapping[str, Any], at: Path) -> Parameter:
    """Return one item of spec.parameters. Raises ManifestError with its path."""
    name = _need(spec, "name", str, at)
    kind = _need(spec, "parameterType", str, at)
    space = _need(spec, "feasibleSpace", dict, at)
    at = (*at, "feasibleSpace")
    if kind in ("categorical", "discrete"):
        choices = tuple(_items(space, "list", str, at))
        if not choices:
            raise ManifestError(
                f"{show(at)}.list must hold a value, got none",
                path=show(at),
                where=at,
                rule="list-empty",
            )
        return Categorical(name, choices) if kind == "categorical" else Discrete(name, choices)
    distribution = _enum(
        Distribution, _get(space, "distribution", str, at) or "uniform", (*at, "distribution")
    )
    step = _get(space, "step", str, at) or None
    low, high = _need(space, "min", str, at), _need(space, "max", str, at)
    if kind == "double":
        return Double(
            name,
            _float(low, "min", at),
            _float(high, "max", at),
            step and _float(step, "step", at),
            distribution,
        )
    if kind == "int":
        return Int(
            name,
            _int(low, "min", at),
            _int(high, "max", at),
            step and _int(step, "step", at),
            distribution,
        )
    where = (*at[:-1], "parameterType")
    message = f"{show(where)} must be double, int, discrete or categorical, got {kind!r}"
    raise ManifestError(message, path=show(where), where=where, rule="parameter-type")


def _template(spec: Mapping[str, Any], at: Path) -> TrialTemplate:
    references: dict[str, str] = {}
    for i, item in enumerate(_items(spec, "trialParameters", dict, at)):
        here = (*at, "trialParameters", i)
        references[_need(item, "name", str, here)] = _need(item, "reference", str, here)
    if "trialSpec" not in spec and "configMap" in spec:
        where = (*at, "configMap")
        message = f"{show(where)}: a template in a ConfigMap cannot be read here; write it out as trialSpec"
        raise ManifestError(message, path=show(where), where=where, rule="trial-source")
    return TrialTemplate(
        spec=_need(spec, "trialSpec", dict, at),
        primary_container=_need(spec, "primaryContainerName", str, at),
        references=references,
        retain=bool(_get(spec, "retain", bool, at)),
    )


def _collector(spec: Mapping[str, Any], at: Path) -> Collector:
    collector = _get(spec, "collector", dict, at)
    kind_at = (*at, "collector", "kind")
    name = "StdOut" if collector is None else _need(collector, "kind", str, kind_at[:-1])
    kind = _enum(CollectorKind, name, kind_at)
    source = _get(spec, "source", dict, at) or {}
    at = (*at, "source")
    filters = tuple(
        _items(_get(source, "filter", dict, at) or {}, "metricsFormat", str, (*at, "filter"))
    )
    files = _get(source, "fileSystemPath", dict, at) or {}
    at = (*at, "fileSystemPath")
    _, default = DEFAULT_PATHS.get(kind.value, ("", ""))
    path = _get(files, "path", str, at) or default
    text_format = _enum(FileFormat, _get(files, "format", str, at) or "TEXT", (*at, "format"))
    return Collector(kind, path, text_format, filters)


def _name_of(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


_KINDS: dict[type, str] = {
    str: "text (quote it)",
    int: "a whole number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}


def _wrong(value: Any, wanted: str, at: Path) -> ManifestError:
    shown = repr(value)
    got = shown if len(shown) < 60 else type(value).__name__
    return ManifestError(
        f"{show(at)} must be {wanted}, got {got}", path=show(at), where=at, rule="wrong-type"
    )


def _get(mapping: Mapping[str, Any], key: str, kind: type[T], at: Path) -> T | None:
    value = mapping.get(key)
    if value is None:
        return None
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)  # kubectl writes 12.0 as 12
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong(value, _KINDS[kind], (*at, key))
    return value


def _need(mapping: Mapping[str, Any], key: str, kind: type[T], at: Path) -> T:
    value = _get(mapping, key, kind, at)
    if value is None or value == "":
        where = (*at, key)
        raise ManifestError(
            f"{show(where)} must be given", path=show(where), where=where, rule="required"
        )
    return value


def _items(mapping: Mapping[str, Any], key: str, kind: type[T], at: Path) -> list[T]:
    items = _get(mapping, key, list, at) or []
    for i, item in enumerate(items):
        if not isinstance(item, kind):
            raise _wrong(item, _KINDS[kind], (*at, key, i))
    return items


def _enum(kind: type[E], value: str, at: Path) -> E:
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(kind)
        message = f"{show(at)} must be one of {names}, got {value!r}"
        raise ManifestError(message, path=show(at), where=at, rule="unknown-value") from None


def _float(text: str, key: str, at: Path) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number - number != 0:
        where = (*at, key)
        message = f"{show(where)} must be a finite number, got {text!r}"
        raise ManifestError(message, path=show(where), where=where, rule="bounds-number")
    return number


def _int(text: str, key: str, at: Path) -> int:
    try:
        return int(text)
    except ValueError:
        where = (*at, key)
        message = f"{show(where)} must be a whole number, got {text[:60]!r}"
        raise ManifestError(message, path=show(where), where=where, rule="bounds-number") from None
