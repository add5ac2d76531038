"""The files that a program writes its metrics into, and the shell line that prints them.

Katib's collectors read what a program prints. So a drafted command prints the file after the
program has finished: JSON as it is, each row of a CSV file as `name=value`. Event files of
TensorBoard have a collector of their own, which needs them below one directory. Only files that are
newer than the trial's start count, because the working directory may hold those of earlier runs,
and a program may choose a new directory for each run.
"""

from __future__ import annotations

import csv
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from tuner.errors import UnsupportedError
from tuner.katib.facts import DEFAULT_PATHS
from tuner.metrics.names import is_score, role
from tuner.metrics.reports import Report, Reports

_MARK = ".gantune-start"
BEFORE = f"touch {_MARK} && "  # what the shell runs before the program
EVENTS = DEFAULT_PATHS["TensorFlowEvent"][1].rstrip(
    "/"
)  # the directory of the collector TensorFlowEvent
_FILES = 20_000  # files of the working directory that are looked at
_BYTES = 1 << 20  # of one file that are read
_SKIPPED = {"__pycache__", "node_modules", "site-packages"}
_SUFFIXES = {".json", ".jsonl", ".ndjson", ".csv"}
# one line of `name=value` for each row; an empty cell is left out
_ROWS = (
    'awk -F, \'{gsub(/["\\r]/, "")} FNR == 1 {n = split($0, names); next} '
    '{for (i = 1; i <= n; i++) if ($i != "") printf "%s=%s ", names[i], $i; print ""}\''
)


@dataclass(frozen=True)
class Source:
    """A file or directory with metrics, relative to the working directory.

    Attributes:
        path: The file; for event files, the directory.
        reports: The metrics in it.
        after: What the shell runs after the program.
        events: Whether the collector TensorFlowEvent reads it.
    """

    path: str
    reports: Reports
    after: str
    events: bool = False


class Written:
    """The files of the working directory that change while a program runs."""

    def __init__(self) -> None:
        self._before = dict(_files())

    def sources(self, settings: Iterable[str]) -> list[Source]:
        """Return the changed files that hold a score, those of held-out data first."""
        changed = [path for path, state in _files() if self._before.get(path) != state]
        made = [_source(path, frozenset(settings)) for path in changed if "tfevents" not in path]
        if folders := sorted({os.path.dirname(path) for path in changed if "tfevents" in path}):
            made.append(_events(os.path.commonpath(folders) or ".", changed))
        able = [source for source in made if any(is_score(one.name) for one in source.reports.all)]
        return sorted(able, key=lambda source: not _held_out(source))


def _held_out(source: Source) -> bool:
    return any(role(report.name).held_out for report in source.reports.all)


def _files() -> Iterator[tuple[str, tuple[int, int]]]:
    count = 0
    for folder, folders, names in os.walk("."):
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".")
            and name not in _SKIPPED
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        ]
        for name in sorted(names):
            count += 1
            if PurePosixPath(name).suffix.lower() in _SUFFIXES or "tfevents" in name:
                path = os.path.normpath(os.path.join(folder, name))
                try:
                    status = os.stat(path)
                except OSError:
                    continue
                yield path, (status.st_mtime_ns, status.st_size)
        if count > _FILES:
            return


def _source(path: str, settings: frozenset[str]) -> Source:
    reports = Reports(settings)
    try:
        with open(path, "rb") as file:
            text = file.read(_BYTES).decode("utf-8", "replace")
    except OSError:
        text = ""
    if path.endswith(".csv"):
        rows = csv.reader(text.splitlines())
        names = next(rows, [])
        for row in rows:
            reports.read(" ".join(f"{n}={v}" for n, v in zip(names, row, strict=False) if v))
        return Source(path, reports, _find(path, _ROWS))
    reports.read(text)
    return Source(path, reports, _find(path, "cat"))


def _events(folder: str, changed: Iterable[str]) -> Source:
    if find_spec("tensorboard") is None:
        raise UnsupportedError(
            f"the program writes event files of TensorBoard into {folder}, whose reader is not "
            "installed: pip install 'gan-tuner[tensorboard]'"
        )
    from tuner.metrics.events import EventFiles

    reader = EventFiles(Path(folder), ())
    reader.read_all(5.0)
    tags = [PurePosixPath(name).name for name in reader.other_names()]
    reports = Reports()
    for name, tag in zip(reader.other_names(), tags, strict=True):
        # Katib finds a tag by its start, and takes what is before a slash for a directory.
        if sum(other.startswith(tag) for other in tags) == 1 and "/" not in name:
            reports.add(
                Report(name, f"the tag {name} in {folder}", separator=r"\s*=\s*", whole=False)
            )
    name = next(path for path in changed if "tfevents" in path)
    after = f"mkdir -p {EVENTS} && {_find(name, f'cp -t {EVENTS}', '*tfevents*')}"
    return Source(folder, reports, after, events=True)


def _find(path: str, command: str, name: str = "") -> str:
    """Return a command for the new files with this name, below the path's first directory."""
    top, base = PurePosixPath(path).parts[0], name or PurePosixPath(path).name
    where = f"{shlex.quote(top)} -name {shlex.quote(base)} -newer {_MARK}"
    return f"find {where} -exec {command} {{}} +"
