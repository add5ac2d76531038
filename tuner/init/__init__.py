"""Drafts a manifest for a program that is not known: `gantune init -- python train.py --lr 1e-3 --bs 64`.

The flags come from the command line and from `--help` (usage), the metrics from one short run
(probe), the objective from their names (objective), and the ranges from the flags' values (ranges).
`draft` returns the manifest's text (document), which `gantune check` finds right.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tuner.check import Severity, check_data
from tuner.errors import GantuneError, UnsupportedError
from tuner.init import document, objective, probe, ranges, usage
from tuner.init.document import Draft
from tuner.init.usage import Flag, Place
from tuner.result import Goal
from tuner.samplers.first import parse, to_text
from tuner.samplers.transform import dimension
from tuner.space import Discrete, Distribution, Double, Parameter

__all__ = ["Options", "draft", "text_of"]

MOST_PARAMETERS = 8
_LONGEST_NAME = 40  # characters: Katib adds a suffix to it for its trials


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may decide in advance.

    Attributes:
        name: The Experiment's name; "" takes the program's.
        objective: The metric; "" chooses by the names of the metrics.
        goal: Which way it is better; None chooses by its name.
        tune: Names of the flags to vary; () takes those of the command line.
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
        CommandError: The program is not found, fails, or prints no metric.
        UnsupportedError: There is no flag to vary, or no metric to optimise.
    """
    usage_text = probe.help_of(argv)
    known = usage.from_help(usage_text)
    places = usage.given(argv, known)
    settings = {
        name.lstrip("-").replace("-", "_").lower()
        for flag in (*known, *(place.flag for place in places))
        for name in flag.names
        if flag.number is not None  # `--loss hinge` does not print `loss=0.7` when it starts
    }
    # A program whose --help fails may not run at all, and the run says why.
    metrics = None if usage_text else probe.metrics_of(argv, settings, options.seconds)
    flags = _chosen(places, known, options.tune)
    metrics = metrics or probe.metrics_of(argv, settings, options.seconds)
    metric = options.objective or objective.choose(metrics.names)
    if metric is None or metric not in metrics.names:
        wanted = (
            f"prints no metric {metric!r}" if metric else "prints only metrics of time and progress"
        )
        raise UnsupportedError(
            f"the program {wanted}; it prints {', '.join(metrics.names)}: name one with --objective"
        )
    space = [ranges.parameter(flag) for flag in flags]
    name = options.name or name_of(argv)
    command, args = _template(argv, places, flags)
    args += _seed(known, places, flags)
    chosen = {flag.name for flag in flags}
    return Draft(
        name=name,
        source=shlex.join(argv),
        objective=metric,
        goal=options.goal or objective.goal_of(metric),
        metrics=[
            each for each in metrics.names if each != metric and not objective.is_counter(each)
        ],
        filter=metrics.filter,
        algorithm=_algorithm(space),
        parameters=space,
        notes={flag.name: f"now {flag.value}" for flag in flags},
        first=_first(flags, space),
        command=command,
        args=args,
        trials=options.trials,
        image=options.image or f"{name}:0.1",
        others=[
            f"{max(flag.names, key=len)} ({flag.value})"
            for flag in known
            if ranges.typical(flag) and flag.name not in chosen
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


def _chosen(places: Sequence[Place], known: Sequence[Flag], tune: Sequence[str]) -> list[Flag]:
    """Return the flags to vary: those that `tune` names, else those of the command line, else usual ones of --help."""
    flags = {flag.name: flag for flag in known} | {place.flag.name: place.flag for place in places}
    if tune:
        by_name = {
            name.lstrip("-").replace("-", "_"): flag
            for flag in flags.values()
            for name in flag.names
        }
        wanted = []
        for name in tune:
            flag = by_name.get(name.lstrip("-").replace("-", "_"))
            if flag is None or (flag.number is None and flag.value not in flag.choices):
                able = (
                    ", ".join(flag.name for flag in flags.values() if ranges.tunable(flag))
                    or "none"
                )
                raise UnsupportedError(
                    f"--tune {name}: no flag with a number or listed choices is known by this name. Give it with its "
                    f"value on the command line, or choose among: {able}"
                )
            wanted.append(flag)
        return list(dict.fromkeys(wanted))
    found = [place.flag for place in places if ranges.tunable(place.flag)]
    found = found or [flag for flag in known if ranges.typical(flag)]
    if not found:
        raise UnsupportedError(
            "the command line has no flag with a number to vary, and --help names none. Give the flags to tune with "
            "their values: gantune init -- python train.py --lr 1e-3 --bs 64"
        )
    return found[:MOST_PARAMETERS]


def _template(
    argv: Sequence[str], places: Sequence[Place], flags: Sequence[Flag]
) -> tuple[list[str], list[str]]:
    """Return command and args with a placeholder for each parameter, in the style of the command line."""
    made = list(argv)
    at = {place.flag.name: place for place in places}
    for flag in flags:
        value = f"${{trialParameters.{flag.name}}}"
        if (place := at.get(flag.name)) is not None:
            made[place.index] = place.prefix + value
        else:
            longest = max(flag.names, key=len)
            made += [f"{longest}={value}"] if longest.startswith("--") else [longest, value]
    first = next(
        (
            i
            for i, word in enumerate(made)
            if i > 0 and word.startswith("-") and not (word == "-m" and i == 1)
        ),
        len(made),
    )
    return made[:first], made[first:]


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
