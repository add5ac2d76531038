"""The local engine's record of one study: an Optuna journal that Optuna's own tools can open.

One line of JSON per change, appended by one writer at a time (the store's lock) and never rewritten. Each trial is
created by one line that holds its point; its start and its end are one line each. So a process killed anywhere leaves
at most one torn last line, which the next writer cuts off. Optuna's file backend is not used for writing: it takes a
lock file and an fsync for every line, 5 to 14 ms each, and refuses a file with a torn line.

The study's `end` is {"state", "reason", "last"}: where a goal or too many failures ended it with trial `last`, later
trials count as Killed whatever they had reached, so that the table does not depend on timing.

What a trial's user attributes hold: `name`, `values` (as Katib sees them), `cuts` (its early-stopping rule), `started`,
and `outcome`, which is this project's truth; Optuna's own state and value are set beside it for Optuna's tools.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from tuner.errors import StudyDamaged, StudyError
from tuner.result import Goal, Objective, Result, StudyState, Trial, TrialState
from tuner.space import Value

FILE = "journal.log"
SYNC = 1.0  # seconds of ended trials that a power cut may lose; they run again


class Backend(BaseJournalBackend):
    """The journal's lines: read once, then appended. `writable` cuts a torn last line off the file."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self._path = path
        self._logs: list[dict[str, Any]] = []
        data = path.read_bytes() if path.exists() else b""
        good = 0
        lines = data.split(b"\n")
        for number, line in enumerate(lines[:-1], 1):
            try:
                self._logs.append(_record(line))
            except ValueError as error:
                if number == len(lines) - 1:
                    break  # a torn last line that happens to hold a line feed
                raise StudyDamaged(
                    f"{path}:{number} cannot be read ({error}): restore the file, or start over with --fresh"
                ) from error
            good += len(line) + 1
        self._synced = 0.0
        self._file: int | None = None
        if writable:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._file, good)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The lines from that number on."""
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """One write for all of `logs`; where the disk is full, none of them is left in the file (StudyError)."""
        if self._file is None:
            raise StudyError(f"{self._path} is open for reading only")
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(28, "No space left on device")
        except OSError as error:
            os.ftruncate(self._file, size)
            raise StudyError(
                f"{self._path} cannot be written ({error.strerror}): nothing that had ended is lost, "
                "make room and run the same line again"
            ) from error
        self._logs.extend(json.loads(json.dumps(logs)))

    def sync(self) -> None:
        """Make what was written survive a power cut, at most every SYNC seconds; a killed process loses nothing."""
        if self._file is not None and time.monotonic() - self._synced > SYNC:
            os.fdatasync(self._file)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Close the file, with everything on the disk."""
        if self._file is not None:
            os.fdatasync(self._file)
            os.close(self._file)
            self._file = None


def _record(line: bytes) -> dict[str, Any]:
    record = json.loads(line)
    if not isinstance(record, dict) or "op_code" not in record:
        raise ValueError("no journal record")
    return record


@dataclass
class TrialRecord:
    """One trial in the journal. `point` is what the sampler proposed, in its own coordinates (tuner.samplers).

    `curve` is the objective's values in the order of their reports, up to where early stopping cut it.
    """

    number: int
    name: str
    values: dict[str, Value]
    point: dict[str, Any] = field(default_factory=dict)
    cuts: tuple[tuple[int, float], ...] = ()
    started: datetime | None = None
    state: TrialState = TrialState.WAITING
    metrics: dict[str, float] = field(default_factory=dict)
    curve: tuple[float, ...] = ()
    ended: datetime | None = None
    reason: str = ""

    def trial(self) -> Trial:
        """As the rest of the client sees it."""
        return Trial(
            self.number,
            self.name,
            self.state,
            dict(self.values),
            dict(self.metrics),
            self.started,
            self.ended,
            self.reason,
        )


