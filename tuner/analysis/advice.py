"""What to search next: which parameters to fix, which ranges to shrink or to widen, and how many trials to run.

`advice(result, experiment)` is pure. Each change has its reason as one sentence, which `gantune
report` shows and which `gantune next` writes into the next manifest as a comment
(tuner.analysis.next_manifest).

The search space is judged on the Gaussian process that also gives the importances
(tuner.analysis.importance), because the best trial of a few noisy ones is partly lucky. Units are
positions in a parameter's range, in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from tuner.analysis import importance
from tuner.analysis.expected import expected_best
from tuner.analysis.importance import Interval, Surface
from tuner.experiment.model import Experiment
from tuner.gp import Array, one_thread
from tuner.result import Goal, Result, Trial, TrialState
from tuner.samplers.transform import dimension, size
from tuner.space import Categorical, Discrete, Distribution, Double, Int, Parameter, Value, text

# the share of a parameter that does not matter, and the upper end of its interval
NEGLIGIBLE, AT_MOST = 0.05, 0.15
EVIDENCE = (
    # trials per parameter before one is called negligible: with fewer, the model is flat where it
    # knows nothing
    4
)
# standard deviations of the objective: its range along a parameter that does not matter
FLAT_LINE = 0.05
MATTERS = 0.1  # the same, along a parameter that is worth a wider range
TRIED = 3  # trials with a choice before it is dropped
PROMISING = 0.25  # the share of the space, by predicted objective, that the next ranges cover
LEAST_WIDTH = 0.5  # of the old range, that a shrunk range keeps: the model may be wrong
WORTH = 0.8  # a range that would keep more than this share of its width is left as it is
EDGE = 0.05  # units from a bound within which a trial sits on it
BEST = 3  # trials that are looked at for a bound
SAMPLES, LINE = 4096, 33
# standard deviations of the objective between a choice that is dropped and the best one
CLEARLY_WORSE = 0.5
# gains from the second half of the trials that call for fewer, and for more trials
FLAT, STEEP = 0.02, 0.1
DEARER = 1.2  # times the cost of a trial at the bound, from which a reason says it
# how far a positive bound moves at most: lr 1e-2 becomes 4e-2, batch size 32 becomes 8
STRETCH = 4.0


class Kind(StrEnum):
    """What a change does."""

    FIX = "fix"
    SHRINK = "shrink"
    WIDEN = "widen"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Change:
    """One change to the search, with its reason.

    Attributes:
        kind: What it does.
        parameter: The name of the parameter; "" for the budget.
        reason: Why, in one sentence.
        space: The new space of a parameter that stays.
        value: The value of a parameter that is fixed.
        trials: The new maxTrialCount.
    """

    kind: Kind
    parameter: str
    reason: str
    space: Parameter | None = None
    value: Value | None = None
    trials: int = 0

    def __str__(self) -> str:
        """Return the change and its reason, such as `fix bs at 64: it has 2 % of the effect on fd`."""
        what = (
            f"run {self.trials} trials"
            if self.kind is Kind.BUDGET
            else f"{self.kind.value} {self.parameter}"
        )
        if self.space is not None:
            what += f" to {shown(self.space)}"
        elif self.kind is Kind.FIX:
            what += f" at {_number(self.value)}"
        return f"{what}: {self.reason}"


@dataclass(frozen=True)
class _View:
    """The scored trials of a study, and what the model says about them.

    Attributes:
        units: The trials [N, P].
        values: The objective of each trial [N].
        costs: What each trial cost [N]; NaN if that is unknown, or if the trial was stopped early.
        believed: What the model predicts for each trial [N]; lower is better, whichever way the
        objective is.
        points: Points all over the space [S, P], and `predicted` what the model says about them
        [S].
        lines: How far the prediction moves along each parameter, through the leader [P].
        lowest: Where on that line the prediction is best, in units [P].
    """

    experiment: Experiment
    trials: tuple[Trial, ...]
    units: Array
    values: Array
    costs: Array
    believed: Array
    points: Array
    predicted: Array
    effects: dict[str, Interval]
    lines: Array
    lowest: Array

    @property
    def leader(self) -> int:
        """The trial that the model believes to be the best."""
        return int(np.argmin(self.believed))

    def top(self) -> list[int]:
        """The trials that the model believes to be the best."""
        return [int(index) for index in np.argsort(self.believed, kind="stable")[:BEST]]


def advice(result: Result, experiment: Experiment) -> list[Change]:
    """Return the changes for the next search: parameters first, in order, then the budget. Empty without a model."""
    view = _look(result, experiment)
    if view is None:
        return []
    changes = [
        change
        for index in range(len(experiment.parameters))
        if (change := _change(view, index)) is not None
    ]
    budget = _budget(view, changes)
    return [*changes, budget] if budget else changes


def _look(result: Result, experiment: Experiment) -> _View | None:
    parameters = experiment.parameters
    held = [
        each
        for each in result.comparable
        if all(_has(each[0], parameter) for parameter in parameters)
    ]
    if len(held) <= len(parameters):
        return None
    sign = 1.0 if result.objective.goal_type is Goal.MINIMIZE else -1.0
    with one_thread():
        surface = importance.fit(
            parameters, [trial.parameters for trial, _ in held], [value for _, value in held]
        )
        if surface is None:
            return None
        units = np.array(
            [
                [importance.to_unit(p, trial.parameters[p.name]) for p in parameters]
                for trial, _ in held
            ]
        )
        points = importance.samples(len(parameters), SAMPLES)
        return _View(
            experiment,
            tuple(trial for trial, _ in held),
            units,
            np.array([value for _, value in held]),
            np.array([_cost(result, trial) for trial, _ in held]),
            sign * surface.mean(units),
            points,
            sign * surface.mean(points),
            importance.shares(surface),
            *_lines(surface, units[int(np.argmin(sign * surface.mean(units)))], sign),
        )


def _cost(result: Result, trial: Trial) -> float:
    cost = result.cost(trial) if trial.state is TrialState.SUCCEEDED else None
    return math.nan if cost is None else cost


def _has(trial: Trial, parameter: Parameter) -> bool:
    """Return whether the trial has a value that the parameter's space knows; a number may lie beyond a bound."""
    listed = parameter.choices if isinstance(parameter, Categorical | Discrete) else None
    return parameter.name in trial.parameters and (
        listed is None or str(trial.parameters[parameter.name]) in listed
    )


