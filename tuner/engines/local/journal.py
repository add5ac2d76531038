"""The local engine's record of one study: every change of every trial, in the order in which it happened.

The file (tuner.store.records) is written by one client at a time, which holds the study's
lock, and is never rewritten. Its records, by "op":

study    the header: format, id, name, objective, and what is decided once (seed, the trials known from a warm start,
         the baseline, the first trials that were added by
         hand)
ask      a trial that the sampler proposed: number, name, values (as Katib sees them), point (in the sampler's
         coordinates), cuts (its early-stopping rule)
start    the trial runs
finish   the trial's outcome: state, metrics, curve, reason
resume   the trials that ran run again; `crashed` are those that ran when the server died
retry    the trial's outcome is forgotten, so that it runs again
end      how the search finished: state, reason, last; null where it continues. A goal or too many failures finish a
         search with trial `last`: later trials are Killed whatever they reached, so that timing
         decides nothing

The manifest of the study (tuner.store.studies) knows the header's id, so a journal of another study, or a
missing one, is refused. Every trial's outcome that the journal does not hold is found again by
running the trial.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tuner.commands import gantune
from tuner.errors import StudyDamaged, StudyError
from tuner.experiment.model import Experiment
from tuner.result import Objective, Result, StudyState, Trial, TrialState
from tuner.space import Value
from tuner.store import records
from tuner.store.lock import Lock

FILE = "journal.jsonl"
FORMAT = 1


@dataclass
class TrialRecord:
    """One trial in the journal. `point` is what the sampler proposed, in its own coordinates (tuner.samplers).

    `curve` is the objective's values in the order of their reports, up to where early stopping cut
    it.
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
        """Return the trial as the rest of the client sees it."""
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

    def reset(self) -> None:
        """Forget everything but the point, so that the trial can run again."""
        self.state, self.started, self.ended = TrialState.WAITING, None, None
        self.metrics, self.curve, self.reason = {}, (), ""


