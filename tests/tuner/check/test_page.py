"""docs/reference/check.md names every rule, as the code has it."""

from __future__ import annotations

from pathlib import Path

from tuner.check.page import rule_table

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "check.md"


def test_the_page_holds_the_table() -> None:
    assert PAGE.read_text().endswith(f"{rule_table()}\n"), (
        "run: python -m tuner.check.page, and put its output there"
    )