def _lines(surface: Surface, at: Array, sign: float) -> tuple[Array, Array]:
    """Return how far the prediction moves along each parameter through a point [P], and where on it it is best."""
    spans, lowest = [], []
    places = np.linspace(0, 1 - 1e-9, LINE)
    for index in range(len(at)):
        line = np.tile(at, (LINE, 1))
        line[:, index] = places
        predicted = sign * surface.mean(line)
        spans.append(float(np.ptp(predicted)))
        lowest.append(float(places[int(np.argmin(predicted))]))
    return np.array(spans), np.array(lowest)


def _change(view: _View, index: int) -> Change | None:
    """Return what to do about one parameter; None to leave it."""
    parameter = view.experiment.parameters[index]
    negligible = _negligible(view, index)
    wider, down = parameter, False
    # what seems negligible inside the range may matter beyond the bound that the best trials sit on
    if view.lines[index] > MATTERS or (negligible and isinstance(parameter, Double | Int)):
        down, up = (_sits(view, index, lower=lower) for lower in (True, False))
        if down != up and not isinstance(parameter, Categorical):
            wider = _stretched(parameter, down=down, up=up)
    if negligible and wider == parameter:
        value = view.trials[view.leader].parameters[parameter.name]
        share = view.effects[parameter.name].value
        metric = view.experiment.objective.metric
        reason = f"it has {share:.0%} of the effect on {metric}; the trial that the model expects to be best has this value"
        return Change(Kind.FIX, parameter.name, reason, value=value)
    if isinstance(parameter, Categorical):
        return _fewer_choices(view, index, parameter)
    low, high = _promising(view, index)
    narrow = _between(parameter, low, high)
    if wider != parameter:
        return _widened(view, index, wider, narrow, down)
    if narrow == parameter or size([dimension(narrow)]) == 1:
        return None
    reason = f"it holds the best {BEST} trials, and the {PROMISING:.0%} of the space that the model expects to be best"
    return Change(Kind.SHRINK, parameter.name, reason, space=narrow)


