"""`gantune check`: finds the rules that a Katib Experiment breaks before it is submitted.

    problems = check_file("manifests/bayes.yaml")      # list[Problem], in the order of the file
    explain("parallel-duplicates")                     # why, with the upstream source

A document passes three checks: notes on its YAML, unknown keys and wrong types (fields), and the
rules. Katib's defaulting webhook refuses an object with a wrong type, so the rules are applied only
after the types are fixed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from tuner.check import command, portable, settings, space, spec, template
from tuner.check.annotations import LOCAL_RULES
from tuner.check.annotations import RULES as ANNOTATIONS
from tuner.check.fields import JOB, nearest, walk
from tuner.check.portable import STOCK_SERVICE_RULES
from tuner.check.reading import RULES as READING
from tuner.check.rule import Problem, Rule, Severity
from tuner.check.view import View
from tuner.commands import gantune
from tuner.errors import GantuneError, ManifestError
from tuner.katib import yamlfile
from tuner.katib.facts import API_VERSION, GROUP, KINDS, is_experiment
from tuner.katib.yamlfile import Document, Path, show

__all__ = [
    "LOCAL_RULES",
    "RULES",
    "STOCK_SERVICE_RULES",
    "Problem",
    "Rule",
    "Severity",
    "check_data",
    "check_document",
    "check_documents",
    "check_file",
    "explain",
    "missing",
]

_VIEW_RULES = (
    *spec.RULES,
    *space.RULES,
    *settings.RULES,
    *template.RULES,
    *command.RULES,
    *ANNOTATIONS,
    *portable.RULES,
)
RULES: Mapping[str, Rule] = {rule.name: rule for rule in (*READING, *_VIEW_RULES)}
_EXPERIMENT = re.compile(r"kind[\"']?\s*:\s*[\"']?Experiment\b")
_TRIAL: Path = ("spec", "trialTemplate", "trialSpec")


def check_file(file: str | FilePath, *, strict: bool = False) -> list[Problem]:
    """Return all problems of a file's Experiments, sorted by line. A file that is not YAML is one problem.

    With `strict`, the rules about style apply too. Raises ManifestError if the file cannot be read.
    """
    return check_data(yamlfile.read_bytes(file), str(file), strict=strict)


def check_data(data: bytes, file: str, *, strict: bool = False) -> list[Problem]:
    """Do what `check_file` does for data in memory. `file` is its name in the problems."""
    try:
        documents = yamlfile.parse(data, file)
        return check_documents(documents, strict=strict) or missing(documents, file)
    except ManifestError as error:
        return [Problem(file, error.line, Severity.ERROR, error.rule, error.message)]


def check_documents(documents: list[Document], *, strict: bool = False) -> list[Problem]:
    """Return all problems of the Experiments in `documents`. Other kinds of objects are ignored."""
    found: list[Problem] = []
    names: dict[tuple[str, str], int] = {}
    for document in documents:
        found += check_document(document, strict=strict)
        if (key := _key(document.value)) is None:
            continue
        if key in names:
            message = f"two Experiments are named {key[1]!r} (the first on line {names[key]}); names must differ"
            found.append(_problem("duplicate-name", document, ("metadata", "name"), message))
        names.setdefault(key, document.line(("metadata", "name")))
    return sorted(found, key=lambda problem: problem.line)


def missing(documents: list[Document], file: str) -> list[Problem]:
    """Return the problem of a file without an Experiment, as a list; an empty list if it has one."""
    if any(is_experiment(document.value) for document in documents):
        return []
    hint, line = "", 1
    for document in documents:
        if path := next(_embedded(document.value, ()), None):
            kind = (
                document.value.get("kind", "object")
                if isinstance(document.value, dict)
                else "object"
            )
            hint = (
                f"; {show(path)} of this {str(kind)[:60]} holds one: save it as a file of its own"
            )
            line = document.line(path)
    message = f"no Experiment ({API_VERSION}) found{hint}"
    return [Problem(file, line, RULES["no-experiment"].severity, "no-experiment", message)]


def _embedded(value: Any, path: Path) -> Iterator[Path]:
    """Yield the paths in a document at which an Experiment is embedded, as an object or as text."""
    if isinstance(value, dict):
        if path and is_experiment(value):
            yield path
        for key, item in value.items():
            yield from _embedded(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _embedded(item, (*path, index))
    elif isinstance(value, str) and API_VERSION in value and _EXPERIMENT.search(value):
        yield path


def check_document(document: Document, *, strict: bool = False) -> list[Problem]:
    """Return the problems of one document, unsorted; none if it is not an Experiment."""
    value = document.value
    if not isinstance(value, dict):
        return []
    if (kind_problem := _kind(value)) is not None:
        return [_problem("kind", document, *kind_problem)]
    if not is_experiment(value):
        return []  # another kind, or another project's Experiment
    found = [_problem(note.rule, document, note.path, note.message) for note in document.notes]
    misfits = list(_misfits(value))
    found += [_problem(rule, document, path, message) for rule, path, message in misfits]
    if any(rule == "wrong-type" for rule, _, _ in misfits):
        return found
    view = View(value)
    for rule in _VIEW_RULES:
        if strict or not rule.strict:
            found += [
                _problem(rule.name, document, path, message) for path, message in rule.find(view)
            ]
    return found


def explain(name: str) -> Rule:
    """Return the rule of that name. Raises GantuneError, with the most similar name, if there is none."""
    if name in RULES:
        return RULES[name]
    raise GantuneError(
        f"no rule named {name[:60]!r}{nearest(name, RULES)}; "
        f"`{gantune('check', '--explain', 'all')}` lists them"
    )


def _kind(value: Mapping[str, Any]) -> tuple[Path, str] | None:
    """Return what is wrong with the apiVersion and kind of an object that looks like an Experiment."""
    kind, version = value.get("kind"), value.get("apiVersion")
    if (
        kind == "Experiment"
        and version != API_VERSION
        and (version is None or f"{GROUP}/" in str(version))
    ):
        return (
            "apiVersion",
        ), f"the apiVersion of an Experiment must be {API_VERSION}, got {str(version)[:60]!r}"
    if version == API_VERSION and kind not in (*KINDS, "List", "ExperimentList"):
        return (
            "kind",
        ), f"{API_VERSION} has no kind {str(kind)[:60]!r}{nearest(str(kind), ['Experiment'])}"
    return None


def _misfits(value: Mapping[str, Any]) -> Iterator[tuple[str, Path, str]]:
    for rule, path, message in walk(value, "Experiment", ()):
        # Katib's own fields may be empty; metadata and collectors are not round-tripped
        if rule != "round-trip":
            yield rule, path, message
    job: Any = value
    for key in _TRIAL:
        job = job.get(key) if isinstance(job, dict) else None
    if isinstance(job, dict) and (job.get("apiVersion"), job.get("kind")) == ("batch/v1", "Job"):
        for rule, path, message in walk(job, JOB, _TRIAL):
            yield ("job-round-trip" if rule == "round-trip" else rule), path, message


def _problem(rule: str, document: Document, path: Path, message: str) -> Problem:
    return Problem(document.file, document.line(path), RULES[rule].severity, rule, message, path)


def _key(value: Any) -> tuple[str, str] | None:
    if not is_experiment(value):
        return None
    metadata = value.get("metadata")
    name, namespace = (
        metadata.get(key) if isinstance(metadata, dict) else None for key in ("name", "namespace")
    )
    return (str(namespace or ""), name) if name and isinstance(name, str) else None
