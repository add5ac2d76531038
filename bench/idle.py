"""A trial that costs nothing: `python -m bench.idle --x 0.5 --seconds 0` waits, prints one metric, and ends."""

import argparse
import sys
import time


def main(argv: list[str] | None = None) -> int:
    """Returns 0."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--x", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=0.0)
    args = parser.parse_args(argv)
    time.sleep(args.seconds)
    print(f"score={args.x**2}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
