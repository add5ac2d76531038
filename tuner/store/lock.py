"""The lock of a study's directory."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from tuner.errors import StudyError, StudyLocked

LOCK = "lock"
_PROBE_SECONDS = 0.1  # `Lock.held` of another process takes the lock for an instant


class Lock:
    """Lets one process at a time work on a study, by flock. The kernel releases it when the process exits.

    The file contains the process id while the lock is held, and `release` empties it.

    Args:
        folder: The directory of the study.

    Raises:
        StudyLocked: Another process works on the study.
        StudyError: The lock cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._acquire(folder)
            except BaseException:
                os.close(self._file)
                raise
        except OSError as error:
            raise StudyError(f"{self._path} cannot be written: {error.strerror}") from error

    def _acquire(self, folder: Path) -> None:
        until = time.monotonic() + _PROBE_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    owner = Lock.owner(folder)
                    who = f"process {owner}" if owner else "another process"
                    raise StudyLocked(
                        f"study {folder.name} is in use by {who}: wait for it, or stop it"
                    ) from error
                time.sleep(0.005)
        os.pwrite(self._file, str(os.getpid()).encode().ljust(8), 0)

    @staticmethod
    def held(folder: Path) -> bool:
        """True where a process, this one included, works on the study."""
        try:
            file = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(file)
        return False

    @staticmethod
    def owner(folder: Path) -> int:
        """Return the id of the process that works on the study; 0 if there is none, or if it is unknown.

        The file may still contain the id of a killed process, which another process has now. So
        this method checks which process has the file open.
        """
        if not Lock.held(folder):
            return 0
        path = folder / LOCK
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return 0
        return int(text) if text.isdecimal() and _has_open(int(text), path) else 0

    def release(self) -> None:
        """Release the lock. Calling it again has no effect."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _has_open(process: int, path: Path) -> bool:
    """Return whether a process has a file open; True where this system does not tell."""
    try:
        names = os.listdir(f"/proc/{process}/fd")
    except PermissionError:
        return True
    except OSError:
        return not os.path.exists("/proc/self/fd")
    for name in names:
        with suppress(OSError):
            if os.path.samefile(f"/proc/{process}/fd/{name}", path):
                return True
    return False
