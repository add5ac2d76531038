"""Draws learning curves: the objective of each trial by report, with the early-stopping rule."""

from __future__ import annotations

from tuner.analysis.view import Cut, View, sample
from tuner.commands import gantune
from tuner.report.figure import AMBER, BLUE, GREEN, GREY, RED, axis, figure, line, rounded
from tuner.report.plots.drawn import Drawn
from tuner.result import Trial, TrialState

MOST = 100  # curves: the best half of them, a sample of the rest, and those of running trials
POINTS = 200  # of one curve
FEW = 12  # reports, up to which each has its tick


def draw(study: View) -> Drawn:
    """Draw the curves, the best trial's on top, and the thresholds below which a trial had to be."""
    chosen = choose(study)
    if not chosen:
        watch = (
            f" {gantune('watch', study.result.name)} collects those of a cluster."
            if study.engine == "katib"
            else ""
        )
        return Drawn(
            f"No trial has reported its {study.metric} more than once, or no reports were kept.{watch}"
        )
    with_curve = sum(len(study.curve(trial, study.metric)) > 1 for trial in study.result.trials)
    some = f" {len(chosen)} of {with_curve} are drawn." if len(chosen) < with_curve else ""
    best, values, traces = study.result.best, [], []
    for trial in chosen:
        curve = study.curve(trial, study.metric)
        values += curve
        name, colour, width = _look(trial, best)
        x = list(range(1, len(curve) + 1))
        step = max(1, len(curve) // POINTS)
        kept = sorted({*range(0, len(curve), step), len(curve) - 1})
        look = {
            "line": {"width": width},
            "opacity": 1.0 if width > 1.5 else 0.45,
            "hovertemplate": f"{name}<br>%{{y}}<extra></extra>",
            "meta": trial.number,
        }
        traces.append(
            line([x[i] for i in kept], rounded(curve[i] for i in kept), name, colour, **look)
        )
    rule = thresholds(study)
    if rule:
        look = {"color": RED, "symbol": "line-ew-open", "size": 11, "line": {"width": 2}}
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "early-stopping rule",
                "x": [step for step, _ in rule],
                "y": rounded(threshold for _, threshold in rule),
                "marker": look,
            }
        )
    text = (
        f"How {study.metric} changed during each trial: the best trial is green, trials that were "
        f"stopped early are amber, running ones blue.{some}"
    )
    if rule:
        text += " Red marks: a trial that is worse at this report is stopped."
    reports = axis("report")
    if max(len(trace["x"]) for trace in traces) <= FEW:
        reports["dtick"] = 1  # no ticks between reports
    drawn = figure(traces, reports, axis(study.metric, values), height=380, showlegend=False)
    return Drawn(text, (drawn,))


def choose(study: View) -> list[Trial]:
    """Return the trials whose curves are drawn, the best one last so that it is on top."""
    drawn = [
        (trial, value) for trial, value in study.ranked if len(study.curve(trial, study.metric)) > 1
    ]
    running = [
        trial
        for trial in study.result.trials
        if trial.state is TrialState.RUNNING and study.curve(trial, study.metric)
    ]
    return [*(trial for trial, _ in reversed(sample(drawn, MOST))), *running]


def thresholds(study: View, most: int = 60) -> list[Cut]:
    """Return the distinct (report, threshold) of the trials' early-stopping rules, the newest ones."""
    found = dict.fromkeys(cut for number in sorted(study.cuts) for cut in study.cuts[number])
    return list(found)[-most:]


def _look(trial: Trial, best: Trial | None) -> tuple[str, str, float]:
    name = f"trial {trial.number}"
    if best is not None and trial.number == best.number:
        return name, GREEN, 3.0
    if trial.state is TrialState.RUNNING:
        return name, BLUE, 2.0
    return name, AMBER if trial.state is TrialState.EARLY_STOPPED else GREY, 1.2
