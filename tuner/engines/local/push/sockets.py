"""The directory of the sockets: a short path, which an address must have, that only this user can enter.

A symbolic link in the study's directory says where it is. So the next run of the study removes what
killed processes have left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from tuner.errors import StudyError

_LINK = "push-sockets"
_PREFIX = "gantune-push-"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # below no start directory, so no trial's overlay hides the sockets


class Sockets:
    """The directory of one study; the caller holds the study's lock."""

    def __init__(self, study: Path) -> None:
        self._link = study.absolute() / _LINK

    def create(self) -> Path:
        """Return a new, empty directory. Raises StudyError where it cannot be made."""
        self.remove()
        place = (
            _SHARED_MEMORY
            if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK)
            else Path(tempfile.gettempdir())
        )
        try:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            self._link.symlink_to(folder)
        except OSError as error:
            raise StudyError(f"the directory for pushed metrics cannot be made: {error}") from error
        return folder

    def remove(self) -> None:
        """Remove the directory, if there is one; harmless when repeated."""
        with contextlib.suppress(OSError):
            folder = Path(os.readlink(self._link))
            status = folder.lstat()
            # rmtree refuses a link
            if folder.name.startswith(_PREFIX) and status.st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._link.unlink()
