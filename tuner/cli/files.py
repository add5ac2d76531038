"""`gantune files`: copy the files that a trial wrote."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tuner.cli.options import client, cluster_options, engine_option, store_option, study_names
from tuner.cli.terminal import say

_INTERVAL = 0.5  # seconds between two lines of progress


@click.command()
@click.argument("name", shell_complete=study_names)
@click.option("--trial", default=None, help="Choose a trial by name or number.")
@click.option("--best", is_flag=True, help="Choose the best trial; this is the default.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Write the files to this directory, which must not exist or be empty.",
)
@engine_option
@cluster_options
@store_option
def files(
    name: str, trial: str | None, best: bool, output: Path, local: bool | None, **where: Any
) -> None:
    """Copy the files that a trial of the study NAME wrote: weights, samples, checkpoints.

    On a cluster, a short-lived pod reads them from the trial's volume. Sizes and hashes are
    verified.
    """
    if trial is not None and best:
        raise click.UsageError("--trial and --best exclude each other")
    engine = client(**where).engine(name, local=local)
    chosen, found = engine.files(name, output, trial, progress=_progress())
    for each in found:
        say(f"{each.sha256}  {each.size:>12,}  {each.path}")
    total = sum(each.size for each in found)
    say(f"trial {chosen.number}: {len(found)} files, {total:,} bytes in {output}", err=True)


def _progress() -> Callable[[int, int], None]:
    """Return a function that shows on a terminal how much is copied."""
    shown = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if sys.stderr.isatty() and (now - shown > _INTERVAL or done == total):
            shown = now
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r{done / 1e6:,.1f} of {total / 1e6:,.1f} MB{end}")
            sys.stderr.flush()

    return show
