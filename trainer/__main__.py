"""Train one GAN and print its metrics as Katib reads them.

    python -m trainer --lr 1e-3 --bs 64
    python -m trainer --preset article --dataset mnist --data-dir data --output-dir runs/1

Exit codes: 0 done, 1 a file cannot be written or a port not be had (a full disk, a volume that went away: later it
may succeed), 2 bad flag or missing data, 3 diverged with --on-divergence=fail, 130 Ctrl-C, 143 SIGTERM.
"""

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from trainer.config import Config, UsageError

MACHINE_FAILED, REFUSED = 1, 2  # a Job that retries what the cluster took away tries the first again, never the second


def main(argv: list[str] | None = None) -> int:
    """Run one trial; the exit code. May be called many times in one process."""
    try:
        config = Config.parse(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        return _refuse(error)
    except SystemExit as done:  # --help
        return int(done.code or 0)
    previous: dict[signal.Signals, Any] = {}
    try:
        return _run(config, previous)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run(config: Config, previous: dict[signal.Signals, Any]) -> int:
    _on_signals(_exit_at_once, previous)  # until torch is there; as process 1 of a container the default is to ignore
    try:
        from trainer import run as trial
        from trainer.checkpoint import CheckpointError
        from trainer.data import DataError
    except _Early as early:
        return _stopped(early.signal, "nothing had begun")
    stop = trial.GracefulStop()
    try:
        _on_signals(stop, previous)
        return trial.run(config, stop)
    except trial.Stopped:
        return _stopped(stop.signal, stop.report or "nothing had begun")
    except _Early as early:
        return _stopped(early.signal, "nothing had begun")
    except KeyboardInterrupt:  # called from a thread, where no handler can be set
        return _stopped(signal.SIGINT, "nothing saved")
    except (UsageError, DataError, CheckpointError) as error:
        return _refuse(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        says = f"{where}{error.strerror}; free some space or name another place" if error.strerror else error
        return _refuse(says, MACHINE_FAILED)


class _Early(BaseException):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def _exit_at_once(number: int, _frame: object) -> None:
    raise _Early(number)


def _on_signals(handler: Callable[..., None], previous: dict[signal.Signals, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, handler)
            previous.setdefault(number, before)


def _stopped(number: int, what: str) -> int:
    print(f"trainer: stopped by {signal.Signals(number).name}, {what}", file=sys.stderr)
    return 128 + number


def _refuse(error: object, code: int = REFUSED) -> int:
    print(f"trainer: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
