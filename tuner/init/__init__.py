"""Drafts a manifest for a program that is not known: `gantune init -- python train.py --lr 1e-3 --bs 64`.

The parameters come from the command line, from `--help` (usage) and from configuration files
(config), the metrics from what one short run prints (probe) or writes (sources), the objective from
their names (objective), and the ranges from the parameters' values (ranges).
`draft` returns the manifest's text (document), which `gantune check` finds right.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tuner.check import Severity, check_data
from tuner.errors import GantuneError, UnsupportedError
from tuner.init import config, document, objective, probe, ranges, usage
from tuner.init.document import Draft
from tuner.init.sources import BEFORE
from tuner.init.usage import Flag, Place
from tuner.metrics.reports import filters
from tuner.result import Goal
from tuner.samplers.first import parse, to_text
from tuner.samplers.transform import dimension
from tuner.space import Discrete, Distribution, Double, Parameter

__all__ = ["Options", "draft", "text_of"]

MOST_PARAMETERS = 8
MOST_METRICS = 8  # besides the objective
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_PLACED = re.compile(r"[\w./=+@-]*\$\{trialParameters\.\w+\}")
_SCRIPT_BYTES = 1 << 20
_LONGEST_NAME = 40  # characters: Katib adds a suffix to it for its trials


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may decide in advance.

    Attributes:
        name: The Experiment's name; "" takes the program's.
        objective: The metric; "" chooses by the names of the metrics.
        goal: Which way it is better; None chooses by its name.
        tune: Names of the parameters to vary, `env:NAME` or `FILE:KEY`; () takes those of the
            command line.
        trials: maxTrialCount.
        image: The image for a cluster; "" takes NAME:0.1.
        seconds: How long the program may run before it prints its metrics.
    """

    name: str = ""
    objective: str = ""
    goal: Goal | None = None
    tune: tuple[str, ...] = ()
    trials: int = 20
    image: str = ""
    seconds: float = 120.0


def draft(argv: Sequence[str], options: Options) -> Draft:
    """Return what the manifest of a command line says; `document.render` makes its text.

    Raises:
        CommandError: The program is not found, fails, or reports no metric.
        UnsupportedError: There is no parameter to vary, or the objective is ambiguous.
    """
    variables, argv = _variables(argv)
    usage_text = probe.help_of(argv)
    known = usage.with_defaults(usage.from_help(usage_text), "\n".join(_scripts(argv)))
    places = [
        *usage.given(argv, known, usage.operands(usage_text)),
        *(Place(Flag((name,), value, given=True), variable=name) for name, value in variables),
    ]
    settings = {
        name.lstrip("-").replace("-", "_").lower()
        for flag in (*known, *(place.flag for place in places))
        for name in flag.names
        if flag.number is not None  # `--loss hinge` does not print `loss=0.7` when it starts
    }
    # A program whose --help fails may not run at all, and the run says why.
    environment = dict(variables) | _named_variables(options.tune)
    metrics = None
    if not usage_text:
        metrics = probe.metrics_of(argv, settings, options.seconds, environment)
    chosen = _chosen(argv, places, known, options.tune)
    if metrics is None:
        metrics = probe.metrics_of(argv, settings, options.seconds, environment)
    reports = metrics.reports.all
    choice = objective.choose(reports, options.objective, sections=metrics.reports.sections)
    goal = options.goal or objective.goal_of(choice.report.name)
    if goal is None:
        raise UnsupportedError(
            f"the name {choice.report.name!r} does not say whether a higher or a lower value is "
            f"better ({choice.report.line!r}): add --minimize or --maximize"
        )
    flags = [place.flag for place in chosen]
    space = [ranges.parameter(flag) for flag in flags]
    source, read = metrics.source, [choice.report, *choice.others[:MOST_METRICS]]
    command, args, env = _template(argv, dict(variables), chosen, source.after if source else "")
    name = options.name or name_of(argv)
    if command[0] != "sh":
        args += _seed(known, places, flags)
    names = {flag.name for flag in flags}
    return Draft(
        name=name,
        source=shlex.join([*(f"{key}={value}" for key, value in variables), *argv]),
        objective=choice.report.name,
        goal=goal,
        matched=choice.report.line,
        why=choice.why,
        metrics=[each.name for each in read[1:]],
        filters=filters(read, reports) if source is None or not source.events else [],
        events=source is not None and source.events,
        algorithm=_algorithm(space),
        parameters=space,
        notes={flag.name: f"now {flag.value}" for flag in flags if flag.value},
        first=_first(flags, space),
        command=command,
        args=args,
        variables=env,
        trials=options.trials,
        image=options.image or f"{name}:0.1",
        others=[
            f"{max(flag.names, key=len)} ({flag.value})"
            for flag in known
            if ranges.typical(flag) and flag.name not in names
        ][:MOST_PARAMETERS],
    )


