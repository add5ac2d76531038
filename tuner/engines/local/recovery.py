"""What can be done about a damaged journal: say what is intact, and keep exactly that."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from tuner.engines.local.journal import FILE, fault
from tuner.errors import StudyDamaged, StudyError
from tuner.store import curves, records


@dataclass(frozen=True, slots=True)
class Health:
    """How the journal of a study is.

    Attributes:
        path: The journal.
        records: How many records are intact, counted from the first.
        finished: How many trials finished in them.
        damage: "LINE: what is wrong, and what to do", "" where nothing is.
        torn: The bytes of an unfinished last line, which the next run cuts off.
    """

    path: Path
    records: int
    finished: int
    damage: str = ""
    torn: int = 0


def check(folder: Path, identity: str) -> Health:
    """Read the journal of a study with this id, and change nothing. Raises StudyError where it cannot be read."""
    path = folder / FILE
    try:
        contents = records.read(path)
    except FileNotFoundError as error:
        # the study was stored, and its client was killed before it proposed a trial
        if not identity:
            return Health(path, 0, 0)
        raise StudyDamaged(f"{path} is missing: restore it, or start over with --fresh") from error
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from error
    finished = {record["number"] for record in contents.records if record.get("op") == "finish"}
    return Health(
        path, len(contents.records), len(finished), fault(contents, identity), contents.torn
    )


def repair(folder: Path, identity: str) -> Path | None:
    """Keep the intact records of a damaged journal and of damaged curves, and the damaged files next to them.

    The caller holds the study's lock.

    Returns:
        Where a damaged file is now; None without damage.

    Raises:
        StudyDamaged: Not even the first record is intact, or it is another study's.
        StudyError: The files cannot be read or written.
    """
    path, saved = folder / FILE, None
    if check(folder, identity).damage:
        contents = records.read(path)
        kept = dataclasses.replace(contents, damage="", torn=0)
        if problem := fault(kept, identity):
            raise StudyDamaged(f"{path} cannot be repaired. {path}:{problem}")
        saved = records.repair(path, kept)
    return curves.repair(folder) or saved
