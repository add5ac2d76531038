"""Prints to the terminal: every text that a person sees passes `clean`. No other module prints.

Names, parameter values, failure reasons and log lines come from manifests, programs and clusters.
They may hold escape sequences that steer a terminal, characters that reorder text, or rich's
markup. Here they are data.
"""

from __future__ import annotations

import click

_KEPT = "\n\t"


def clean(text: str) -> str:
    """Replace each character that is not printable, except line feeds and tabs."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _KEPT else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def plain(text: str) -> str:
    """Return a text as one clean line."""
    return clean(" ".join(text.split()))


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text to stdout or stderr."""
    click.echo(clean(text), err=err, nl=nl)
