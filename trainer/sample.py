"""Draws images from a finished trial and writes them as one PNG.

python -m trainer.sample --from OUTPUT_DIR -n 64 -o grid.png
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from trainer import process
from trainer.config import UsageError
from trainer.process import GracefulStop, Stopped

PROGRAM = "python -m trainer.sample"
MAX_SAMPLES = 10_000


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(process.REFUSED, f"{self.prog}: {message}. See --help\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, 2 after one line on stderr, or 128 + signal."""
    parser = _Parser(prog=PROGRAM, description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--from", dest="folder", required=True, type=Path, help="--output-dir of a finished trial"
    )
    parser.add_argument(
        "-n", type=int, default=64, help=f"number of images, 1 to {MAX_SAMPLES:,} (default 64)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("grid.png"),
        help="PNG to write (default grid.png)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default 0)")
    args = parser.parse_args(argv)
    if not 1 <= args.n <= MAX_SAMPLES:
        return process.fail(PROGRAM, f"-n {args.n}: must be 1 to {MAX_SAMPLES}")
    if not 0 <= args.seed < 2**63:
        return process.fail(PROGRAM, f"--seed {args.seed}: must be 0 to 2^63 - 1")
    stop = GracefulStop("nothing was written")
    with stop.installed():
        return _run(args, stop)


def _run(args: argparse.Namespace, stop: GracefulStop) -> int:
    process.wait_passively()
    # Importing torch takes seconds: --help and bad flags must not wait for it.
    from trainer.data import write_grid
    from trainer.drawing import SampleError, draw

    try:
        with stop.allowed():
            stop.check()
            write_grid(draw(args.folder, args.n, args.seed), args.output)
    except (SampleError, UsageError) as error:
        return process.fail(PROGRAM, error)
    except (Stopped, KeyboardInterrupt):  # the latter in a thread, where no handler can be set
        return stop.report(PROGRAM)
    except (OSError, ValueError) as error:
        return process.fail(
            PROGRAM, f"cannot write -o {args.output} ({error}). Choose another place"
        )
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
