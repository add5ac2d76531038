"""The early-stopping rules: which report of a trial must reach which objective value.

A trial's thresholds are fixed when it is proposed, as Katib fixes its rules when it creates a
trial. A threshold (n, value) stops the trial at its n-th report if the best objective so far is
worse than value. What the trial reports afterwards does not count, so its outcome depends on its
own curve and never on how fast it was stopped. A stopped trial keeps its observation, and samplers
receive it.

Both engines use these rules. On this machine, the scheduler stops the trial. On a cluster, the
suggestion service sends the thresholds as a label, which the trial reads from an environment
variable, and the trial stops itself (docs/how-to/early-stopping.md):

    4gt0.52_8gt0.31     minimise: stop at report 4 if the best value so far is greater than 0.52, ...
    4lt0.71             maximise: stop at report 4 if the best value so far is less than 0.71

A label holds 63 characters. So a threshold has six significant digits, or as few as three if the
text is too long, and is rounded in the trial's favour. If it is still too long, the thresholds of
the last reports are left out. Local runs use the same rounded thresholds.
"""

from __future__ import annotations

import decimal
import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tuner.errors import UnsupportedError
from tuner.experiment.annotations import Factors, stop_factors
from tuner.experiment.model import AlgorithmSpec, Experiment
from tuner.result import Goal, Objective
from tuner.samplers.labels import FACTORS_SETTING, MEDIAN_SETTING
from tuner.samplers.transform import clipped

# (number of the report, from 1; the objective that must be reached by then)
Cut = tuple[int, float]
STOP_VARIABLE = "GAN_TUNER_STOP_AT"  # the environment variable that holds the label's value
STOPPED_METRIC = "stopped"  # 1 if the trial has stopped itself
LONGEST_LABEL = 63  # characters of a label's value
DIGITS = (6, 5, 4, 3)  # significant digits of a threshold, the first that fits into the label


@dataclass(frozen=True, slots=True)
class Rules:
    """What stops trials of one Experiment.

    Attributes:
        start_step: medianstop's first report, None without medianstop.
        min_trials: The number of earlier trials that a threshold is computed from, at least.
        eta: Hyperband's eta, None without hyperband.
        resource: Hyperband's r_l.
        factors: The Experiment's stop factors (tuner.experiment.annotations).
    """

    objective: Objective
    start_step: int | None = None
    min_trials: int = 3
    eta: int | None = None
    resource: int = 0
    factors: Factors = ()

    def cuts(
        self,
        number: int,
        curves: Sequence[tuple[float, ...]],
        finished: Sequence[tuple[float, ...]],
    ) -> list[Cut]:
        """Return the thresholds of trial `number`, rounded so that they fit into a label.

        Args:
            number: The number of the trial.
            curves: The curves of the earlier trials that count.
            finished: Those of them that were not stopped.
        """
        cuts = [
            (step, factor * best)
            for step, factor in self.factors
            if len(reached := [min(curve[:step]) for curve in curves if len(curve) >= step])
            >= self.min_trials
            and (best := min(reached)) > 0
        ]
        if self.eta is not None:
            cuts += self._rungs(number, curves, finished)
        if self.start_step is not None and len(finished) >= self.min_trials:
            means = [statistics.fmean(curve[: self.start_step]) for curve in finished if curve]
            if means:
                cuts.append((self.start_step, statistics.median(means)))
        return self._fitted([cut for cut in cuts if math.isfinite(cut[1])])

    def _rungs(
        self,
        number: int,
        curves: Sequence[tuple[float, ...]],
        finished: Sequence[tuple[float, ...]],
    ) -> list[Cut]:
        """Asynchronous successive halving (arXiv 1810.05934) in Hyperband's brackets (arXiv 1603.06560).

        Trial `number` belongs to bracket s = number mod (s_max + 1): its rungs lie at resource r_l
        * eta^-s, ..., and at each it must be among the best 1/eta of the told trials that came so
        far, itself included.
        """
        assert self.eta is not None  # noqa: S101
        length = max((len(curve) for curve in finished), default=0)
        most = brackets(self.resource, self.eta) - 1
        bracket = most - number % (most + 1)
        cuts: list[Cut] = []
        for rung in range(bracket):
            step = math.ceil(length * float(self.eta) ** (rung - bracket))
            if step >= length or (cuts and cuts[-1][0] == step):
                continue
            reached = sorted(
                (self._best(curve[:step]) for curve in curves if len(curve) >= step),
                reverse=self._maximize,
            )
            keep = (len(reached) + 1) // self.eta
            if keep:
                cuts.append((step, reached[keep - 1]))
        return cuts

    @property
    def _maximize(self) -> bool:
        return self.objective.goal_type is Goal.MAXIMIZE

    def _best(self, curve: Sequence[float]) -> float:
        return max(curve) if self._maximize else min(curve)

    def _fitted(self, cuts: Sequence[Cut]) -> list[Cut]:
        for count in range(len(cuts), 0, -1):
            for digits in DIGITS:
                rounded = [(step, self._rounded(value, digits)) for step, value in cuts[:count]]
                if len(self.label(rounded)) <= LONGEST_LABEL:
                    return rounded
        return []

    def _rounded(self, value: float, digits: int) -> float:
        """Return the threshold with so many significant digits; never stricter than it is."""
        mode = decimal.ROUND_FLOOR if self._maximize else decimal.ROUND_CEILING
        return float(decimal.Context(digits, mode).create_decimal(repr(value)))

    def label(self, cuts: Sequence[Cut]) -> str:
        """Return the thresholds as the value of a label, "" for none."""
        relation = "lt" if self._maximize else "gt"
        return "_".join(
            f"{step}{relation}{value:.{DIGITS[0]}g}".replace("+", "") for step, value in cuts
        )

    def stop_at(self, cuts: Sequence[Cut], curve: Sequence[float]) -> int | None:
        """Return how many reports of `curve` count if a threshold stops it, None if none does."""
        thresholds = dict(cuts)
        best = curve[0] if curve else math.nan
        for length, value in enumerate(curve, start=1):
            best = self._best((best, value))
            if length in thresholds and self.objective.better(thresholds[length], best):
                return length
        return None