def _negligible(view: _View, index: int) -> bool:
    """Return whether a parameter does not matter, over the space and near the best trial.

    The one that matters most is never fixed. A learning rate that ruins half of the space hides the
    effect of all others there, hence the second condition.
    """
    name = view.experiment.parameters[index].name
    effect = view.effects.get(name)
    if (
        effect is None
        or name == next(iter(view.effects))
        or len(view.trials) < EVIDENCE * len(view.lines)
    ):
        return False
    return (
        effect.value < NEGLIGIBLE and effect.high < AT_MOST and bool(view.lines[index] < FLAT_LINE)
    )


def _promising(view: _View, index: int) -> tuple[float, float]:
    """Return the range, in units, of the most promising points and of the best trials."""
    count = max(int(PROMISING * len(view.points)), 1)
    chosen = view.points[np.argsort(view.predicted, kind="stable")[:count], index]
    best = view.units[view.top(), index]
    low = min(float(np.quantile(chosen, 0.05)), float(best.min()) - EDGE)
    high = max(float(np.quantile(chosen, 0.95)), float(best.max()) + EDGE)
    if high - low < LEAST_WIDTH:
        middle = (low + high) / 2
        low, high = middle - LEAST_WIDTH / 2, middle + LEAST_WIDTH / 2
    return low if low > EDGE else 0.0, high if high < 1 - EDGE else 1.0


def _sits(view: _View, index: int, *, lower: bool) -> bool:
    """Return whether most of the best trials sit on a bound, and the model expects the best point there too."""
    distance = view.units if lower else 1 - view.units
    parameter = view.experiment.parameters[index]
    edge = EDGE if isinstance(parameter, Double | Int) else 0.6 / len(parameter.choices)
    close = distance[view.top(), index] <= edge
    expected = (view.lowest[index] if lower else 1 - view.lowest[index]) <= 2 * edge
    return bool(close.mean() > 0.5 and expected)


def _widened(view: _View, index: int, wider: Parameter, narrow: Parameter, down: bool) -> Change:
    """Return the change that moves one bound out, and the other one in."""
    parameter = view.experiment.parameters[index]
    edge = "lower" if down else "upper"
    if isinstance(wider, Double | Int) and isinstance(narrow, Double | Int):
        wider = replace(wider, high=narrow.high) if down else replace(wider, low=narrow.low)  # type: ignore[arg-type]
        bound = text(parameter.low if down else parameter.high)  # type: ignore[union-attr]
        new = text(wider.low if down else wider.high)
    else:
        assert isinstance(wider, Discrete)  # noqa: S101
        assert isinstance(narrow, Discrete)  # noqa: S101
        inside = [c for c in wider.choices if c in narrow.choices or c not in parameter.choices]  # type: ignore[union-attr]
        wider = Discrete(wider.name, tuple(inside))
        bound = (min if down else max)(parameter.choices, key=float)  # type: ignore[union-attr]
        new = (min if down else max)(wider.choices, key=float)
    reason = f"most of the best {BEST} trials sit on the {edge} bound {bound}, so the optimum may be beyond it"
    if (times := _dearer(view, index, float(bound), float(new))) > DEARER:
        reason += f"; a trial at {new} takes about {times:.1f} times as long as one at {bound}"
    return Change(Kind.WIDEN, parameter.name, reason, space=wider)


