"""The rules on what this project adds: its annotations (tuner.experiment.annotations), and the metric of training time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tuner.check.rule import Finding, error, warning
from tuner.check.space import whole
from tuner.check.view import View, dig, number
from tuner.errors import UnsupportedError
from tuner.experiment.annotations import (
    COST_ANNOTATION,
    FILES_ANNOTATION,
    NOISE_ANNOTATION,
    STOP_ANNOTATION,
    missing_file,
    required_files,
    seed_noise,
    stop_factors,
)
from tuner.samplers.first import FIRST_ANNOTATION, parse
from tuner.samplers.transform import Dimension, dimension
from tuner.space import Categorical, Discrete, Distribution, Double, Int


def first_trials(view: View) -> Iterator[Finding]:
    """Check that each first trial is a different point of the search space."""
    text = dig(view.metadata, "annotations", FIRST_ANNOTATION)
    dimensions = [_dimension(item) for _, item in view.parameters]
    known = [each for each in dimensions if each is not None]
    # other rules report a parameter that cannot be read
    if not text or len(known) < len(dimensions):
        return
    where = ("metadata", "annotations", FIRST_ANNOTATION)
    try:
        count = len(parse(text, known))
    except UnsupportedError as problem:
        yield where, str(problem)
        return
    if view.max_trials is not None and count > view.max_trials:
        yield (
            where,
            f"maxTrialCount is {view.max_trials}, but there are {count} first trials; write {count} or more",
        )


def stopping(view: View) -> Iterator[Finding]:
    """Check that stop factors are numbers above 1, with an objective to minimise and no other early stopping."""
    text = dig(view.metadata, "annotations", STOP_ANNOTATION)
    where = ("metadata", "annotations", STOP_ANNOTATION)
    try:
        if not text or not stop_factors(text):
            return
    except UnsupportedError as problem:
        yield where, str(problem)
        return
    if view.objective.get("type") == "maximize":
        yield (
            where,
            "stop factors are for an objective that is minimised; use earlyStopping, or remove the annotation",
        )
    if "earlyStopping" in view.spec or view.algorithm == "hyperband":
        other = "earlyStopping" if "earlyStopping" in view.spec else "hyperband"
        yield where, f"stop factors and {other} cannot both stop trials; remove one"


def files(view: View) -> Iterator[Finding]:
    """Check that the required files are paths, each with a command."""
    try:
        required_files(dig(view.metadata, "annotations", FILES_ANNOTATION) or "{}")
    except UnsupportedError as problem:
        yield ("metadata", "annotations", FILES_ANNOTATION), str(problem)


def missing(view: View) -> Iterator[Finding]:
    """Find a required file that is not on this machine."""
    try:
        listed = required_files(dig(view.metadata, "annotations", FILES_ANNOTATION) or "{}")
    except UnsupportedError:
        return  # the rule above reports it
    if sentence := missing_file(listed):
        yield ("metadata", "annotations", FILES_ANNOTATION), sentence


def noise(view: View) -> Iterator[Finding]:
    """Check that the seed noise is a share."""
    if text := dig(view.metadata, "annotations", NOISE_ANNOTATION):
        try:
            seed_noise(str(text))
        except UnsupportedError as problem:
            yield ("metadata", "annotations", NOISE_ANNOTATION), str(problem)


def cost_metric(view: View) -> Iterator[Finding]:
    """Check that the cost metric is one that the trials report."""
    name = dig(view.metadata, "annotations", COST_ANNOTATION)
    if name and name not in view.metrics:
        yield (
            ("metadata", "annotations", COST_ANNOTATION),
            f"the cost metric {name} is not among the metrics ({', '.join(view.metrics)}); "
            "add it to additionalMetricNames",
        )


def cost_strategy(view: View) -> Iterator[Finding]:
    """Find a cost metric whose first report counts, because its strategy is min."""
    cost = dig(view.metadata, "annotations", COST_ANNOTATION)
    listed = view.objective.get("metricStrategies", [])
    named = {str(dig(item, "name")): (i, dig(item, "value")) for i, item in enumerate(listed)}
    default = "min" if view.objective.get("type") == "minimize" else ""
    index, strategy = named.get(str(cost), (None, default))
    if cost in view.metrics[1:] and strategy == "min":
        at = (
            ("metricStrategies", index, "value")
            if index is not None
            else ("additionalMetricNames",)
        )
        says = "is min" if index is not None else "is min by default"
        yield (
            ("spec", "objective", *at),
            f"the strategy of {cost} {says}, so its first report counts; set it to latest",
        )


def _dimension(item: dict[str, Any]) -> Dimension | None:
    """Return the dimension of a parameter, or None if it breaks another rule."""
    name, kind, space = (
        item.get("name", ""),
        item.get("parameterType"),
        item.get("feasibleSpace", {}),
    )
    low, high, step, listed = (
        space.get("min"),
        space.get("max"),
        space.get("step"),
        space.get("list"),
    )
    try:
        distribution = Distribution(space.get("distribution") or "uniform")
        if kind == "double":
            bounds = number(low), number(high)
            if None in bounds or (step and not number(step)):
                return None
            return dimension(
                Double(name, float(low), float(high), number(step) if step else None, distribution)
            )
        if kind == "int":
            if whole(low or "") is None or whole(high or "") is None or (step and not whole(step)):
                return None
            return dimension(
                Int(name, int(low), int(high), int(step) if step else None, distribution)
            )
    except ValueError:
        return None
    if kind not in ("categorical", "discrete") or not listed:
        return None
    if kind == "categorical":
        return dimension(Categorical(name, tuple(listed)))
    return None if None in map(number, listed) else dimension(Discrete(name, tuple(listed)))


# about this machine: of no matter on a cluster, and a local run refuses what they find
LOCAL_RULES = ("missing-file",)

RULES = (
    error(
        "first-trials",
        "The annotation gan-tuner/first-trials is ours: Katib ignores it. `gantune run` and our suggestion service run "
        "these trials first, so each must be a point of the search space, and no point may be listed twice.",
        "tuner/samplers/first.py",
        first_trials,
    ),
    error(
        "stop-factors",
        "The annotation gan-tuner/stop-factors is ours: Katib ignores it. `gantune run --local` stops a trial at a "
        "report if its best objective so far is more than the report's factor times the best of an earlier trial.",
        "tuner/experiment/annotations.py",
        stopping,
    ),
    error(
        "required-files",
        "The annotation gan-tuner/required-files is ours: Katib ignores it. It names the files that a local trial reads, "
        "each with the command that creates it. gantune prints the command and never runs it.",
        "tuner/experiment/annotations.py",
        files,
    ),
    warning(
        "missing-file",
        "The Experiment names a file that its trials read (annotation gan-tuner/required-files), and the file is not on "
        "this machine. `gantune run --local` does not start the search then. A cluster is not affected.",
        "tuner/experiment/annotations.py",
        missing,
    ),
    error(
        "seed-noise",
        "The annotation gan-tuner/seed-noise is ours: Katib ignores it. It states by which share the objective differs "
        "between two trainings that differ only in their seed, and gantune calls smaller gains noise.",
        "tuner/experiment/annotations.py",
        noise,
    ),
    error(
        "cost-metric",
        "The annotation gan-tuner/cost-metric is ours: Katib ignores it. It names the metric that says what a trial "
        "cost, so the trials must report it. Without it, the cost of a trial is its wall time.",
        "tuner/experiment/annotations.py",
        cost_metric,
    ),
    warning(
        "cost-strategy",
        "A cost metric grows while a trial trains. gantune compares trials by it, so its last value must count. "
        "If the objective is minimised, Katib takes the smallest value of each metric that has no strategy.",
        "tuner/analysis/gain.py",
        cost_strategy,
    ),
)
