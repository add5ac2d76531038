"""The one way to the terminal: every text that a person sees passes `clean`, and no other module of the CLI prints.

Names, parameter values, failure reasons and log lines come from manifests, programs and clusters.
They may hold escape sequences that steer a terminal, characters that reorder text, or rich's
markup. Here they are data.
"""

from __future__ import annotations

import click

from tuner.cli import hints

_KEPT = "\n\t"


def clean(text: str) -> str:
    """Replace each character that is not printable, except line feeds and tabs."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _KEPT else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def plain(text: str) -> str:
    """Return a text as one clean line, with its follow-up commands completed."""
    return clean(hints.complete(" ".join(text.split())))


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text to stdout, or to stderr, where follow-up commands are completed."""
    click.echo(clean(hints.complete(text) if err else text), err=err, nl=nl)