def brackets(resource: int, eta: int) -> int:
    """Return how many brackets Hyperband has: floor(log_eta(resource)) + 1, by integers."""
    count, reach = 1, eta
    while reach <= resource:
        count, reach = count + 1, reach * eta
    return count


def rules(experiment: Experiment) -> Rules | None:
    """Return the rules of an Experiment, None if it stops no trial.

    Raises UnsupportedError for an early stopping that is not available.
    """
    objective, settings = experiment.objective, experiment.algorithm.settings
    factors, early = experiment.stop_factors, experiment.early_stopping
    if not factors and (text := settings.get(FACTORS_SETTING)):
        factors = stop_factors(text)
    if early is None and (text := settings.get(MEDIAN_SETTING)):
        early = _medianstop(text)
    if experiment.algorithm.name == "hyperband":
        if early is not None or factors:
            raise UnsupportedError(
                "hyperband stops trials itself: leave earlyStopping and stop factors out"
            )
        eta, resource = int(settings.get("eta", 3)), int(float(settings.get("r_l", 0)))
        if eta < 2 or resource < 1:
            raise UnsupportedError(
                f"hyperband needs eta >= 2 and r_l >= 1, got eta={eta}, r_l={resource}"
            )
        return Rules(objective, eta=eta, resource=resource)
    if factors:
        if early is not None:
            raise UnsupportedError(
                "stop factors and earlyStopping cannot both stop trials: remove one"
            )
        if objective.goal_type is Goal.MAXIMIZE:
            raise UnsupportedError(
                "stop factors are for an objective that is minimised: use earlyStopping"
            )
        return Rules(objective, factors=factors)
    if early is None:
        return None
    if early.name != "medianstop":
        raise UnsupportedError(
            f"early stopping {early.name} does not run locally; this does: medianstop"
        )
    return Rules(objective, _count(early, "start_step", 4), _count(early, "min_trials_required", 3))


def medianstop_text(early: AlgorithmSpec) -> str:
    """Return medianstop with its settings as the algorithm setting of our suggestion service."""
    return json.dumps(dict(early.settings))


def _medianstop(text: str) -> AlgorithmSpec:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UnsupportedError('medianstop must be a JSON object, such as {"start_step": "4"}')
    return AlgorithmSpec("medianstop", {name: str(value) for name, value in found.items()})


def _count(early: AlgorithmSpec, name: str, default: int) -> int:
    """Return a setting of medianstop. Raises UnsupportedError for another setting, or no count."""
    for setting in early.settings:
        if setting not in ("start_step", "min_trials_required"):
            raise UnsupportedError(
                f"setting {setting} of medianstop is not available locally: leave it out"
            )
    text = early.settings.get(name, str(default))
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise UnsupportedError(
            f"{name} of medianstop must be a whole number above 0, got {clipped(text)}"
        )
    return int(text)
