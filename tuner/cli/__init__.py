"""`gantune`."""


def main() -> None:
    """Run it."""
