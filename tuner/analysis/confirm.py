"""Is the winner real? The best trials of a search, trained again on new seeds.

`experiments` makes one Experiment for each of them: a grid over the seed, with all parameters
fixed. Any engine runs them. `confirm` says what their results mean. The best of many noisy trials
is partly lucky, so its value in the search is too good on average; the mean over new seeds is not.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuner import manifest
from tuner.errors import UnsupportedError
from tuner.experiment.annotations import STOP_ANNOTATION
from tuner.experiment.command import insert, refuse_code
from tuner.experiment.model import Experiment
from tuner.katib.containers import primary_container
from tuner.result import Goal, Objective, Result, Trial
from tuner.samplers.first import FIRST_ANNOTATION
from tuner.space import text

SEED = "seed"  # the parameter that the grid is over
CONFIDENCE = 0.05  # a difference exceeds seed noise if chance alone gives it less often than this
_IN_TEXT = re.compile(
    r"((?:^|(?<=[\s'\"]))-{0,2}[\w.-]*seed)(=|\s+)(['\"]?)(\d+)(?![\w.])", re.IGNORECASE
)
_FLAG = re.compile(r"-{1,2}[\w.-]*seed", re.IGNORECASE)
_VARIABLE = re.compile(r"(?:.*_)?SEED", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """One trial of the search, and what it gave on new seeds.

    Attributes:
        trial: The trial of the search.
        searched: Its objective in the search.
        values: Its objective on each new seed that finished.
        missing: How many seeds gave no objective.
    """

    trial: Trial
    searched: float
    values: tuple[float, ...]
    missing: int = 0

    @property
    def mean(self) -> float:
        """The mean over the new seeds; NaN without any."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation over the new seeds; NaN with fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The confirmed trials, best mean first, and the probability that chance alone separates the first two."""

    objective: Objective
    ranked: tuple[Confirmed, ...]
    chance: float  # NaN where it cannot be known

    @property
    def exceeds_noise(self) -> bool:
        """Whether the difference between the first two exceeds seed noise."""
        return self.chance < CONFIDENCE

    def sentences(self) -> list[str]:
        """Return what the figures mean."""
        metric, usable = self.objective.metric, [each for each in self.ranked if each.values]
        if not usable:
            return [f"no new seed gave a finite {metric}, so nothing is confirmed"]
        first = usable[0]
        found = [
            f"trial {first.trial.number} is best on new seeds: {metric} {first.mean:.4g}, {_count(first)}"
        ]
        if self.objective.better(first.searched, first.mean):
            found.append(
                f"its {first.searched:.4g} in the search was partly luck, as the best of many trials is"
            )
        if len(usable) > 1:
            second = usable[1]
            apart = f"trial {second.trial.number} is {abs(second.mean - first.mean):.3g} behind"
            if math.isnan(self.chance):
                found.append(
                    f"{apart}; one seed each does not show whether that is noise: use more --seeds"
                )
            elif self.exceeds_noise:
                found.append(
                    f"{apart}, which exceeds seed noise (p = {self.chance:.2g}, Welch's t-test)"
                )
            else:
                found.append(
                    f"{apart}, which is within seed noise (p = {self.chance:.2g}): prefer the cheaper one"
                )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return a documented shape (docs/how-to/next.md)."""
        rows = [
            {
                "rank": rank,
                "trial": each.trial.number,
                "parameters": dict(each.trial.parameters),
                "searched": each.searched,
                "values": list(each.values),
                "mean": None if math.isnan(each.mean) else each.mean,
                "spread": None if math.isnan(each.spread) else each.spread,
                "missing": each.missing,
            }
            for rank, each in enumerate(self.ranked, 1)
        ]
        chance = None if math.isnan(self.chance) else self.chance
        return {
            "metric": self.objective.metric,
            "ranked": rows,
            "p": chance,
            "exceeds_noise": self.exceeds_noise,
        }


def top(result: Result, count: int) -> list[Trial]:
    """Return the best trials with different parameters, best first."""
    sign = 1 if result.objective.goal_type is Goal.MINIMIZE else -1
    able = [
        (sign * value, trial)
        for trial in result.trials
        if (value := result.value(trial)) is not None
    ]
    found: list[Trial] = []
    for _, trial in sorted(able, key=lambda pair: pair[0]):
        if all(dict(trial.parameters) != dict(other.parameters) for other in found):
            found.append(trial)
    return found[:count]


def study_name(name: str, trial: Trial) -> str:
    """Return the name of the study that confirms a trial of study `name`."""
    return f"{name}-confirm-{trial.number}"


def experiments(
    experiment: Experiment, trials: Sequence[Trial], seeds: int, seed_flag: str = ""
) -> list[Experiment]:
    """Return one Experiment for each trial: a grid over new seeds, with the trial's parameters in the command.

    Args:
        experiment: The Experiment of the search.
        trials: Trials of it.
        seeds: How many new seeds.
        seed_flag: The program's flag for the seed, where the manifest does not set one.

    Raises:
        UnsupportedError: The manifest sets no seed, and `seed_flag` is empty.
        CommandError: In the command, a value of a trial could be code.
    """
    return [
        manifest.from_document(_document(experiment, trial, seeds, seed_flag)) for trial in trials
    ]


def confirm(result: Result, trials: Sequence[Trial], repeated: Sequence[Result]) -> Confirmation:
    """Return what the repeated trainings of `trials` show; one result for each trial."""
    found = []
    for trial, study in zip(trials, repeated, strict=True):
        values = [value for each in study.trials if (value := result.value(each)) is not None]
        missing = sum(each.state.finished for each in study.trials) - len(values)
        found.append(
            Confirmed(trial, trial.metrics[result.objective.metric], tuple(values), missing)
        )
    sign = 1 if result.objective.goal_type is Goal.MINIMIZE else -1
    found.sort(key=lambda each: (not each.values, sign * each.mean if each.values else 0))
    return Confirmation(result.objective, tuple(found), _chance(found))


def _chance(ranked: Sequence[Confirmed]) -> float:
    """Return the p-value of Welch's t-test between the first two; NaN where a spread is unknown or zero."""
    if len(ranked) < 2 or min(len(each.values) for each in ranked[:2]) < 2:
        return math.nan
    first, second = ranked[:2]
    if first.spread == second.spread == 0:
        return 0.0 if first.mean != second.mean else 1.0
    from scipy.stats import ttest_ind

    return float(ttest_ind(first.values, second.values, equal_var=False).pvalue)


