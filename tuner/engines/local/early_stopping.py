"""Early stopping: a trial's cuts are fixed when it is asked, as Katib fixes its rules when it creates a trial.

A cut (n, threshold) stops the trial at its n-th or a later report if the best objective so far is
worse than threshold (the comparison of Katib's collector, main.go `updateStopRules`); a `once` rule
looks at the n-th report alone. What the trial prints after the report that stops it does not count,
so its outcome depends on its own curve and never on how fast it was stopped. Early-stopped trials
keep their observation, and are told to the sampler with it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.errors import UnsupportedError
from tuner.experiment.annotations import Factors
from tuner.experiment.model import Experiment
from tuner.result import Goal, Objective

# (number of the report, from 1; the objective that must be reached by then)
Cut = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Rules:
    """What stops trials of one Experiment. `eta` is None without hyperband, `start_step` None without medianstop.

    `factors` are the Experiment's stop factors (tuner.experiment.annotations).
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
        """Return the cuts of trial `number`, from all told curves or, for medianstop, those of succeeded trials."""
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
        return cuts

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

    def stop_at(self, cuts: Sequence[Cut], curve: Sequence[float]) -> int | None:
        """How many reports of `curve` count, where a cut stops it; None where none does.

        medianstop's cut holds from its step on, a rung at its step alone.
        """
        best = curve[0] if curve else math.nan
        for length, value in enumerate(curve, start=1):
            best = self._best((best, value))
            for step, threshold in cuts:
                due = length == step or (
                    self.start_step == step and length >= step and self.eta is None
                )
                if due and self.objective.better(threshold, best):
                    return length
        return None


def brackets(resource: int, eta: int) -> int:
    """How many brackets Hyperband has: floor(log_eta(resource)) + 1, by integers."""
    count, reach = 1, eta
    while reach <= resource:
        count, reach = count + 1, reach * eta
    return count


def rules(experiment: Experiment) -> Rules | None:
    """The rules of an Experiment, or None; UnsupportedError for an early stopping that this engine does not have."""
    start_step, min_trials, early = None, 3, experiment.early_stopping
    if early is not None:
        if early.name != "medianstop":
            raise UnsupportedError(
                f"early stopping {early.name} does not run locally; this does: medianstop"
            )
        _refuse_others(early.settings, ("start_step", "min_trials_required"), "medianstop")
        start_step = int(early.settings.get("start_step", 4))
        min_trials = int(early.settings.get("min_trials_required", 3))
    if experiment.algorithm.name == "hyperband":
        if early is not None or experiment.stop_factors:
            raise UnsupportedError(
                "hyperband stops trials itself: leave earlyStopping and stop factors out"
            )
        settings = experiment.algorithm.settings
        eta, resource = int(settings.get("eta", 3)), int(float(settings.get("r_l", 0)))
        if eta < 2 or resource < 1:
            raise UnsupportedError(
                f"hyperband needs eta >= 2 and r_l >= 1, got eta={eta}, r_l={resource}"
            )
        return Rules(experiment.objective, eta=eta, resource=resource)
    if experiment.stop_factors:
        if early is not None:
            raise UnsupportedError(
                "stop factors and earlyStopping cannot both stop trials: remove one"
            )
        if experiment.objective.goal_type is Goal.MAXIMIZE:
            raise UnsupportedError(
                "stop factors are for an objective that is minimised: use earlyStopping"
            )
        return Rules(experiment.objective, factors=experiment.stop_factors)
    return Rules(experiment.objective, start_step, min_trials) if start_step is not None else None


def _refuse_others(settings: Mapping[str, str], known: Sequence[str], name: str) -> None:
    for setting in settings:
        if setting not in known:
            raise UnsupportedError(
                f"setting {setting} of {name} is not available locally: leave it out"
            )
