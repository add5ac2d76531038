"""The page: one HTML file that needs no network. Everything that comes from a manifest or a trial is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from urllib.parse import quote

from tuner.report.data import Failure, Table
from tuner.report.plots import Drawn
from tuner.report.verdict import Verdict
from tuner.store.images import Thumbnail

# No request can leave the page, whatever a value says. Only the scripts with these hashes run;
# plotly writes styles.
POLICY = "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:"
FROM_SERVER = "; connect-src 'self'"  # a served page asks its server for newer content
SHOWN_ROWS = 50  # of the table of trials before a reader asks for more
SHOWN_GROUPS = 4  # reasons of failures that are not folded
FIRST_KINDS = ("trial", "state", "objective", "parameter", "seconds", "reason")  # shown columns
SHOWN_NUMBERS = 12  # of the trials that failed for one reason


@dataclass(frozen=True, slots=True)
class Sample:
    """An image that a trial wrote, or the real ones."""

    image: Thumbnail
    title: str
    caption: str
    best: bool = False
    number: int | None = None  # of the trial


@dataclass(frozen=True, slots=True)
class Reason:
    """A group of failed trials, with advice ("" without) and the command that shows a log."""

    group: Failure
    advice: str
    logs: str


def document(title: str, body: str, *, plots: bool, version: int | None = None) -> str:
    """Return the complete document.

    Args:
        title: Plain text.
        body: HTML.
        plots: Include plotly.js.
        version: The version of the content where a server has newer ones.
    """
    scripts = [*([_plotly()] if plots else []), asset("page.js")]
    policy = POLICY.format(scripts=" ".join(_hash(script) for script in scripts))
    policy += FROM_SERVER if version is not None else ""
    live = f' data-version="{version}"' if version is not None else ""
    loaded = "".join(f"<script>{script}</script>\n" for script in scripts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{asset("page.css")}</style>
</head>
<body{live}>
<main>
{body}
</main>
{loaded}</body>
</html>
"""


@cache
def asset(name: str) -> str:
    """Return a file of this package's assets."""
    return files("tuner.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """Return plotly.js: its cartesian bundle, which has all types of traces that the page uses."""
    return asset("plotly.min.js")


@cache
def plotly_version() -> str:
    """Return the version that the header of plotly.js states."""
    found = re.search(r"\bv([\d.]+)", _plotly()[:400])
    return found[1] if found else ""


@cache
def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def heading(title: str, subtitle: str) -> str:
    """Return the page's heading."""
    return f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(subtitle)}</p>'


def navigation(sections: Iterable[tuple[str, str]]) -> str:
    """Return the links to (id, heading) of each section."""
    links = "".join(f'<a href="#{escape(name)}">{escape(text)}</a>' for name, text in sections)
    return f'<nav aria-label="Sections">{links}</nav>'


def study(content: str) -> str:
    """Return one study: the plots, the table and the images inside share their selected trial."""
    return f'<div class="study">{content}</div>'


def facts(cards: Iterable[tuple[str, str]]) -> str:
    """Return (name, value) pairs as a strip."""
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in cards
    )
    return f'<dl class="facts">{shown}</dl>'


def verdict(
    found: Verdict,
    *,
    trial: str,
    chips: Iterable[tuple[str, str]],
    command: str,
    notes: Sequence[str],
) -> str:
    """Return the best score with its badge, its parameters, and what to do next."""
    held = "".join(f"<li><span>{escape(name)}</span> {escape(value)}</li>" for name, value in chips)
    score = (
        f'<p class="score"><b>{escape(found.score)}</b> <span>{escape(found.metric)}'
        f"<small>{escape(found.direction)}{f', {escape(trial)}' if trial else ''}</small></span></p>"
        if found.score
        else f'<p class="score"><span>{escape(found.metric)}<small>{escape(found.direction)}</small>'
        "</span></p>"
    )
    badge = f'<p class="badge {found.tone}">{escape(found.badge)}</p>' if found.badge else ""
    train = copy_button(command, "Copy the training command", "primary")
    said = "".join(note(text[:1].upper() + text[1:] + ".") for text in notes)
    then = f'<p class="then">Next: <code>{escape(found.next)}</code> {copy_button(found.next)}</p>'
    listed = (
        f'<ul class="chips" aria-label="Parameters of the best trial">{held}</ul>' if held else ""
    )
    return f'<section class="verdict">{score}{badge}{listed}<div class="tools">{train}</div>{said}{then}</section>'


def banner(text: str, tone: str) -> str:
    """Return a coloured sentence."""
    return f'<p class="badge wide {tone}">{escape(text)}</p>'


