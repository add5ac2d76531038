"""The page: one HTML file that needs no network. Everything that comes from a manifest or a trial is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files

from tuner.report.data import Failure, Table
from tuner.report.plots import Drawn
from tuner.store.images import Thumbnail

# No request can leave the page, whatever a value says. Only the scripts with these hashes run;
# plotly writes styles.
POLICY = "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:"
FROM_SERVER = "; connect-src 'self'"  # a served page asks its server for newer content
LONG = 14  # characters of a card's value that get a smaller font
SHOWN_NUMBERS = 12  # of the trials that failed for one reason


@dataclass(frozen=True, slots=True)
class Sample:
    """An image that a trial wrote, or the real ones."""

    image: Thumbnail
    title: str
    caption: str
    best: bool = False


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
    return f"<nav>{links}</nav>"


def facts(cards: Iterable[tuple[str, str]]) -> str:
    """Return (name, value) pairs as cards."""
    shown = "".join(
        f"<div><span>{escape(name)}</span><b{_long(value)}>{escape(value)}</b></div>"
        for name, value in cards
    )
    return f'<div class="facts">{shown}</div>'


def _long(value: str) -> str:
    return ' class="long"' if len(value) > LONG else ""


def best(text: str, command: str = "") -> str:
    """Return the line of the best trial with a button that copies its command line."""
    return f'<div class="best"><code>{escape(text)}</code>{copy_button(command, "copy: train this")}</div>'


def copy_button(command: str, label: str = "copy") -> str:
    """Return a button that copies a command line; nothing without one."""
    held = escape(command, quote=True)
    return (
        f'<button class="copy" data-command="{held}" title="{held}">{escape(label)}</button>'
        if command
        else ""
    )


def progress(text: str, value: int, total: int | None) -> str:
    """Return a progress bar with its text."""
    most = f' max="{total}" value="{min(value, total)}"' if total else ""
    return f'<p class="progress"><progress{most}></progress> {escape(text)}</p>'


def section(name: str, title: str, content: str) -> str:
    """Return a section; `content` is HTML."""
    return f'<section id="{escape(name)}"><h2>{escape(title)}</h2>\n{content}</section>'


def note(text: str) -> str:
    """Return a sentence."""
    return f'<p class="soft">{escape(text)}</p>'


def command(text: str, line: str) -> str:
    """Return a sentence about a command line, with a button that copies the line."""
    return f'<p class="soft">{escape(text)} <code>{escape(line)}</code> {copy_button(line)}</p>'


def items(texts: Iterable[str]) -> str:
    """Return a list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def drawn(plot: Drawn) -> str:
    """Return a plot: its sentence, and a place for each figure with the figure's data."""
    places = "".join(
        f'<div class="plot" style="min-height:{figure["layout"]["height"]}px">'
        f'<script type="application/json">{_data(figure)}</script></div>'
        for figure in plot.figures
    )
    return note(plot.text) + (f'<div class="plots">{places}</div>' if places else "")


def _data(figure: object) -> str:
    """JSON in a script element ends at any "</script": no "<" is left in it."""
    return json.dumps(figure, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def samples(items: Sequence[Sample]) -> str:
    """Return images with their captions."""
    shown = "".join(
        f"<figure{_winner(item.best)}>"
        f'<img src="{item.image.uri}" width="{item.image.width}" height="{item.image.height}" '
        f'alt="{escape(item.title)}">'
        f"<figcaption><b>{escape(item.title)}</b><br>{escape(item.caption)}</figcaption></figure>"
        for item in items
    )
    return f'<div class="samples">{shown}</div>'


def failures(groups: Sequence[Failure]) -> str:
    """Return the failed and diverged trials as a table, one row for each reason."""
    rows = "".join(
        f'<tr><td>{len(group.numbers)}</td><td class="words">{escape(group.kind)}</td>'
        f'<td class="words wrap">{escape(group.reason)}</td><td class="words wrap">{_numbers(group.numbers)}</td></tr>'
        for group in groups
    )
    head = '<th>n</th><th class="words">state</th><th class="words">reason</th><th class="words">trials</th>'
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _numbers(numbers: Sequence[int]) -> str:
    left = len(numbers) - SHOWN_NUMBERS
    return ", ".join(map(str, numbers[:SHOWN_NUMBERS])) + (f" and {left} more" if left > 0 else "")


def trials(table: Table, commands: Sequence[str]) -> str:
    """Return the table of all trials, which the page sorts and filters; `commands` holds the one of each row."""
    if not table.rows:
        return note("There are no trials yet.")
    last = "<th>train this</th>" if any(commands) else ""
    head = "".join(
        f'<th{_words(words)}><button type="button">{escape(text)}</button></th>'
        for text, words in zip(table.headings, table.words, strict=True)
    )
    rows = "\n".join(
        f"<tr{_winner(index == table.best)}>{''.join(map(_cell, row, table.words))}{_command(command, last)}</tr>"
        for index, (row, command) in enumerate(zip(table.rows, commands, strict=True))
    )
    count = f"{len(table.rows)} of {len(table.rows)} trials"
    return (
        '<div class="trials"><div class="tools">'
        '<input type="search" placeholder="Filter: failed, or fd&lt;30 bs=64" aria-label="Filter the trials">'
        f'<span class="soft count">{count}</span></div>'
        f'<div class="scroll"><table><thead><tr>{head}{last}</tr></thead><tbody>{rows}</tbody></table></div></div>'
    )


def _command(command: str, column: str) -> str:
    return f"<td>{copy_button(command)}</td>" if column else ""


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
    return f'<div class="scroll"><table class="record"><tbody>{cells}</tbody></table></div>{shown}'


def bests(rows: Iterable[tuple[str, ...]]) -> str:
    """Return one row for each study: name, state, metric, its best, the parameters there, scored trials."""
    headings = ("study", "state", "metric", "best", "parameters", "scored trials")
    words = (True, True, True, False, True, False)
    head = "".join(
        f"<th{_words(text)}>{escape(name)}</th>" for name, text in zip(headings, words, strict=True)
    )
    cells = "".join(f"<tr>{''.join(map(_cell, row, words))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table></div>'


def folded(title: str, content: str, *, opened: bool) -> str:
    """Return one study of several, to unfold."""
    state = " open" if opened else ""
    return f'<details class="study"{state}><summary>{escape(title)}</summary>\n{content}</details>'
