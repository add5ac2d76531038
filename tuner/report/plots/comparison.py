"""What is drawn from several studies: their histories and expectations overlaid, and importances next to each other."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.analysis.expected import MIN_TRIALS, expected_best
from tuner.analysis.view import View
from tuner.report.figure import PALETTE, axis, band, figure, line, rounded
from tuner.report.plots import history
from tuner.report.plots import importances as single
from tuner.report.plots.drawn import Drawn
from tuner.report.verdict import label


def same_objective(studies: Sequence[View]) -> list[View]:
    """Return the scored studies that share the first one's metric and direction: only these can be overlaid."""
    able = [study for study in studies if study.scored]
    first = able[0].result.objective if able else None
    return [
        s
        for s in able
        if first and (s.metric, s.result.objective.goal_type) == (first.metric, first.goal_type)
    ]


def histories(studies: Sequence[View]) -> Drawn:
    """Draw the best so far of each study."""
    held = same_objective(studies)
    if not held:
        return Drawn("No study has a scored trial yet.")
    traces, values = [], []
    for index, study in enumerate(held):
        steps = history.best_so_far(study)
        values += [value for _, value in steps]
        numbers, best = [number for number, _ in steps], rounded(value for _, value in steps)
        traces.append(
            line(numbers, best, label(study), PALETTE[index % len(PALETTE)], line={"shape": "hv"})
        )
    drawn = figure(
        traces,
        axis("trial"),
        axis(f"best {held[0].metric} so far", values),
        height=380,
        showlegend=True,
    )
    return Drawn(
        f"The best {held[0].metric} so far of each study.{_others(studies, held)}", (drawn,)
    )


def expectations(studies: Sequence[View]) -> Drawn:
    """Draw the expected best of each study."""
    held = [study for study in same_objective(studies) if len(study.scored) >= MIN_TRIALS]
    if not held:
        return Drawn(f"No study has the {MIN_TRIALS} scored trials that this curve needs.")
    traces, values = [], []
    for index, study in enumerate(held):
        colour = PALETTE[index % len(PALETTE)]
        goal = study.result.objective.goal_type
        counts, (mean, low, high) = expected_best([value for _, value in study.scored], goal)
        values += list(low)
        area = band(counts, rounded(low), rounded(high), label(study), colour) | {
            "showlegend": False
        }
        traces += [area, line(counts, rounded(mean), label(study), colour)]
    drawn = figure(
        traces, axis("number of trials"), axis(f"best {held[0].metric}", values), height=380
    )
    return Drawn(
        f"What a search of so many trials reaches on average: searches whose bands overlap cannot "
        f"be told apart.{_others(studies, held)}",
        (drawn,),
    )


def importances(studies: Sequence[View]) -> Drawn:
    """Draw the shares of all parameters, a group of bars for each parameter."""
    held = [study for study in same_objective(studies) if study.effects]
    if not held:
        return Drawn("No study has enough trials, and a trend, for importances.")
    names = list(dict.fromkeys(name for study in held for name in study.effects))[::-1]
    traces = [
        single.bar(
            [n for n in names if n in study.effects],
            study.effects,
            label(study),
            PALETTE[i % len(PALETTE)],
        )
        for i, study in reversed(list(enumerate(held)))  # plotly draws bars from the bottom
    ]
    height = 100 + (14 + 18 * len(held)) * len(names)
    x = axis("share of the total effect", range=[0, 1.04])
    drawn = figure(
        traces, x, axis("", ticksuffix=" "), height=height, barmode="group", showlegend=True
    )
    drawn["layout"]["legend"] |= {"traceorder": "reversed"}
    return Drawn(
        f"How much each parameter matters in each study.{_others(studies, held)}", (drawn,)
    )


def _others(studies: Sequence[View], held: Sequence[View]) -> str:
    left = [label(study) for study in studies if study not in held]
    return f" Not comparable or too few trials: {', '.join(left)}." if left else ""