def text_of(made: Draft) -> str:
    """Return the manifest's text. Raises GantuneError where `gantune check` finds an error in it."""
    written = document.render(made)
    errors = [p for p in check_data(written.encode(), made.name) if p.severity is Severity.ERROR]
    if errors:
        raise GantuneError(
            f"no valid manifest can be drafted from this command line: {errors[0].message}"
        )
    return written


def name_of(argv: Sequence[str]) -> str:
    """Return an Experiment's name for a command line: that of its script or module."""
    words = [
        word
        for word in argv
        if not re.fullmatch(r"python[\d.]*|-m|-u|uv|run|env|sh|bash|-c", PurePosixPath(word).name)
    ]
    stem = PurePosixPath((words or ["study"])[0]).name
    stem = re.sub(r"\.(py|sh|R|jl|js|rb|pl|exe)$", "", stem)
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    return plain if plain[:1].isalpha() else f"study-{plain}".strip("-")


def _variables(argv: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the variables that a command line sets first (`LR=0.1 ./train`), and the rest."""
    words, found = list(argv), []
    while len(words) > 1 and (match := _ASSIGNMENT.fullmatch(words[0])):
        found.append((match[1], match[2]))
        words.pop(0)
    return found, words


def _named_variables(tune: Sequence[str]) -> dict[str, str]:
    """Return the values in `--tune env:LR=0.1`."""
    named = (name.removeprefix("env:").partition("=") for name in tune if name.startswith("env:"))
    return {name: value for name, equals, value in named if equals}


def _chosen(
    argv: Sequence[str], places: Sequence[Place], known: Sequence[Flag], tune: Sequence[str]
) -> list[Place]:
    """Return the parameters to vary: of `tune`, else of the command line, else usual ones."""
    every = [*places, *(Place(flag) for flag in known)]
    if tune:
        named = [_named(argv, name, every) for name in tune]
        return list({place.flag.name: place for place in named}.values())
    found = [place for place in places if place.named and ranges.tunable(place.flag)]
    found = found or [place for place in places if not place.named]
    if not found:
        found = [place for place in every[len(places) :] if ranges.typical(place.flag)]
    if not found:
        inside = [place for file in config.files(argv) for place in config.places(file)]
        found = [place for place in inside if ranges.typical(place.flag)]
    if not found:
        raise UnsupportedError(
            "the command line has no flag with a number to vary, and --help names none. Give the "
            "parameters to tune with their values: gantune init python train.py --lr 1e-3 bs=64, "
            "or name them: --tune env:LR=0.1, --tune config.yaml:lr"
        )
    return found[:MOST_PARAMETERS]


def _named(argv: Sequence[str], name: str, every: Sequence[Place]) -> Place:
    """Return the parameter that one word of --tune names."""
    if name.startswith("env:"):
        return _variable(argv, name.removeprefix("env:"), every)
    file, colon, key = name.rpartition(":")
    if colon:
        place = config.find(key, {place.flag.names[0]: place for place in config.places(file)})
        if place is None or not ranges.tunable(place.flag):
            raise UnsupportedError(f"--tune {name}: {file} has no number with the key {key!r}")
        return place
    plain = name.lstrip("-+").replace("-", "_")
    by_name: dict[str, Place] = {}
    for place in every:
        for spelling in (*place.flag.names, place.flag.name):
            by_name.setdefault(spelling.lstrip("-+").replace("-", "_"), place)
    found = config.find(plain, by_name)
    if found is None:
        inside = [place for file in config.files(argv) for place in config.places(file)]
        found = config.find(name, {place.flag.names[0]: place for place in inside})
    if found is None or not (ranges.tunable(found.flag) or found.flag.number is not None):
        able = ", ".join(dict.fromkeys(p.flag.name for p in every if ranges.tunable(p.flag)))
        raise UnsupportedError(
            f"--tune {name}: no flag with a number or listed choices is known by this name. Give it "
            f"with its value on the command line, or choose among: {able or 'none'}"
        )
    return found


def _variable(argv: Sequence[str], text: str, every: Sequence[Place]) -> Place:
    """Return a variable with its value: stated, current, or the script's default."""
    name, equals, value = text.partition("=")
    for place in every:
        if place.variable == name and not equals:
            return place
    value = value if equals else os.environ.get(name, "") or _default(argv, name)
    if not usage.is_number(value):
        raise UnsupportedError(
            f"--tune env:{name}: the value of {name} is not known. Write --tune env:{name}=0.1"
        )
    return Place(Flag((name,), value, given=True), variable=name)


def _default(argv: Sequence[str], name: str) -> str:
    """Return the default in `${LR:-0.1}` or `os.environ.get("LR", "0.1")` of a script."""
    pattern = re.compile(rf"\b{re.escape(name)}\b['\"]?\s*(?::-|:=|,)\s*['\"]?([\w.+-]+)")
    return next((found[1] for text in _scripts(argv) if (found := pattern.search(text))), "")


def _scripts(argv: Sequence[str]) -> Iterator[str]:
    """Yield the text of each small file that a command line names."""
    for word in argv:
        with contextlib.suppress(OSError, ValueError):
            path = Path(word)
            if path.is_file() and path.stat().st_size < _SCRIPT_BYTES:
                yield path.read_text(encoding="utf-8", errors="replace")


def _template(
    argv: Sequence[str], variables: dict[str, str], chosen: Sequence[Place], after: str
) -> tuple[list[str], list[str], dict[str, str]]:
    """Return command, args and environment with a placeholder for each parameter."""
    made, edits = list(argv), []
    for place in chosen:
        value = f"${{trialParameters.{place.flag.name}}}"
        if place.variable:
            variables[place.variable] = value
        elif place.file:
            edits.append((place, value))
        elif place.index >= 0:
            made[place.index] = place.prefix + value
        else:
            longest = max(place.flag.names, key=len)
            made += [f"{longest}={value}"] if longest.startswith("--") else [longest, value]
    made, before = config.copies(made, edits)
    if before or after:
        line = " ".join(word if _PLACED.fullmatch(word) else shlex.quote(word) for word in made)
        line = "\n".join([*before, f"{BEFORE}{line} && {after}" if after else line])
        return ["sh", "-c"], [line], variables
    first = next(
        (
            i
            for i, word in enumerate(made)
            if i > 0
            and (word.startswith("-") or "${trialParameters." in word)
            and not (word == "-m" and i == 1)
        ),
        len(made),
    )
    return made[:first], made[first:], variables


def _seed(known: Sequence[Flag], places: Sequence[Place], flags: Sequence[Flag]) -> list[str]:
    """Return the program's flag for its seed with its default, which `gantune confirm` varies; [] without one."""
    used = {place.flag.name for place in places} | {flag.name for flag in flags}
    for flag in known:
        longest = max(flag.names, key=len)
        if (
            re.fullmatch(r"--([\w-]+[_-])?seed", longest)
            and flag.name not in used
            and flag.value.isdigit()
        ):
            return [f"{longest}={flag.value}"]
    return []


def _algorithm(space: Sequence[Parameter]) -> str:
    """Return bayesianoptimization, unless Katib's service reads the space differently from what it says."""
    linear = any(
        isinstance(each, Double) and each.distribution is Distribution.UNIFORM for each in space
    )
    return "multivariate-tpe" if linear else "bayesianoptimization"


def _first(flags: Sequence[Flag], space: Sequence[Parameter]) -> dict[str, str]:
    """Return the program's own values as a first trial; {} where a value is not in the drafted space."""
    point = {flag.name: _spelt(flag, each) for flag, each in zip(flags, space, strict=True)}
    try:
        parse(to_text([point]), [dimension(each) for each in space])
    except UnsupportedError:
        return {}
    return point


def _spelt(flag: Flag, parameter: Parameter) -> str:
    """Return the flag's value, in the spelling of a discrete parameter's list."""
    if isinstance(parameter, Discrete) and flag.number is not None:
        return next(
            (choice for choice in parameter.choices if float(choice) == flag.number), flag.value
        )
    return flag.value
