"""One page about one or more searches, as a single HTML file.

`page([view, ...])` returns the HTML. data.py and plots/ are pure functions of a View, html.py writes
the elements. assets/plotly.min.js is the cartesian bundle of plotly.js, which npm publishes as
plotly.js-cartesian-dist-min.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from tuner.analysis import gain
from tuner.analysis.advice import advice
from tuner.analysis.view import View
from tuner.commands import gantune
from tuner.gp import one_thread
from tuner.report import data, html, scale, verdict
from tuner.report.plots import COMPARISONS, PLOTS
from tuner.result import Goal, Result, StudyState, Trial, TrialState

__all__ = ["View", "content", "listing", "page"]

LEAD = 3  # trials whose images are on the first screen
ADVICE = (
    (
        re.compile("out of memory|OOM|memory", re.IGNORECASE),
        "Give each trial more memory, or narrow the parameters that decide how much it needs.",
    ),
    (
        re.compile("timeout|timed out|deadline|time limit", re.IGNORECASE),
        "Give each trial more time, or narrow the parameters that make it slow.",
    ),
    (
        re.compile("metric|objective", re.IGNORECASE),
        "Check that the program prints the objective as the metrics collector expects it.",
    ),
)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its id, heading and HTML; `missing` says why it is left out."""

    name: str
    heading: str
    content: str = ""
    missing: str = ""
    wide: bool = True


def page(studies: Sequence[View], *, now: datetime | None = None) -> str:
    """Return the self-contained HTML document of some studies."""
    title, body = content(studies, now=now)
    return html.document(title, body, plots='class="plot"' in body)


def content(studies: Sequence[View], *, now: datetime | None = None) -> tuple[str, str]:
    """Return the title of the page and the HTML of its content."""
    now = now or datetime.now(UTC)
    with one_thread():
        if len(studies) == 1:
            head = html.heading(studies[0].result.name, _subtitle(studies[0], now))
            return _title(studies[0]), head + _study(studies[0], "")
        title = ", ".join(study.result.name for study in studies)
        return title, _several(title, studies, now)


def listing(results: Sequence[tuple[Result, str]]) -> tuple[str, str]:
    """Return the title and the HTML of the list of studies, each with the name of its engine."""
    rows = []
    for result, engine in results:
        best, metric = result.best, result.objective.metric
        finished = sum(trial.state.finished for trial in result.trials)
        score = f"{metric} {best.metrics[metric]:.4g}" if best else ""
        cells = result.state.value, f"{finished} of {len(result.trials)}", score
        where = data.assignments(best) if best else ""
        rows.append((f"{engine}/{result.name}", (result.name, engine, *cells, where)))
    headings = "study", "engine", "state", "finished", "best", "parameters"
    found = html.linked(headings, rows) if rows else html.note("There are no studies yet.")
    return "Studies", html.heading("Studies", f"{len(rows)} in this store") + found


def _title(study: View) -> str:
    verb = "minimise" if study.result.objective.goal_type is Goal.MINIMIZE else "maximise"
    return f"{study.result.name}: {verb} {study.metric}"


def _subtitle(study: View, now: datetime) -> str:
    return f"{_title(study).partition(': ')[2]}. {_state(study)} {_written(now)}"


def _study(study: View, prefix: str) -> str:
    """Return the HTML of one study: the verdict first, then everything that explains it."""
    sections = _sections(study, prefix)
    shown = [section for section in sections if section.content]
    missing = [f"{each.heading}: {each.missing}" for each in sections if each.missing]
    parts = [
        _failures(study),
        _verdict(study),
        html.facts(_facts(study)),
        _progress(study),
        html.navigation((section.name, section.heading) for section in shown),
        html.grid(
            html.section(each.name, each.heading, each.content, wide=each.wide) for each in shown
        ),
        html.missing(missing),
    ]
    return html.study("\n".join(filter(None, parts)))


def _several(title: str, studies: Sequence[View], now: datetime) -> str:
    sentence, tone = verdict.comparison(studies)
    names = [verdict.label(study) for study in studies]
    sections = [
        Section("best", "Best of each", html.bests(map(_best_row, studies))),
        Section("differences", "What differs", _differences(names, studies)),
    ]
    for index, comparison in enumerate(COMPARISONS):
        drawn = comparison.draw(studies)
        content = html.drawn(drawn) if drawn.figures else ""
        sections.append(
            Section(f"compare{index}", comparison.heading, content, wide=not drawn.figures)
        )
    shown = (
        html.section(each.name, each.heading, each.content, wide=each.wide)
        for each in sections
        if each.content
    )
    folded = "\n".join(
        html.folded(
            f"{name}: {_title(study).partition(': ')[2]}",
            _state(study),
            _study(study, f"s{index}-"),
        )
        for index, (name, study) in enumerate(zip(names, studies, strict=True))
    )
    head = html.heading(title, _written(now))
    return "\n".join([head, html.banner(sentence, tone), html.grid(shown), folded])


def _differences(names: Sequence[str], studies: Sequence[View]) -> str:
    rows = verdict.differences(studies)
    if not rows:
        return html.note("The manifests have the same settings.")
    return html.table(["setting", *names], [(name, *values) for name, values in rows])


def _best_row(study: View) -> tuple[str, ...]:
    best, result = study.result.best, study.result
    value = f"{best.metrics[study.metric]:.6g}" if best else ""
    where = data.assignments(best) if best else "no best trial yet"
    scored = f"{len(study.scored)} of {len(result.trials)}"
    took = data.seconds(result)
    gained = "" if result.gain is None else verdict.percent(result.gain)
    return (
        verdict.label(study),
        result.state.value,
        study.metric,
        value,
        gained,
        where,
        scored,
        data.duration(took) if took is not None else "",
    )


