"""The page: one HTML file that needs no network. Everything that comes from a manifest or a trial is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tuner.report.data import Table

# No request can leave the page, whatever a value says; plotly writes styles and scripts in line.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
STYLE = """
:root { color-scheme: light; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --good: #dafbe1; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 20px 48px; color: var(--ink); background: #fff;
       font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 32px 0 4px; }
p { margin: 4px 0; } .soft { color: var(--soft); }
code { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 20px 0; }
.facts div { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.facts b { display: block; font-size: 17px; overflow-wrap: anywhere; }
.facts span { color: var(--soft); font-size: 13px; }
.best { background: var(--good); border-radius: 8px; padding: 10px 14px; }
.plot { width: 100%; } .scroll { overflow: auto; max-height: 640px; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: #f6f8fa; text-align: right; font-weight: 600; }
th, td { padding: 5px 12px; white-space: nowrap; text-align: right; border-bottom: 1px solid var(--line); }
th:nth-child(2), td:nth-child(2), td.words, th.words { text-align: left; }
td.words { max-width: 360px; overflow: hidden; text-overflow: ellipsis; }
tr.winner td { background: var(--good); font-weight: 600; }
@media (max-width: 600px) { body { padding: 16px 12px; } h1 { font-size: 21px; } }
"""
DRAW = """
for (const place of document.querySelectorAll(".plot")) {
  const figure = JSON.parse(document.getElementById(place.id + "-data").textContent);
  Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
}
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence under it, and a plotly figure where there is something to plot."""

    heading: str
    text: str
    figure: Any = None


def page(
    *,
    title: str,
    subtitle: str,
    facts: Sequence[tuple[str, str]],
    best: str,
    sections: Sequence[Section],
    trials: Table,
) -> str:
    """The whole document. All texts are plain; they are escaped here."""
    cards = "".join(f"<div><span>{escape(name)}</span><b>{escape(value)}</b></div>" for name, value in facts)
    drawn = any(section.figure is not None for section in sections)
    body = "".join(_section(index, section) for index, section in enumerate(sections))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>{STYLE}</style>
{_library() if drawn else ""}
</head>
<body>
<h1>{escape(title)}</h1>
<p class="soft">{escape(subtitle)}</p>
<div class="facts">{cards}</div>
<p class="best"><code>{escape(best)}</code></p>
{body}
<h2>Trials</h2>
{_table(trials)}
{f"<script>{DRAW}</script>" if drawn else ""}
</body>
</html>
"""


def _section(index: int, section: Section) -> str:
    text = f'<h2>{escape(section.heading)}</h2><p class="soft">{escape(section.text)}</p>'
    if section.figure is None:
        return text
    name = f"plot{index}"
    # JSON in a script element ends at any "</script": no "<" is left in it.
    data = section.figure.to_json().replace("<", "\\u003c")
    return f'{text}<div class="plot" id="{name}"></div><script type="application/json" id="{name}-data">{data}</script>'


def _library() -> str:
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def _table(trials: Table) -> str:
    if not trials.rows:
        return '<p class="soft">None yet.</p>'
    words = [any(not _is_number(row[i]) for row in trials.rows) for i in range(len(trials.headings))]
    head = "".join(f"<th{_words(words[i])}>{escape(text)}</th>" for i, text in enumerate(trials.headings))
    rows = "".join(
        f"<tr{_winner(index == trials.best)}>{''.join(_cell(cell, words[i]) for i, cell in enumerate(row))}</tr>"
        for index, row in enumerate(trials.rows)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(text: str, words: bool) -> str:
    title = f' title="{escape(text)}"' if words and len(text) > 40 else ""
    return f"<td{_words(words)}{title}>{escape(text)}</td>"


def _words(words: bool) -> str:
    return ' class="words"' if words else ""


def _winner(best: bool) -> str:
    return ' class="winner"' if best else ""


def _is_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True
