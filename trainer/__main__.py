"""Train one GAN and print its metrics in the format that Katib reads.

    python -m trainer --lr 1e-3 --bs 64
    python -m trainer --preset article --dataset mnist --data-dir data --output-dir runs/1

Exit codes: 0 success, 1 a file cannot be written or a port cannot be opened (a full disk, a lost
volume: a later attempt may succeed), 2 bad flag or unusable data, 3 diverged with
--on-divergence=fail, 130 Ctrl-C, 143 SIGTERM.
"""

import sys

from trainer import process
from trainer.config import Config, UsageError
from trainer.process import GracefulStop, Stopped

PROGRAM = "trainer"


def main(argv: list[str] | None = None) -> int:
    """Run one trial and return the exit code. A process may call this many times."""
    try:
        config = Config.parse(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        return process.fail(PROGRAM, error)
    except SystemExit as done:  # --help
        return int(done.code or 0)
    stop = GracefulStop("training had not started")
    with stop.installed():
        return _run(config, stop)


def preload() -> None:
    """Import what every trial needs; a local search calls this once, before it forks the trials (docs/reference/local.md)."""
    process.wait_passively()
    from trainer import run  # noqa: F401


def _run(config: Config, stop: GracefulStop) -> int:
    process.wait_passively()
    # Importing torch takes seconds: --help and bad flags must not wait for it.
    import torch

    from trainer import run as trial
    from trainer.checkpoint import CheckpointError
    from trainer.data import DataError

    try:
        with stop.allowed():
            stop.check()
            return trial.run(config, stop)
    except (Stopped, KeyboardInterrupt):  # the latter in a thread, where no handler can be set
        return stop.report(PROGRAM)
    except (UsageError, DataError, CheckpointError) as error:
        return process.fail(PROGRAM, error)
    except (MemoryError, torch.OutOfMemoryError) as error:
        return process.fail(
            PROGRAM, f"out of memory ({error}). Lower --bs, --samples, --g-hidden or --latent-dim"
        )
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        what = (
            f"{where}{error.strerror}. Free some space or name another place"
            if error.strerror
            else error
        )
        return process.fail(PROGRAM, what, process.FAILED)


if __name__ == "__main__":
    sys.exit(main())
