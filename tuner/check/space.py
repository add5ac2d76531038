"""Rules on spec.parameters: what the webhook refuses, and what it accepts although it fails later."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from tuner.check.rule import Finding, error, warning
from tuner.check.spec import VALIDATOR, one_of
from tuner.check.view import LISTED, NUMERIC, View, number
from tuner.katib.facts import DISTRIBUTIONS, PARAMETER_TYPES
from tuner.katib.yamlfile import Path

SPACE = "kubeflow/katib 33c8ff4, pkg/suggestion/v1beta1/internal/search_space.py"
LIVE = "seen on a live cluster: the webhook lets it pass"
# min = max is one value, not an error
ACCEPTS_SINGLE_VALUE = ("grid", "hyperband", "multivariate-tpe")


def parameters(view: View) -> Iterator[Finding]:
    """Check that there are parameters or a nasConfig, and that each parameter has a name of its own."""
    nas = "nasConfig" in view.spec
    if not view.parameters and not nas:
        yield ("spec", "parameters"), "spec.parameters must hold at least one parameter"
    if view.parameters and nas:
        yield (
            ("spec", "nasConfig"),
            "only one of spec.parameters and spec.nasConfig can be given; take one out",
        )
    seen: dict[str, int] = {}
    for i, (path, item) in enumerate(view.parameters):
        name = item.get("name", "")
        if not name:
            yield path, f"parameter {i} must have a name"
        elif name in seen:
            yield (*path, "name"), f"two parameters are named {name!r}; names must differ"
        seen[name] = i


def parameter_type(view: View) -> Iterator[Finding]:
    """Check parameterType."""
    for path, item in view.parameters:
        if (kind := item.get("parameterType", "")) not in PARAMETER_TYPES:
            yield (
                (*path, "parameterType"),
                f"the type of parameter {item.get('name', '')!r} {one_of(kind, PARAMETER_TYPES)}",
            )


def distribution(view: View) -> Iterator[Finding]:
    """Check feasibleSpace.distribution."""
    for path, item in view.parameters:
        value = item.get("feasibleSpace", {}).get("distribution")
        if value and value not in DISTRIBUTIONS:
            where = (*path, "feasibleSpace", "distribution")
            yield (
                where,
                f"the distribution of {item.get('name', '')!r} {one_of(value, DISTRIBUTIONS)}",
            )


def bounds_missing(view: View) -> Iterator[Finding]:
    """Check that numbers have min and max, the others have a list, and none has both."""
    for path, item in view.parameters:
        name, kind, space = (
            item.get("name", ""),
            item.get("parameterType"),
            item.get("feasibleSpace", {}),
        )
        at = (*path, "feasibleSpace")
        if kind in NUMERIC:
            if missing := [key for key in ("min", "max") if not space.get(key)]:
                yield (
                    at,
                    f"parameter {name!r} is {kind}, so feasibleSpace needs {' and '.join(missing)}",
                )
            if space.get("list"):
                yield (
                    (*at, "list"),
                    f"parameter {name!r} is {kind}, which takes min and max, not list; use discrete for a list",
                )
        elif kind in LISTED and (
            given := [key for key in ("min", "max", "step") if space.get(key)]
        ):
            yield (
                (*at, given[0]),
                f"parameter {name!r} is {kind}, which takes list, not {', '.join(given)}",
            )


def list_empty(view: View) -> Iterator[Finding]:
    """Check that a list is not empty."""
    for path, name, space in view.spaces(*LISTED):
        if not space.get("list"):
            yield (
                (*path, "list") if "list" in space else path,
                f"the list of parameter {name!r} must hold a value, got none",
            )


def list_duplicate(view: View) -> Iterator[Finding]:
    """Check that the values of a list differ."""
    for path, name, space in view.spaces(*LISTED):
        seen: set[str] = set()
        for i, value in enumerate(space.get("list", [])):
            if value in seen:
                yield (
                    (*path, "list", i),
                    f"{str(value)[:60]!r} is listed twice for parameter {name!r}; remove one",
                )
            seen.add(value)


def discrete_number(view: View) -> Iterator[Finding]:
    """Check that a discrete list contains numbers."""
    for path, name, space in view.spaces("discrete"):
        for i, value in enumerate(space.get("list", [])):
            if number(value) is None:
                where = (*path, "list", i)
                yield (
                    where,
                    f"parameter {name!r} is discrete: {str(value)[:60]!r} must be a number; use categorical for words",
                )


def bounds_number(view: View) -> Iterator[Finding]:
    """Check that min, max and step are finite numbers, and integers for int."""
    for kind in NUMERIC:
        for path, name, space in view.spaces(kind):
            for key in ("min", "max", "step"):
                text = space.get(key)
                if text and (number(text) is None or (kind == "int" and whole(text) is None)):
                    wanted = "a whole number" if kind == "int" else "a finite number"
                    yield (
                        (*path, key),
                        f"{key} of {kind} parameter {name!r} must be {wanted}, got {text[:60]!r}",
                    )


def whole(text: str) -> int | None:
    """Return an integer from its text, or None. `1.0` is none, as for Go's Atoi and Python's int."""
    try:
        return int(text) if "_" not in text and text.strip() == text else None
    except ValueError:
        return None


def bounds_order(view: View) -> Iterator[Finding]:
    """Check that min is below max, or equal to it if the algorithm accepts a single value."""
    single = view.algorithm in ACCEPTS_SINGLE_VALUE
    for path, name, space, low, high, _ in numeric(view):
        if low > high or (low == high and not single):
            wanted = (
                "min must not be above max" if single else f"{view.algorithm} needs min below max"
            )
            yield (
                (*path, "min"),
                f"parameter {name!r}: {wanted}, got min={space['min']}, max={space['max']}",
            )


def step_range(view: View) -> Iterator[Finding]:
    """Check that step is above 0, and that it fits the interval unless the algorithm then proposes min alone."""
    single = view.algorithm in ("grid", "multivariate-tpe")
    for path, name, space, low, high, step in numeric(view):
        if step is not None and step <= 0:
            yield (*path, "step"), f"step of {name!r} must be above 0, got {space['step']}"
        elif step is not None and not single and low < high and step > (high - low) * (1 + 1e-9):
            wanted = f"step of {name!r} must be above 0 and at most max - min"
            yield (*path, "step"), f"{wanted} = {high - low:g}, got {space['step']}"


def log_bound(view: View) -> Iterator[Finding]:
    """Check that min > 0 for a distribution on a log scale."""
    for path, name, space, low, _, _ in numeric(view):
        if space.get("distribution") in ("logUniform", "logNormal") and low <= 0:
            got = f"got {space['min']}"
            yield (
                (*path, "min"),
                f"min of {name!r} must be above 0 for distribution {space['distribution']}, {got}",
            )


def grid_step(view: View) -> Iterator[Finding]:
    """Check that a double has a step in a grid."""
    if view.algorithm == "grid":
        for path, name, space in view.spaces("double"):
            if not space.get("step"):
                yield (
                    path,
                    f"grid needs a step for double parameter {name!r}; give step, or make it a discrete list",
                )


def grid_size(view: View) -> Iterator[Finding]:
    """Check that maxTrialCount is not above the number of grid points."""
    points = grid_points(view) if view.algorithm == "grid" else None
    if points and view.max_trials is not None and view.max_trials > points:
        got = f"got {view.max_trials}"
        yield (
            ("spec", "maxTrialCount"),
            f"maxTrialCount must be at most the grid's {points} points, {got}; write {points}",
        )


def grid_end(view: View) -> Iterator[Finding]:
    """Check that max is a point of a double's grid."""
    if view.algorithm == "grid":
        for path, name, space, low, high, step in numeric(view):
            if step is None or step <= 0 or low >= high:
                continue
            steps = ratio(high, low, step)
            if abs(steps - round(steps)) > 1e-6 and steps < 2**53:  # floats tell the points apart
                last = float(Fraction(low) + math.floor(steps) * Fraction(step))
                yield (
                    (*path, "step"),
                    f"step of {name!r} never reaches max {space['max']}; the last point is {last:g}",
                )


