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
_VARIABLE = Path("/var/tmp")  # noqa: S108  # trials have a /dev/shm and a /tmp of their own


class Sockets:
    """The directory of one study; the caller holds the study's lock."""

    def __init__(self, study: Path) -> None:
        self._link = study.absolute() / _LINK

    def create(self) -> Path:
        """Return a new, empty directory. Raises StudyError where it cannot be made."""
        self.remove()
        places = (Path(os.environ.get("XDG_RUNTIME_DIR", "")), _VARIABLE)
        usable = (
            place for place in places if place.is_absolute() and os.access(place, os.W_OK | os.X_OK)
        )
        place = next(usable, Path(tempfile.gettempdir()))
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
