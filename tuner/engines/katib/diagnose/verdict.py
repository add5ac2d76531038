"""Warnings about a result: what is doubtful in Katib's status, and which trials are left. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tuner.commands import gantune
from tuner.engines.katib import objects
from tuner.engines.katib.diagnose.fixes import fix
from tuner.result import Result, StudyState, TrialState


def warnings(item: Mapping[str, Any], result: Result) -> Iterator[str]:
    """Return all warnings, the most important first."""
    retain = bool((item.get("spec", {}).get("trialTemplate") or {}).get("retain"))
    yield from _failures(result, retain=retain)
    yield from _another_best(item, result)
    yield from _no_goal(item, result)
    yield from _left_running(result)


def _failures(result: Result, *, retain: bool) -> Iterator[str]:
    """Explain a failed search, of which Katib says only that maxFailedTrialCount was reached."""
    failed = [trial for trial in result.trials if trial.state is TrialState.FAILED]
    if result.state is StudyState.FAILED and failed:
        reason, count = Counter(trial.reason for trial in failed).most_common(1)[0]
        one = next(trial for trial in failed if trial.reason == reason)
        yield f"{count} of {len(result.trials)} trials failed: {reason}; {fix(reason, result.name, one, retain=retain)}"


def _another_best(item: Mapping[str, Any], result: Result) -> Iterator[str]:
    said = item.get("status", {}).get("currentOptimalTrial") or {}
    theirs, best, metric = str(said.get("bestTrialName", "")), result.best, result.objective.metric
    if not theirs or theirs == (best.name if best else ""):
        return
    other = next((trial for trial in result.trials if trial.name == theirs), None)
    if result.state is StudyState.RUNNING and other is not None and metric in other.metrics:
        return  # the Experiment was read before its trials, so it does not know the newest
    if best is None or other is None or other.metrics.get(metric) != best.metrics[metric]:
        ours = f"{best.name} ({metric}={best.metrics[metric]:g})" if best else "none"
        why = _because(item, result)
        yield f"Katib reports {theirs} as the best trial, but by the trials' metrics it is {ours}{why}"


def _because(item: Mapping[str, Any], result: Result) -> str:
    """Return why Katib has another best trial, as far as that can be known."""
    if any(trial.state is TrialState.METRICS_UNAVAILABLE for trial in result.trials):
        return ": a trial without a finite objective misleads Katib"
    status, best = item.get("status", {}), result.best
    listed = [
        *(status.get("succeededTrialList") or ()),
        *(status.get("earlyStoppedTrialList") or ()),
    ]
    return ", which is missing from Katib's status" if best and best.name not in listed else ""


def _no_goal(item: Mapping[str, Any], result: Result) -> Iterator[str]:
    reason, best = objects.conditions(item).get("Succeeded", {}).get("reason"), result.best
    metric = result.objective.metric
    if reason == "ExperimentGoalReached" and not (
        best and result.objective.reached(best.metrics[metric])
    ):
        yield f"Katib reports that the goal {result.objective.goal} was reached, but no trial's {metric} reached it"


def _left_running(result: Result) -> Iterator[str]:
    """Warn about running trials, which Katib does not stop when the goal is reached or the search fails."""
    running = sum(not trial.state.finished for trial in result.trials)
    # after a stop, Katib deletes them itself
    if running and result.state in (StudyState.SUCCEEDED, StudyState.FAILED):
        what = f"the search has finished, but {running} of its trials still run"
        yield f"{what}: stop them with `{gantune('stop', result.name)}`"