def grid_points(view: View) -> int | None:
    """Return the number of grid points, or None if a bound is unusable. The end may be missed by 1e-6 steps."""
    total = 1
    for _, _, space in view.spaces(*LISTED):
        total *= len(space.get("list", []))
    spaces = list(numeric(view))
    if len(spaces) != len(list(view.spaces(*NUMERIC))):
        return None
    whole_numbers = {name for _, name, _ in view.spaces("int")}
    for _, name, _, low, high, step in spaces:
        by = step if step is not None else 1.0 if name in whole_numbers else None
        if by is None or by <= 0 or low > high:
            return None
        total *= math.floor(min(ratio(high, low, by) + Fraction(1, 10**6), Fraction(10**15))) + 1
    return total


def ratio(high: float, low: float, step: float) -> Fraction:
    """Return (high - low) / step exactly. As a float, it is infinite where the step is tiny."""
    return (Fraction(high) - Fraction(low)) / Fraction(step)


def numeric(view: View) -> Iterator[tuple[Path, str, dict[str, str], float, float, float | None]]:
    """Yield (path, name, feasibleSpace, min, max, step) of numeric parameters whose bounds are numbers."""
    for path, name, space in view.spaces(*NUMERIC):
        low, high, step = (number(space.get(key)) for key in ("min", "max", "step"))
        if low is not None and high is not None and (step is not None or not space.get("step")):
            yield path, name, space, low, high, step


