"""What a search found, in one line: the score, whether to believe it, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from tuner.analysis.advice import shown
from tuner.analysis.view import View
from tuner.commands import gantune
from tuner.errors import CommandError
from tuner.katib.containers import primary_container
from tuner.result import Goal, StudyState

REPEATS = 1_000  # bootstrap samples of a comparison without a known seed noise
SURE = 0.9  # share of them in which one search must be better


class Tone(StrEnum):
    """How a badge is coloured."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best trial's score, and how it compares with the baseline.

    Attributes:
        score: The objective of the best trial; "" without one.
        direction: Which values of the metric are better.
        badge: The change against the baseline, and what is known about it.
        tone: The colour of the badge.
        next: The command to run next.
    """

    score: str
    metric: str
    direction: str
    badge: str
    tone: Tone
    next: str


def verdict(study: View) -> Verdict:
    """Return the verdict about one study."""
    result, metric = study.result, study.metric
    lower = result.objective.goal_type is Goal.MINIMIZE
    direction = "lower is better" if lower else "higher is better"
    best = result.best
    if best is None:
        running = result.state is StudyState.RUNNING
        badge, tone = (
            ("no trial has finished yet", Tone.PLAIN)
            if running
            else ("no trial succeeded", Tone.BAD)
        )
        then = str(gantune("watch" if running else "status", result.name))
        return Verdict("", metric, direction, badge, tone, then)
    badge, tone = _gained(study)
    then = str(gantune("confirm", result.name)) if tone is not Tone.BAD else _next(study)
    return Verdict(f"{best.metrics[metric]:.4g}", metric, direction, badge, tone, then)


def _gained(study: View) -> tuple[str, Tone]:
    result, noise = study.result, study.result.objective.seed_noise
    baseline, best = result.baseline_trial, result.best
    value = result.value(baseline) if baseline else None
    known = f"seed noise {percent(noise)}" if noise else "seed noise is not known"
    if baseline is None or best is None:
        return f"no baseline to compare with; {known}", Tone.PLAIN
    if value is None:
        state = "has no score" if baseline.state.finished else "has not finished"
        return f"the baseline, trial {baseline.number}, {state}", Tone.PLAIN
    if not result.objective.better(best.metrics[study.metric], value):
        return f"no trial is better than the baseline ({value:.4g})", Tone.BAD
    gain = result.gain
    if gain is None:
        return f"better than the baseline ({value:.4g}); {known}: not confirmed", Tone.WARN
    found = f"{percent(gain)} better than the baseline ({value:.4g})"
    if noise is None or gain <= noise:
        within = f"within {known}" if noise else known
        return f"{found}; {within}: not confirmed", Tone.WARN
    return f"{found}; {known}: not confirmed on new seeds", Tone.GOOD


def _next(study: View) -> str:
    return study.next_command or str(gantune("next", study.result.name))


def comparison(studies: Sequence[View]) -> tuple[str, Tone]:
    """Return one sentence about which study is better, and whether that is more than noise."""
    able = [study for study in studies if study.result.best is not None]
    if len(able) < 2:
        return "Fewer than two of the studies have a score, so they cannot be compared.", Tone.PLAIN
    if len({(s.metric, s.result.objective.goal_type) for s in able}) > 1:
        return "The studies have different objectives, so none is better.", Tone.PLAIN
    sign = 1 if able[0].result.objective.goal_type is Goal.MINIMIZE else -1
    order = sorted(able, key=lambda study: sign * _score(study))
    first, second = order[:2]
    a, b = _score(first), _score(second)
    scores = f"{first.metric} {a:.4g} against {b:.4g}"
    if a == b:
        return f"{label(first)} and {label(second)} are equally good: {scores}.", Tone.PLAIN
    share = abs(a - b) / abs(b) if b else None
    better = f"{label(first)} is better than {label(second)}: {scores}"
    better += f" ({percent(share)})" if share is not None else ""
    noises = [s.result.objective.seed_noise for s in (first, second)]
    noise = max((n for n in noises if n), default=None)
    if noise is not None and share is not None:
        if share <= noise:
            return f"{better}, but that is within the seed noise of {percent(noise)}.", Tone.WARN
        return f"{better}, which is more than the seed noise of {percent(noise)}.", Tone.GOOD
    won = _bootstrap(first, second)
    sure = f"in {won:.0%} of {REPEATS} bootstrap repetitions of both searches"
    if won < SURE:
        return f"{better}, but only {sure}: that may be chance.", Tone.WARN
    return f"{better}, {sure}; seed noise is not known.", Tone.GOOD


def _score(study: View) -> float:
    best = study.result.best
    assert best is not None  # noqa: S101 - callers choose studies with a best trial
    return best.metrics[study.metric]


def _bootstrap(first: View, second: View) -> float:
    """Return how often the first study's best of k resampled trials is at least as good.

    k is the number of scored trials of the smaller study, so that both get the same budget.
    """
    random = np.random.default_rng(0)
    sign = 1 if first.result.objective.goal_type is Goal.MINIMIZE else -1
    size = min(len(first.scored), len(second.scored))
    best = [
        random.choice([sign * v for _, v in study.scored], (REPEATS, size)).min(axis=1)
        for study in (first, second)
    ]
    return float(np.mean(best[0] < best[1]) + np.mean(best[0] == best[1]) / 2)


def label(study: View) -> str:
    """Return the name of a study; two engines may each have one with the same name."""
    return f"{study.result.name} ({study.engine})"


def percent(share: float) -> str:
    """Return `4 %`."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def differences(studies: Sequence[View]) -> list[tuple[str, tuple[str, ...]]]:
    """Return (setting, its value in each study) of the settings that are not the same in all."""
    settings = [_settings(study) for study in studies]
    names = dict.fromkeys(name for each in settings for name in each)
    rows = [(name, tuple(each.get(name, "") for each in settings)) for name in names]
    return [row for row in rows if len(set(row[1])) > 1]


def _settings(study: View) -> dict[str, str]:
    experiment = study.experiment
    algorithm, early = experiment.algorithm, experiment.early_stopping
    goal = experiment.objective.goal_type.value
    found = {
        "objective": f"{goal} {experiment.objective.metric}",
        "algorithm": " ".join(
            [algorithm.name, *(f"{k}={v}" for k, v in algorithm.settings.items())]
        ),
        "early stopping": early.name if early else "none",
        "max trials": str(experiment.max_trials or "no limit"),
        "parallel trials": str(experiment.parallel_trials),
        "seed": dict(study.record).get("seed", ""),
    }
    found |= {f"range of {p.name}": shown(p) for p in experiment.parameters}
    return found | {"command": _command(study)}


def _command(study: View) -> str:
    try:
        container = primary_container(
            study.experiment.template.spec, study.experiment.template.primary_container
        )
    except CommandError:
        return ""
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    return " ".join(map(str, words))
