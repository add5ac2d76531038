"""The rich console of the command line; see tuner.cli.terminal for why it cleans texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from tuner.cli.terminal import clean


class SafeConsole(Console):
    """A rich console that reads no markup, and cleans what it draws."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Draw, with each text cleaned; rich's own control sequences are not texts."""
        for segment in super().render(renderable, options):
            # nearly all of them
            fine = segment.control or segment.text.isprintable() or segment.text == "\n"
            yield segment if fine else Segment(clean(segment.text), segment.style)

    def show(self, part: RenderableType | Segment) -> None:
        """Print one part. A line that names a command is left to the terminal to wrap, so that it can be copied."""
        self.print(part, soft_wrap=isinstance(part, Text) and "gantune " in part.plain)
