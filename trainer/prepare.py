"""Prepares a data set once, before any trial: download, verify, decode, train the feature extractor, store.

    python -m trainer.prepare --dataset mnist --data-dir data
    python -m trainer.prepare --dataset ./photos --data-dir data     (a folder of images, or an .npz file)

Stores DIR/NAME/images.npz and DIR/NAME/extractor.safetensors, both or neither. With labels (mnist,
digits, a folder with one sub-folder per class, an .npz file with `labels`) the extractor is a
classifier of them. Without labels it is a classifier of how an image was mirrored.
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from trainer import process
from trainer.config import UsageError
from trainer.process import GracefulStop, Stopped

PROGRAM = "python -m trainer.prepare"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(process.REFUSED, f"{self.prog}: {message}. See --help\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, 2 after one line on stderr, or 128 + signal."""
    parser = _Parser(prog=PROGRAM, description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--dataset",
        required=True,
        help="digits, mnist, fashion-mnist, or a folder or .npz of images",
    )
    parser.add_argument(
        "--data-dir", required=True, type=Path, help="store the prepared data set in this directory"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the data set if it is already stored"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        help="CPU threads; 0: as the cgroup and OMP_NUM_THREADS suggest [0 to 1024; default 0]",
    )
    args = parser.parse_args(argv)
    if not 0 <= args.threads <= 1024:
        return process.fail(
            PROGRAM, f"--threads={args.threads}: must be at least 0 and at most 1024"
        )
    stop = GracefulStop("nothing was stored")
    with stop.installed():
        return _run(args, stop)


def _run(args: argparse.Namespace, stop: GracefulStop) -> int:
    process.wait_passively()
    # Importing torch takes seconds: --help and bad flags must not wait for it.
    import torch

    from trainer import machine
    from trainer.data import DataError
    from trainer.preparation import prepare

    before = torch.get_num_threads()
    torch.set_num_threads(args.threads or machine.threads(0))
    try:
        with stop.allowed():
            stop.check()
            print(prepare(args.dataset, args.data_dir, force=args.force))
    except (DataError, UsageError) as error:
        return process.fail(PROGRAM, error)
    except (Stopped, KeyboardInterrupt):  # the latter in a thread, where no handler can be set
        return stop.report(PROGRAM)
    finally:
        torch.set_num_threads(before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
