"""`gantune check FILE...`: prints the problems of Experiment manifests with file, line and rule.

The exit code is 0 without errors (warnings do not count), 1 with errors, and 2 if a file cannot be
read.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Sequence

import click

from tuner.check import RULES, Problem, Rule, Severity, check_data, check_file, explain
from tuner.cli.terminal import say
from tuner.errors import ManifestError

STDIN = "-"


@click.command("check")
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option(
    "--format",
    "shape",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Choose the format.",
)
@click.option(
    "--strict", is_flag=True, help="Print warnings about style too, such as omitted defaults."
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="RULE",
    help="Ignore this warning; repeat the option for several.",
)
@click.option(
    "--explain",
    "rule",
    metavar="RULE",
    help="Explain this rule, with its source; `all` lists the rules.",
)
def check(
    files: Sequence[str], shape: str, strict: bool, ignore: Sequence[str], rule: str | None
) -> int:
    """Check Experiment manifests and print each problem with file and line. `-` reads standard input.

    An error is what Katib refuses, or accepts and then fails on. A warning is what does not mean
    what it seems to mean. Other kinds of objects in a file are ignored.

    \b
    gantune check manifests/*.yaml
    gantune check --explain parallel-duplicates
    """
    if rule is not None:
        _explain(rule)
        return 0
    if not files:
        raise click.UsageError("no file given; try: gantune check manifests/*.yaml")
    for name in ignore:
        if explain(name).severity is Severity.ERROR:
            raise click.UsageError(f"{name} is an error, and only warnings can be ignored")
    problems, unreadable = _check_all(files, strict=strict)
    problems = [problem for problem in problems if problem.rule not in ignore]
    if shape == "json":
        say(json.dumps([problem.to_json() for problem in problems], indent=2))
    else:
        for problem in problems:
            say(str(problem))
    for error in unreadable:
        say(f"gantune: error: {error}", err=True)
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    if shape == "text":
        say(_summary(len(files) - len(unreadable), errors, len(problems) - errors), err=True)
    return 2 if unreadable else 1 if errors else 0


def _check_all(files: Iterable[str], *, strict: bool) -> tuple[list[Problem], list[ManifestError]]:
    """The problems of all files, and the files that could not be read."""
    problems: list[Problem] = []
    unreadable: list[ManifestError] = []
    for file in files:
        try:
            if file == STDIN:
                problems += check_data(sys.stdin.buffer.read(), "<stdin>", strict=strict)
            else:
                problems += check_file(file, strict=strict)
        except ManifestError as error:
            unreadable.append(error)
    return problems, unreadable


def _summary(files: int, errors: int, warnings: int) -> str:
    counts = [
        f"{count} {noun}{'s' * (count != 1)}"
        for count, noun in ((errors, "error"), (warnings, "warning"))
        if count
    ]
    return f"{files} file{'s' * (files != 1)} checked: {', '.join(counts) or 'no problems'}"


def _explain(name: str) -> None:
    """Print one rule, or the names of all."""
    if name == "all":
        width = max(map(len, RULES))
        for each in RULES.values():
            say(f"{each.name:<{width}}  {each.severity}{' (--strict)' if each.strict else ''}")
        return
    rule: Rule = explain(name)
    say(f"{rule.name} ({rule.severity})\n")
    say(textwrap.fill(rule.why, 79))
    say(f"\nSource: {rule.source}")
