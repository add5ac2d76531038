"""One page about one or more searches, as a single HTML file.

`page([view, ...])` returns the HTML. data.py and plots/ are pure functions of a View, html.py writes
the elements. assets/plotly.min.js is the cartesian bundle of plotly.js, which npm publishes as
plotly.js-cartesian-dist-min.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from tuner.analysis import gain
from tuner.analysis.advice import advice
from tuner.analysis.view import View
from tuner.gp import one_thread
from tuner.report import data, html
from tuner.report.plots import COMPARISONS, PLOTS
from tuner.report.plots.comparison import label
from tuner.result import Goal, StudyState, Trial, TrialState

__all__ = ["View", "content", "page"]

NO_SAMPLES = (
    "No trial wrote images. A trainer takes part by writing an image file samples.png or samples.jpg, and real.png for "
    "real images, into a directory that the trial mounts."
)


def page(studies: Sequence[View], *, now: datetime | None = None) -> str:
    """Return the self-contained HTML document of some studies."""
    title, body = content(studies, now=now)
    return html.document(title, body, plots='class="plot"' in body)


def content(studies: Sequence[View], *, now: datetime | None = None) -> tuple[str, str]:
    """Return the title of the page and the HTML of its content."""
    now = now or datetime.now(UTC)
    with one_thread():
        if len(studies) == 1:
            return _title(studies[0]), _single(studies[0], now)
        title = ", ".join(study.result.name for study in studies)
        return title, _several(title, studies, now)


def _title(study: View) -> str:
    verb = "minimise" if study.result.objective.goal_type is Goal.MINIMIZE else "maximise"
    return f"{study.result.name}: {verb} {study.metric}"


def _single(study: View, now: datetime) -> str:
    sections = _sections(study, "")
    links = html.navigation((name, title) for name, title, _ in sections)
    parts = [
        html.heading(_title(study), f"{_state(study)} {_written(now)}"),
        links,
        _summary(study),
    ]
    return "\n".join([*parts, *(html.section(*section) for section in sections)])


def _several(title: str, studies: Sequence[View], now: datetime) -> str:
    table = html.section("best", "Best of each", html.bests(map(_best_row, studies)))
    parts = [html.heading(title, _written(now)), table]
    for index, comparison in enumerate(COMPARISONS):
        parts.append(
            html.section(
                f"compare{index}", comparison.heading, html.drawn(comparison.draw(studies))
            )
        )
    for index, study in enumerate(studies):
        sections = "\n".join(html.section(*section) for section in _sections(study, f"s{index}-"))
        content = f"{html.note(_state(study))}\n{_summary(study)}\n{sections}"
        parts.append(
            html.folded(
                f"{label(study)}: {_title(study).partition(': ')[2]}", content, opened=False
            )
        )
    return "\n".join(parts)


def _best_row(study: View) -> tuple[str, ...]:
    best, result = study.result.best, study.result
    value = f"{best.metrics[study.metric]:.6g}" if best else ""
    where = data.assignments(best) if best else "no best trial yet"
    scored = f"{len(study.scored)} of {len(result.trials)}"
    return label(study), result.state.value, study.metric, value, where, scored


def _summary(study: View) -> str:
    best = study.result.best
    text, command = "no best trial yet", ""
    if best is not None:
        text, command = (
            f"trial {best.number} ({best.name}): {data.assignments(best)}",
            study.commands.get(best.number, ""),
        )
    gained = "".join(map(html.note, gain.sentences(study.result)))
    return f"{_progress(study)}{html.facts(_facts(study))}\n{html.best(text, command)}{gained}"


def _progress(study: View) -> str:
    """How far a running search is, and its running trials."""
    if study.result.state is not StudyState.RUNNING:
        return ""
    finished = sum(trial.state.finished for trial in study.result.trials)
    left = data.left(study.result, study.experiment.max_trials)
    estimate = f", about {data.duration(left)} left" if left is not None else ""
    running = [trial for trial in study.result.trials if trial.state is TrialState.RUNNING]
    lines = [f"trial {t.number}: {data.assignments(t)}{_latest(study, t)}" for t in running]
    total = study.experiment.max_trials
    words = (
        f"{finished} of {total} trials finished{estimate}"
        if total
        else f"{finished} trials finished"
    )
    return html.progress(words, finished, total) + (
        html.items(lines) if lines else html.note("No trial runs now.")
    )


def _latest(study: View, trial: Trial) -> str:
    since = f", since {trial.started:%H:%M:%S} UTC" if trial.started else ""
    curve = study.curve(trial, study.metric)
    waits = f", {trial.reason}" if trial.reason else ""
    return f"{since}{f', {study.metric} {curve[-1]:.4g} after {len(curve)} reports' if curve else ''}{waits}"


def _facts(study: View) -> list[tuple[str, str]]:
    result = study.result
    cards = [("trials", str(len(result.trials))), ("scored", str(len(study.scored)))]
    cards += (
        [(f"best {study.metric}", f"{result.best.metrics[study.metric]:.6g}")]
        if result.best
        else []
    )
    cards += [("algorithm", study.experiment.algorithm.name), ("seed", _seed(study))]
    took = data.seconds(result)
    return cards + ([("duration", data.duration(took))] if took is not None else [])


def _seed(study: View) -> str:
    return dict(study.record).get("seed") or study.experiment.algorithm.settings.get(
        "random_state", "none"
    )


def _sections(study: View, prefix: str) -> list[tuple[str, str, str]]:
    """(id, heading, HTML) of all that the page shows of one study."""
    found = [
        (f"{prefix}samples", "Samples", _samples(study)),
        (f"{prefix}next", "What next", _next(study)),
    ]
    found += [
        (f"{prefix}plot{index}", plot.heading, html.drawn(plot.draw(study)))
        for index, plot in enumerate(PLOTS)
    ]
    if groups := data.failures(study.result):
        found.append((f"{prefix}failures", "Failed and diverged trials", html.failures(groups)))
    table = data.table(study.result)
    commands = [study.commands.get(number, "") for number in table.numbers]
    found.append((f"{prefix}trials", "Trials", html.trials(table, commands)))
    manifest = study.source or json.dumps(dict(study.experiment.document), indent=2, default=str)
    found.append((f"{prefix}record", "Record", html.record(study.record, manifest)))
    return found


def _samples(study: View) -> str:
    """The images of the trials, best first, after the real ones."""
    if not study.samples:
        return html.note(study.samples_note or NO_SAMPLES)
    best = study.result.best
    items = [html.Sample(study.real, "real images", "held out from training")] if study.real else []
    items += [
        html.Sample(
            study.samples[t.number], f"trial {t.number}", data.scores(t, study.metric), best is t
        )
        for t, _ in data.ranked(study)
        if t.number in study.samples
    ]
    ranked = {trial.number for trial, _ in study.scored}
    items += [
        html.Sample(
            study.samples[t.number],
            f"trial {t.number} ({t.state.value})",
            data.scores(t, study.metric),
        )
        for t in study.result.trials
        if t.number in study.samples and t.number not in ranked
    ]
    left = len(ranked - set(study.samples))
    some = (
        f" The best and a sample of the others are shown; {left} trials are not."
        if left > 0
        else ""
    )
    note = f" {study.samples_note}" if study.samples_note else ""
    return html.note(
        f"What the trials drew, best {study.metric} first.{some}{note}"
    ) + html.samples(items)


def _next(study: View) -> str:
    """What the next search should change, as `gantune next` writes it into a manifest."""
    changes = [str(change) for change in advice(study.result, study.experiment)]
    if not changes:
        return html.note(
            "Nothing can be recommended: there are too few trials, or they show no trend."
        )
    return html.items(changes) + html.command(
        "This command writes the manifest of that search:",
        study.next_command or f"gantune next {study.result.name}",
    )


def _state(study: View) -> str:
    states = (
        ", ".join(f"{count} {state}" for state, count in data.counts(study.result).items())
        or "no trials"
    )
    reason = f" ({study.result.reason})" if study.result.reason else ""
    return f"{study.result.state.value}{reason}; {states}."


def _written(now: datetime) -> str:
    return (
        f"Written {now:%Y-%m-%d %H:%M} UTC by gan-tuner {version('gan-tuner')}, "
        f"Optuna {version('optuna')}, plotly.js {html.plotly_version()}."
    )