def grid(sections: Iterable[str]) -> str:
    """Return sections in two columns where the window is wide enough."""
    return f'<div class="grid">{"".join(sections)}</div>'


def missing(reasons: Sequence[str]) -> str:
    """Return one line about the sections that are left out; "" without one."""
    if not reasons:
        return ""
    count = f"{len(reasons)} section{'s' if len(reasons) > 1 else ''}"
    return (
        f'<details class="missing"><summary>{count} not shown, and why</summary>'
        f"{items(reasons)}</details>"
    )


def more(label: str, content: str) -> str:
    """Return content that a button unfolds."""
    return f'<details class="more"><summary>{escape(label)}</summary>{content}</details>'


def copy_button(command: str, label: str = "copy", look: str = "") -> str:
    """Return a button that copies a command line; nothing without one."""
    held = escape(command, quote=True)
    return (
        f'<button type="button" class="copy {look}" data-command="{held}" title="{held}">'
        f"{escape(label)}</button>"
        if command
        else ""
    )


def progress(text: str, value: int, total: int | None) -> str:
    """Return a progress bar with its text."""
    most = f' max="{total}" value="{min(value, total)}"' if total else ""
    return f'<p class="progress"><progress{most}></progress> {escape(text)}</p>'


def section(name: str, title: str, content: str, *, wide: bool = True) -> str:
    """Return a section; `content` is HTML."""
    look = ' class="wide"' if wide else ""
    return f'<section id="{escape(name)}"{look}><h2>{escape(title)}</h2>\n{content}</section>'


def note(text: str) -> str:
    """Return a sentence."""
    return f'<p class="soft">{escape(text)}</p>'


def command(text: str, line: str) -> str:
    """Return a sentence about a command line, with a button that copies the line."""
    return f'<p class="soft">{escape(text)} <code>{escape(line)}</code> {copy_button(line)}</p>'


