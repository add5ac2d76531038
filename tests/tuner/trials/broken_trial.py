"""A module that cannot be imported."""

raise RuntimeError("no licence")


def main(argv: list[str] | None = None) -> int:
    """Never reached."""
    return 0