def _dearer(view: _View, index: int, bound: float, new: float) -> float:
    """Return how much more a trial beyond the bound costs, by a power law that is fitted to the costs; 1 if unknown."""
    name = view.experiment.parameters[index].name
    values = np.array([float(trial.parameters[name]) for trial in view.trials])
    known = (view.costs > 0) & (values > 0)
    if bound <= 0 or new <= 0 or len(np.unique(values[known])) < TRIED:
        return 1.0
    values, costs = np.log(values[known]), np.log(view.costs[known])
    exponent = np.cov(values, costs)[0, 1] / values.var(ddof=1)
    return float((new / bound) ** exponent)


def _fewer_choices(view: _View, index: int, parameter: Categorical) -> Change | None:
    """Return the change that drops the choices which the model expects to be clearly worse."""
    count = len(parameter.choices)
    place = np.minimum((view.points[:, index] * count).astype(int), count - 1)
    tried = np.minimum((view.units[:, index] * count).astype(int), count - 1)
    best = {i: float(view.predicted[place == i].min()) for i in range(count) if (place == i).any()}
    bar = min(best.values()) + CLEARLY_WORSE
    used = set(tried[view.top()].tolist())
    kept = [
        i
        for i in range(count)
        if i in used or best.get(i, math.inf) <= bar or (tried == i).sum() < TRIED
    ]
    if len(kept) == count:
        return None
    dropped = ", ".join(choice for i, choice in enumerate(parameter.choices) if i not in kept)
    reason = (
        f"the model expects {dropped} to be clearly worse than the others, even at its best point"
    )
    if len(kept) == 1:
        return Change(Kind.FIX, parameter.name, reason, value=parameter.choices[kept[0]])
    space = Categorical(parameter.name, tuple(parameter.choices[i] for i in kept))
    return Change(Kind.SHRINK, parameter.name, reason, space=space)


def _between(
    parameter: Double | Int | Discrete, low: float, high: float
) -> Double | Int | Discrete:
    """Return the part of a parameter's range between two units; the parameter itself where that keeps nearly all."""
    if isinstance(parameter, Discrete):
        ordered = sorted(parameter.choices, key=float)
        inside = {c for c in ordered if low <= importance.to_unit(parameter, c) <= high}
        kept = tuple(choice for choice in parameter.choices if choice in inside)
        return parameter if len(kept) < 2 else Discrete(parameter.name, kept)
    if high - low > WORTH:
        return parameter
    log = parameter.distribution in importance.LOG_SCALES and parameter.low > 0
    first, last = float(parameter.low), float(parameter.high)
    if log:
        first, last = math.log(first), math.log(last)
    ends = [first + unit * (last - first) for unit in (low, high)]
    ends = [math.exp(end) for end in ends] if log else ends
    return _bounded(parameter, *ends)


def _bounded(parameter: Double | Int, low: float, high: float) -> Double | Int:
    """Return the parameter with new bounds that people can read, inside the old ones and on its grid."""
    if isinstance(parameter, Int):
        step = parameter.step or 1
        start = parameter.low + math.floor((low - parameter.low) / step) * step
        end = parameter.low + math.ceil((high - parameter.low) / step) * step
        new = replace(parameter, low=max(start, parameter.low), high=min(end, parameter.high))
        return new if new.low < new.high else parameter
    if parameter.step:
        grid = dimension(parameter).values or ()
        inside = [float(value) for value in grid if low <= float(value) <= high]
        return replace(parameter, low=inside[0], high=inside[-1]) if len(inside) > 1 else parameter
    lowest, highest = (
        max(_rounded(low, math.floor), parameter.low),
        min(_rounded(high, math.ceil), parameter.high),
    )
    return replace(parameter, low=lowest, high=highest) if lowest < highest else parameter