RULES = (
    error(
        "parameters",
        "The webhook wants parameters or nasConfig, not both. It lets two parameters of one name pass, though a "
        "trial can have only one value for it.",
        f"{VALIDATOR}:165-180; {LIVE}",
        parameters,
    ),
    error(
        "parameter-type",
        "double, int, discrete or categorical. The webhook also lets `unknown` pass, which no suggestion service "
        "can read.",
        f"{VALIDATOR}:257-268",
        parameter_type,
    ),
    error(
        "distribution",
        "The webhook knows four distributions, and `unknown`, which means none.",
        f"{VALIDATOR}:270-280",
        distribution,
    ),
    error(
        "bounds-missing",
        "The webhook wants min and max for double and int, and neither of them, nor step, for lists.",
        f"{VALIDATOR}:282-302",
        bounds_missing,
    ),
    error(
        "list-empty",
        "The webhook does not look into lists; the suggestion service fails on an empty one.",
        LIVE,
        list_empty,
    ),
    error(
        "list-duplicate",
        "A value that is listed twice is drawn twice as often and counts as two grid points; Optuna refuses it.",
        LIVE,
        list_duplicate,
    ),
    error(
        "discrete-number",
        "Discrete values are numbers in text form: the services parse them.",
        "kubeflow/katib 33c8ff4, pkg/suggestion/v1beta1/goptuna/converter.go:110-184",
        discrete_number,
    ),
    error(
        "bounds-number",
        "Bounds are text in a manifest, and the webhook does not parse them; the suggestion service does, after "
        "admission, and then the Experiment fails.",
        f"{SPACE}:80; {LIVE}",
        bounds_number,
    ),
    error(
        "bounds-order",
        "The webhook does not compare min with max. grid, hyperband and multivariate-tpe accept min = max as a "
        "single value; the other services fail, or never propose anything.",
        LIVE,
        bounds_order,
    ),
    error(
        "step-range",
        "A step of 0 or below makes no grid. A step longer than the interval leaves min as the only value under grid "
        "and multivariate-tpe, and fails elsewhere.",
        f"{SPACE}:52-70; {LIVE}",
        step_range,
    ),
    error(
        "log-bound",
        "There is no logarithm of 0. The webhook lets it pass; services fail, or move the bound silently "
        "(Optuna's to 1e-10).",
        f"kubeflow/katib 33c8ff4, pkg/suggestion/v1beta1/optuna/base_service.py:110-172; {LIVE}",
        log_bound,
    ),
    error(
        "grid-step",
        "Katib's grid asks for a step of every double and fails without one. Int steps are 1 unless given.",
        f"{SPACE}:57-62",
        grid_step,
    ),
    error(
        "grid-size",
        "The grid service refuses more trials than it has points, after admission.",
        "kubeflow/katib 33c8ff4, pkg/suggestion/v1beta1/optuna/service.py:242",
        grid_size,
    ),
    warning(
        "grid-end",
        "Where the step does not divide the interval, max itself is never tried.",
        f"{SPACE}:52-70",
        grid_end,
    ),
)
