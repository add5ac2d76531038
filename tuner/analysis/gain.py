"""What a search gained over its baseline and what that cost, in sentences for people. Pure: a Result in, texts out.

The baseline is the first trial that the Experiment names (tuner.samplers.first).
"""

from __future__ import annotations

from tuner.commands import gantune
from tuner.result import Goal, Result

# a best trial that costs up to this many times as much as the baseline is not called more expensive
NEAR = 1.25


def sentences(result: Result) -> list[str]:
    """Return all that is known about the gain: over the baseline, over the second-best trial, and what it cost."""
    return [
        text
        for text in (sentence(result), runner_up_sentence(result), cost_sentence(result))
        if text
    ]


def sentence(result: Result) -> str:
    """Return what the search gained, such as `fd 3.32, 11 % better than the baseline 3.71`; "" without a baseline."""
    best, baseline, metric = result.best, result.baseline_trial, result.objective.metric
    if baseline is None or best is None:
        return ""
    if not baseline.state.finished:
        return f"the baseline, trial {baseline.number}, has not finished"
    value, least = best.metrics[metric], result.value(baseline)
    if least is None:
        return f"the baseline, trial {baseline.number}, gave no {metric}"
    if not result.objective.better(value, least):
        return (
            f"no trial is better than the baseline: {metric} {least:.3g} (trial {baseline.number})"
        )
    share = "" if result.gain is None else f"{_percent(result.gain)} "
    noise = result.objective.seed_noise
    known = f"seed noise is about {_percent(noise)}" if noise else "part of it may be seed noise"
    found = f"{metric} {value:.3g}, {share}better than the baseline {least:.3g}"
    return f"{found}; {known}: run `{gantune('confirm', result.name)}`"


def runner_up_sentence(result: Result) -> str:
    """Return that the second-best trial is within seed noise of the best; "" where it is not, or noise is unknown."""
    best, noise, metric = result.best, result.objective.seed_noise, result.objective.metric
    if best is None or noise is None:
        return ""
    others = [
        (value, trial)
        for trial in result.trials
        if (value := result.value(trial)) is not None and trial.parameters != best.parameters
    ]
    pick = min if result.objective.goal_type is Goal.MINIMIZE else max
    if not others:
        return ""
    value, second = pick(others, key=lambda pair: pair[0])
    if abs(value - best.metrics[metric]) > noise * min(abs(value), abs(best.metrics[metric])):
        return ""
    return f"the runner-up, trial {second.number} with {metric} {value:.3g}, is within seed noise ({_percent(noise)})"


def cost_sentence(result: Result) -> str:
    """Return how much longer the best trial took than the baseline; "" unless it did, and is known."""
    best, baseline = result.best, result.baseline_trial
    cost = result.cost(best) if best else None
    least = result.cost(baseline) if baseline else None
    if best is None or not cost or not least or cost <= NEAR * least:
        return ""
    return f"trial {best.number} trained {cost / least:.1f} times as long as the baseline"


def front_lines(result: Result) -> list[str]:
    """Return one line for each trial that no other trial beats in both objective and training time, cheapest first."""
    front = result.front()
    if len(front) < 2:  # then one trial is best in both
        return []
    metric = result.objective.metric
    return [
        f"{t.metrics[metric]:.3g} after {result.cost(t):.3g} s of training (trial {t.number})"
        for t in front
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
