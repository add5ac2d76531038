"""The table of docs/reference/check.md: `python -m tuner.check.page` prints it, and a test compares the page with it."""

from __future__ import annotations

from tuner.check import RULES


def rule_table() -> str:
    """Return every rule in Markdown: name, severity, reason, source."""
    lines = ["| rule | | why | source |", "| --- | --- | --- | --- |"]
    for rule in RULES.values():
        cells = (
            f"`{rule.name}`",
            rule.severity.value + " (strict)" * rule.strict,
            rule.why,
            rule.source,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(rule_table())