def _stretched(parameter: Parameter, *, down: bool, up: bool) -> Parameter:
    """Return the parameter with one bound moved out: a positive one by a factor, another by half the range."""
    if isinstance(parameter, Discrete):
        return _longer(parameter, down=down)
    assert isinstance(parameter, Double | Int)  # noqa: S101
    low, high = float(parameter.low), float(parameter.high)
    share = (
        low >= 0
        and high <= 1
        and isinstance(parameter, Double)
        and parameter.distribution is Distribution.UNIFORM
    )
    if down and low > 0:
        low /= STRETCH
    elif down and low < 0:
        low -= (high - low) / 2
    elif up and share:
        high = 1 - (1 - high) / STRETCH  # 0.9 becomes 0.975, and 1 stays
    elif up:
        high = high * STRETCH if low > 0 else high + (high - low) / 2
    if isinstance(parameter, Int):
        step = parameter.step or 1
        least = 1 if parameter.low > 0 else -math.inf
        below = parameter.low - step * math.floor((parameter.low - max(round(low), least)) / step)
        return replace(
            parameter,
            low=int(below),
            high=parameter.high + step * math.floor((high - parameter.high) / step),
        )
    if parameter.step:
        return parameter  # a grid of numbers was chosen on purpose
    return replace(
        parameter,
        low=_rounded(low, math.floor) if down else low,
        high=_rounded(high, math.ceil) if up else high,
    )


def _longer(parameter: Discrete, *, down: bool) -> Discrete:
    """Return the choices with one more at an end, in the ratio (or the distance) of the two at that end."""
    ordered = sorted(parameter.choices, key=float)
    if len(ordered) < 2:
        return parameter
    edge, inner = (float(c) for c in (ordered[:2] if down else ordered[:-3:-1]))
    if edge > 0 and inner > 0:
        new = edge * edge / inner
    elif edge == 0:
        return parameter  # zero switches something off
    else:
        new = 2 * edge - inner
    whole = all(float(choice).is_integer() for choice in ordered)
    written = str(round(new)) if whole else f"{new:.2g}"
    if float(written) in map(float, ordered) or (whole and round(new) < 1 <= edge):
        return parameter
    return Discrete(
        parameter.name, (written, *parameter.choices) if down else (*parameter.choices, written)
    )


def _budget(view: _View, changes: Sequence[Change]) -> Change | None:
    """Return the number of trials of the next search, from the curve of the expected best; None to leave it."""
    count = len(view.values)
    now = view.experiment.max_trials or count
    counts, (expected, _, _) = expected_best(
        view.values.tolist(), view.experiment.objective.goal_type, repeats=1
    )
    half, full = (float(np.interp(draws, counts, expected)) for draws in (count / 2, count))
    gain = abs(half - full) / (abs(half) or 1.0)
    varied = len(view.experiment.parameters) - sum(change.kind is Kind.FIX for change in changes)
    trials = now
    if gain < FLAT:
        trials, words = max(now // 2, 3 * varied), "only "
    elif gain > STEEP:
        trials, words = 2 * now, "still "
    points = size(
        [dimension(parameter) for parameter in revised(view.experiment.parameters, changes)]
    )
    if view.experiment.algorithm.name == "grid" and points is not None:
        return (
            Change(Kind.BUDGET, "", "the grid has this many points", trials=points)
            if points != now
            else None
        )
    if trials == now:
        return None
    metric = view.experiment.objective.metric
    reason = f"the second half of {count} trials {words}improves the expected best {metric} by {gain:.2%}"
    return Change(Kind.BUDGET, "", reason, trials=trials)


def revised(parameters: Sequence[Parameter], changes: Sequence[Change]) -> tuple[Parameter, ...]:
    """Return the search space after the changes."""
    spaces = {
        change.parameter: change.space for change in changes if change.kind is not Kind.BUDGET
    }
    kept = [(parameter, spaces.get(parameter.name, parameter)) for parameter in parameters]
    return tuple(space for _, space in kept if space is not None)


def shown(space: Parameter) -> str:
    """Return a space for people: `[8, 128]`, or its choices."""
    if isinstance(space, Categorical | Discrete):
        return f"{{{', '.join(space.choices)}}}"
    return f"[{_number(space.low)}, {_number(space.high)}]"


def _number(value: Value | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _rounded(number: float, direction: object) -> float:
    """Round to two significant digits, up or down."""
    if number == 0:
        return 0.0
    scale = 10.0 ** (math.floor(math.log10(abs(number))) - 1)
    return float(f"{direction(number / scale) * scale:.6g}")  # type: ignore[operator]
