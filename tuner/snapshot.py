"""Images of trials on a cluster: read while their pods run, kept as thumbnails in the study's directory.

A pod is gone when its trial has finished, so each look at a search keeps what it sees.
`samples/TRIAL.jpg` is older than the trial's end, unless the trial writes to a volume that the pods
of later trials share.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tuner.engines.katib import look
from tuner.engines.katib.archive import ClusterStudies
from tuner.errors import StudyError
from tuner.report import View, data
from tuner.result import Trial, TrialState
from tuner.store import files
from tuner.store.images import KEPT, REAL, REAL_KEPT, SAMPLES, Thumbnail, thumbnail
from tuner.store.studies import Store

FOLDER = KEPT
MOST = 24  # trials of one study: the best, and a sample of the others
AGAIN = 30.0  # seconds until the image of a running trial is read again
_REAL, _MISSING = REAL_KEPT, "_missing.txt"  # no trial has such a name
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}")


@dataclass(frozen=True)
class Snapshot:
    """What is kept of a study.

    Attributes:
        samples: The images, by the trial's number.
        real: Real images to compare them with.
        missing: Why the last look did not give all of them.
    """

    samples: dict[int, Thumbnail] = field(default_factory=dict)
    real: Thumbnail | None = None
    missing: str = ""


def shown(study: View) -> list[Trial]:
    """Return the trials whose images a page shows: the best, a sample of the other scored ones, and running ones."""
    running = [trial for trial in study.result.trials if trial.state is TrialState.RUNNING]
    return [trial for trial, _ in data.sample(data.ranked(study), MOST)] + running[-MOST:]


def take(store: Store, name: str, *, context: str | None, katib_namespace: str) -> str:
    """Keep the curves and the images that the cluster has of a study now. Returns which curves are missing, and why.

    Raises StudyError.
    """
    studies = ClusterStudies(store)
    folder = studies.folder(name) / FOLDER
    trials = shown(View(studies.result(name), studies.experiment(name)))
    found = look(
        store,
        name,
        trials=[trial.name for trial in trials if not _current(folder, trial)],
        samples=SAMPLES,
        real=() if (folder / _REAL).exists() else REAL,
        context=context,
        katib_namespace=katib_namespace,
    )
    missing = found.missing
    for trial, image in [*found.samples.items(), *([("", found.real)] if found.real else [])]:
        if small := thumbnail(image):
            _keep(folder / (f"{trial}.jpg" if trial else _REAL), small.data)
        else:
            missing = f"the file of {trial or 'real images'} is no PNG or JPEG within the limits"
    if missing or (folder / _MISSING).exists():
        _keep(folder / _MISSING, missing.encode())
    return found.no_curves


def read(folder: Path, trials: Iterable[Trial]) -> Snapshot:
    """Return what is kept in the directory of a study, of these trials."""
    kept = folder / FOLDER
    if not kept.is_dir():
        return Snapshot()
    found = {
        trial.number: image for trial in trials for image in _images(kept, f"{trial.name}.jpg")
    }
    return Snapshot(
        found, next(_images(kept, _REAL), None), _bytes(kept / _MISSING).decode("utf-8", "replace")
    )


def _images(folder: Path, name: str) -> Iterator[Thumbnail]:
    if _NAME.fullmatch(name) or name == _REAL:
        data = _bytes(folder / name)
        if image := thumbnail(data) if data else None:
            yield image


def _bytes(path: Path) -> bytes:
    """Return what is kept in a file, b"" where it is missing or damaged."""
    try:
        return files.read_checked(path)
    except (OSError, ValueError):
        return b""


def _current(folder: Path, trial: Trial) -> bool:
    """Whether the kept image of a trial need not be read again."""
    try:
        read_at = (folder / f"{trial.name}.jpg").stat().st_mtime
    except OSError:
        return not _NAME.fullmatch(trial.name)
    return read_at > (trial.ended.timestamp() if trial.ended else time.time() - AGAIN)


def _keep(path: Path, data: bytes) -> None:
    """Replace a file. Raises StudyError."""
    try:
        path.parent.mkdir(exist_ok=True)
        files.replace_checked(path, data)
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror}") from error