def _document(experiment: Experiment, trial: Trial, seeds: int, seed_flag: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(experiment.document, default=str))
    metadata, spec = document["metadata"], document["spec"]
    document.pop("status", None)
    kept = {
        key: metadata[key] for key in ("namespace", "labels", "annotations") if metadata.get(key)
    }
    # each training runs to its end, as earlyStopping below
    for annotation in (FIRST_ANNOTATION, STOP_ANNOTATION):
        kept.get("annotations", {}).pop(annotation, None)
    document["metadata"] = {"name": study_name(experiment.name, trial), **kept}
    template = spec["trialTemplate"]
    chosen = {
        label: text(trial.parameters[name])
        for label, name in experiment.template.references.items()
        if name in trial.parameters
    }
    refuse_code(experiment.template, chosen)
    template["trialSpec"] = insert(template["trialSpec"], chosen)
    used = _place_seed(template, seed_flag)
    own = [
        reference for reference in template["trialParameters"] if reference["name"] not in chosen
    ]
    template["trialParameters"] = [*own, {"name": SEED, "reference": SEED}]
    new = [str(used + 1 + number) for number in range(seeds)]
    spec["parameters"] = [
        {"name": SEED, "parameterType": "discrete", "feasibleSpace": {"list": new}}
    ]
    spec["algorithm"] = {"algorithmName": "grid"}
    spec["objective"].pop("goal", None)  # it would end the grid early
    spec.pop("earlyStopping", None)
    spec |= {"maxTrialCount": seeds, "maxFailedTrialCount": seeds, "resumePolicy": "Never"}
    spec["parallelTrialCount"] = min(experiment.parallel_trials, seeds)
    return document


def _place_seed(template: dict[str, Any], seed_flag: str) -> int:
    """Put the seed's placeholder into the trial's container, and return the seed that was there; 0 for none."""
    placeholder = f"${{trialParameters.{SEED}}}"
    container: Any = primary_container(template["trialSpec"], template["primaryContainerName"])
    if seed_flag:
        key = "args" if container.get("args") or container.get("command") else "command"
        container.setdefault(key, [])
        used, container[key] = _without(container[key], seed_flag)
        container[key].append(f"{seed_flag}={placeholder}")
        return used
    for key in ("args", "command"):
        words = container.get(key) or []
        for index, word in enumerate(words):
            if (
                _FLAG.fullmatch(str(word))
                and index + 1 < len(words)
                and str(words[index + 1]).isdecimal()
            ):
                used, words[index + 1] = int(words[index + 1]), placeholder
                return used
            if found := _IN_TEXT.search(str(word)):
                words[index] = word[: found.start(4)] + placeholder + word[found.end(4) :]
                return int(found[4])
    for entry in container.get("env") or []:
        if _VARIABLE.fullmatch(str(entry.get("name"))) and str(entry.get("value", "")).isdecimal():
            used, entry["value"] = int(entry["value"]), placeholder
            return used
    raise UnsupportedError(
        "the manifest sets no seed that could vary: no flag like --seed=0 in the command, and no variable like SEED. "
        "Name the program's flag with --seed-flag=--seed"
    )


def _without(words: Sequence[str], flag: str) -> tuple[int, list[str]]:
    """Return a command line without a flag and its value, and that value as a seed."""
    kept, used, skip = [], 0, False
    for index, word in enumerate(words):
        if skip:
            skip = False
        elif word == flag:
            value = str(words[index + 1]) if index + 1 < len(words) else ""
            skip = bool(value) and not value.startswith("-")
            used = int(value) if value.isdecimal() else used
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
            used = int(value) if value.isdecimal() else used
        else:
            kept.append(word)
    return used, kept


def _count(confirmed: Confirmed) -> str:
    count = len(confirmed.values)
    noise = (
        ""
        if math.isnan(confirmed.spread)
        else f" with a standard deviation of {confirmed.spread:.2g}"
    )
    return f"mean of {count} seed{'s' if count != 1 else ''}{noise}"