def _verdict(study: View) -> str:
    found, best = verdict.verdict(study), study.result.best
    others = [text for text in gain.sentences(study.result)[1:] if text] if best else []
    return html.verdict(
        found,
        trial=f"trial {best.number}" if best else "",
        chips=[(name, data.text(value)) for name, value in best.parameters.items()] if best else [],
        command=study.commands.get(best.number, "") if best else "",
        notes=others,
    )


def _failures(study: View) -> str:
    """Return the banner about failed trials: red if none succeeded, amber otherwise."""
    groups = data.failures(study.result)
    if not groups:
        return ""
    failed = sum(len(group.numbers) for group in groups)
    tone = verdict.Tone.WARN if study.scored else verdict.Tone.BAD
    title = f"{failed} of {len(study.result.trials)} trials failed or diverged"
    rows = []
    for group in groups:
        logs = str(gantune("logs", study.result.name, "--trial", group.numbers[0]))
        advice = next((text for pattern, text in ADVICE if pattern.search(group.reason)), "")
        rows.append(html.Reason(group, advice, logs))
    return html.failures(title, rows, failed, tone)


def _progress(study: View) -> str:
    """Return how far a running search is, and what runs and waits now."""
    if study.result.state is not StudyState.RUNNING:
        return ""
    finished = sum(trial.state.finished for trial in study.result.trials)
    left = data.left(study.result, study.experiment.max_trials)
    estimate = f", about {data.duration(left)} left" if left is not None else ""
    running = [
        trial
        for trial in study.result.trials
        if trial.state is TrialState.RUNNING and not trial.reason
    ]
    lines = [f"trial {t.number} runs: {data.assignments(t)}{_latest(study, t)}" for t in running]
    for reason, numbers in data.waiting(study.result).items():
        who = ", ".join(map(str, numbers[:6])) + (" and more" if len(numbers) > 6 else "")
        lines.append(f"trial {who} waits: {reason}")
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
    last = f", {study.metric} {curve[-1]:.4g} after {len(curve)} reports" if curve else ""
    return f"{since}{last}"


def _facts(study: View) -> list[tuple[str, str]]:
    result, took = study.result, data.seconds(study.result)
    failed = sum(len(group.numbers) for group in data.failures(result))
    return [
        ("trials", str(len(result.trials))),
        ("failed", str(failed)),
        *([("duration", data.duration(took))] if took is not None else []),
        ("algorithm", study.experiment.algorithm.name),
        ("seed", _seed(study)),
    ]


def _seed(study: View) -> str:
    return dict(study.record).get("seed") or study.experiment.algorithm.settings.get(
        "random_state", "none"
    )


def _sections(study: View, prefix: str) -> list[Section]:
    """Return all sections of one study; those without content say why."""
    found = [_samples(study, f"{prefix}samples")]
    for index, plot in enumerate(PLOTS):
        drawn = plot.draw(study)
        held = (
            {"content": html.drawn(drawn, switch=index == 0 and _can_switch(study))}
            if drawn.figures
            else {"missing": drawn.text}
        )
        found.append(Section(f"{prefix}plot{index}", plot.heading, wide=plot.wide, **held))
    found.insert(3, _next(study, f"{prefix}next"))
    table = data.table(study)
    rows = html.trials(f"{prefix}table", table, study.commands, study.result.name)
    manifest = study.source or json.dumps(dict(study.experiment.document), indent=2, default=str)
    found.append(
        Section(
            f"{prefix}trials",
            "Trials",
            rows if table.rows else "",
            missing="" if table.rows else "there are none yet.",
        )
    )
    found.append(Section(f"{prefix}record", "Record", html.record(study.record, manifest)))
    return found


def _can_switch(study: View) -> bool:
    return scale.scale(study).positive


def _samples(study: View, name: str) -> Section:
    """Return the images: real ones, the best trials' and the baseline's; then the others, folded."""
    if not study.samples:
        return Section(name, "Samples", missing=study.samples_note or "no trial wrote samples.png.")
    best, baseline = study.result.best, study.result.baseline_trial
    order = [trial for trial, _ in study.ranked]
    ranked = {trial.number for trial in order}
    order += [trial for trial in study.result.trials if trial.number not in ranked]
    order = [trial for trial in order if trial.number in study.samples]
    lead = [t for t in order[:LEAD] if t is not baseline]
    lead += [t for t in order if t is baseline]

    def image(trial: Trial) -> html.Sample:
        kind = "best" if trial is best else "baseline" if trial is baseline else trial.state.value
        plain = trial.number in ranked and trial is not best and trial is not baseline
        title = f"trial {trial.number}" + ("" if plain else f" ({kind})")
        scores = data.scores(trial, study.metric)
        return html.Sample(study.samples[trial.number], title, scores, trial is best, trial.number)

    first = [html.Sample(study.real, "real images", "held out from training")] if study.real else []
    rest = [image(trial) for trial in order if trial not in lead]
    left = len(ranked - set(study.samples))
    note = f"The best and a sample of the others: {left} trials are not shown. " if left else ""
    text = f"{note}{study.samples_note}".strip()
    content = html.samples([*first, *map(image, lead)])
    content += html.more(f"{len(rest)} more", html.samples(rest)) if rest else ""
    return Section(name, "Samples", content + (html.note(text) if text else ""))


def _next(study: View, name: str) -> Section:
    """Return what the next search should change, as `gantune next` writes it into a manifest."""
    changes = [str(change) for change in advice(study.result, study.experiment)]
    if not changes:
        missing = "there are too few trials, or they show no trend."
        return Section(name, "What to change in the next search", missing=missing)
    line = study.next_command or str(gantune("next", study.result.name))
    content = html.items(changes) + html.command("Write the manifest of that search:", line)
    return Section(name, "What to change in the next search", content)


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
