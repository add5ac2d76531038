"""Holds the commands that messages suggest as values, and formats them in one place.

    raise StudyNotFound(f"no trial 9 in gan-bayes: `{gantune('status', 'gan-bayes')}` lists them")

A command runs as it is printed: the command line registers the options with which it was called
(`--store`, `--namespace`, `--context`), and each command that takes them repeats them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# returns the options that a command has to repeat
Repeat = Callable[[Sequence[str]], Sequence[str]]
_repeat: list[Repeat] = []  # at most one


@dataclass(frozen=True, slots=True)
class Command:
    """A command line of `gantune`; `str()` is what a user types."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        """Return the command with the options that it has to repeat, quoted for a shell."""
        options = _repeat[0](self.argv[1:]) if _repeat else ()
        return shlex.join([*self.argv, *options])


def gantune(*words: object) -> Command:
    """Return the command `gantune WORDS`."""
    return Command(("gantune", *map(str, words)))


def repeat(options: Repeat | None) -> None:
    """Let every suggested command repeat these options; None repeats none."""
    _repeat[:] = [options] if options else []
