"""Writes the next manifest: the text of the last one with changes, each with its reason as a comment.

ruamel.yaml reads and writes the text, so the comments and the layout of its author stay. A
parameter that is fixed leaves the search space, and its value takes the place of
`${trialParameters.NAME}` in the trial's template.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from tuner.analysis.advice import Change, Kind
from tuner.check import Severity, check_data
from tuner.errors import GantuneError
from tuner.experiment.command import refuse_code
from tuner.experiment.model import Experiment
from tuner.katib import yamlfile
from tuner.katib.facts import is_experiment
from tuner.samplers.first import FIRST_ANNOTATION
from tuner.space import Categorical, Discrete, Distribution, Parameter, Value, text

WIDTH = 116  # of a comment line


def next_name(name: str) -> str:
    """Return a name for the next study: gan-bayes becomes gan-bayes-2, and that one gan-bayes-3."""
    found = re.fullmatch(r"(.*)-(\d{1,4})", name)
    return f"{found[1]}-{int(found[2]) + 1}" if found and int(found[2]) > 1 else f"{name}-2"


def revise(source: str, experiment: Experiment, changes: Sequence[Change], *, name: str) -> str:
    """Return the text of the next manifest. It names no first trials, because the last search has run them.

    Args:
        source: The text of the last manifest; "" writes the Experiment's document, without
        comments.
        experiment: The Experiment as it ran.
        changes: What `tuner.analysis.advice` says.
        name: The name of the next Experiment.

    Raises:
        GantuneError: `gantune check` finds an error in the new text.
    """
    yaml = _round_trip()
    yaml.preserve_quotes = True
    documents = _documents(yaml, source, experiment)
    for document in documents:
        if is_experiment(document):
            _rename(document, name, experiment, changes)
            _change_space(document["spec"], experiment, changes)
            _change_budget(document["spec"], changes)
    stream = io.StringIO()
    yaml.dump_all(documents, stream)
    return _checked(stream.getvalue(), "the next manifest")


def to_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return documents as YAML. Raises GantuneError where `gantune check` finds an error in them."""
    yaml, stream = _round_trip(), io.StringIO()
    yaml.dump_all([_plain(document) for document in documents], stream)
    return _checked(stream.getvalue(), "the file")


def _round_trip() -> YAML:
    """Return a reader and writer that keeps tags as text: no tag of a manifest creates an object."""
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096
    return yaml


def _checked(written: str, what: str) -> str:
    errors = [p for p in check_data(written.encode(), what) if p.severity is Severity.ERROR]
    if errors:
        raise GantuneError(
            f"{what} would not be valid (line {errors[0].line}): {errors[0].message}"
        )
    return written


def _documents(yaml: YAML, source: str, experiment: Experiment) -> list[Any]:
    """Return the documents of the text without other Experiments, or the stored document if the text lacks it."""
    if source:
        yamlfile.parse(source.encode(), experiment.file)  # bounds depth and size first
        held = [document for document in yaml.load_all(source) if document is not None]
        own = [
            d
            for d in held
            if is_experiment(d) and (d.get("metadata") or {}).get("name") == experiment.name
        ]
        if len(own) == 1:
            return [
                document for document in held if document is own[0] or not is_experiment(document)
            ]
    plain = io.StringIO()
    yaml.dump(_plain(experiment.document), plain)
    return [yaml.load(plain.getvalue())]


