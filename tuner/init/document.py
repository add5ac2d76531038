"""The text of a drafted manifest: short, commented, and with every value quoted as YAML and Kubernetes need it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.init.sources import EVENTS
from tuner.katib.facts import API_VERSION
from tuner.result import Goal
from tuner.samplers.first import FIRST_ANNOTATION
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter, text

_PLAIN = re.compile(r"[A-Za-z/_][\w./=+@-]*\Z", re.ASCII)  # without quotes in a flow sequence
_BLOCK = re.compile(r"\S(?:[ -~\n\xa1-\ud7ff]*[!-~])?")  # what a block scalar keeps as it is
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "~"}


@dataclass(frozen=True, slots=True)
class Draft:
    """What a manifest says. `command` and `args` hold `${trialParameters.NAME}` where a parameter goes."""

    name: str
    source: str  # the command line that it was drafted from
    objective: str
    goal: Goal
    matched: str  # the line of output that holds it
    why: str  # why it was chosen among several metrics
    metrics: Sequence[str]  # the others
    filters: Sequence[str]  # [] where Katib's own filter reads the metrics
    events: bool  # whether they are in event files of TensorBoard
    algorithm: str
    parameters: Sequence[Parameter]
    notes: Mapping[str, str]  # a comment per parameter
    # the program's own values, which run first; {} where one is outside the space
    first: Mapping[str, str]
    command: Sequence[str]
    args: Sequence[str]
    trials: int
    image: str
    variables: Mapping[str, str]  # environment variables
    others: Sequence[str] = ()  # further flags that could be varied


def render(draft: Draft) -> str:
    """Return the manifest as YAML."""
    listed = [draft.objective, *draft.metrics]
    strategies = ", ".join(f"{{name: {quoted(name)}, value: latest}}" for name in listed)
    additional = ", ".join(map(quoted, draft.metrics))
    lines = [
        f"# Drafted by gantune init from: {_one_line(draft.source)}",
        "# Edit the ranges, then: gantune check FILE; gantune run FILE --local",
        f"apiVersion: {API_VERSION}",
        "kind: Experiment",
        "metadata:",
        f"  name: {draft.name}",
        *_first(draft),
        "spec:",
        "  objective:",
        f"    type: {draft.goal.value}",
        f"    objectiveMetricName: {quoted(draft.objective)}",
        *([f"    additionalMetricNames: [{additional}]"] if draft.metrics else []),
        f"    metricStrategies: [{strategies}] # the last value counts",
        "  algorithm:",
        f"    algorithmName: {draft.algorithm}",
        '    algorithmSettings: [{name: random_state, value: "1"}]',
        f"  parallelTrialCount: {min(draft.trials, 2)}",
        f"  maxTrialCount: {draft.trials}",
        f"  maxFailedTrialCount: {max(draft.trials // 4, 1)}",
        "  resumePolicy: Never",
        *_collector(draft),
        "  parameters:",
        *(_parameter(each, draft.notes.get(each.name, "")) for each in draft.parameters),
        *([f"  # also in --help: {_one_line(', '.join(draft.others))}"] if draft.others else []),
        *_template(draft),
    ]
    return "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    """Return a text as a YAML scalar inside a flow sequence, quoted where YAML would read something else."""
    plain = _PLAIN.match(word) or re.fullmatch(r"--?[A-Za-z][\w=./-]*", word, re.ASCII)
    return word if plain and word.lower() not in _WORDS else json.dumps(word)


def _first(draft: Draft) -> list[str]:
    if not draft.first:
        return []
    value = json.dumps([dict(draft.first)]).replace("'", "''")
    return [
        "  annotations: # the program's own values run first",
        f"    {FIRST_ANNOTATION}: '{value}'",
    ]


def _collector(draft: Draft) -> list[str]:
    if draft.events:
        return [
            "  metricsCollectorSpec: # the program writes event files of TensorBoard",
            "    collector: {kind: TensorFlowEvent}",
            f"    source: {{fileSystemPath: {{kind: Directory, path: {EVENTS}}}}}",
        ]
    if not draft.filters:
        return []
    return [
        "  metricsCollectorSpec: # how the program prints its metrics",
        "    collector: {kind: StdOut}",
        "    source:",
        "      filter:",
        "        metricsFormat:",
        *(f"        - {_single_quoted(pattern)}" for pattern in draft.filters),
    ]


def _single_quoted(pattern: str) -> str:
    """Return a filter as YAML, without doubled backslashes where that is possible."""
    plain = pattern.isprintable()
    return "'" + pattern.replace("'", "''") + "'" if plain else json.dumps(pattern)


def _parameter(parameter: Parameter, note: str) -> str:
    if isinstance(parameter, Categorical | Discrete):
        kind = "categorical" if isinstance(parameter, Categorical) else "discrete"
        space = f"list: [{', '.join(map(json.dumps, parameter.choices))}]"
    else:
        kind = "double" if isinstance(parameter, Double) else "int"
        space = f"min: {_bound(parameter, parameter.low)}, max: {_bound(parameter, parameter.high)}"
        space += f", distribution: {parameter.distribution.value}"
    comment = f" # {_one_line(note)}" if note else ""
    return f"  - {{name: {quoted(parameter.name)}, parameterType: {kind}, feasibleSpace: {{{space}}}}}{comment}"


def _bound(parameter: Double | Int, value: float) -> str:
    log = parameter.distribution is Distribution.LOG_UNIFORM
    return json.dumps(f"{value:.10g}" if log else text(value).removesuffix(".0"))


def _template(draft: Draft) -> list[str]:
    references = ", ".join(
        f"{{name: {quoted(p.name)}, reference: {quoted(p.name)}}}" for p in draft.parameters
    )
    return [
        "  trialTemplate:",
        "    primaryContainerName: main",
        f"    trialParameters: [{references}]",
        "    trialSpec:",
        "      apiVersion: batch/v1",
        "      kind: Job",
        "      spec:",
        "        backoffLimit: 0",
        "        activeDeadlineSeconds: 3600 # stops a trial that hangs",
        "        template:",
        "          spec:",
        "            restartPolicy: Never",
        "            containers:",
        "            - name: main",
        f"              image: {quoted(draft.image)} # for a cluster: an image that contains the program",
        f"              command: [{', '.join(map(_word, draft.command))}]",
        *_args(draft.args),
        *(["              env:"] if draft.variables else []),
        *(
            f"              - {{name: {quoted(name)}, value: {_word(value)}}}"
            for name, value in draft.variables.items()
        ),
    ]


def _args(args: Sequence[str]) -> list[str]:
    """Return the arguments; a shell line of several lines is a block without a last line end."""
    if not args:
        return []
    if len(args) == 1 and "\n" in args[0] and _BLOCK.fullmatch(args[0]):
        lines = args[0].replace("$(", "$$(").split("\n")
        indented = (f"                {line}" if line else "" for line in lines)
        return ["              args:", "              - |-", *indented]
    return [f"              args: [{', '.join(map(_word, args))}]"]


def _word(word: str) -> str:
    """Return a word of the command line; `$$(X)` is how Kubernetes writes `$(X)`."""
    return quoted(word.replace("$(", "$$("))


def _one_line(words: str) -> str:
    return "".join(c if c.isprintable() else " " for c in " ".join(words.split()))[:200]