class Journal:
    """One study's journal, read as a whole and then kept up to date.

    Attributes:
        header: The first record; empty where no trial was asked for yet.
        entries: The trials by their numbers.
        end: How the search finished: state, reason, last; empty while it has not.
        suspects: The unfinished trials that ran when the server died, with the number of its deaths
            at which no other trial ran.

    Every method raises StudyDamaged where the records make no study, and StudyError where they
    cannot be written.
    """

    def __init__(self, folder: Path, *, identity: str = "", writable: bool = False) -> None:
        """Read the journal of the study in `folder`. `identity` is the id that the store knows it by, "" for none."""
        self.path = folder / FILE
        self.header: Mapping[str, Any] = {}
        self.entries: list[TrialRecord] = []
        self.suspects: dict[int, int] = {}
        self.end: Mapping[str, Any] = {}
        self._writer: records.Writer | None = None
        self._writable = writable
        contents = self._read(identity)
        for line, record in enumerate(contents.records if contents else (), 1):
            try:
                self._replay(record)
            except (LookupError, TypeError, ValueError) as error:
                raise StudyDamaged(
                    f"{self.path}:{line}: this is no record of a study ({type(error).__name__}: {error}): "
                    "it was written by another version of gantune. Use that version, or start over with --fresh"
                ) from error
        self._objective = _objective(self.header)
        self._trials = [entry.trial() for entry in self.entries]
        if writable and contents:
            self._writer = records.Writer(self.path, contents)

    def _read(self, identity: str) -> records.Contents | None:
        try:
            contents = records.read(self.path)
        except FileNotFoundError:
            if identity:
                raise StudyDamaged(
                    f"{self.path} is missing: restore it, or start over with --fresh"
                ) from None
            return None
        except OSError as error:
            raise StudyError(f"{self.path} cannot be read: {error.strerror}") from error
        if problem := fault(contents, identity):
            raise StudyDamaged(f"{self.path}:{problem}")
        return contents

    def _replay(self, record: Mapping[str, Any]) -> None:
        op = record["op"]
        if op == "study":
            self.header = record
        elif op == "ask":
            if record["number"] != len(self.entries):
                raise ValueError(f"trial {record['number']} follows trial {len(self.entries) - 1}")
            self.entries.append(
                TrialRecord(
                    number=len(self.entries),
                    name=str(record["name"]),
                    values=dict(record["values"]),
                    point=dict(record["point"]),
                    cuts=tuple((int(step), float(threshold)) for step, threshold in record["cuts"]),
                )
            )
        elif op == "start":
            entry = self.entries[record["number"]]
            entry.state, entry.started = TrialState.RUNNING, datetime.fromisoformat(record["time"])
        elif op == "finish":
            entry = self.entries[record["number"]]
            entry.state, entry.reason = TrialState(record["state"]), str(record["reason"])
            entry.metrics = {str(name): float(value) for name, value in record["metrics"].items()}
            entry.curve = tuple(map(float, record["curve"]))
            entry.ended = datetime.fromisoformat(record["time"])
            self.suspects.pop(entry.number, None)
        elif op == "resume":
            self._resume(record["crashed"])
        elif op == "retry":
            self.entries[record["number"]].reset()
            self.suspects.pop(record["number"], None)
        elif op == "end":
            self.end = dict(record["end"] or {})
        else:
            raise ValueError(f"unknown op {op!r}")

    def create(self, name: str, objective: Objective, **decided: Any) -> str:
        """Begin the study unless it exists; returns its id."""
        if not self.header:
            header = {
                "op": "study",
                "format": FORMAT,
                "id": secrets.token_hex(8),
                "name": name,
                "objective": objective.to_json(),
            }
            self._writer = records.Writer.create(self.path, header | decided)
            self.header, self._objective = header | decided, objective
        return str(self.header["id"])

    def resume(self, *, crashed: bool = False) -> None:
        """Let the trials that were left running run again; `crashed` where the server died."""
        running = [entry.number for entry in self.entries if entry.state is TrialState.RUNNING]
        if running:
            numbers = running if crashed else []
            self._append({"op": "resume", "crashed": numbers})
            self._resume(numbers)

    def _resume(self, crashed: list[int]) -> None:
        for number in crashed:
            self.suspects[number] = self.suspects.get(number, 0) + (len(crashed) == 1)
        for entry in self.entries:
            if entry.state is TrialState.RUNNING:
                entry.reset()

    def ask(self, entry: TrialRecord) -> None:
        """Add a proposed trial."""
        cuts = [list(cut) for cut in entry.cuts]
        record = {"op": "ask", "number": entry.number, "name": entry.name, "values": entry.values}
        self._append(record | {"point": entry.point, "cuts": cuts})
        self.entries.append(entry)
        self._trials.append(entry.trial())

    def start(self, entry: TrialRecord) -> None:
        """Note that a trial runs."""
        self._append({"op": "start", "number": entry.number, "time": _time(entry.started)})
        self.show(entry)

    def finish(self, entry: TrialRecord) -> None:
        """Note the outcome of a trial."""
        record = {
            "op": "finish",
            "number": entry.number,
            "time": _time(entry.ended),
            "state": entry.state.value,
        }
        self._append(
            record | {"metrics": entry.metrics, "curve": entry.curve, "reason": entry.reason}
        )
        self._sync()
        self.suspects.pop(entry.number, None)
        self.show(entry)

    def retry(self, entries: list[TrialRecord]) -> None:
        """Forget the outcomes of trials, and the end of the search."""
        self._append(
            *({"op": "retry", "number": entry.number} for entry in entries),
            {"op": "end", "end": None},
        )
        for entry in entries:
            entry.reset()
            self.suspects.pop(entry.number, None)
            self.show(entry)
        self.end = {}

    def conclude(self, end: Mapping[str, Any] | None) -> None:
        """Note how the search finished, or with None that it continues."""
        if dict(end or {}) != self.end:
            self._append({"op": "end", "end": end})
            self._sync()
            self.end = dict(end or {})

    def show(self, entry: TrialRecord) -> None:
        """Let `result` show what has changed in a trial."""
        self._trials[entry.number] = entry.trial()

    def result(self, *, alive: bool) -> Result:
        """Return the study as it is now; `alive` where a client works on it. Costs little: trials are shared."""
        idle = StudyState.RUNNING if alive else StudyState.STOPPED
        last = self.end.get("last")
        trials = tuple(self._trials)
        if last is not None:
            reason = f"the search finished with trial {last}"
            later = (
                Trial(t.number, t.name, TrialState.KILLED, t.parameters, reason=reason)
                for t in trials[last + 1 :]
            )
            trials = (*trials[: last + 1], *later)
        if not alive:
            trials = tuple(
                replace(trial, state=TrialState.WAITING, started=None)
                if trial.state is TrialState.RUNNING
                else trial
                for trial in trials
            )
        return Result(
            name=str(self.header.get("name", "")),
            state=StudyState(self.end["state"]) if self.end else idle,
            objective=self._objective,
            trials=trials,
            reason=str(self.end.get("reason", "")),
            baseline=self.header.get("baseline", {}),
        )

    def close(self) -> None:
        """Flush and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _append(self, *changes: Mapping[str, Any]) -> None:
        if self._writer is None:
            raise StudyError(f"{self.path} is open for reading only")
        self._writer.append([dict(change) for change in changes])

    def _sync(self) -> None:
        if self._writer is not None:
            self._writer.sync()


def fault(contents: records.Contents, identity: str) -> str:
    """Return "LINE: what is wrong, and what to do"; "" for an intact journal of the study with this id."""
    good = len(contents.records)
    if not good:
        return f"1: {contents.damage or 'the line is incomplete'}: restore the file, or start over with --fresh"
    header = contents.records[0]
    if header.get("op") != "study" or header.get("format") != FORMAT:
        return (
            f"1: the format is not {FORMAT}: the file was written by another version of gantune. "
            "Use that version, or start over with --fresh"
        )
    if identity and header.get("id") != identity:
        return "1: the file belongs to another study: restore the study's own file, or start over with --fresh"
    if contents.damage:
        repair = gantune("check-store", header.get("name"), "--repair")
        return (
            f"{good + 1}: {contents.damage}, and the {good} records before it are intact. Restore "
            f"the file, or keep these records with `{repair}`: lost trials run again"
        )
    return ""


def result_of(journal: Journal, experiment: Experiment) -> Result:
    """Return everything that a journal holds now. A study that a process works on is Running."""
    alive = Lock.held(journal.path.parent)
    if journal.header:
        return journal.result(alive=alive)
    # submitted, but no trial was proposed yet
    state = StudyState.RUNNING if alive else StudyState.STOPPED
    return Result(experiment.name, state, experiment.objective)


def _objective(header: Mapping[str, Any]) -> Objective:
    shape = header.get("objective", {"metric": "", "type": "minimize", "goal": None})
    return Objective.from_json(shape)


def _time(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