def _plain(node: Any) -> Any:
    """Return a document with numbers in quotes: Katib's fields are text."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return _scalar(node) if isinstance(node, str) else node


def _scalar(value: str) -> str:
    """Return a text that stays text in YAML 1.1 and 1.2."""
    plain = (
        re.fullmatch(r"(--?)?[A-Za-z/_$][\w./{}$@%+= -]*", value, re.ASCII)
        and value.lower() not in _YAML_WORDS
    )
    return (
        value
        if plain and ": " not in value and " #" not in value
        else DoubleQuotedScalarString(value)
    )


_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def _rename(
    document: CommentedMap, name: str, experiment: Experiment, changes: Sequence[Change]
) -> None:
    metadata = document["metadata"]
    metadata["name"] = name
    metadata.pop("generateName", None)
    for field in (
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "managedFields",
        "finalizers",
    ):
        metadata.pop(field, None)  # of an Experiment that was read from a cluster
    document.pop("status", None)
    annotations = metadata.get("annotations") or {}
    for annotation in (FIRST_ANNOTATION, "kubectl.kubernetes.io/last-applied-configuration"):
        annotations.pop(annotation, None)
    if not annotations:
        metadata.pop("annotations", None)
    done = (
        "changed as commented below"
        if changes
        else "unchanged: the trials give no reason for a change"
    )
    lines = _wrapped(f"The search after {experiment.name}, written by gantune next; {done}")
    document.yaml_set_comment_before_after_key("metadata", before="\n".join(lines), indent=0)


def _change_space(spec: CommentedMap, experiment: Experiment, changes: Sequence[Change]) -> None:
    parameters: CommentedSeq = spec["parameters"]
    by_name = {change.parameter: change for change in changes if change.kind is not Kind.BUDGET}
    old = {parameter.name: parameter for parameter in experiment.parameters}
    fixed: list[Change] = []
    for index in range(len(parameters) - 1, -1, -1):
        change = by_name.get(str(parameters[index]["name"]))
        if change is None:
            continue
        if change.kind is Kind.FIX:
            _remove(parameters, index)
            fixed.insert(0, change)
        elif change.space is not None:
            _set_space(parameters[index]["feasibleSpace"], change.space, old[change.parameter])
    for index, item in enumerate(parameters):
        lines = [str(change) for change in fixed] if index == 0 else []
        if (change := by_name.get(str(item["name"]))) is not None:
            lines.append(str(change))
        if lines:
            _comment(parameters, index, lines)
    if fixed:
        values = {change.parameter: change.value for change in fixed}
        template = experiment.template
        chosen = ((label, values.get(name)) for label, name in template.references.items())
        refuse_code(template, {label: text(value) for label, value in chosen if value is not None})
        _fill_in(spec["trialTemplate"], values)


def _remove(items: CommentedSeq, index: int) -> None:
    """Remove an item with its comments; ruamel.yaml numbers comments by index, so the later ones move up."""
    comments = {key: value for key, value in items.ca.items.items() if key != index}
    del items[index]
    items.ca.items.clear()
    items.ca.items.update({key - (key > index): value for key, value in comments.items()})


def _comment(items: CommentedSeq, index: int, lines: Sequence[str]) -> None:
    column = items.lc.col if items.lc.col is not None else 2
    wrapped = [part for line in lines for part in _wrapped(line)]
    items.yaml_set_comment_before_after_key(index, before="\n".join(wrapped), indent=column)


def _wrapped(line: str) -> list[str]:
    clean = "".join(c if c.isprintable() else " " for c in line)
    return textwrap.wrap(clean, WIDTH) or [""]


def _set_space(space: CommentedMap, new: Parameter, old: Parameter) -> None:
    """Write the bounds or choices that differ."""
    if isinstance(new, Categorical | Discrete):
        listed: CommentedSeq = space["list"]
        choices = list(new.choices)
        listed[:] = [DoubleQuotedScalarString(choice) for choice in choices]
        return
    assert not isinstance(old, Categorical | Discrete)  # noqa: S101
    for key, value, before in (("min", new.low, old.low), ("max", new.high, old.high)):
        if value != before:
            space[key] = DoubleQuotedScalarString(
                _bound(value, log=new.distribution is Distribution.LOG_UNIFORM)
            )


def _bound(value: float, *, log: bool) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.10g}" if log or float(f"{value:.10g}") == value else repr(value)


def _fill_in(template: CommentedMap, values: Mapping[str, Value | None]) -> None:
    """Put the values of fixed parameters where their placeholders are."""
    references: CommentedSeq = template["trialParameters"]
    filled: dict[str, str] = {}
    for index in range(len(references) - 1, -1, -1):
        value = values.get(str(references[index]["reference"]))
        if value is not None:
            filled[str(references[index]["name"])] = text(value)
            _remove(references, index)
    pattern = re.compile(r"\$\{trialParameters\.([^}]*)\}")

    def put(node: Any) -> Any:
        if isinstance(node, CommentedMap):
            for key in node:
                node[key] = put(node[key])
        elif isinstance(node, CommentedSeq):
            for index in range(len(node)):
                node[index] = put(node[index])
        elif (
            isinstance(node, str)
            and (new := pattern.sub(lambda m: filled.get(m[1], m[0]), node)) != node
        ):
            return type(node)(new) if type(node) is not str else _scalar(new)
        return node

    put(template["trialSpec"])


def _change_budget(spec: CommentedMap, changes: Sequence[Change]) -> None:
    for change in changes:
        if change.kind is not Kind.BUDGET:
            continue
        spec["maxTrialCount"] = change.trials
        if "maxFailedTrialCount" in spec:
            spec["maxFailedTrialCount"] = max(min(spec["maxFailedTrialCount"], change.trials), 0)
        spec["parallelTrialCount"] = min(spec.get("parallelTrialCount", 3), change.trials)
        column = spec.lc.col if spec.lc.col is not None else 2
        before = "\n".join(_wrapped(str(change)))
        spec.yaml_set_comment_before_after_key("maxTrialCount", before=before, indent=column)
