"""The trial of bench.engine_overhead that has torch imported, as a trainer has."""

from __future__ import annotations

import sys

from bench import engine_overhead


def preload() -> None:
    """Import torch once, before the trials are forked."""
    import torch  # noqa: F401


def main(argv: list[str]) -> int:
    """Sleep, and print one value."""
    return engine_overhead.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