class Journal:
    """One study's journal. Raises StudyDamaged where its lines make no study, StudyError where it cannot be written."""

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        path = folder / FILE
        self._backend = Backend(path, writable=writable)
        self._path = path
        try:
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            self._storage = JournalStorage(self._backend)
            studies = self._storage.get_all_studies()
            self._study = self._storage.get_study_id_from_name(studies[0].study_name) if studies else None
            frozen = [] if self._study is None else self._storage.get_all_trials(self._study, deepcopy=False)
            self.attributes: dict[str, Any] = dict(studies[0].user_attrs) if studies else {}
            self.entries = [_entry(trial) for trial in frozen]
            ids = self._storage.get_trial_id_from_study_id_trial_number
            self._ids = [] if self._study is None else [ids(self._study, trial.number) for trial in frozen]
        except Exception as error:  # whatever Optuna's replay makes of lines that it did not write
            message = str(error) or type(error).__name__
            raise StudyDamaged(f"{path} makes no study ({message}): restore it, or start over with --fresh") from error

    def create(self, name: str, objective: Objective, attributes: Mapping[str, Any]) -> None:
        """Begin the study, where the journal is empty."""
        if self._study is not None:
            return
        minimize = objective.goal_type is Goal.MINIMIZE
        direction = StudyDirection.MINIMIZE if minimize else StudyDirection.MAXIMIZE
        self._study = self._storage.create_new_study([direction], name)
        shape = {"metric": objective.metric, "type": objective.goal_type.value, "goal": objective.goal}
        self.set(**{"name": name, "objective": shape, **attributes})

    def set(self, **attributes: Any) -> None:
        """Change attributes of the study."""
        assert self._study is not None  # noqa: S101  # create() comes first
        changed = {key: value for key, value in attributes.items() if self.attributes.get(key, ...) != value}
        for key, value in changed.items():
            self._storage.set_study_user_attr(self._study, key, value)
            self.attributes[key] = value
        if changed:
            self._backend.sync()

    def ask(self, entry: TrialRecord, distributions: Mapping[str, BaseDistribution]) -> None:
        """Add a proposed trial."""
        assert self._study is not None  # noqa: S101
        template = FrozenTrial(
            number=-1,
            trial_id=-1,
            state=OptunaState.RUNNING,
            value=None,
            datetime_start=datetime.now(UTC),
            datetime_complete=None,
            params=dict(entry.point),
            distributions=dict(distributions),
            user_attrs={"name": entry.name, "values": entry.values, "cuts": [list(cut) for cut in entry.cuts]},
            system_attrs={},
            intermediate_values={},
        )
        self._ids.append(self._storage.create_new_trial(self._study, template))
        self.entries.append(entry)

    def start(self, entry: TrialRecord) -> None:
        """Note that a trial runs, for whoever looks on."""
        started = entry.started.isoformat() if entry.started else None
        self._storage.set_trial_user_attr(self._ids[entry.number], "started", started)

    def end(self, entry: TrialRecord) -> None:
        """Note how a trial ended."""
        outcome = {
            "state": entry.state.value,
            "metrics": entry.metrics,
            "curve": entry.curve,
            "ended": entry.ended.isoformat() if entry.ended else None,
            "reason": entry.reason,
        }
        trial = self._ids[entry.number]
        self._storage.set_trial_user_attr(trial, "outcome", outcome)
        value = entry.metrics.get(self.attributes["objective"]["metric"])
        complete = value is not None and entry.state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)
        state = OptunaState.COMPLETE if complete else OptunaState.FAIL
        self._storage.set_trial_state_values(trial, state, [value] if complete and value is not None else None)
        self._backend.sync()

    def result(self, *, alive: bool) -> Result:
        """The study as it stands; `alive` where a process is at work on it."""
        shape = self.attributes.get("objective", {"metric": "", "type": "minimize", "goal": None})
        end = self.attributes.get("end") or {}
        idle = StudyState.RUNNING if alive else StudyState.STOPPED
        last = end.get("last")
        trials = [entry.trial() for entry in self.entries]
        for trial in trials:
            if last is not None and trial.number > last:
                reason = f"the search ended with trial {last}"
                trials[trial.number] = Trial(
                    trial.number, trial.name, TrialState.KILLED, trial.parameters, reason=reason
                )
            elif trial.state is TrialState.RUNNING and not alive:
                trials[trial.number] = replace(trial, state=TrialState.WAITING, started=None)
        return Result(
            name=str(self.attributes.get("name", "")),
            state=StudyState(end["state"]) if end else idle,
            objective=Objective(shape["metric"], Goal(shape["type"]), shape["goal"]),
            trials=tuple(trials),
            reason=str(end.get("reason", "")),
        )

    def close(self) -> None:
        """Close the file."""
        self._backend.close()


def _entry(frozen: FrozenTrial) -> TrialRecord:
    held = frozen.user_attrs
    entry = TrialRecord(
        number=frozen.number,
        name=str(held["name"]),
        values=dict(held["values"]),
        point=dict(frozen.params),
        cuts=tuple((int(step), float(threshold)) for step, threshold in held["cuts"]),
        started=datetime.fromisoformat(held["started"]) if held.get("started") else None,
    )
    if entry.started:
        entry.state = TrialState.RUNNING
    if outcome := held.get("outcome"):
        entry.state = TrialState(outcome["state"])
        entry.metrics = {str(name): float(value) for name, value in outcome["metrics"].items()}
        entry.curve = tuple(float(value) for value in outcome["curve"])
        entry.ended = datetime.fromisoformat(outcome["ended"]) if outcome["ended"] else None
        entry.reason = str(outcome["reason"])
    return entry