def items(texts: Iterable[str]) -> str:
    """Return a list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def drawn(plot: Drawn, *, switch: bool = False) -> str:
    """Return a plot: its sentence, its figures, and how they are computed.

    Args:
        plot: The plot.
        switch: Offer to change the objective's scale in all plots of the study.
    """
    places = "".join(
        f'<div class="plot" role="figure" aria-label="{escape(plot.text)}" '
        f'style="min-height:{figure["layout"]["height"]}px">'
        f'<script type="application/json">{_data(figure)}</script></div>'
        for figure in plot.figures
    )
    button = (
        '<div class="tools"><button type="button" class="scale" aria-pressed="false">'
        "Other scale: linear or log</button></div>"
        if switch
        else ""
    )
    method = (
        f"<details><summary>How this is computed</summary>{note(plot.method)}</details>"
        if plot.method
        else ""
    )
    one = " one" if len(plot.figures) == 1 else ""
    return f'{note(plot.text)}{button}<div class="plots{one}">{places}</div>{method}'


def _data(figure: object) -> str:
    """JSON in a script element ends at any "</script": no "<" is left in it."""
    return json.dumps(figure, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def samples(items: Sequence[Sample]) -> str:
    """Return images with their captions."""
    shown = "".join(
        f"<figure{_winner(item.best)}{_number(item.number)}>"
        f'<img src="{item.image.uri}" width="{item.image.width}" height="{item.image.height}" '
        f'alt="Images: {escape(item.title)}">'
        f"<figcaption><b>{escape(item.title)}</b><br>{escape(item.caption)}</figcaption></figure>"
        for item in items
    )
    return f'<div class="samples">{shown}</div>'


def _number(number: int | None) -> str:
    return "" if number is None else f' data-n="{number}"'


def failures(title: str, reasons: Sequence[Reason], failed: int, tone: str) -> str:
    """Return the banner about failed trials, one entry for each reason."""
    entries = [_reason(each, failed) for each in reasons]
    first = f"<ul>{''.join(entries[:SHOWN_GROUPS])}</ul>"
    rest = entries[SHOWN_GROUPS:]
    folded_ = more(f"{len(rest)} more reasons", f"<ul>{''.join(rest)}</ul>") if rest else ""
    return f'<section class="banner {tone}"><h2>{escape(title)}</h2>{first}{folded_}</section>'


def _reason(reason: Reason, failed: int) -> str:
    group = reason.group
    where = f", at <b>{escape(group.shared)}</b>" if group.shared else ""
    advice = f"{escape(reason.advice)} " if reason.advice else ""
    return (
        f"<li><b>{len(group.numbers)} of {failed}</b> {escape(group.kind)}: "
        f"{escape(group.reason)}{where} (trial {_numbers(group.numbers)}). {advice}"
        f"Read its log: <code>{escape(reason.logs)}</code> {copy_button(reason.logs)}</li>"
    )


def _numbers(numbers: Sequence[int]) -> str:
    left = len(numbers) - SHOWN_NUMBERS
    return ", ".join(map(str, numbers[:SHOWN_NUMBERS])) + (f" and {left} more" if left > 0 else "")


def trials(name: str, table: Table, commands: Mapping[int, str], study_name: str) -> str:
    """Return the table of all trials, which the page sorts, filters and takes its details from.

    Args:
        name: The id of the table.
        table: The trials.
        commands: The command line that trains with a trial's parameters, by its number.
        study_name: Named in the command that shows a trial's log.
    """
    head = "".join(
        f'<th{_words(column.words)} data-kind="{column.kind}"><button type="button">'
        f"{escape(column.heading)}</button></th>"
        for column in table.columns
    )
    rows = "\n".join(
        f"<tr{_winner(index == table.best)}{_number(number)}{_command(commands.get(number, ''))}"
        f"{' hidden' if index >= SHOWN_ROWS else ''}>{_first(row[0])}"
        f"{''.join(_cell(text, column.words) for text, column in zip(row[1:], table.columns[1:], strict=True))}"
        "</tr>"
        for index, (number, row) in enumerate(zip(table.numbers, table.rows, strict=True))
    )
    count = len(table.rows)
    shown = min(count, SHOWN_ROWS)
    folded_ = [
        index for index, column in enumerate(table.columns) if column.kind not in FIRST_KINDS
    ]
    rule = "".join(f"#{name} tr>:nth-child({index + 1}){{display:none}}" for index in folded_)
    choices = "".join(
        f'<label><input type="checkbox" data-column="{index}"{"" if index in folded_ else " checked"}>'
        f"{escape(column.heading)}</label>"
        for index, column in enumerate(table.columns)
        if index
    )
    everything = (
        f'<button type="button" class="all">Show all {count}</button>' if shown < count else ""
    )
    return (
        f'<div class="trials" data-study="{escape(study_name)}"><div class="tools">'
        '<input type="search" placeholder="Filter: failed, or fd&lt;30 bs=64" '
        'aria-label="Filter the trials">'
        f'<span class="soft count" aria-live="polite">{shown} of {count} trials</span>{everything}'
        f'<details class="columns"><summary>Columns</summary><div>{choices}</div></details></div>'
        f'<style class="folded">{rule}</style>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table of trials">'
        f'<table id="{name}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></div>'
    )


def _first(text: str) -> str:
    return f'<td><button type="button" class="pick" aria-label="Show trial {text}">{text}</button></td>'


def _command(command: str) -> str:
    return f' data-command="{escape(command, quote=True)}"' if command else ""


def _cell(text: str, words: bool) -> str:
    title = f' title="{escape(text)}"' if words and len(text) > 40 else ""
    return f"<td{_words(words)}{title}>{escape(text)}</td>"


def _words(words: bool) -> str:
    return ' class="words"' if words else ""


def _winner(best: bool) -> str:
    return ' class="winner"' if best else ""


def record(rows: Iterable[tuple[str, str]], manifest: str) -> str:
    """Return (name, value) pairs as a table, and the manifest to unfold."""
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows
    )
    shown = f"<details><summary>Manifest</summary><pre>{escape(manifest)}</pre></details>"
    held = f'<div class="scroll"><table class="record"><tbody>{cells}</tbody></table></div>'
    return f"{held if cells else ''}{shown}"


def bests(rows: Iterable[tuple[str, ...]]) -> str:
    """Return one row for each study: what it found, and at which cost."""
    headings = (
        "study",
        "state",
        "metric",
        "best",
        "gain",
        "parameters",
        "scored trials",
        "duration",
    )
    return table(headings, rows)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts."""
    head = "".join(f'<th class="words">{escape(name)}</th>' for name in headings)
    body = "".join(
        f"<tr>{''.join(f'<td class={chr(34)}words wrap{chr(34)}>{escape(cell)}</td>' for cell in row)}</tr>"
        for row in rows
    )
    return (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def linked(headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Return a table whose first cells link to (path below this page) of each row."""
    head = "".join(f'<th class="words">{escape(name)}</th>' for name in headings)
    body = "".join(
        f'<tr><td class="words"><a href="{escape(quote(path), quote=True)}/">{escape(cells[0])}</a></td>'
        f"{''.join(_cell(cell, True) for cell in cells[1:])}</tr>"
        for path, cells in rows
    )
    return (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded(title: str, state: str, content: str) -> str:
    """Return one study of several, to unfold."""
    return (
        f'<details class="one"><summary>{escape(title)}</summary>\n{note(state)}{content}</details>'
    )
